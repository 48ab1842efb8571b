"""The Stripe adapter against a simulated Stripe API, a process of its own that was written from its documentation.

SIMULATED: no account at Stripe was asked. Tests are named after the traps that the API sets.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from stripe import SignatureVerificationError, Webhook

from contracts.evidence import Evidence, OrderState, TransactionKind
from contracts.ids import new_id
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import CreateMode, OrderRequest, ProviderEvent, ProviderOrder, RefundRequest
from gateways.providers.stripe import StripeProvider
from sandbox.control import ProviderControl, eventually
from sandbox.launch import SimulatorProcess
from sandbox.stripe_objects import PLANTED
from tests.conformance.receiver import Received, Receiver

SECRET = "whsec_invented_for_these_tests"
AMOUNT = 1_500_000
MOVED = ["timeout_after", "truncated"]  # the effect is there, its answer is not, and the key gives it again
NOTHING_MOVED = ["timeout_before", "error_500_before"]
ON_TIME = [*MOVED, *NOTHING_MOVED]


@pytest.fixture(scope="module")
def there() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("stripe", arguments=("--webhook-pause-seconds", "0.1")) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


class Till(StripeProvider):
    """An adapter that knows who plays the customer at its account."""

    control: ProviderControl


Open = Callable[..., Till]


@pytest.fixture
def account(there: SimulatorProcess) -> Iterator[Open]:
    """Opens an account of its own with some settings; returns its adapter, named like the account."""
    adapters: list[Till] = []

    def open_one(*, options: dict[str, Any] | None = None, **settings: Any) -> Till:
        name = f"acct-{new_id()}"
        key = f"sk_test_{name}"
        there.control.configure(name, password=key, webhook_secret=SECRET, **settings)
        given = {"webhook_secrets": (SECRET,), "livemode": False, **(options or {})}
        adapters.append(Till(name, there.base_url, key, **given))
        adapters[-1].control = there.control
        return adapters[-1]

    yield open_one
    for adapter in adapters:
        adapter.close()


def order(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        reference=new_id(),
        amount_minor=AMOUNT,
        currency="AMD",
        description="Կանխավճար, договор 17",
        return_url="https://pay.example.am/l/token/return?lang=hy",
        expires_in=timedelta(hours=1),
        locale="ru",
    )
    return replace(request, **changes)


def made(provider: Till, **changes: Any) -> ProviderOrder:
    return provider.create_order(order(**changes))


def evidence_of(provider: Till, created: ProviderOrder) -> Evidence:
    evidence = provider.fetch_evidence(created.reference, created.provider_order_id)
    assert evidence is not None
    return evidence


def money(evidence: Evidence) -> list[tuple[str, int]]:
    return [(one.kind.value, one.amount_minor) for one in evidence.transactions]


def act(provider: Till, created: ProviderOrder, action: str, **options: Any) -> dict[str, Any]:
    return provider.control.act(created.reference, action, account=provider.name, **options)


def paid(provider: Till, **changes: Any) -> ProviderOrder:
    created = made(provider, **changes)
    act(provider, created, "pay")
    return created


def dump(provider: Till, created: ProviderOrder) -> dict[str, Any]:
    return next(one for one in provider.control.orders(provider.name) if one["reference"] == created.reference)


def calls(provider: Till, operation: str) -> int:
    counted: int = provider.control.stats(provider.name)["calls"].get(operation, 0)
    return counted


def fault(provider: Till, name: str, operation: str, **rule: Any) -> None:
    provider.control.fault(name, account=provider.name, operation=operation, **{"seconds": 0.1, **rule})


def wish(created: ProviderOrder, amount: int, name: str | None = None) -> RefundRequest:
    return RefundRequest(name or new_id(), created.reference, created.provider_order_id, amount, "AMD")


# --- create and look up ---------------------------------------------------------------------------------------------


def test_a_created_order_has_a_page_and_an_end(account: Open) -> None:
    provider = account()
    created = made(provider)
    assert created.pay_url is not None
    page = httpx.get(created.pay_url)
    assert (page.status_code, "<button" in page.text, 'lang="ru"' in page.text) == (200, True, True)
    assert created.expires_at is not None
    assert timedelta(minutes=59) < created.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    session = dump(provider, created)["session"]
    assert (session["client_reference_id"], session["currency"]) == (created.reference, "amd")
    assert session["amount_total"] == AMOUNT
    assert created.pay_url not in repr(created)


def test_trap_15_a_session_lives_a_day_at_most_and_half_an_hour_at_least(account: Open) -> None:
    provider = account()
    for asked, lower, upper in ((1, 30, 33), (45, 44, 46), (7 * 24 * 60, 24 * 60 - 3, 24 * 60)):
        created = made(provider, expires_in=timedelta(minutes=asked))
        assert created.expires_at is not None
        left = (created.expires_at - datetime.now(UTC)).total_seconds() / 60
        assert lower <= left <= upper


@pytest.mark.parametrize(
    ("amount", "currency", "on_wire"),
    [(150_050, "AMD", 150_050), (1_099, "USD", 1_099), (500, "JPY", 500), (5_120, "KWD", 5_120), (400, "EUR", 400)],
)
def test_trap_13_money_comes_back_as_it_was_asked_for(account: Open, amount: int, currency: str, on_wire: int) -> None:
    provider = account()
    created = made(provider, amount_minor=amount, currency=currency)
    assert dump(provider, created)["session"]["amount_total"] == on_wire
    act(provider, created, "pay")
    (capture,) = evidence_of(provider, created).transactions
    assert (capture.amount_minor, capture.currency) == (amount, currency)


def test_the_locale_that_stripe_lacks_is_left_to_the_browser(account: Open) -> None:
    provider = account()
    assert dump(provider, made(provider, locale="hy"))["session"]["locale"] == "auto"


@pytest.mark.parametrize("change", [{}, {"expires_in": timedelta(hours=2)}])
def test_a_repeated_create_gives_the_first_session_and_its_page(account: Open, change: dict[str, Any]) -> None:
    provider = account()
    request = order()
    first = provider.create_order(request)
    again = provider.create_order(replace(request, **change))
    assert (again.provider_order_id, again.pay_url) == (first.provider_order_id, first.pay_url)
    assert len(provider.control.orders(provider.name)) == 1
    assert provider.capabilities.create is CreateMode.IDEMPOTENT


@pytest.mark.parametrize("name", ON_TIME)
def test_a_lost_create_is_repeated_at_once_and_made_once(account: Open, name: str) -> None:
    provider = account()
    fault(provider, name, "sessions.create")
    created = made(provider)
    assert created.pay_url is not None
    assert calls(provider, "sessions.create") == 2
    assert len(provider.control.orders(provider.name)) == 1


@pytest.mark.parametrize("name", MOVED)
def test_a_create_that_is_lost_every_time_is_found_at_once_or_by_the_next_one(account: Open, name: str) -> None:
    provider = account()
    request = order()
    fault(provider, name, "sessions.create", times=3)
    first = provider.create_order(request)
    fault(provider, name, "sessions.create", times=3)
    fault(provider, "error_500_before", "sessions.list", times=3)
    with pytest.raises(Unavailable):
        provider.create_order(replace(request, reference=new_id()))
    created = provider.create_order(replace(request, expires_in=timedelta(hours=2)))
    assert created.provider_order_id == first.provider_order_id
    assert len(provider.control.orders(provider.name)) == 2
    assert created.pay_url is not None


def test_a_stored_500_ends_with_the_first_session_where_it_was_made(account: Open) -> None:
    provider = account()
    request = order()
    fault(provider, "error_500_after", "sessions.create")
    found = provider.create_order(request)
    assert found.pay_url is not None
    again = provider.create_order(replace(request, expires_in=timedelta(hours=2)))
    assert again.provider_order_id == found.provider_order_id
    assert len(provider.control.orders(provider.name)) == 1


def test_a_stored_500_ends_with_a_fresh_key_where_nothing_was_made(account: Open) -> None:
    provider = account(keeps_errors_before=True)
    request = order()
    fault(provider, "error_500_before", "sessions.create")
    with pytest.raises(Unavailable):
        provider.create_order(request)
    assert provider.find_order(request.reference) is None
    again = provider.create_order(replace(request, expires_in=timedelta(hours=2)))
    assert [one["session"]["id"] for one in provider.control.orders(provider.name)] == [again.provider_order_id]


def test_trap_27_a_key_that_is_pruned_makes_no_second_session(account: Open) -> None:
    provider = account()
    request = order(reference=aged(30))
    first = provider.create_order(request)
    provider.control.act("-", "prune_keys", account=provider.name)
    again = provider.create_order(request)
    assert (again.provider_order_id, again.pay_url) == (first.provider_order_id, first.pay_url)
    assert len(provider.control.orders(provider.name)) == 1


def aged(hours: float) -> str:
    """Return a reference that was made so long ago."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    milliseconds = int((datetime.now(UTC) - timedelta(hours=hours)).timestamp() * 1000)
    return "".join(alphabet[milliseconds >> shift & 31] for shift in range(45, -1, -5)) + new_id()[10:]


