"""The simulated Stripe API, driven by Stripe's own SDK and by bare HTTP.

SIMULATED: no account of Stripe's was asked. What the SDK takes for an answer, an error and a signed event is the proof
that there is; the rest is compared with what the documentation says.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import stripe

from contracts.ids import new_id
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.launch import SimulatorProcess
from sandbox.stripe_objects import PLANTED
from tests.conformance.receiver import Received, Receiver

SECRET, ROLLED = "whsec_first_of_the_two", "whsec_second_of_the_two"
AMOUNT = 1_500_000


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("stripe", arguments=("--webhook-pause-seconds", "0.05")) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


class Shop:
    """A merchant with his SDK, his bare HTTP, and who plays his customers."""

    def __init__(self, process: SimulatorProcess, **settings: Any) -> None:
        self.name, self.key, self.url = f"shop-{new_id()}", f"sk_test_{new_id()}", process.base_url
        self._control: ProviderControl = process.control
        self.configure(password=self.key, **settings)
        self.sdk = stripe.StripeClient(self.key, base_addresses={"api": self.url}, max_network_retries=0).v1
        self.http = httpx.Client(
            base_url=f"{self.url}/v1/", headers={"authorization": f"Bearer {self.key}"}, trust_env=False, timeout=10
        )

    def configure(self, **settings: Any) -> None:
        self._control.configure(self.name, **settings)

    def act(self, reference: str, action: str, **options: Any) -> dict[str, Any]:
        return self._control.act(reference, action, account=self.name, **options)

    def fault(self, fault: str, **rule: Any) -> None:
        self._control.fault(fault, account=self.name, **rule)

    def stats(self) -> dict[str, Any]:
        return self._control.stats(self.name)

    def session(self, *, key: str = "", **changes: Any) -> Any:
        options: Any = {"idempotency_key": key} if key else {}
        return self.sdk.checkout.sessions.create(session_params(**changes), options)

    def paid(self, *, actions: tuple[str, ...] = ("pay",), **changes: Any) -> Any:
        """Returns the session with its PaymentIntent and charge, paid."""
        session = self.session(**changes)
        for action in actions:
            self.act(session.id, action)
        return self.read(session.id)

    def read(self, session_id: str) -> Any:
        return self.sdk.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent.latest_charge.refunds"]})

    def events(self) -> list[str]:
        """Returns the types of all events, oldest first."""
        return [one.type for one in self.sdk.events.list({"limit": 100}).auto_paging_iter()][::-1]

    def close(self) -> None:
        self.http.close()


def session_params(*, amount: int = AMOUNT, currency: str = "amd", quantity: int = 1, **changes: Any) -> Any:
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": "Contract 17"}}
    params = {
        "mode": "payment",
        "client_reference_id": new_id(),
        "line_items": [{"quantity": quantity, "price_data": price}],
        "success_url": "https://shop.example/back?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://shop.example/cancel",
        **changes,
    }
    return {name: value for name, value in params.items() if value is not None}


Open = Callable[..., Shop]


@pytest.fixture
def shop(process: SimulatorProcess) -> Iterator[Open]:
    shops: list[Shop] = []

    def open_one(**settings: Any) -> Shop:
        shops.append(Shop(process, **settings))
        return shops[-1]

    yield open_one
    for one in shops:
        one.close()


def verified(received: Received, secret: str = SECRET) -> Any:
    """Returns the event, or raises SignatureVerificationError."""
    header = received.headers["stripe-signature"]
    return stripe.Webhook.construct_event(received.body, header, secret, api_key="sk_test_of_the_reader")


# --- sessions


def test_a_session_is_open_and_unpaid_and_has_no_payment_intent(shop: Open) -> None:
    here = shop()
    session = here.session(metadata={"invoice": "INV-1"}, amount=500, quantity=3)
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert (session.amount_total, session.currency, session.metadata.to_dict()) == (1500, "amd", {"invoice": "INV-1"})
    assert session.expires_at - session.created == 24 * 3600
    assert session.id.startswith("cs_test_")
    assert len(session.id) == 66
    assert here.sdk.checkout.sessions.line_items.list(session.id).data[0].amount_total == 1500


def test_a_customer_pays_on_the_page(shop: Open) -> None:
    here = shop()
    session = here.session(payment_intent_data={"metadata": {"our": "reference"}, "description": "Contract 17"})
    shown = httpx.get(session.url, trust_env=False)
    answer = httpx.post(session.url, data={"action": "pay"}, trust_env=False)
    assert "15,000.00 AMD" in shown.text
    assert (answer.status_code, answer.headers["location"]) == (303, f"https://shop.example/back?session={session.id}")
    read = here.read(session.id)
    assert (read.status, read.payment_status, read.url) == ("complete", "paid", None)
    assert (read.payment_intent.status, read.payment_intent.amount_received) == ("succeeded", AMOUNT)
    charge = read.payment_intent.latest_charge
    assert (charge.captured, charge.amount_captured, charge.amount_refunded, charge.refunded) == (
        True,
        AMOUNT,
        0,
        False,
    )
    assert charge.metadata.to_dict() == {"our": "reference"}
    assert "done" in httpx.get(session.url or f"{here.url}/c/pay/{session.id}", trust_env=False).text


def test_a_declined_try_leaves_the_session_open_and_its_intent_is_used_again(shop: Open) -> None:
    here = shop()
    session = here.session()
    page = httpx.post(session.url, data={"action": "decline"}, trust_env=False)
    declined = here.read(session.id)
    assert "declined" in page.text
    assert (declined.status, declined.payment_status) == ("open", "unpaid")
    assert declined.payment_intent.status == "requires_payment_method"
    assert declined.payment_intent.last_payment_error.decline_code == "generic_decline"
    assert declined.payment_intent.latest_charge.status == "failed"
    here.act(session.id, "pay")
    paid = here.read(session.id)
    assert (paid.payment_status, paid.payment_intent.id) == ("paid", declined.payment_intent.id)
    assert [one.status for one in here.sdk.charges.list({"payment_intent": paid.payment_intent.id}).data] == [
        "succeeded",
        "failed",
    ]


def test_a_customer_may_go_back_and_change_nothing(shop: Open) -> None:
    here = shop()
    session = here.session(locale="ru", payment_method_types=["card", "sepa_debit"])
    assert "Оплатить" in httpx.get(session.url, trust_env=False).text
    answer = httpx.post(session.url, data={"action": "abandon"}, trust_env=False)
    assert answer.headers["location"] == "https://shop.example/cancel"
    read = here.read(session.id)
    assert (read.status, read.payment_intent) == ("open", None)
    assert httpx.get(f"{here.url}/c/pay/cs_test_none", trust_env=False).status_code == 404


def test_only_an_open_session_can_be_expired(shop: Open) -> None:
    here = shop()
    session, paid = here.session(), here.paid()
    expired = here.sdk.checkout.sessions.expire(session.id)
    assert (expired.status, expired.payment_status, expired.url) == ("expired", "unpaid", None)
    for one in (session, paid):
        with pytest.raises(stripe.InvalidRequestError, match="Only Checkout Sessions"):
            here.sdk.checkout.sessions.expire(one.id)
    assert "expired" in httpx.get(session.url, trust_env=False).text
    with pytest.raises(ControlError, match="expired"):
        here.act(session.id, "pay")


def test_an_expired_session_cancels_the_intent_of_a_declined_try(shop: Open) -> None:
    here = shop()
    session = here.paid(actions=("decline", "expire"))
    assert (session.status, session.payment_intent.status) == ("expired", "canceled")
    assert here.events()[-2:] == ["payment_intent.canceled", "checkout.session.expired"]


def test_a_session_of_nothing_needs_no_payment(shop: Open) -> None:
    here = shop()
    session = here.session(amount=0)
    assert session.payment_status == "no_payment_required"
    here.act(session.id, "pay")
    done = here.read(session.id)
    assert (done.status, done.payment_status, done.payment_intent) == ("complete", "no_payment_required", None)


@pytest.mark.parametrize(
    ("seconds", "words"), [(29 * 60, "at least 30 minutes"), (24 * 3600 + 60, "less than 24 hours")]
)
def test_an_end_outside_of_half_an_hour_to_a_day_is_refused(shop: Open, seconds: int, words: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=words) as refused:
        shop().session(expires_at=int(time.time()) + seconds)
    assert refused.value.param == "expires_at"


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"line_items": None}, "line_items", "parameter_missing"),
        ({"success_url": None}, "success_url", "parameter_missing"),
        ({"success_url": "no-url"}, "success_url", "url_invalid"),
        ({"unknown": "1"}, "unknown", "parameter_unknown"),
        ({"payment_intent_data": {"unknown": "1"}}, "payment_intent_data[unknown]", "parameter_unknown"),
        ({"locale": "hy"}, "locale", None),
        ({"mode": "subscription"}, "mode", None),
        ({"client_reference_id": "x" * 201}, "client_reference_id", None),
        ({"metadata": {"k" * 41: "v"}}, f"metadata[{'k' * 40}]", None),
        ({"metadata": {"k": "v" * 501}}, "metadata[k]", None),
        ({"metadata": {f"k{number}": "v" for number in range(51)}}, "metadata", None),
        ({"currency": "AMD", "line_items": None}, "line_items", "parameter_missing"),
        ({"amount": "ten"}, "line_items[0][price_data][unit_amount]", "parameter_invalid_integer"),
        ({"quantity": 0}, "line_items[0][quantity]", "parameter_invalid_integer"),
        ({"client_reference_id": ""}, "client_reference_id", "parameter_invalid_empty"),
    ],
)
def test_a_wrong_parameter_is_named(shop: Open, changes: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop().session(**changes)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("currency", "amount", "is_taken"),
    [
        ("amd", 1, True),  # no minimum of its own
        ("jpy", 50, True),
        ("jpy", 49, False),
        ("usd", 49, False),
        ("kwd", 5120, True),
        ("kwd", 5124, False),
        ("isk", 500, True),
        ("isk", 505, False),
        ("AMD", 500, False),
        ("xyz", 500, False),
        ("amd", 999_999_999_999, True),
        ("amd", 1_000_000_000_000, False),
    ],
)
def test_an_amount_must_fit_its_currency(shop: Open, currency: str, amount: int, is_taken: bool) -> None:
    here = shop()
    if is_taken:
        assert here.session(currency=currency, amount=amount).amount_total == amount
        return
    with pytest.raises(stripe.InvalidRequestError):
        here.session(currency=currency, amount=amount)


# --- delayed methods and holds


def test_a_delayed_payment_completes_unpaid_and_succeeds_later(shop: Open) -> None:
    here = shop()
    session = here.session(payment_method_types=["card", "sepa_debit"])
    httpx.post(session.url, data={"action": "pay_later"}, trust_env=False)
    waiting = here.read(session.id)
    assert (waiting.status, waiting.payment_status, waiting.payment_intent.status) == (
        "complete",
        "unpaid",
        "processing",
    )
    here.act(session.id, "settle")
    settled = here.read(session.id)
    assert (settled.payment_status, settled.payment_intent.status) == ("paid", "succeeded")
    assert settled.payment_intent.latest_charge.id.startswith("py_")
    assert here.events()[-1] == "checkout.session.async_payment_succeeded"


def test_a_delayed_payment_may_fail_and_the_session_stays_complete_and_unpaid(shop: Open) -> None:
    here = shop()
    session = here.session(payment_method_types=["sepa_debit"])
    here.act(session.id, "pay", method="sepa_debit")
    here.act(session.id, "fail")
    failed = here.read(session.id)
    assert (failed.status, failed.payment_status) == ("complete", "unpaid")
    assert failed.payment_intent.status == "requires_payment_method"
    assert here.events()[-1] == "checkout.session.async_payment_failed"


def test_a_hold_is_captured_in_part_once(shop: Open) -> None:
    here = shop()
    held = here.paid(payment_intent_data={"capture_method": "manual"})
    assert (held.status, held.payment_status) == ("complete", "unpaid")
    assert (held.payment_intent.status, held.payment_intent.amount_capturable) == ("requires_capture", AMOUNT)
    assert held.payment_intent.latest_charge.captured is False
    with pytest.raises(stripe.InvalidRequestError) as too_much:
        here.sdk.payment_intents.capture(held.payment_intent.id, {"amount_to_capture": AMOUNT + 1})
    assert too_much.value.code == "amount_too_large"
    captured = here.sdk.payment_intents.capture(held.payment_intent.id, {"amount_to_capture": 500_000})
    assert (captured.status, captured.amount_received, captured.amount_capturable) == ("succeeded", 500_000, 0)
    read = here.read(held.id)
    charge = read.payment_intent.latest_charge
    assert (charge.amount_captured, charge.amount_refunded, charge.refunded) == (500_000, AMOUNT - 500_000, False)
    assert [(one.amount, one.balance_transaction) for one in charge.refunds.data] == [(AMOUNT - 500_000, None)]
    assert [one.amount for one in here.sdk.balance_transactions.list().data] == [500_000]
    assert read.payment_status == "paid"
    with pytest.raises(stripe.InvalidRequestError) as again:
        here.sdk.payment_intents.capture(held.payment_intent.id)
    assert again.value.code == "payment_intent_unexpected_state"


def test_only_a_hold_of_a_session_can_be_canceled(shop: Open) -> None:
    here = shop()
    open_one, held = here.session(), here.paid(payment_intent_data={"capture_method": "manual"})
    here.act(open_one.id, "decline")
    with pytest.raises(stripe.InvalidRequestError, match="Expire the Checkout Session"):
        here.sdk.payment_intents.cancel(here.read(open_one.id).payment_intent.id)
    canceled = here.sdk.payment_intents.cancel(held.payment_intent.id, {"cancellation_reason": "requested_by_customer"})
    assert (canceled.status, canceled.cancellation_reason, canceled.amount_received) == (
        "canceled",
        "requested_by_customer",
        0,
    )
    assert here.read(held.id).payment_status == "unpaid"


def test_a_refund_of_a_whole_hold_lets_it_go(shop: Open) -> None:
    here = shop()
    held = here.paid(payment_intent_data={"capture_method": "manual"})
    with pytest.raises(stripe.InvalidRequestError, match="partially refund an uncaptured"):
        here.sdk.refunds.create({"payment_intent": held.payment_intent.id, "amount": 5})
    refund = here.sdk.refunds.create({"payment_intent": held.payment_intent.id})
    assert (refund.amount, refund.status) == (AMOUNT, "succeeded")
    assert here.sdk.payment_intents.retrieve(held.payment_intent.id).status == "canceled"


def test_a_capture_may_be_declined_and_a_key_keeps_that(shop: Open) -> None:
    here = shop(declines_capture=True)
    held = here.paid(payment_intent_data={"capture_method": "manual"})
    with pytest.raises(stripe.CardError) as declined:
        here.sdk.payment_intents.capture(held.payment_intent.id, options={"idempotency_key": "capture:1"})
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    here.configure(declines_capture=False)
    with pytest.raises(stripe.CardError):
        here.sdk.payment_intents.capture(held.payment_intent.id, options={"idempotency_key": "capture:1"})
    assert here.sdk.payment_intents.capture(held.payment_intent.id).status == "succeeded"


def test_a_hold_ends_by_itself(shop: Open) -> None:
    here = shop()
    held = here.paid(payment_intent_data={"capture_method": "manual"}, actions=("pay", "hold_expires"))
    assert (held.payment_intent.status, held.payment_intent.cancellation_reason) == ("canceled", "automatic")
    assert "charge.expired" in here.events()


# --- refunds and disputes


def test_parts_are_refunded_until_nothing_is_left(shop: Open) -> None:
    here = shop()
    intent = here.paid().payment_intent
    first = here.sdk.refunds.create({"payment_intent": intent.id, "amount": 500_000, "metadata": {"request": "R-1"}})
    assert (first.status, first.amount, first.metadata.to_dict()) == ("succeeded", 500_000, {"request": "R-1"})
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded") as over:
        here.sdk.refunds.create({"payment_intent": intent.id, "amount": 1_000_001})
    assert (over.value.param, over.value.code) == ("amount", None)
    rest = here.sdk.refunds.create({"charge": intent.latest_charge.id})
    assert rest.amount == 1_000_000
    with pytest.raises(stripe.InvalidRequestError) as done:
        here.sdk.refunds.create({"payment_intent": intent.id})
    assert done.value.code == "charge_already_refunded"
    assert [one.id for one in here.sdk.refunds.list({"payment_intent": intent.id}).data] == [rest.id, first.id]
    assert here.events().count("charge.refunded") == 2  # for a part too


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_a_refund_may_wait_and_fail(shop: Open, status: str) -> None:
    here = shop(refund_status=status)
    session = here.paid()
    refund = here.sdk.refunds.create({"payment_intent": session.payment_intent.id})
    assert refund.status == status
    here.act(session.id, "refund_fails")
    failed = here.sdk.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    charge = here.read(session.id).payment_intent.latest_charge
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    assert here.events()[-3:] == ["refund.failed", "refund.updated", "charge.refund.updated"]


def test_a_refund_that_succeeded_may_fail_later(shop: Open) -> None:
    here = shop()
    session = here.paid()
    refund = here.sdk.refunds.create({"payment_intent": session.payment_intent.id, "amount": 500_000})
    here.act(session.id, "refund_fails", refund=refund.id)
    assert here.sdk.refunds.retrieve(refund.id).status == "failed"


def test_only_a_refund_that_needs_action_can_be_canceled(shop: Open) -> None:
    here = shop(refund_status="requires_action")
    session = here.paid()
    refund = here.sdk.refunds.create({"payment_intent": session.payment_intent.id})
    assert here.sdk.refunds.cancel(refund.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        here.sdk.refunds.cancel(refund.id)


def test_what_is_not_paid_cannot_be_refunded(shop: Open) -> None:
    here = shop()
    session = here.session()
    here.act(session.id, "decline")
    with pytest.raises(stripe.InvalidRequestError, match="successful charge"):
        here.sdk.refunds.create({"payment_intent": here.read(session.id).payment_intent.id})
    with pytest.raises(stripe.InvalidRequestError, match="payment_intent or charge"):
        here.sdk.refunds.create({"amount": 5})


def test_a_dispute_takes_the_money_and_leaves_the_charge_captured(shop: Open) -> None:
    here = shop()
    session = here.paid()
    here.act(session.id, "dispute")
    charge = here.read(session.id).payment_intent.latest_charge
    assert (charge.disputed, charge.amount_captured, charge.amount_refunded) == (True, AMOUNT, 0)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        here.sdk.refunds.create({"charge": charge.id})
    assert refused.value.code == "charge_disputed"
    here.act(session.id, "close_dispute", status="won")
    found = here.sdk.disputes.list({"payment_intent": session.payment_intent.id}).data[0]
    assert (found.status, found.amount, [one.net for one in found.balance_transactions]) == (
        "won",
        AMOUNT,
        [-AMOUNT, AMOUNT],
    )
    assert here.events()[-2:] == ["charge.dispute.funds_reinstated", "charge.dispute.closed"]


# --- reading


def test_lists_come_newest_first_in_pages(shop: Open) -> None:
    here = shop()
    made = [here.session().id for _ in range(5)]
    page = here.sdk.checkout.sessions.list({"limit": 2})
    assert ([one.id for one in page.data], page.has_more) == (made[:2:-1], True)
    assert [one.id for one in page.auto_paging_iter()] == made[::-1]
    before = here.sdk.checkout.sessions.list({"limit": 2, "ending_before": made[1]})
    assert ([one.id for one in before.data], before.has_more) == ([made[3], made[2]], True)
    with pytest.raises(stripe.InvalidRequestError):
        here.sdk.checkout.sessions.list({"starting_after": "cs_test_unknown"})


def test_lists_are_filtered_by_intent_status_and_time(shop: Open) -> None:
    here = shop()
    paid, other = here.paid(), here.session()
    here.act(other.id, "backdate", seconds=86_400)
    lists = here.sdk.checkout.sessions.list
    assert [one.id for one in lists({"payment_intent": paid.payment_intent.id}).data] == [paid.id]
    assert [one.id for one in lists({"status": "open"}).data] == [other.id]
    assert [one.id for one in lists({"created": {"gte": paid.created - 60, "lt": paid.created + 60}}).data] == [paid.id]
    assert [one.id for one in lists({"created": {"lt": paid.created - 60}}).data] == [other.id]


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_has_one_to_a_hundred_objects(shop: Open, limit: int) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        shop().sdk.checkout.sessions.list({"limit": limit})


def test_sessions_are_neither_listed_by_our_reference_nor_searched(shop: Open) -> None:
    here = shop()
    assert here.http.get("checkout/sessions?client_reference_id=a").json()["error"]["code"] == "parameter_unknown"
    assert here.http.get("checkout/sessions/search", params={"query": "status:'open'"}).status_code == 400


def test_a_search_is_late(shop: Open) -> None:
    here = shop()
    session = here.paid(payment_intent_data={"metadata": {"ref": "A-1"}})
    query: Any = {"query": "metadata['ref']:'A-1' AND status:'succeeded'"}
    assert here.sdk.payment_intents.search(query).data == []
    here.act("-", "index")
    assert [one.id for one in here.sdk.payment_intents.search(query).data] == [session.payment_intent.id]
    assert here.sdk.payment_intents.search({"query": "metadata['ref']:'A-2'"}).data == []
    for wrong in ("nonsense", "colour:'red'", "status:'a' AND status:'b' OR status:'c'"):
        with pytest.raises(stripe.InvalidRequestError):
            here.sdk.payment_intents.search({"query": wrong})


def test_a_statement_is_read_from_the_balance_in_the_settlement_currency(shop: Open) -> None:
    here = shop(settlement_currency="usd", exchange_rate=0.0025)
    session = here.paid()
    here.sdk.refunds.create({"payment_intent": session.payment_intent.id, "amount": 500_000})
    rows = here.sdk.balance_transactions.list({"created": {"gte": int(time.time()) - 60}, "expand": ["data.source"]})
    assert [(one.type, one.amount, one.currency, one.source.object) for one in rows.data] == [
        ("refund", -1250, "usd", "refund"),
        ("charge", 3750, "usd", "charge"),
    ]
    assert rows.data[1].net == 3750 - rows.data[1].fee


def test_what_cannot_be_expanded_is_refused(shop: Open) -> None:
    here = shop()
    session = here.paid()
    for path in ("amount_total", "payment_intent.latest_charge.colour", "a.b.c.d.e"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            here.sdk.checkout.sessions.retrieve(session.id, {"expand": [path]})
        assert refused.value.param == "expand"


def test_no_field_is_answered_that_the_sdk_does_not_know(shop: Open) -> None:
    here = shop()
    session = here.paid(actions=("decline", "pay", "refund", "dispute"), payment_method_types=["card"])
    lists = (here.sdk.refunds, here.sdk.disputes, here.sdk.balance_transactions, here.sdk.events, here.sdk.charges)
    answered = [session, session.payment_intent, *(one.list().data[0] for one in lists)]
    unknown = {type(one).__name__: set(one.to_dict()) - set(type(one).__annotations__) for one in answered}
    assert unknown == {
        name: set()
        for name in ("Session", "PaymentIntent", "Refund", "Dispute", "BalanceTransaction", "Event", "Charge")
    }


def test_card_and_customer_data_are_planted(shop: Open) -> None:
    here = shop()
    told = json.dumps(here.read(here.paid().id).to_dict(), default=str)
    assert all(PLANTED[one] in told for one in ("email", "name", "phone", "last4", "fingerprint"))


# --- keys and errors


def test_a_key_repeats_the_first_answer(shop: Open) -> None:
    here = shop()
    params = session_params()
    first = here.session(key="create:1", client_reference_id=params["client_reference_id"])
    again = here.session(key="create:1", client_reference_id=params["client_reference_id"])
    assert again.id == first.id
    assert first.last_response.headers.get("idempotent-replayed") is None
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert again.last_response.request_id != first.last_response.request_id
    assert len(here.sdk.checkout.sessions.list().data) == 1


def test_a_key_with_other_parameters_is_an_error(shop: Open) -> None:
    here = shop()
    session = here.session(key="create:1")
    with pytest.raises(stripe.IdempotencyError) as other:
        here.session(key="create:1")
    assert other.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        here.sdk.checkout.sessions.expire(session.id, options={"idempotency_key": "create:1"})
    with pytest.raises(stripe.IdempotencyError):
        here.session(key="k" * 256)


def test_a_key_repeats_an_answer_that_is_no_longer_true(shop: Open) -> None:
    here = shop()
    reference = new_id()
    session = here.session(key="create:1", client_reference_id=reference)
    here.act(session.id, "expire")
    assert here.session(key="create:1", client_reference_id=reference).status == "open"


def test_a_pruned_key_makes_a_second_object(shop: Open) -> None:
    here = shop()
    reference = new_id()
    first = here.session(key="create:1", client_reference_id=reference)
    here.act("-", "prune_keys")
    assert here.session(key="create:1", client_reference_id=reference).id != first.id


def test_a_key_keeps_no_refusal_of_parameters_and_keeps_one_of_a_state(shop: Open) -> None:
    here = shop()
    with pytest.raises(stripe.InvalidRequestError):
        here.session(key="create:1", locale="hy")
    assert here.session(key="create:1").status == "open"
    session = here.paid()
    refund: Any = {"payment_intent": session.payment_intent.id, "amount": AMOUNT + 1}
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            here.sdk.refunds.create(refund, {"idempotency_key": "refund:1"})
        assert (refused.value.headers or {}).get("idempotent-replayed") == replayed


def test_a_key_keeps_a_500_after_the_effect(shop: Open) -> None:
    here = shop()
    reference = new_id()
    here.fault("error_500_after", operation="sessions.create")
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            here.session(key="create:1", client_reference_id=reference)
        assert failed.value.http_status == 500
    assert [one.client_reference_id for one in here.sdk.checkout.sessions.list().data] == [reference]


@pytest.mark.parametrize("keeps", [False, True])
def test_a_500_before_the_effect_is_kept_only_where_the_endpoint_had_begun(shop: Open, keeps: bool) -> None:
    here = shop(keeps_errors_before=keeps)
    reference = new_id()
    here.fault("error_500_before", operation="sessions.create")
    with pytest.raises(stripe.APIError):
        here.session(key="create:1", client_reference_id=reference)
    if keeps:
        with pytest.raises(stripe.APIError):
            here.session(key="create:1", client_reference_id=reference)
    else:
        assert here.session(key="create:1", client_reference_id=reference).status == "open"
    assert len(here.sdk.checkout.sessions.list().data) == (0 if keeps else 1)


def test_an_answer_that_never_came_is_had_again_with_its_key(shop: Open) -> None:
    here = shop()
    reference = new_id()
    here.fault("timeout_after", operation="sessions.create", seconds=0.1)
    with pytest.raises(stripe.APIConnectionError):
        here.session(key="create:1", client_reference_id=reference)
    assert here.session(key="create:1", client_reference_id=reference).status == "open"
    assert len(here.sdk.checkout.sessions.list().data) == 1
    assert here.stats()["calls"]["sessions.create"] == 2


def test_a_key_in_use_is_a_conflict_and_is_not_kept(shop: Open) -> None:
    here = shop()
    reference = new_id()
    here.fault("slow", operation="sessions.create", seconds=2)
    slow = threading.Thread(target=lambda: here.session(key="create:1", client_reference_id=reference))
    slow.start()
    eventually(lambda: here.stats()["calls"].get("sessions.create", 0), lambda count: count == 1)
    with pytest.raises(stripe.StripeError) as conflict:
        here.session(key="create:1", client_reference_id=reference)
    slow.join()
    assert (conflict.value.http_status, conflict.value.error.code) == (409, "idempotency_key_in_use")
    assert here.session(key="create:1", client_reference_id=reference).status == "open"
    assert len(here.sdk.checkout.sessions.list().data) == 1


def test_too_many_requests_are_told_in_stripes_way(shop: Open) -> None:
    here = shop()
    here.fault("rate_limited_429", seconds=3)
    with pytest.raises(stripe.RateLimitError) as limited:
        here.session(key="create:1")
    headers = limited.value.headers or {}
    assert (headers["retry-after"], headers["stripe-rate-limited-reason"]) == ("3", "global-rate")
    assert here.session(key="create:1").status == "open"


def test_a_fault_strikes_the_calls_of_one_order(shop: Open) -> None:
    here = shop()
    struck, spared = here.paid(), here.paid()
    here.fault("error_500_after", operation="refunds.create", reference=struck.client_reference_id)
    assert here.sdk.refunds.create({"payment_intent": spared.payment_intent.id}).status == "succeeded"
    with pytest.raises(stripe.APIError):
        here.sdk.refunds.create({"charge": struck.payment_intent.latest_charge.id})
    assert len(here.sdk.refunds.list({"payment_intent": struck.payment_intent.id}).data) == 1


def test_the_balance_is_what_the_movements_come_to(shop: Open) -> None:
    here = shop(fee_basis_points=100)
    here.paid()
    assert [(one.currency, one.amount) for one in here.sdk.balance.retrieve().pending] == [("amd", 1_485_000)]


def test_half_an_answer_is_no_answer(shop: Open) -> None:
    here = shop()
    here.fault("truncated", operation="sessions.create")
    with pytest.raises(stripe.APIError):
        here.session()
    assert len(here.sdk.checkout.sessions.list().data) == 1


def test_keys_of_merchants_open_their_own_books(shop: Open) -> None:
    here, there = shop(), shop()
    session = here.session()
    with pytest.raises(stripe.InvalidRequestError) as foreign:
        there.sdk.checkout.sessions.retrieve(session.id)
    assert (foreign.value.http_status, foreign.value.code) == (404, "resource_missing")
    with pytest.raises(ControlError, match="another merchant"):
        there.configure(password=here.key)


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Bearer sk_test_wrong", 401), ("Bearer pk_test_public", 401)]
)
def test_who_is_not_known_is_refused(shop: Open, authorization: str, status: int) -> None:
    answer = shop().http.get("account", headers={"authorization": authorization})
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
    assert answer.headers["request-id"].startswith("req_")


def test_the_secret_key_may_come_as_a_user_name(shop: Open) -> None:
    here = shop()
    assert httpx.get(f"{here.url}/v1/account", auth=(here.key, ""), trust_env=False).status_code == 200


def test_the_sdk_tells_refusals_apart(shop: Open) -> None:
    here = shop(forbidden=["refunds.create"])
    session = here.paid()
    with pytest.raises(stripe.PermissionError):
        here.sdk.refunds.create({"payment_intent": session.payment_intent.id})
    stranger = stripe.StripeClient("sk_test_stranger", base_addresses={"api": here.url}).v1
    with pytest.raises(stripe.AuthenticationError):
        stranger.checkout.sessions.retrieve(session.id)


@pytest.mark.parametrize(
    "body", ["mode=payment&mode[a]=b", "mode[a]=b&mode=payment", "a" + "[b]" * 30 + "=1", "[=1", "]=[]"]
)
def test_a_form_that_means_nothing_is_refused(shop: Open, body: str) -> None:
    answer = shop().http.post(
        "checkout/sessions", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_requests_are_forms_of_a_version_that_is_there(shop: Open) -> None:
    here = shop()
    assert here.http.post("checkout/sessions", json=session_params()).status_code == 400
    assert here.http.get("account", headers={"stripe-version": "2020-08-27"}).status_code == 400
    assert here.http.get("account", headers={"stripe-version": "2024-06-20"}).headers["stripe-version"] == "2024-06-20"
    assert here.http.get("payment_links").json()["error"]["message"].startswith("Unrecognized request URL")


# --- events


def test_events_are_signed_with_every_secret_that_is_active(shop: Open, receiver: Receiver) -> None:
    here = shop(webhook_url=receiver.url, webhook_secret=SECRET, further_webhook_secrets=[ROLLED])
    session = here.paid()
    received = eventually(lambda: receiver.received, lambda all_: len(all_) == 5)
    kinds = {verified(one).type for one in received} & {verified(one, ROLLED).type for one in received}
    assert kinds == {
        "payment_intent.created",
        "charge.succeeded",
        "charge.updated",
        "payment_intent.succeeded",
        "checkout.session.completed",
    }
    with pytest.raises(stripe.SignatureVerificationError):
        verified(received[0], "whsec_another")
    done = next(verified(one) for one in received if b"checkout.session.completed" in one.body)
    assert (done.data.object.id, done.data.object.payment_status) == (session.id, "paid")
    assert done.data.object.payment_intent == session.payment_intent.id


def test_an_event_is_tried_four_times_with_a_new_signature(shop: Open, receiver: Receiver) -> None:
    receiver.statuses = [500, 500, 302]
    here = shop(webhook_url=receiver.url, webhook_secret=SECRET, enabled_events=["checkout.session.expired"])
    here.sdk.checkout.sessions.expire(here.session().id)
    received = eventually(lambda: receiver.received, lambda all_: len(all_) == 4)
    assert len({verified(one).id for one in received}) == 1
    assert len({one.headers["stripe-signature"] for one in received}) == 4  # v0 differs with every try
    assert eventually(here.stats, lambda told: "delivered" in told["webhooks"])["webhooks"] == {
        "tries": 4,
        "delivered": 1,
    }


def test_an_event_that_nobody_takes_is_given_up_and_still_listed(shop: Open, receiver: Receiver) -> None:
    receiver.status = 500
    here = shop(webhook_url=receiver.url, webhook_secret=SECRET, enabled_events=["checkout.session.expired"])
    here.sdk.checkout.sessions.expire(here.session().id)
    eventually(here.stats, lambda told: told["webhooks"].get("given_up") == 1)
    event = here.sdk.events.list({"type": "checkout.session.expired"}).data[0]
    assert (event.pending_webhooks, event.request.id is not None) == (1, True)
    assert here.sdk.events.retrieve(event.id).data.object.status == "expired"


def test_the_same_fact_may_come_twice_in_one_event_or_in_two(shop: Open, receiver: Receiver) -> None:
    completed = "checkout.session.completed"
    here = shop(webhook_url=receiver.url, webhook_secret=SECRET, enabled_events=[completed])
    here.fault("duplicate", operation="events")
    session = here.paid()
    eventually(lambda: receiver.received, lambda all_: len(all_) == 2)
    here.act(session.id, "repeat_event", type=completed, new_id=True)
    received = eventually(lambda: receiver.received, lambda all_: len(all_) == 3)
    first, second, third = (verified(one) for one in received)
    assert first.id == second.id != third.id
    assert first.data.object.id == third.data.object.id


def test_events_come_in_another_order_stale_forged_or_not_at_all(shop: Open, receiver: Receiver) -> None:
    wanted = ["checkout.session.completed", "charge.refunded"]
    here = shop(webhook_url=receiver.url, webhook_secret=SECRET, enabled_events=wanted)
    here.fault("reordered", operation="events")
    session = here.paid()
    here.act(session.id, "refund", amount_minor=500_000)
    received = eventually(lambda: receiver.received, lambda all_: len(all_) == 2)
    assert [verified(one).type for one in received] == wanted[::-1]
    here.fault("stale", operation="events")
    here.act(session.id, "refund", amount_minor=500_000)
    stale = eventually(lambda: receiver.received, lambda all_: len(all_) == 3)[2]
    with pytest.raises(stripe.SignatureVerificationError, match="tolerance"):
        verified(stale)
    here.fault("forged", operation="events")
    here.act(session.id, "refund", amount_minor=250_000)
    eventually(lambda: receiver.received, lambda all_: len(all_) == 5)
    here.fault("lost", operation="events")
    here.act(session.id, "refund", amount_minor=250_000)
    assert eventually(here.stats, lambda told: "lost" in told["webhooks"])["webhooks"]["lost"] == 1
    bad = [one for one in receiver.received[3:] if not is_signed(one)]
    assert len(bad) == 1


def is_signed(received: Received) -> bool:
    try:
        verified(received)
    except stripe.SignatureVerificationError:
        return False
    return True


# --- the program


def test_an_order_is_played_by_our_reference_and_dumped(shop: Open, process: SimulatorProcess) -> None:
    here = shop()
    session = here.session(client_reference_id="INV/17")
    told = here.act("INV/17", "pay", presentment={"presentment_amount": 3750, "presentment_currency": "usd"})
    order = process.control.orders(here.name)[0]
    assert (order["reference"], order["session"]["id"], order["payment_intent"]["status"]) == (
        "INV/17",
        session.id,
        "succeeded",
    )
    assert told["session"]["presentment_details"]["presentment_currency"] == "usd"
    assert order["pay_url"].endswith(session.id)
    for action, options in (("dance", {}), ("pay", {"method": "shells"}), ("backdate", {}), ("repeat_event", {})):
        with pytest.raises(ControlError, match=r"action is one of|method is card|an option of|no event of that type"):
            here.act("INV/17", action, **options)


def test_an_answer_can_be_changed_to_see_who_believes_it(shop: Open) -> None:
    here = shop()
    session = here.paid()
    here.configure(changed_answer={"checkout.session": {"currency": "usd"}})
    assert here.read(session.id).currency == "usd"
