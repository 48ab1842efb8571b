"""What the core relies on, asked of every provider adapter against its simulator: orders, money, bad weather.

SIMULATED: no provider was asked; each simulator is a process of its own, written from the provider's documentation.
One run for each desk and variant (tests.conformance.desk). Where a capability is absent, the refusal is asserted.
Events are in test_every_provider_events, answers and events that nobody expects in test_every_provider_surprises.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from contracts.evidence import Evidence, OrderState
from contracts.ids import new_id
from contracts.money import CURRENCIES, major
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import CreateMode, Opens, References
from tests.conformance.desk import Desk
from tests.conformance.every import (
    CASES,
    CLOSED,
    DESKS,
    INSTALLED,
    LOST,
    MOVED,
    NO_MONEY,
    NOTHING_MOVED,
    Case,
    expect,
    ids,
    look_up,
    made,
    makes_no_calls,
    paid,
    parsed,
    refused,
    shown,
    totals,
    wish,
)
from tests.conformance.ways import SPOILS, Recording, Replaying, Spoiling

HOUR = timedelta(hours=1)


@pytest.fixture(params=CASES, ids=str)
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    case: Case = request.param
    with case.open() as one:
        yield one


@pytest.fixture(params=CASES, ids=str)
def holding(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """A desk whose account holds money first, where the provider has such accounts."""
    case: Case = request.param
    with case.open(two_phase=True) as one:
        yield one


# --- the adapters themselves ------------------------------------------------------------------------------------------


def test_every_installed_provider_has_a_desk_here() -> None:
    assert DESKS == INSTALLED


def test_what_an_account_declares_agrees_with_itself(desk: Desk) -> None:
    told = desk.provider.capabilities
    assert told.amount_unit in {"minor", "major"}
    assert told.currency_code in {"alphabetic", "numeric"}
    assert (told.session_life > timedelta(0), told.settle >= timedelta(0)) == (True, True)
    assert told.calls_per_second > 0
    assert told.burst > 0
    assert told.lookup or not told.lookup_gives_page
    assert told.push or not (told.signed_events or told.precheck)
    assert told.refund or not told.refund_idempotent
    assert told.lookup or told.push, "nobody would ever learn of a payment"


def test_trap_15_an_order_that_lives_minutes_is_made_when_the_customer_pays(desk: Desk) -> None:
    told = desk.provider.capabilities
    assert told.opens is Opens.AT_PAY or told.session_life >= timedelta(days=1)
    created = made(desk)
    longest = max(told.session_life, desk.order().expires_in) + timedelta(minutes=1)
    if created.expires_at is not None:
        assert timedelta(0) < created.expires_at - datetime.now(UTC) <= longest


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_created_order_has_a_page_and_keeps_it_out_of_logs(desk: Desk) -> None:
    request = desk.order()
    created = desk.provider.create_order(request)
    assert created.reference == request.reference
    assert urlsplit(created.pay_url or "").scheme in {"http", "https"}
    assert str(created.pay_url) not in repr(created)
    assert "pay_fields" not in repr(created)
    assert desk.count() == (0 if makes_no_calls(desk) else 1)
    expect(desk, created, NO_MONEY, OrderState.OPEN)


def test_a_second_create_does_what_is_declared_and_makes_no_second_order(desk: Desk) -> None:
    request = desk.order()
    first = desk.provider.create_order(request)
    match desk.provider.capabilities.create:
        case CreateMode.IDEMPOTENT:
            second = desk.provider.create_order(request)
            assert (second.provider_order_id, second.pay_url) == (first.provider_order_id, first.pay_url)
            assert second.pay_fields == first.pay_fields
        case CreateMode.OVERWRITES:
            second = desk.provider.create_order(request)
            assert second.provider_order_id.lower() == first.provider_order_id.lower()
        case CreateMode.UNIQUE:
            with pytest.raises((Refused, Unknown)) as caught:
                desk.provider.create_order(request)
            assert caught.value.code == "duplicate_reference"
    assert desk.count() <= 1


def test_trap_7_a_second_create_with_another_amount_never_makes_the_customer_pay_what_nobody_knows(desk: Desk) -> None:
    request = desk.order()
    first = desk.provider.create_order(request)
    other = request.amount_minor * 2
    if makes_no_calls(desk):
        # The customer brings the order himself, so each page asks for what it was made for.
        second = desk.provider.create_order(replace(request, amount_minor=other))
        assert second.pay_fields != first.pay_fields or second.pay_url != first.pay_url
        return
    mode = desk.provider.capabilities.create
    try:
        desk.provider.create_order(replace(request, amount_minor=other))
    except (Refused, Unknown):
        asked = request.amount_minor
    else:
        assert mode is CreateMode.OVERWRITES
        asked = other
    assert desk.count() == 1
    desk.pay(first)
    expect(desk, first, {"capture": asked}, OrderState.PAID)


def test_creates_at_the_same_moment_make_one_order(desk: Desk) -> None:
    request = desk.order()

    def create(_: int) -> str | None:
        try:
            return desk.provider.create_order(request).provider_order_id.lower()
        except GatewayError:
            return None

    with ThreadPoolExecutor(6) as pool:
        made_ids = {one for one in pool.map(create, range(6)) if one is not None}
    assert len(made_ids) == 1
    assert desk.count() == (0 if makes_no_calls(desk) else 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"currency": "amd"},
        {"currency": "XXX"},
        {"currency": "051"},
        {"reference": ""},
        {"reference": "x" * 300},
    ],
    ids=str,
)
def test_an_order_that_cannot_be_is_refused_and_never_made(desk: Desk, changes: dict[str, Any]) -> None:
    assert refused(lambda: made(desk, **changes))
    assert desk.count() == 0


def test_a_provider_that_counts_its_orders_takes_numbers_alone(desk: Desk) -> None:
    reference = desk.order().reference
    if desk.provider.capabilities.reference is References.NUMBER:
        assert reference.isdecimal()
        assert refused(lambda: made(desk, reference=new_id()))
        assert desk.count() == 0
    else:
        assert made(desk, reference=new_id()).reference != reference


@pytest.mark.parametrize("fault", LOST)
def test_a_create_whose_answer_is_lost_is_unknown_until_somebody_asks(desk: Desk, fault: str) -> None:
    provider, request = desk.provider, desk.order()
    first = made(desk)
    if makes_no_calls(desk):
        again = desk.order(reference=first.reference)
        assert (provider.create_order(again).pay_fields, desk.count()) == (first.pay_fields, 0)
        return
    mode, calls = provider.capabilities.create, desk.calls("create")
    desk.fault(fault, "create")
    created = None
    with suppress(Unknown, *([Unavailable] if mode is CreateMode.IDEMPOTENT else [])):
        created = provider.create_order(request)
    assert desk.calls("create") - calls == 1 or mode is CreateMode.IDEMPOTENT, "repeated without a promise of theirs"
    happened = desk.count() == 2
    assert happened or (created is None and fault in NOTHING_MOVED)
    if not provider.capabilities.lookup:
        assert refused(lambda: provider.find_order(request.reference)) == "not_offered"
        return
    found = provider.find_order(request.reference)
    assert (found is not None) == happened
    if found is not None:
        assert (found.pay_url is not None) == provider.capabilities.lookup_gives_page
        assert created is None or created.provider_order_id.lower() == found.provider_order_id.lower()


def test_trap_6_after_a_lost_create_the_page_is_known_again_or_the_order_can_be_closed(desk: Desk) -> None:
    made(desk)
    if makes_no_calls(desk) or not desk.provider.capabilities.lookup:
        return  # asserted in the test above: there is nothing to lose, or nothing to ask
    request = desk.order()
    desk.fault("error_500_after", "create")
    try:
        found = desk.provider.create_order(request)
    except GatewayError:
        asked = desk.provider.find_order(request.reference)
        assert asked is not None
        found = asked
    if found.pay_url is None and desk.provider.capabilities.cancel:
        desk.provider.cancel_order(found.reference, found.provider_order_id)
        expect(desk, found, NO_MONEY, *CLOSED)
    else:
        desk.pay(found)
        expect(desk, found, {"capture": request.amount_minor}, OrderState.PAID)


def test_an_overloaded_provider_makes_no_order_and_says_when_to_come_back(desk: Desk) -> None:
    made(desk)
    if makes_no_calls(desk):
        assert desk.count() == 0
        return
    desk.fault("rate_limited_429", "create", seconds=40)
    with pytest.raises(Unavailable) as caught:
        made(desk)
    assert caught.value.retry_after_seconds == 40
    assert desk.count() == 1


def test_a_slow_answer_is_waited_for(desk: Desk) -> None:
    made(desk)
    if not makes_no_calls(desk):
        desk.fault("slow", "create", seconds=0.5)
    created = made(desk)
    assert created.pay_url
    desk.pay(created)
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


# --- look up ----------------------------------------------------------------------------------------------------------


def test_a_look_up_finds_an_order_by_its_reference_and_by_its_id(desk: Desk) -> None:
    created = paid(desk)
    provider = desk.provider
    if not provider.capabilities.lookup:
        for question in (
            lambda: provider.find_order(created.reference),
            lambda: provider.fetch_evidence(created.reference, created.provider_order_id),
            lambda: provider.fetch_evidence(created.reference, None),
        ):
            assert refused(question) == "not_offered"
        return
    found = provider.find_order(created.reference)
    assert found is not None
    assert (found.reference, found.provider_order_id.lower()) == (created.reference, created.provider_order_id.lower())
    by_reference = provider.fetch_evidence(created.reference, None)
    by_id = look_up(desk, created)
    assert by_reference is not None
    assert _said(by_reference) == _said(by_id)
    assert by_id.reference == created.reference
    assert abs(by_id.asked_at - datetime.now(UTC)) < timedelta(minutes=1)


def _said(evidence: Evidence) -> dict[str, Any]:
    """Leave out what differs between two questions."""
    return evidence.model_dump(exclude={"asked_at", "provider_request_id"})


def test_a_look_up_tells_the_page_of_an_open_order_as_declared(desk: Desk) -> None:
    created = made(desk)
    if not desk.provider.capabilities.lookup:
        assert refused(lambda: desk.provider.find_order(created.reference)) == "not_offered"
        return
    found = desk.provider.find_order(created.reference)
    assert found is not None
    assert found.pay_url == (created.pay_url if desk.provider.capabilities.lookup_gives_page else None)


def test_an_order_that_does_not_exist_is_none(desk: Desk) -> None:
    made(desk)
    never = desk.order().reference
    if not desk.provider.capabilities.lookup:
        assert refused(lambda: desk.provider.find_order(never)) == "not_offered"
        return
    assert desk.provider.find_order(never) is None
    assert desk.provider.fetch_evidence(never, None) is None


def test_a_wrong_key_is_no_refusal_of_an_order_and_no_word_that_there_is_none(desk: Desk) -> None:
    """It may have been replaced there, and not yet here: that must end no invoice. Tried often, some block a login."""
    created = made(desk)
    if makes_no_calls(desk):
        assert not desk.provider.capabilities.lookup
        return
    stranger = desk.adapter(api_key="of-somebody-else")
    questions: list[Callable[[], object]] = [partial(stranger.create_order, desk.order())]
    if desk.provider.capabilities.lookup:
        questions += [
            partial(stranger.find_order, created.reference),
            partial(stranger.fetch_evidence, created.reference, created.provider_order_id),
        ]
    asked = desk.calls("look_up")
    for question in questions:
        with pytest.raises(LoginRefused) as caught:
            question()
        assert "of-somebody-else" not in repr(caught.value)
    assert desk.count() == 1
    assert desk.calls("look_up") - asked <= 2 * len(questions)


def test_an_answer_about_another_order_is_not_believed(desk: Desk) -> None:
    first, second = paid(desk), made(desk)
    if not desk.provider.capabilities.lookup:
        assert refused(lambda: desk.provider.fetch_evidence(first.reference, None)) == "not_offered"
        return
    way = Recording()
    assert desk.adapter(transport=way).fetch_evidence(first.reference, first.provider_order_id) is not None
    with pytest.raises((Unknown, Refused)) as caught:
        desk.adapter(transport=Replaying(way.answers)).fetch_evidence(second.reference, second.provider_order_id)
    assert caught.value.code == "other_order"
    expect(desk, second, NO_MONEY, OrderState.OPEN)


@pytest.mark.parametrize("fault", [*LOST, "rate_limited_429"])
def test_trap_5_a_look_up_that_fails_says_nothing_about_the_payment(desk: Desk, fault: str) -> None:
    created = paid(desk)
    if not desk.provider.capabilities.lookup:
        assert refused(lambda: look_up(desk, created)) == "not_offered"
        return
    desk.fault(fault, "look_up", seconds=0.05 if fault != "rate_limited_429" else 40, times=3)
    with pytest.raises(Unavailable):
        look_up(desk, created)
    if fault == "rate_limited_429":  # a pause so long is not waited for here
        for _ in range(2):
            with pytest.raises(Unavailable):
                look_up(desk, created)
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


@pytest.mark.parametrize("fault", [*LOST, "slow"])
def test_a_look_up_that_fails_once_is_asked_again(desk: Desk, fault: str) -> None:
    created = paid(desk)
    if not desk.provider.capabilities.lookup:
        assert refused(lambda: look_up(desk, created)) == "not_offered"
        return
    desk.fault(fault, "look_up")
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


# --- what happens to an order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_documented_status_says_the_state_and_the_money_that_it_means(case: Case) -> None:
    with case.open() as desk:
        documented = desk.statuses
    assert {OrderState.PAID} <= {one.state for one in documented}
    for status in documented:
        with case.open(**status.options) as desk:
            request = desk.order()
            created = desk.provider.create_order(request)
            status.reach(desk, created)
            money = [(kind, request.amount_minor * percent // 100) for kind, percent in status.money]
            found = expect(desk, created, _summed(money), status.state)
            if found is not None:
                assert [(one.kind.value, one.amount_minor) for one in found.transactions] == money, status.name
                assert {one.currency for one in found.transactions} <= {request.currency}


def _summed(money: list[tuple[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for kind, amount in money:
        summed[kind] = summed.get(kind, 0) + amount
    return summed


def test_a_decline_may_be_followed_by_a_payment_in_the_same_order(desk: Desk) -> None:
    created = made(desk)
    for _ in range(2):
        desk.decline(created)
        found = expect(desk, created, NO_MONEY, OrderState.DECLINED, OrderState.OPEN, OrderState.PROCESSING)
        if found is not None and found.state is OrderState.DECLINED:
            assert found.retryable is not desk.a_decline_is_final
    desk.pay(created)
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


@pytest.mark.parametrize("percent", [25, 200])
def test_money_that_is_not_the_orders_is_told_as_it_is(desk: Desk, percent: int) -> None:
    created = made(desk)
    moved = desk.order().amount_minor * percent // 100
    desk.pay(created, moved)
    expect(desk, created, {"capture": moved}, OrderState.PAID)


def test_trap_13_money_of_every_currency_is_what_it_was(desk: Desk) -> None:
    first = desk.order()
    for currency in (first.currency, *desk.currencies):
        request = desk.order(currency=currency)
        created = desk.provider.create_order(request)
        desk.pay(created)
        found = expect(desk, created, {"capture": request.amount_minor}, OrderState.PAID)
        assert found is None or {one.currency for one in found.transactions} == {currency}


def test_trap_13_the_wire_has_the_declared_unit_and_the_declared_code(desk: Desk) -> None:
    way, told, request = Recording(), desk.provider.capabilities, desk.order()
    created = desk.adapter(transport=way).create_order(request)
    sent = " ".join([*way.asked, *created.pay_fields.values()])
    minor, whole = str(request.amount_minor), f"{major(request.amount_minor, request.currency):f}".partition(".")[0]
    assert re.search(rf"\b{minor}\b" if told.amount_unit == "minor" else rf"\b{whole}(\.0+)?\b", sent)
    assert not re.search(rf"\b{whole}\b(?!\.)" if told.amount_unit == "minor" else rf"\b{minor}\b", sent)
    if way.asked:
        numeric = CURRENCIES[request.currency][0]
        code = numeric if told.currency_code == "numeric" else request.currency
        assert re.search(rf"\b{code}\b", sent, re.IGNORECASE)


def test_trap_14_a_time_without_a_zone_is_read_in_the_accounts_own(desk: Desk) -> None:
    created = paid(desk)
    evidence = expect(desk, created, {"capture": desk.order().amount_minor})
    seen = [evidence] if evidence else [one.evidence for one in parsed(desk, created) if one.evidence]
    times = [one.occurred_at for each in seen for one in each.transactions]
    assert times
    assert not [one for one in times if abs(one - datetime.now(UTC)) > desk.coarse_dates]


def test_trap_16_money_that_settles_after_the_end_is_seen(desk: Desk) -> None:
    created = made(desk)
    desk.expire(created)
    expect(desk, created, NO_MONEY, OrderState.EXPIRED, OrderState.OPEN, OrderState.PROCESSING)
    desk.settle_late(created)
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


# --- holds ------------------------------------------------------------------------------------------------------------


def test_trap_4_a_hold_is_no_payment_until_it_is_captured(holding: Desk) -> None:
    provider, amount = holding.provider, holding.order().amount_minor
    if not provider.capabilities.capture:
        created = paid(holding)
        for call in (
            lambda: provider.capture_order(created.reference, created.provider_order_id, amount, "AMD"),
            lambda: provider.release_order(created.reference, created.provider_order_id),
        ):
            assert refused(call) == "not_offered"
        expect(holding, created, {"capture": amount}, OrderState.PAID)
        return
    created = made(holding)
    holding.hold(created)
    expect(holding, created, NO_MONEY, OrderState.HELD)
    provider.capture_order(created.reference, created.provider_order_id, amount, holding.order().currency)
    expect(holding, created, {"capture": amount}, OrderState.PAID)
    assert refused(
        lambda: provider.capture_order(created.reference, created.provider_order_id, amount, holding.order().currency)
    )
    assert refused(lambda: provider.release_order(created.reference, created.provider_order_id))
    expect(holding, created, {"capture": amount}, OrderState.PAID)


def test_a_plain_account_captures_and_releases_nothing(desk: Desk) -> None:
    assert not desk.provider.capabilities.capture
    created = paid(desk)
    amount, currency = desk.order().amount_minor, desk.order().currency
    for call in (
        lambda: desk.provider.capture_order(created.reference, created.provider_order_id, amount, currency),
        lambda: desk.provider.release_order(created.reference, created.provider_order_id),
    ):
        assert refused(call) == "not_offered"
    expect(desk, created, {"capture": amount}, OrderState.PAID)


def test_a_hold_is_captured_in_part_never_beyond_it_and_never_by_zero(holding: Desk) -> None:
    provider, amount, currency = holding.provider, holding.order().amount_minor, holding.order().currency
    if not provider.capabilities.capture:
        assert refused(lambda: provider.capture_order("x", "x", 1, currency)) == "not_offered"
        return
    created = made(holding)
    assert refused(lambda: provider.capture_order(created.reference, created.provider_order_id, amount, currency))
    holding.hold(created)
    for wrong in (0, -1):
        calls = holding.calls("capture")
        assert refused(partial(provider.capture_order, created.reference, created.provider_order_id, wrong, currency))
        assert holding.calls("capture") == calls, "zero may mean everything there, so it is never sent"
    assert refused(lambda: provider.capture_order(created.reference, created.provider_order_id, amount + 100, currency))
    expect(holding, created, NO_MONEY, OrderState.HELD)
    provider.capture_order(created.reference, created.provider_order_id, amount // 4, currency)
    expect(holding, created, {"capture": amount // 4}, OrderState.PAID)


@pytest.mark.parametrize("fault", LOST)
def test_a_capture_whose_answer_is_lost_takes_the_money_once(holding: Desk, fault: str) -> None:
    provider, amount, currency = holding.provider, holding.order().amount_minor, holding.order().currency
    if not provider.capabilities.capture:
        assert refused(lambda: provider.capture_order("x", "x", 1, currency)) == "not_offered"
        return
    created = made(holding)
    holding.hold(created)
    holding.fault(fault, "capture")
    done = _succeeds(lambda: provider.capture_order(created.reference, created.provider_order_id, amount, currency))
    if done or fault in MOVED:
        expect(holding, created, {"capture": amount}, OrderState.PAID)
    else:
        expect(holding, created, NO_MONEY, OrderState.HELD)


def test_a_hold_that_is_let_go_moved_no_money(holding: Desk) -> None:
    provider = holding.provider
    created = made(holding)
    if not provider.capabilities.capture:
        assert refused(lambda: provider.release_order(created.reference, created.provider_order_id)) == "not_offered"
        return
    assert refused(lambda: provider.release_order(created.reference, created.provider_order_id))
    holding.hold(created)
    provider.release_order(created.reference, created.provider_order_id)
    expect(holding, created, NO_MONEY, *CLOSED)
    assert refused(lambda: provider.release_order(created.reference, created.provider_order_id))


@pytest.mark.parametrize("fault", LOST)
def test_a_release_whose_answer_is_lost_is_unknown_and_the_look_up_tells(holding: Desk, fault: str) -> None:
    provider = holding.provider
    created = made(holding)
    if not provider.capabilities.capture:
        assert refused(lambda: provider.release_order(created.reference, created.provider_order_id)) == "not_offered"
        return
    holding.hold(created)
    holding.fault(fault, "release")
    done = _succeeds(lambda: provider.release_order(created.reference, created.provider_order_id))
    expect(holding, created, NO_MONEY, *(CLOSED if done or fault in MOVED else {OrderState.HELD}))


def _succeeds(call: Any) -> bool:
    """Whether a call that was struck came through; else its outcome must be unknown, or it may be repeated."""
    try:
        call()
    except (Unknown, Unavailable):
        return False
    return True


# --- refunds ----------------------------------------------------------------------------------------------------------


def _refunds_nothing(desk: Desk) -> bool:
    """Assert the refusal where money is given back by other ways alone."""
    if desk.provider.capabilities.refund:
        return False
    created = paid(desk)
    assert refused(lambda: desk.provider.refund(wish(desk, created, 1))) == "not_offered"
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)
    return True


def test_trap_3_a_refunded_order_is_money_that_came_and_went(desk: Desk) -> None:
    if _refunds_nothing(desk):
        return
    created, amount = paid(desk), desk.order().amount_minor
    request = wish(desk, created, amount)
    refund = desk.provider.refund(request)
    assert (refund.refund_reference, refund.amount_minor) == (request.refund_reference, amount)
    expect(desk, created, {"capture": amount, "refund": amount})
    assert shown(desk, created, refund)


def test_trap_10_two_equal_refunds_of_a_part_are_two(desk: Desk) -> None:
    if _refunds_nothing(desk):
        return
    created, amount = paid(desk), desk.order().amount_minor
    names = []
    for number in (1, 2):
        refund = desk.provider.refund(wish(desk, created, amount // 4))
        names.append(refund.provider_transaction_id)
        expect(desk, created, {"capture": amount, "refund": amount // 4 * number}, OrderState.PAID)
        assert shown(desk, created, refund)
    assert names[0] != names[1]


def test_more_than_came_is_never_given_back(desk: Desk) -> None:
    if _refunds_nothing(desk):
        return
    amount = desk.order().amount_minor
    unpaid = made(desk)
    assert refused(lambda: desk.provider.refund(wish(desk, unpaid, amount // 4)))
    created = paid(desk)
    assert refused(lambda: desk.provider.refund(wish(desk, created, amount + 100)))
    desk.provider.refund(wish(desk, created, amount // 2))
    assert refused(lambda: desk.provider.refund(wish(desk, created, amount // 4 * 3)))
    expect(desk, created, {"capture": amount, "refund": amount // 2}, OrderState.PAID)


@pytest.mark.parametrize("amount", [0, -1])
def test_trap_8_a_refund_of_nothing_may_mean_all_and_is_never_sent(desk: Desk, amount: int) -> None:
    if _refunds_nothing(desk):
        return
    created = paid(desk)
    calls = desk.calls("refund")
    assert refused(lambda: desk.provider.refund(wish(desk, created, amount)))
    assert desk.calls("refund") == calls
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


@pytest.mark.parametrize("fault", LOST)
def test_trap_8_a_refund_whose_answer_is_lost_is_made_once(desk: Desk, fault: str) -> None:
    if _refunds_nothing(desk):
        return
    created, amount = paid(desk), desk.order().amount_minor
    request, calls = wish(desk, created, amount // 4), desk.calls("refund")
    once = {"capture": amount, "refund": amount // 4}
    desk.fault(fault, "refund")
    done = _succeeds(lambda: desk.provider.refund(request))
    if not desk.provider.capabilities.refund_idempotent:
        assert desk.calls("refund") - calls == 1, "nobody there would know the second for the first"
    expect(desk, created, once if done or fault in MOVED else {"capture": amount}, OrderState.PAID)
    if desk.provider.capabilities.refund_idempotent:
        refund = desk.provider.refund(request)
        expect(desk, created, once, OrderState.PAID)
        assert shown(desk, created, refund)


def test_a_refund_asked_twice_is_made_once_where_that_is_declared(desk: Desk) -> None:
    if _refunds_nothing(desk):
        return
    created, amount = paid(desk), desk.order().amount_minor
    request = wish(desk, created, amount // 4)
    first = desk.provider.refund(request)
    if not desk.provider.capabilities.refund_idempotent:
        expect(desk, created, {"capture": amount, "refund": amount // 4}, OrderState.PAID)
        return  # the core asks for evidence instead of a second time
    assert desk.provider.refund(request) == first
    second = desk.provider.refund(replace(request, refund_reference=new_id()))
    assert second.provider_transaction_id != first.provider_transaction_id
    expect(desk, created, {"capture": amount, "refund": amount // 4 * 2}, OrderState.PAID)


def test_a_refund_made_at_the_providers_own_desk_is_seen(desk: Desk) -> None:
    created, amount = paid(desk), desk.order().amount_minor
    if not desk.provider.capabilities.lookup and not desk.provider.capabilities.refund:
        assert _refunds_nothing(desk)
        return  # nobody can be asked and nobody tells: only the provider's own lists show it
    desk.refund_there(created, amount // 4)
    desk.refund_there(created, amount // 4)
    found = expect(desk, created, {"capture": amount, "refund": amount // 4 * 2})
    assert found is None or len(set(ids(found, "refund"))) == len(ids(found, "refund"))


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_an_unpaid_order_is_closed_once_and_a_paid_one_never(desk: Desk) -> None:
    provider = desk.provider
    created, settled = made(desk), paid(desk)
    if not provider.capabilities.cancel:
        for one in (created, settled):
            assert refused(partial(provider.cancel_order, one.reference, one.provider_order_id)) == "not_offered"
        return
    provider.cancel_order(created.reference, created.provider_order_id)
    expect(desk, created, NO_MONEY, *CLOSED)
    for one in (created, settled):
        assert refused(partial(provider.cancel_order, one.reference, one.provider_order_id))
    expect(desk, created, NO_MONEY, *CLOSED)
    expect(desk, settled, {"capture": desk.order().amount_minor}, OrderState.PAID)


@pytest.mark.parametrize("fault", LOST)
def test_a_cancel_whose_answer_is_lost_is_unknown_and_the_evidence_tells(desk: Desk, fault: str) -> None:
    provider = desk.provider
    created = made(desk)
    if not provider.capabilities.cancel:
        assert refused(lambda: provider.cancel_order(created.reference, created.provider_order_id)) == "not_offered"
        return
    desk.fault(fault, "cancel")
    done = _succeeds(lambda: provider.cancel_order(created.reference, created.provider_order_id))
    closed = done or fault in MOVED
    expect(desk, created, NO_MONEY, *(CLOSED if closed else {OrderState.OPEN}))
    if not closed:
        provider.cancel_order(created.reference, created.provider_order_id)
        expect(desk, created, NO_MONEY, *CLOSED)


def test_an_overloaded_provider_gives_nothing_back_and_closes_nothing(desk: Desk) -> None:
    created, settled, amount = made(desk), paid(desk), desk.order().amount_minor
    if desk.provider.capabilities.refund:
        desk.fault("rate_limited_429", "refund", seconds=40)
        with pytest.raises(Unavailable):
            desk.provider.refund(wish(desk, settled, amount // 4))
    if desk.provider.capabilities.cancel:
        desk.fault("rate_limited_429", "cancel", seconds=40)
        with pytest.raises(Unavailable):
            desk.provider.cancel_order(created.reference, created.provider_order_id)
    expect(desk, settled, {"capture": amount}, OrderState.PAID)
    expect(desk, created, NO_MONEY, OrderState.OPEN)


# --- the statement ----------------------------------------------------------------------------------------------------


def test_a_day_lists_its_money_where_that_is_declared(desk: Desk) -> None:
    created, unpaid = paid(desk), made(desk)
    now = datetime.now(UTC)
    if not desk.provider.capabilities.statement:
        assert refused(lambda: desk.provider.list_orders(now - HOUR, now + HOUR)) == "not_offered"
        return
    listed = {one.reference: one for one in desk.provider.list_orders(now - HOUR, now + HOUR)}
    assert created.reference in listed
    assert unpaid.reference not in listed
    assert totals(listed[created.reference]) == {"capture": desk.order().amount_minor}
    assert desk.provider.list_orders(now - 3 * HOUR, now - 2 * HOUR) == []


# --- what nobody may read ---------------------------------------------------------------------------------------------


def test_trap_23_nothing_of_a_person_or_a_card_reaches_evidence_errors_or_logs(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    created = paid(desk)
    seen = [repr(created)]
    if desk.provider.capabilities.lookup:
        evidence = look_up(desk, created)
        seen += [repr(evidence), evidence.model_dump_json()]
        for spoil in SPOILS:
            asker = desk.adapter(transport=Spoiling(spoil, desk.planted()))
            for question in (asker.find_order, partial(asker.fetch_evidence, provider_order_id=None)):
                seen += _words_of(question, created.reference)
    seen.append(caplog.text)
    private = [*desk.planted(), desk.order().description, desk.secret or "-" * 9]
    assert not [(one, text) for one in private for text in seen if one in text]


def _words_of(question: Callable[[str], object], reference: str) -> list[str]:
    """Return all that an answer or a failure says."""
    try:
        return [repr(question(reference))]
    except GatewayError as error:
        return [str(error), repr(error), error.detail, error.code, repr(error.__cause__), repr(error.__context__)]