def test_an_order_is_found_among_many_by_its_reference_alone(account: Open) -> None:
    provider = account()
    wanted = made(provider)
    for _ in range(105):
        made(provider)
    found = provider.find_order(wanted.reference)
    assert found is not None
    assert (found.provider_order_id, found.pay_url) == (wanted.provider_order_id, wanted.pay_url)
    assert calls(provider, "sessions.list") == 2
    act(provider, wanted, "pay")
    evidence = provider.fetch_evidence(wanted.reference, None)
    assert evidence is not None
    assert (evidence.provider_order_id, money(evidence)) == (wanted.provider_order_id, [("capture", AMOUNT)])


def test_an_order_that_does_not_exist_is_none(account: Open) -> None:
    provider = account()
    assert provider.find_order(new_id()) is None
    assert provider.fetch_evidence(new_id(), None) is None
    assert provider.fetch_evidence(new_id(), "cs_test_none") is None


def test_a_wrong_key_is_no_refusal_and_never_taken_for_no_such_order(there: SimulatorProcess) -> None:
    provider = StripeProvider("x", there.base_url, "sk_test_wrong", (SECRET,))
    for call in (lambda: provider.find_order(new_id()), lambda: provider.fetch_evidence("x", "cs_test_1")):
        with pytest.raises(LoginRefused):
            call()
    with pytest.raises(LoginRefused, match="HTTP 401 invalid_request_error") as caught:
        provider.create_order(order())
    assert caught.value.provider_request_id
    provider.close()


