"""What every provider tells us by itself, and what anybody could: events, their signatures, questions before money.

SIMULATED, as test_every_provider. An event is a hint, or a signed and complete word that a look-up confirms; it never
says another thing than the look-up, whatever its order, age or number.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.evidence import Evidence, OrderState
from gateways.errors import Refused
from gateways.providers.base import Provider, ProviderEvent, ProviderOrder
from sandbox.control import eventually
from tests.conformance.desk import Desk, Documented
from tests.conformance.every import CASES, Case, expect, is_about, look_up, made, paid, parse, parsed, refused
from tests.conformance.receiver import Received

NEXT_SECRET = "the-next-secret-of-this-account"


@pytest.fixture(params=CASES, ids=str)
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    case: Case = request.param
    with case.open() as one:
        yield one


def one_event(desk: Desk, created: ProviderOrder) -> Received:
    """Return the newest event of this order, once there is one."""

    def of_this_order() -> list[Received]:
        return [received for received in desk.events(1) if is_about(parse(desk, received), created)]

    return eventually(of_this_order, bool)[-1]


def tells_nothing(desk: Desk) -> bool:
    """Assert that an account which is told nothing believes nothing."""
    if desk.provider.capabilities.push:
        return False
    for method in ("GET", "POST"):
        told: dict[str, Any] = {"method": method, "query": "status=1", "headers": {}, "body": b"status=1"}
        assert refused(lambda: desk.provider.parse_event(**told, received_at=datetime.now(UTC)))  # noqa: B023
    return True


# --- what an event says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_trap_2_every_documented_event_is_a_hint_or_says_what_the_look_up_says(case: Case) -> None:
    with case.open() as desk:
        if tells_nothing(desk):
            return
        documented = desk.statuses
    assert [one for one in documented if one.event], "which events does this provider send?"
    for status in documented:
        with case.open(**status.options) as desk:
            created = made(desk)
            status.reach(desk, created)
            for event in _events_of(desk, created, status):
                _agrees(desk, created, event, status)


def _events_of(desk: Desk, created: ProviderOrder, status: Documented) -> list[ProviderEvent]:
    """Return the events of an order, once the documented one is among them."""
    return eventually(
        lambda: parsed(desk, created),
        lambda events: status.event is None or status.event in {one.event_type for one in events},
    )


def _agrees(desk: Desk, created: ProviderOrder, event: ProviderEvent, status: Documented) -> None:
    """Assert that an event says nothing that a look-up after it does not say too."""
    assert event.reference in {created.reference, None}
    assert event.event_type
    if event.evidence is None:
        return
    assert event.evidence.reference == created.reference
    assert desk.provider.capabilities.signed_events, "facts that anybody could have written"
    if desk.provider.capabilities.lookup:
        now = look_up(desk, created)
        assert _identities(event.evidence) <= _identities(now)
        assert event.evidence.state is now.state or event.event_type != status.event


def _identities(evidence: Evidence) -> set[tuple[str, str, int, str]]:
    return {
        (one.provider_transaction_id, one.kind.value, one.amount_minor, one.currency) for one in evidence.transactions
    }


def test_trap_9_two_events_never_share_an_id_and_many_have_none(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    created = paid(desk)
    for _ in range(2):
        desk.refund_there(created, desk.order().amount_minor // 4)
    expect(desk, created, _all_that_is_told(desk))
    events = [parse(desk, received) for received in desk.events(1)]
    named: dict[str, set[str]] = {}
    for event in events:
        if event.event_id is not None:
            named.setdefault(event.event_id, set()).add(repr(event))
    assert not [said for said in named.values() if len(said) > 1]


def _all_that_is_told(desk: Desk) -> dict[str, int]:
    """Return the money after half of it went back, as far as this provider tells of that."""
    amount, can = desk.order().amount_minor, desk.provider.capabilities
    return {"capture": amount} | ({"refund": amount // 4 * 2} if can.lookup or can.refund else {})


def test_trap_11_an_older_event_after_a_newer_one_takes_nothing_back(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    created, amount = paid(desk), desk.order().amount_minor
    earlier = one_event(desk, created)
    if desk.provider.capabilities.lookup:
        desk.refund_there(created, amount // 4)
        now = look_up(desk, created)
        again = parse(desk, earlier)
        assert again.evidence is None or _identities(again.evidence) <= _identities(now)
    assert parse(desk, earlier) == parse(desk, earlier)
    assert is_about(parse(desk, earlier), created)


def test_a_replayed_event_says_the_same_and_nothing_more(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    created = paid(desk)
    received = one_event(desk, created)
    assert parse(desk, received) == parse(desk, received)
    expect(desk, created, {"capture": desk.order().amount_minor}, OrderState.PAID)


def test_the_door_checks_what_the_worker_checks(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    received = one_event(desk, paid(desk))
    assert desk.provider.check_event(**desk.event_of(received)) == parse(desk, received).event_id


def test_an_event_is_read_before_anything_is_known_of_its_order(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    created = paid(desk)
    received = one_event(desk, created)
    newcomer = desk.adapter()
    assert newcomer.parse_event(**desk.event_of(received)) == parse(desk, received)


# --- who may say it ---------------------------------------------------------------------------------------------------


def test_what_is_forged_or_altered_is_refused_at_the_door_and_at_work(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    received = one_event(desk, paid(desk))
    altered = [one for one in desk.altered(received) if one != desk.event_of(received)]
    if not desk.provider.capabilities.signed_events:
        # Nobody can tell it from a true one, so that it must prove nothing.
        assert not [one for one in altered if _evidence_of(desk.provider, one) is not None]
        return
    assert len(altered) >= 3
    for event in altered:
        for read in (desk.provider.check_event, desk.provider.parse_event):
            assert _is_refused(read, event), event


def _is_refused(read: Any, event: dict[str, Any]) -> bool:
    try:
        read(**event)
    except Refused as refusal:
        return bool(refusal.code)
    return False


def _evidence_of(provider: Provider, event: dict[str, Any]) -> Evidence | None:
    try:
        return provider.parse_event(**event).evidence
    except Refused:
        return None


@pytest.mark.parametrize("late", [timedelta(days=1), timedelta(days=-1)])
def test_an_event_too_old_or_of_the_future_is_refused_where_its_time_is_signed(desk: Desk, late: timedelta) -> None:
    if tells_nothing(desk):
        return
    received = one_event(desk, paid(desk))
    event = desk.event_of(received)
    stale = {**event, "received_at": event["received_at"] + late}
    if desk.signs_time:
        assert refused(lambda: desk.provider.check_event(**stale))
        assert refused(lambda: desk.provider.parse_event(**stale))
    else:
        first, second = desk.provider.parse_event(**event), desk.provider.parse_event(**stale)
        assert (first.reference, first.event_type) == (second.reference, second.event_type)


def test_a_secret_is_replaced_while_both_sign(desk: Desk) -> None:
    if tells_nothing(desk):
        return
    if not desk.provider.capabilities.signed_events:
        assert not [one for one in parsed(desk, paid(desk)) if one.evidence]
        return
    old, both, new = (
        desk.adapter(webhook_secrets=secrets)
        for secrets in ((desk.secret,), (NEXT_SECRET, desk.secret), (NEXT_SECRET,))
    )
    event = desk.event_of(one_event(desk, paid(desk)))
    assert old.parse_event(**event) == both.parse_event(**event)
    assert refused(lambda: new.parse_event(**event))
    desk.sign_with(NEXT_SECRET)
    desk.pay(made(desk))

    def signed_anew() -> list[dict[str, Any]]:  # what was told before may still be on its way
        return [event for event in map(desk.event_of, desk.events(1)) if not _is_refused(new.parse_event, event)]

    later = eventually(signed_anew, bool)[-1]
    assert new.parse_event(**later) == both.parse_event(**later)
    assert refused(lambda: old.parse_event(**later))


@pytest.mark.parametrize("secrets", [(), ("",)], ids=["none", "empty"])
def test_without_a_secret_nothing_is_believed(desk: Desk, secrets: tuple[str, ...]) -> None:
    if tells_nothing(desk):
        return
    if not desk.provider.capabilities.signed_events:
        assert not [one for one in parsed(desk, paid(desk)) if one.evidence]
        return
    event = desk.event_of(one_event(desk, paid(desk)))
    try:
        careless = desk.adapter(webhook_secrets=secrets)
    except ValueError as problem:
        assert "secret" in str(problem)  # noqa: PT017  # either this, or a refusal below
        return
    assert refused(lambda: careless.parse_event(**event))


# --- questions before money moves -------------------------------------------------------------------------------------


def test_a_question_before_money_moves_names_order_and_money_and_proves_nothing(desk: Desk) -> None:
    request = desk.order()
    created = desk.provider.create_order(request)
    desk.pay(created)
    expect(desk, created, {"capture": request.amount_minor}, OrderState.PAID)
    if not desk.provider.capabilities.precheck:
        assert desk.prechecks() == []
        for received in desk.events(0):
            assert _question_of(desk, received) is None
        return
    questions = [_question_of(desk, received) for received in desk.prechecks()]
    named = [one for one in questions if one is not None and one.reference == created.reference]
    assert {(one.amount_minor, one.currency) for one in named} == {(request.amount_minor, request.currency)}
    for received in desk.prechecks():
        assert _evidence_of(desk.provider, desk.event_of(received)) is None, "a question is no payment"
    for received in desk.events(1):
        assert _question_of(desk, received) is None


def _question_of(desk: Desk, received: Received) -> Any:
    asked = {name: value for name, value in desk.event_of(received).items() if name != "received_at"}
    return desk.provider.parse_precheck(**asked)


# --- what nobody may read ---------------------------------------------------------------------------------------------


def test_trap_23_nothing_of_a_person_or_a_card_stays_of_an_event(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    if tells_nothing(desk):
        return
    created = paid(desk)
    desk.refund_there(created, desk.order().amount_minor // 4)
    seen = [repr(one) for one in parsed(desk, created)]
    for event in desk.altered(one_event(desk, created)):
        try:
            seen.append(repr(desk.provider.parse_event(**event)))
        except Refused as error:
            seen += [str(error), repr(error), error.code, repr(error.__cause__), repr(error.__context__)]
    seen.append(caplog.text)
    private = [*desk.planted(), desk.order().description, desk.secret or "-" * 9]
    assert not [(one, text) for one in private for text in seen if one in text]