def test_a_restricted_key_is_refused(account: Open) -> None:
    provider = account(forbidden=["sessions.list"])
    with pytest.raises(Refused):
        provider.find_order(new_id())


def test_a_wrong_address_is_refused_and_never_taken_for_no_such_order(there: SimulatorProcess, account: Open) -> None:
    provider = account()
    elsewhere = StripeProvider("x", there.base_url + "/v1", f"sk_test_{provider.name}", (SECRET,))
    with pytest.raises(Refused):
        elsewhere.fetch_evidence("x", "cs_test_1")
    elsewhere.close()


def test_what_stripe_refuses_is_refused(account: Open) -> None:
    provider = account(max_amount=99_999_999)
    for amount, code in ((100_000_000, "amount_too_large"), (1, "amount_too_small")):
        with pytest.raises(Refused) as caught:
            made(provider, amount_minor=amount, currency="USD")
        assert caught.value.code == code


# --- what happens to an order ---------------------------------------------------------------------------------------


def test_trap_1_a_redirect_proves_nothing(account: Open) -> None:
    provider = account()
    created = made(provider)
    back = httpx.post(created.pay_url or "", data={"action": "abandon"})
    assert back.headers["location"] == order().return_url
    assert evidence_of(provider, created).state is OrderState.OPEN
    back = httpx.post(created.pay_url or "", data={"action": "pay"})
    assert back.headers["location"] == order().return_url
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])
    assert abs(found.transactions[0].occurred_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_declines_may_be_followed_by_a_capture_in_the_same_order(account: Open) -> None:
    provider = account()
    created = made(provider)
    for _ in range(2):
        httpx.post(created.pay_url or "", data={"action": "decline"})
        declined = evidence_of(provider, created)
        assert (declined.state, declined.retryable, declined.transactions) == (OrderState.DECLINED, True, ())
    act(provider, created, "pay")
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])
    page = provider.find_order(created.reference)
    assert page is not None
    assert page.pay_url is None


def test_complete_is_not_paid_where_the_method_tells_later(account: Open) -> None:
    provider = account(options={"payment_method_types": ["card", "sepa_debit"]})
    for action, state, kinds in (
        ("settle", OrderState.PAID, [("capture", 400)]),
        ("fail", OrderState.DECLINED, []),
    ):
        created = made(provider, amount_minor=400, currency="EUR")
        act(provider, created, "pay", method="sepa_debit")
        waiting = evidence_of(provider, created)
        assert (waiting.state, waiting.transactions) == (OrderState.PROCESSING, ())
        act(provider, created, action)
        found = evidence_of(provider, created)
        assert (found.state, found.retryable, money(found)) == (state, False, kinds)


def test_a_session_ends_by_itself_and_takes_no_payment_then(account: Open) -> None:
    provider = account()
    created = made(provider)
    act(provider, created, "decline")
    act(provider, created, "expire")
    found = evidence_of(provider, created)
    assert (found.state, found.transactions) == (OrderState.EXPIRED, ())
    with pytest.raises(Refused):
        provider.cancel_order(created.reference, created.provider_order_id)
    assert "<button" not in httpx.get(created.pay_url or "").text


def test_trap_16_what_was_paid_before_the_end_is_money_when_it_settles_after(account: Open) -> None:
    provider = account(options={"payment_method_types": ["sepa_debit"]})
    created = made(provider, amount_minor=400, currency="EUR")
    act(provider, created, "pay", method="sepa_debit")
    act(provider, created, "expire")
    assert evidence_of(provider, created).state is OrderState.PROCESSING
    act(provider, created, "settle")
    assert money(evidence_of(provider, created)) == [("capture", 400)]


@pytest.mark.parametrize(
    "changed",
    [
        {"checkout.session": {"client_reference_id": "another"}},
        {"checkout.session": {"livemode": True}},
    ],
)
def test_an_answer_about_another_order_or_of_the_other_mode_is_not_believed(
    account: Open, changed: dict[str, Any]
) -> None:
    provider = account()
    created = paid(provider)
    provider.control.configure(provider.name, changed_answer=changed)
    with pytest.raises(GatewayError) as caught:
        evidence_of(provider, created)
    assert caught.value.code in {"other_order", "livemode"}


def test_a_status_of_the_future_is_no_failure_and_no_payment(account: Open) -> None:
    provider = account()
    created = made(provider)
    provider.control.configure(provider.name, changed_answer={"checkout.session": {"status": "resting"}})
    found = evidence_of(provider, created)
    assert (found.state, found.transactions) == (OrderState.PROCESSING, ())


# --- holds ----------------------------------------------------------------------------------------------------------

TWO_PHASE = {"two_phase": True}


def test_trap_4_a_hold_is_no_payment_until_it_is_captured(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    held = evidence_of(provider, created)
    assert (held.state, held.transactions) == (OrderState.HELD, ())
    provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])
    with pytest.raises(Refused):
        provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")


def test_a_hold_is_captured_in_part_and_the_rest_is_no_refund(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    with pytest.raises(Refused) as caught:
        provider.capture_order(created.reference, created.provider_order_id, AMOUNT + 100, "AMD")
    assert caught.value.code == "amount_too_large"
    provider.capture_order(created.reference, created.provider_order_id, 500_000, "AMD")
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", 500_000)])


@pytest.mark.parametrize("name", ON_TIME)
def test_a_lost_capture_is_repeated_at_once_and_made_once(account: Open, name: str) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    fault(provider, name, "payment_intents.capture")
    provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


def test_a_capture_that_is_lost_every_time_is_unknown(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    fault(provider, "timeout_after", "payment_intents.capture", times=3)
    with pytest.raises(Unknown):
        provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


def test_a_hold_that_is_let_go_or_runs_out_moved_no_money(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    provider.release_order(created.reference, created.provider_order_id)
    lapsed = paid(provider)
    act(provider, lapsed, "hold_expires")
    for one in (created, lapsed):
        found = evidence_of(provider, one)
        assert (found.state, found.transactions) == (OrderState.CANCELLED, ())
        with pytest.raises(Refused) as caught:
            provider.release_order(one.reference, one.provider_order_id)
        assert caught.value.code == "not_held"


def test_letting_go_of_a_hold_never_undoes_a_payment(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    with pytest.raises(Refused) as caught:
        provider.release_order(created.reference, created.provider_order_id)
    assert caught.value.code == "not_held"
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


# --- refunds --------------------------------------------------------------------------------------------------------


def test_a_full_refund_is_the_transaction_that_evidence_names(account: Open) -> None:
    provider = account()
    created = paid(provider)
    refund = provider.refund(wish(created, AMOUNT))
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT), ("refund", AMOUNT)])
    assert found.transactions[1].provider_transaction_id == refund.provider_transaction_id


def test_trap_10_two_equal_refunds_are_two_transactions(account: Open) -> None:
    provider = account()
    created = paid(provider)
    first, second = provider.refund(wish(created, 100_000)), provider.refund(wish(created, 100_000))
    assert first.provider_transaction_id != second.provider_transaction_id
    found = evidence_of(provider, created)
    assert money(found) == [("capture", AMOUNT), ("refund", 100_000), ("refund", 100_000)]


@pytest.mark.parametrize("pruned", [False, True])
def test_trap_8_a_refund_asked_twice_is_made_once_however_late(account: Open, pruned: bool) -> None:
    provider = account()
    created = paid(provider)
    provider.refund(wish(created, 100_000))
    request = wish(created, 100_000)
    first = provider.refund(request)
    if pruned:
        provider.control.act("-", "prune_keys", account=provider.name)
    assert provider.refund(request) == first
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000), ("refund", 100_000)]


@pytest.mark.parametrize("name", [*ON_TIME, "error_500_after"])
def test_a_refund_with_a_lost_answer_is_made_once(account: Open, name: str) -> None:
    provider = account()
    created = paid(provider)
    request = wish(created, 100_000)
    fault(provider, name, "refunds.create")
    if name == "error_500_after":  # its key gives the 500 again, until somebody looks
        with pytest.raises(Unavailable):
            provider.refund(request)
    provider.refund(request)
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000)]


def test_more_than_came_is_refused(account: Open) -> None:
    provider = account()
    created = paid(provider)
    provider.refund(wish(created, AMOUNT - 100))
    with pytest.raises(Refused):
        provider.refund(wish(created, 200))
    with pytest.raises(Refused) as caught:
        provider.refund(wish(made(provider), 100))
    assert caught.value.code == "not_paid"


def test_a_pending_refund_is_no_money_until_it_succeeds(account: Open) -> None:
    provider = account(refund_status="pending")
    created = paid(provider)
    refund = provider.refund(wish(created, 100_000))
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]
    act(provider, created, "refund_succeeds")
    found = evidence_of(provider, created)
    assert money(found)[1:] == [("refund", 100_000)]
    assert found.transactions[1].provider_transaction_id == refund.provider_transaction_id


def test_a_refund_that_fails_after_it_succeeded_is_money_again(account: Open) -> None:
    provider = account()
    created = paid(provider)
    request = wish(created, 100_000)
    provider.refund(request)
    act(provider, created, "refund_fails")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT), ("refund", 100_000), ("capture", 100_000)]
    with pytest.raises(Refused) as caught:
        provider.refund(request)
    assert caught.value.code == "refund_failed"


def test_refunds_made_at_the_dashboard_are_seen_to_the_last(account: Open) -> None:
    provider = account()
    created = paid(provider)
    for number in range(1, 13):
        act(provider, created, "refund", amount_minor=number * 1_000)
    found = evidence_of(provider, created)
    assert sum(one.amount_minor for one in found.transactions if one.kind is TransactionKind.REFUND) == 78_000
    assert len({one.provider_transaction_id for one in found.transactions}) == 13


@pytest.mark.parametrize("settings", [{}, {"settlement_currency": "usd", "exchange_rate": 0.0026}])
def test_a_dispute_takes_money_and_may_bring_it_back(account: Open, settings: dict[str, Any]) -> None:
    provider = account(**settings)
    created = paid(provider)
    act(provider, created, "dispute")
    found = evidence_of(provider, created)
    assert money(found) == [("capture", AMOUNT), ("chargeback", AMOUNT)]
    act(provider, created, "close_dispute", status="won")
    won = evidence_of(provider, created)
    assert money(won) == [("capture", AMOUNT), ("chargeback", AMOUNT), ("capture", AMOUNT)]
    assert {one.currency for one in won.transactions} == {"AMD"}
    assert won.transactions[:2] == found.transactions


def test_a_dispute_that_is_lost_stays_a_chargeback(account: Open) -> None:
    provider = account()
    created = paid(provider)
    act(provider, created, "dispute", amount_minor=500_000)
    act(provider, created, "close_dispute", status="lost")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT), ("chargeback", 500_000)]
    with pytest.raises(Refused) as caught:
        provider.refund(wish(created, 100))
    assert caught.value.code == "charge_disputed"


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_an_unpaid_order_is_closed_once_and_a_paid_one_never(account: Open) -> None:
    provider = account()
    created, settled = made(provider), paid(provider)
    provider.cancel_order(created.reference, created.provider_order_id)
    assert evidence_of(provider, created).state is OrderState.EXPIRED
    for one in (created, settled):
        with pytest.raises(Refused):
            provider.cancel_order(one.reference, one.provider_order_id)
    assert evidence_of(provider, settled).state is OrderState.PAID


@pytest.mark.parametrize("name", ON_TIME)
def test_a_lost_cancel_is_repeated_at_once(account: Open, name: str) -> None:
    provider = account()
    created = made(provider)
    fault(provider, name, "sessions.expire")
    provider.cancel_order(created.reference, created.provider_order_id)
    assert evidence_of(provider, created).state is OrderState.EXPIRED


# --- bad weather ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ON_TIME, "error_500_after", "rate_limited_429", "slow"])
def test_a_look_up_is_asked_again(account: Open, name: str) -> None:
    provider = account()
    created = paid(provider)
    fault(provider, name, "sessions.retrieve")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


def test_trap_5_a_look_up_that_fails_says_nothing(account: Open) -> None:
    provider = account()
    created = paid(provider)
    fault(provider, "error_500_before", "sessions.retrieve", times=3)
    with pytest.raises(Unavailable) as caught:
        evidence_of(provider, created)
    assert caught.value.code == "api_error"


def test_too_many_calls_are_unavailable_for_as_long_as_stripe_says(account: Open) -> None:
    provider = account()
    fault(provider, "rate_limited_429", "sessions.create", seconds=60.0)
    with pytest.raises(Unavailable) as caught:
        made(provider)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("rate_limit", 60.0)


# --- events ---------------------------------------------------------------------------------------------------------


def arguments(received: Received) -> dict[str, Any]:
    return {
        "method": "POST",
        "query": "",
        "headers": received.headers,
        "body": received.body,
        "received_at": received.received_at,
    }


def parse(provider: Till, received: Received) -> ProviderEvent:
    return provider.parse_event(**arguments(received))


def event_of(provider: Till, receiver: Receiver, kind: str) -> Received:
    """Wait for an event of a type."""
    return eventually(
        lambda: [one for one in list(receiver.received) if json.loads(one.body)["type"] == kind], lambda found: found
    )[-1]


def test_a_genuine_event_is_accepted_by_us_and_by_the_sdk(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = paid(provider)
    received = event_of(provider, receiver, "checkout.session.completed")
    event = parse(provider, received)
    theirs = Webhook.construct_event(received.body, received.headers["stripe-signature"], SECRET)
    assert theirs.id == event.event_id == provider.check_event(**arguments(received))
    assert (event.reference, event.provider_order_id) == (created.reference, created.provider_order_id)
    assert event.event_type == "checkout.session.completed"


def test_a_paid_event_says_what_the_look_up_says(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = paid(provider)
    event = parse(provider, event_of(provider, receiver, "checkout.session.completed"))
    found = evidence_of(provider, created)
    assert event.evidence is not None
    assert event.evidence.state is found.state
    (said,), (asked,) = event.evidence.transactions, found.transactions
    assert said.model_copy(update={"occurred_at": asked.occurred_at}) == asked
    assert abs(said.occurred_at - asked.occurred_at) < timedelta(seconds=5)


def test_a_delayed_payment_proves_nothing_until_it_succeeds(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options={"payment_method_types": ["sepa_debit"]})
    created = made(provider, amount_minor=400, currency="EUR")
    act(provider, created, "pay", method="sepa_debit")
    assert parse(provider, event_of(provider, receiver, "checkout.session.completed")).evidence is None
    act(provider, created, "settle")
    event = parse(provider, event_of(provider, receiver, "checkout.session.async_payment_succeeded"))
    assert event.evidence is not None
    assert money(event.evidence) == [("capture", 400)]
    failed = made(provider, amount_minor=400, currency="EUR")
    act(provider, failed, "pay", method="sepa_debit")
    act(provider, failed, "fail")
    event = parse(provider, event_of(provider, receiver, "checkout.session.async_payment_failed"))
    assert (event.reference, event.evidence) == (failed.reference, None)


def test_a_held_session_proves_nothing(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options=TWO_PHASE)
    created = paid(provider)
    assert parse(provider, event_of(provider, receiver, "checkout.session.completed")).evidence is None
    act(provider, created, "capture")
    event = parse(provider, event_of(provider, receiver, "charge.captured"))
    assert (event.reference, event.evidence) == (created.reference, None)


def test_every_event_of_an_order_leads_to_it(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = made(provider)
    act(provider, created, "decline")
    act(provider, created, "pay")
    act(provider, created, "refund", amount_minor=1_000)  # at the dashboard: it carries no word of ours
    act(provider, created, "refund_fails")
    provider.refund(wish(created, 2_000))
    act(provider, created, "dispute")
    act(provider, created, "close_dispute", status="won")
    for kind in ("refund.created", "refund.failed", "charge.refunded", "charge.dispute.closed"):
        event_of(provider, receiver, kind)  # they are sent side by side: the last may come first
    events = [parse(provider, received) for received in list(receiver.received)]
    payments = {event.payment for event in events if event.reference is None}
    captured = {one.provider_transaction_id for one in evidence_of(provider, created).transactions[:1]}
    assert payments == captured, "whose that is, the books know"
    assert {event.reference for event in events} == {created.reference, None}
    assert {event.provider_order_id for event in events} <= {created.provider_order_id, None}
    kinds = {event.event_type for event in events}
    assert {"refund.created", "refund.failed", "charge.refunded", "charge.dispute.funds_withdrawn"} <= kinds
    for event in events:
        assert (event.evidence is None) is (event.event_type != "checkout.session.completed")


def test_an_expired_session_is_told(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = made(provider)
    act(provider, created, "expire")
    event = parse(provider, event_of(provider, receiver, "checkout.session.expired"))
    assert (event.reference, event.evidence) == (created.reference, None)


@pytest.mark.parametrize("name", ["forged", "stale"])
def test_a_forged_or_stale_event_is_refused_by_us_and_by_the_sdk(account: Open, receiver: Receiver, name: str) -> None:
    provider = account(webhook_url=receiver.url)
    created = made(provider)
    provider.control.fault(name, account=provider.name)
    act(provider, created, "expire")
    received = eventually(lambda: list(receiver.received), lambda all_: len(all_) >= (2 if name == "forged" else 1))
    bad = 0
    for one in received:
        try:
            Webhook.construct_event(one.body, one.headers["stripe-signature"], SECRET)
        except SignatureVerificationError:
            bad += 1
            with pytest.raises(Refused):
                parse(provider, one)
            with pytest.raises(Refused):
                provider.check_event(**arguments(one))
        else:
            assert parse(provider, one).reference == created.reference
    assert bad >= 1


def test_an_altered_event_is_refused(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    paid(provider)
    given = arguments(event_of(provider, receiver, "checkout.session.completed"))
    body, headers = given["body"], given["headers"]
    reserialised = json.dumps(json.loads(body)).encode()  # trap 24
    for changed in (
        {"body": body + b" "},
        {"body": body.replace(b"1500000", b"2500000")},
        {"body": reserialised},
        {"headers": headers | {"stripe-signature": headers["stripe-signature"].replace("t=1", "t=2")}},
        {"headers": headers | {"stripe-signature": headers["stripe-signature"].replace("v1=", "v1=0")}},
        {"headers": {}},
        {"method": "GET"},
    ):
        for read in (provider.check_event, provider.parse_event):
            with pytest.raises(Refused):
                read(**(given | changed))
    with pytest.raises(Refused) as caught:
        provider.check_event(**(given | {"received_at": given["received_at"] + timedelta(minutes=6)}))
    assert caught.value.code == "timestamp_outside_tolerance"


def test_a_replayed_event_has_its_old_id_and_another_one_may_tell_the_same(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = paid(provider)
    event_of(provider, receiver, "checkout.session.completed")
    for again in (False, True):
        act(provider, created, "repeat_event", type="checkout.session.completed", new_id=again)
    told = eventually(
        lambda: [one for one in list(receiver.received) if b'"checkout.session.completed"' in one.body],
        lambda found: len(found) >= 3,
    )
    events = [parse(provider, one) for one in told]
    assert len({event.event_id for event in events}) == 2
    assert len({event.evidence.transactions for event in events if event.evidence}) == 1


def test_a_secret_is_rolled_while_both_sign(there: SimulatorProcess, account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, further_webhook_secrets=["whsec_next"])
    created = made(provider)
    act(provider, created, "expire")
    received = event_of(provider, receiver, "checkout.session.expired")
    for secrets in ((SECRET,), ("whsec_next",), ("whsec_next", SECRET)):
        reader = StripeProvider("x", there.base_url, f"sk_test_{provider.name}", secrets)
        assert reader.check_event(**arguments(received))
        reader.close()
    stranger = StripeProvider("x", there.base_url, f"sk_test_{provider.name}", ("whsec_other",))
    with pytest.raises(Refused):
        stranger.check_event(**arguments(received))
    stranger.close()


def test_an_event_is_tried_again_with_its_old_id(account: Open, receiver: Receiver) -> None:
    receiver.statuses = [500, 503]
    provider = account(webhook_url=receiver.url)
    created = made(provider)
    act(provider, created, "expire")
    received = eventually(lambda: list(receiver.received), lambda all_: len(all_) >= 3)
    assert len({parse(provider, one).event_id for one in received}) == 1


# --- the statement --------------------------------------------------------------------------------------------------


def test_a_day_lists_its_money_and_no_other(account: Open) -> None:
    provider = account()
    now = datetime.now(UTC)
    today, unpaid = paid(provider), made(provider)
    refunded, yesterday = paid(provider), paid(provider)
    for one in (refunded, yesterday):
        act(provider, one, "backdate", seconds=3 * 86_400)
    act(provider, refunded, "refund", amount_minor=1_000)
    listed = {one.reference: one for one in provider.list_orders(now - timedelta(hours=1), now + timedelta(hours=1))}
    assert set(listed) == {today.reference, refunded.reference}
    assert unpaid.reference not in listed
    assert money(listed[refunded.reference]) == [("capture", AMOUNT), ("refund", 1_000)]
    earlier = provider.list_orders(now - timedelta(days=4), now - timedelta(days=2))
    assert {one.reference for one in earlier} == {refunded.reference, yesterday.reference}
    assert provider.list_orders(now - timedelta(days=9), now - timedelta(days=8)) == []


def test_a_statement_leaves_out_what_other_programs_did_at_the_account(account: Open) -> None:
    provider = account()
    form = {
        "mode": "payment",
        "client_reference_id": "order-17",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "1000",
        "line_items[0][price_data][product_data][name]": "Shoes",
        "success_url": "https://shop.example/",
    }
    headers = {"authorization": f"Bearer sk_test_{provider.name}"}
    httpx.post(f"{provider.control.base_url}/v1/checkout/sessions", data=form, headers=headers).raise_for_status()
    provider.control.act("order-17", "pay", account=provider.name)
    now = datetime.now(UTC)
    assert provider.list_orders(now - timedelta(hours=1), now + timedelta(hours=1)) == []


# --- what nobody may read -------------------------------------------------------------------------------------------


def test_trap_23_no_personal_or_card_data_reaches_evidence_events_or_errors(
    account: Open, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    provider = account(webhook_url=receiver.url)
    created = made(provider)
    act(provider, created, "decline")
    seen = [repr(evidence_of(provider, created))]
    act(provider, created, "pay")
    received = event_of(provider, receiver, "checkout.session.completed")
    assert PLANTED["email"].encode() in received.body
    evidence = evidence_of(provider, created)
    seen += [evidence.model_dump_json(), repr(parse(provider, received))]
    for status in ({"object": 5}, {"livemode": "no"}, {"status": 7}, {"client_reference_id": "x"}):
        provider.control.configure(provider.name, changed_answer={"checkout.session": status})
        try:
            seen.append(repr(evidence_of(provider, created)))
        except GatewayError as error:
            seen += [str(error), repr(error), repr(error.__context__)]
    seen.append(caplog.text)
    assert not [(word, text) for word in PLANTED.values() for text in seen if word in text]
