"""What Stripe writes, read: signatures, states, money, errors; and what nobody expects.

The official SDK is the counterpart for signatures: we accept what it signs, and it accepts what we would.
"""

import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import httpx
import pytest
import stripe as sdk
from hypothesis import given
from hypothesis import strategies as st
from stripe import Webhook, WebhookSignature

from contracts.evidence import Evidence, OrderState
from contracts.ids import new_id
from contracts.money import CURRENCIES
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import CreateMode, OrderRequest, ProviderEvent, RefundRequest
from gateways.providers.stripe import StripeProvider
from gateways.providers.stripe_client import VERSION, StripeClient
from gateways.providers.stripe_evidence import evidence, state_of
from gateways.providers.stripe_money import decimals, from_wire, rescaled, smallest_step, to_wire
from gateways.providers.stripe_orders import LOCALES
from gateways.providers.stripe_wire import REFERENCE, REFUND, Dispute, Refund, Session

KEY = "sk_test_invented"
SECRET = "whsec_invented"
ASKED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAID_AT = 1_772_000_000
TEXT = st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def session_body(**fields: Any) -> dict[str, Any]:
    body = {
        "id": "cs_test_1",
        "object": "checkout.session",
        "status": "complete",
        "payment_status": "paid",
        "client_reference_id": "N-1",
        "metadata": {REFERENCE: "N-1", "theirs": 5},
        "livemode": False,
        "created": PAID_AT - 60,
        "expires_at": PAID_AT + 3_600,
        "amount_total": 10_000,
        "currency": "amd",
        "url": None,
        "payment_intent": intent_body(),
        "customer_details": {"email": "ani@example.am", "name": "Ani Petrosyan"},
    }
    return body | fields


def intent_body(**fields: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "status": "succeeded",
        "currency": "amd",
        "capture_method": "automatic_async",
        "latest_charge": charge_body(),
        "last_payment_error": None,
        "metadata": {REFERENCE: "N-1"},
    } | fields


def charge_body(**fields: Any) -> dict[str, Any]:
    return {
        "id": "ch_1",
        "status": "succeeded",
        "captured": True,
        "amount": 10_000,
        "amount_captured": 10_000,
        "currency": "amd",
        "created": PAID_AT,
        "disputed": False,
        "refunds": {"object": "list", "data": [], "has_more": False},
    } | fields


def refund_body(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"re_{number}",
        "object": "refund",
        "status": "succeeded",
        "amount": 4_000,
        "currency": "amd",
        "created": PAID_AT + 100 + number,
        "metadata": {},
        "payment_intent": "pi_1",
        "charge": "ch_1",
    } | fields


def read(refunds: list[dict[str, Any]] | None = None, disputes: list[Any] | None = None, **fields: Any) -> Evidence:
    return evidence(
        Session.model_validate(session_body(**fields)),
        [Refund.model_validate(one) for one in refunds or []],
        [Dispute.model_validate(one) for one in disputes or []],
        reference="N-1",
        asked_at=ASKED_AT,
        request=None,
    )


def money(found: Evidence) -> list[tuple[str, str, int]]:
    return [(one.kind.value, one.provider_transaction_id, one.amount_minor) for one in found.transactions]


# --- amounts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "on_wire"),
    [
        (150_050, "AMD", (150_050, "amd")),
        (1_099, "USD", (1_099, "usd")),
        (500, "JPY", (500, "jpy")),
        (5_120, "KWD", (5_120, "kwd")),
    ],
)
def test_trap_13_amounts_are_stripes_own_minor_units(amount: int, currency: str, on_wire: tuple[int, str]) -> None:
    assert to_wire(amount, currency) == on_wire
    assert from_wire(*on_wire) == (amount, currency)


@pytest.mark.parametrize(("amount", "currency"), [(0, "AMD"), (-5, "AMD"), (5_124, "KWD"), (1, "KWD")])
def test_an_amount_that_stripe_would_refuse_is_not_sent(amount: int, currency: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        to_wire(amount, currency)


@pytest.mark.parametrize("currency", ["", "amd", "051", "XXX", "ISK"])
def test_money_that_we_do_not_know_is_not_sent(currency: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        to_wire(100, currency)


def test_the_documented_special_cases() -> None:
    assert [decimals(code) for code in ("JPY", "VND", "KWD", "TND", "AMD", "ISK", "UGX", "HUF", "TWD")] == [
        *(0, 0, 3, 3, 2, 2, 2, 2, 2)
    ]
    assert [smallest_step(code) for code in ("KWD", "ISK", "UGX", "HUF", "TWD", "AMD", "JPY")] == [
        *(10, 100, 100, 1, 1, 1, 1)
    ]
    # ISO 4217 gives ISK and UGX no decimals, and MGA two: the other way round than Stripe.
    assert (rescaled(5, 0, 2), rescaled(500, 2, 0)) == (500, 5)
    with pytest.raises(ValueError, match="amount"):
        rescaled(505, 2, 0)


@given(st.sampled_from(sorted(CURRENCIES)), st.integers(1, 10**11))
def test_what_is_sent_is_read_back(currency: str, amount: int) -> None:
    with suppress(ValueError):
        assert from_wire(*to_wire(amount, currency)) == (amount, currency)


# --- states ---------------------------------------------------------------------------------------------------------

DECLINED = {"code": "card_declined", "payment_method": {"card": {"last4": "0002"}}}


@pytest.mark.parametrize(
    ("status", "payment_status", "intent", "state", "retryable"),
    [
        ("open", "unpaid", None, OrderState.OPEN, False),
        ("open", "unpaid", {"status": "requires_payment_method"}, OrderState.OPEN, False),
        (
            *("open", "unpaid"),
            {"status": "requires_payment_method", "last_payment_error": DECLINED},
            *(OrderState.DECLINED, True),
        ),
        ("open", "unpaid", {"status": "requires_action"}, OrderState.OPEN, False),
        ("open", "unpaid", {"status": "requires_confirmation"}, OrderState.OPEN, False),
        ("open", "unpaid", {"status": "processing"}, OrderState.PROCESSING, False),
        ("open", "unpaid", {"status": "requires_capture"}, OrderState.HELD, False),
        ("open", "unpaid", {"status": "succeeded"}, OrderState.PAID, False),
        ("complete", "paid", {"status": "succeeded"}, OrderState.PAID, False),
        ("complete", "unpaid", {"status": "processing"}, OrderState.PROCESSING, False),
        ("complete", "unpaid", {"status": "requires_action"}, OrderState.PROCESSING, False),
        ("complete", "unpaid", {"status": "requires_capture"}, OrderState.HELD, False),
        ("complete", "paid", {"status": "requires_capture"}, OrderState.HELD, False),
        ("complete", "unpaid", {"status": "requires_payment_method"}, OrderState.DECLINED, False),
        ("complete", "unpaid", {"status": "canceled"}, OrderState.CANCELLED, False),
        ("complete", "paid", {"status": "word_of_the_future"}, OrderState.PROCESSING, False),
        ("complete", "no_payment_required", None, OrderState.PROCESSING, False),
        ("complete", "paid", None, OrderState.PROCESSING, False),
        ("expired", "unpaid", None, OrderState.EXPIRED, False),
        ("expired", "unpaid", {"status": "canceled"}, OrderState.EXPIRED, False),
        ("expired", "unpaid", {"status": "requires_payment_method"}, OrderState.EXPIRED, False),
        ("expired", "paid", {"status": "succeeded"}, OrderState.PAID, False),
        ("word_of_the_future", "paid", None, OrderState.PROCESSING, False),
        (None, "unpaid", None, OrderState.PROCESSING, False),
    ],
)
def test_every_status_has_one_meaning(
    status: str | None, payment_status: str, intent: dict[str, Any] | None, state: OrderState, retryable: bool
) -> None:
    made = intent and intent_body(latest_charge=None, **intent)
    session = Session.model_validate(
        session_body(status=status, payment_status=payment_status, payment_intent=made, url=None)
    )
    assert state_of(session) == (state, retryable)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_no_word_without_a_charge_is_money(status: str, payment_status: str, payment: str) -> None:
    found = read(
        status=status, payment_status=payment_status, payment_intent=intent_body(status=payment, latest_charge=None)
    )
    assert found.transactions == ()


@pytest.mark.parametrize(
    "charge",
    [
        {"status": "pending"},
        {"status": "failed"},
        {"captured": False, "amount_captured": 0},
        {"amount_captured": 0},
    ],
)
def test_trap_4_what_is_held_pending_or_failed_is_no_money(charge: dict[str, Any]) -> None:
    assert read(payment_intent=intent_body(latest_charge=charge_body(**charge))).transactions == ()


# --- money ----------------------------------------------------------------------------------------------------------


def test_a_payment_is_named_by_its_payment_intent() -> None:
    found = read()
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", "pi_1", 10_000)])
    assert found.transactions[0].occurred_at == datetime.fromtimestamp(PAID_AT, UTC)
    assert (found.transactions[0].currency, found.transactions[0].cumulative) == ("AMD", False)


def test_what_was_held_first_is_a_total_so_that_a_second_part_is_seen() -> None:
    held = {"capture_method": "manual", "latest_charge": charge_body(amount_captured=6_000)}
    found = read(payment_intent=intent_body(**held))
    assert money(found) == [("capture", "pi_1", 6_000)]
    assert found.transactions[0].cumulative


def test_only_a_refund_that_succeeded_moved() -> None:
    entries = [
        refund_body(1, status="pending"),
        refund_body(2),
        refund_body(3, status="requires_action"),
        refund_body(4, status="failed"),
        refund_body(5, status="canceled"),
        refund_body(6, status=None),
        refund_body(7, status="word_of_the_future"),
        refund_body(8),
    ]
    found = read(entries)
    assert money(found) == [("capture", "pi_1", 10_000), ("refund", "re_2", 4_000), ("refund", "re_8", 4_000)]


def test_what_a_capture_of_a_part_leaves_is_no_refund() -> None:
    charge = charge_body(amount_captured=6_000)
    held = {"payment_intent": intent_body(capture_method="manual", latest_charge=charge)}
    rest, real = refund_body(1), refund_body(2, balance_transaction="txn_2")
    found = read([real, rest], **held)
    assert money(found) == [("capture", "pi_1", 6_000), ("refund", "re_2", 4_000)]
    # A second one without a word of the balance is money, and so is any other amount.
    assert money(read([rest, refund_body(3), refund_body(4, amount=1)], **held))[1:] == [
        ("refund", "re_3", 4_000),
        ("refund", "re_4", 1),
    ]
    # Of a hold that was let go altogether nothing had come.
    let_go = charge_body(captured=False, amount_captured=0)
    canceled = intent_body(status="canceled", capture_method="manual", latest_charge=let_go)
    assert read([refund_body(1, amount=10_000)], payment_intent=canceled).transactions == ()


def test_a_refund_that_failed_later_came_back() -> None:
    found = read([refund_body(1, status="failed", failure_balance_transaction="txn_9")])
    assert money(found)[1:] == [("refund", "re_1", 4_000), ("capture", "re_1:returned", 4_000)]
    assert found.transactions[2].occurred_at == ASKED_AT


def dispute(*moves: tuple[int, str], **fields: Any) -> dict[str, Any]:
    transactions = [
        {"id": f"txn_{place}", "amount": amount, "currency": currency, "created": PAID_AT + 1_000 + place}
        for place, (amount, currency) in enumerate(moves)
    ]
    return {"id": "dp_1", "amount": 10_000, "currency": "amd", "balance_transactions": transactions} | fields


def test_a_dispute_moves_what_its_balance_transactions_say() -> None:
    assert money(read(disputes=[dispute()])) == [("capture", "pi_1", 10_000)]
    withdrawn = read(disputes=[dispute((-10_000, "amd"))])
    assert money(withdrawn)[1:] == [("chargeback", "dp_1:txn_0", 10_000)]
    won = read(disputes=[dispute((-10_000, "amd"), (10_000, "amd"))])
    assert money(won)[1:] == [("chargeback", "dp_1:txn_0", 10_000), ("capture", "dp_1:txn_1", 10_000)]


def test_a_dispute_of_a_balance_in_another_currency_is_told_in_the_customers() -> None:
    found = read(disputes=[dispute((-27, "usd"), (27, "usd"), amount=9_000)])
    assert money(found)[1:] == [("chargeback", "dp_1:txn_0", 9_000), ("capture", "dp_1:txn_1", 9_000)]
    assert {one.currency for one in found.transactions} == {"AMD"}


def test_money_of_a_currency_that_nobody_knows_is_a_persons_case() -> None:
    with pytest.raises(Refused) as caught:
        read(payment_intent=intent_body(latest_charge=charge_body(currency="xau")))
    assert caught.value.code == "unknown_currency"


@pytest.mark.parametrize("left_out", [{"payment_intent": "pi_1"}, {"payment_intent": intent_body(latest_charge="ch")}])
def test_an_answer_that_leaves_out_the_payment_decides_nothing(left_out: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        read(**left_out)
    assert caught.value.code == "not_expanded"


def test_no_personal_data_stays_in_what_is_read() -> None:
    kept = repr(Session.model_validate(session_body(payment_intent=intent_body(last_payment_error=DECLINED))))
    assert not [word for word in ("Ani", "example.am", "0002", "theirs") if word in kept]


@given(st.dictionaries(st.sampled_from(sorted(session_body())), JSON), st.dictionaries(TEXT, JSON))
def test_any_session_is_evidence_or_unreadable(changes: dict[str, Any], more: dict[str, Any]) -> None:
    with suppress(Refused, ValueError):
        found = read(**(more | changes))
        assert all(one.amount_minor > 0 for one in found.transactions)


# --- signatures, with the SDK as the other side ---------------------------------------------------------------------


def event_body(thing: dict[str, Any] | None = None, kind: str = "checkout.session.completed", **fields: Any) -> str:
    given = session_body(payment_intent="pi_1") if thing is None else thing
    body = {"id": "evt_1", "object": "event", "type": kind, "created": PAID_AT, "livemode": False}
    return json.dumps(body | {"data": {"object": given}} | fields)


def adapter(handler: Callable[[httpx.Request], httpx.Response] | None = None, **options: Any) -> StripeProvider:
    given = {"webhook_secrets": (SECRET,), **options}
    transport = httpx.MockTransport(handler or (lambda request: httpx.Response(500)))
    return StripeProvider("acme", "https://api.stripe.example", KEY, transport=transport, **given)


def arguments(body: str | bytes, header: str | None, at: datetime | None = None) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else body.encode()
    headers = {} if header is None else {"stripe-signature": header}
    return {"method": "POST", "query": "", "headers": headers, "body": raw, "received_at": at or datetime.now(UTC)}


def signed(body: str, *secrets: str, at: datetime | None = None) -> str:
    """Sign with the SDK's own helper; several secrets as while one is rolled."""
    timestamp = int((at or datetime.now(UTC)).timestamp())
    headers = [WebhookSignature.generate_signature_header(body, secret, timestamp) for secret in secrets or (SECRET,)]
    return ",".join([headers[0], *(header.partition(",")[2] for header in headers[1:])])


def parsed(provider: StripeProvider, body: str) -> ProviderEvent:
    return provider.parse_event(**arguments(body, signed(body)))


def refusal(provider: StripeProvider, given: dict[str, Any], *, by: str = "check_event") -> str:
    with pytest.raises(Refused) as caught:
        getattr(provider, by)(**given)
    return caught.value.code


def test_we_accept_what_the_sdk_signs_and_it_accepts_what_we_would_expect() -> None:
    body = event_body()
    provider = adapter()
    assert provider.check_event(**arguments(body, signed(body))) == "evt_1"
    now = int(datetime.now(UTC).timestamp())
    ours = hmac.digest(SECRET.encode(), f"{now}.{body}".encode(), "sha256").hex()
    assert Webhook.construct_event(body, f"t={now},v1={ours}", SECRET).id == "evt_1"
    assert provider.check_event(**arguments(body, f"t={now},v1={ours}")) == "evt_1"
    with pytest.raises(sdk.SignatureVerificationError):
        Webhook.construct_event(body + " ", f"t={now},v1={ours}", SECRET)


@given(st.text('aé ,=."', max_size=8), st.integers(-400, 400), st.sampled_from([SECRET, "whsec_other"]), st.booleans())
def test_we_and_the_sdk_agree_about_every_old_signature(word: str, age: int, secret: str, altered: bool) -> None:
    if 290 < abs(age) < 310:
        age = 0  # its clock runs on while it is asked
    body = event_body(id=f"evt_{word}", note=word)
    header = signed(body, secret, at=datetime.now(UTC) - timedelta(seconds=age))
    sent = body.replace("complete", "expired") if altered else body

    def accepts(check: Callable[[], object]) -> bool:
        try:
            check()
        except (Refused, sdk.SignatureVerificationError):
            return False
        return True

    theirs = accepts(lambda: WebhookSignature.verify_header(sent, header, SECRET, 300))
    ours = accepts(lambda: adapter().check_event(**arguments(sent, header)))
    # The SDK takes times from the future; we take those of a clock that is a minute ahead.
    assert ours == (theirs and age >= -60) or -62 <= age <= -58


def test_the_age_is_judged_by_when_it_came() -> None:
    body, then = event_body(), datetime(2026, 1, 1, tzinfo=UTC)
    given = arguments(body, signed(body, at=then), at=then + timedelta(seconds=300))
    assert adapter().check_event(**given) == "evt_1"
    for away in (301, -61, 86_400):
        late = given | {"received_at": then + timedelta(seconds=away)}
        assert refusal(adapter(), late) == refusal(adapter(), late, by="parse_event") == "timestamp_outside_tolerance"


def test_several_secrets_and_several_signatures_while_one_is_rolled() -> None:
    body = event_body()
    both = adapter(webhook_secrets=("whsec_new", SECRET))
    assert both.check_event(**arguments(body, signed(body, SECRET))) == "evt_1"
    assert both.check_event(**arguments(body, signed(body, "whsec_new"))) == "evt_1"
    assert adapter().check_event(**arguments(body, signed(body, "whsec_new", SECRET))) == "evt_1"
    assert refusal(adapter(), arguments(body, signed(body, "whsec_new"))) == "signature_mismatch"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "signature_missing"),
        ("", "signature_missing"),
        ("t=1", "signature_malformed"),
        ("v1=aa", "signature_malformed"),
        ("t=x,v1=aa", "signature_malformed"),
        ("t=1700000000,v0=aa", "signature_malformed"),
        ("t=1700000000,t=1700000001,v1=aa", "signature_malformed"),
        ("t=999999999999,v1=aa", "signature_malformed"),
        ("t=1700000000,v1=", "signature_mismatch"),
        ("t=1700000000,v1=été", "signature_mismatch"),
    ],
)
def test_a_header_of_another_shape_is_refused(header: str | None, code: str) -> None:
    assert refusal(adapter(), arguments(event_body(), header)) == code


def test_the_other_scheme_and_the_other_method_count_for_nothing() -> None:
    body = event_body()
    header = signed(body)
    assert refusal(adapter(), arguments(body, header.replace("v1=", "v0="))) == "signature_malformed"
    assert refusal(adapter(), arguments(body, header) | {"method": "GET"}) == "method"


def test_without_a_secret_nothing_is_genuine() -> None:
    provider = adapter(webhook_secrets=())
    assert (provider.capabilities.push, provider.capabilities.signed_events) == (False, True)
    body = event_body()
    assert refusal(provider, arguments(body, signed(body, "x"))) == "signature_mismatch"


@given(st.binary(max_size=200), TEXT)
def test_any_bytes_as_an_event_are_a_refusal(raw: bytes, header: str) -> None:
    for sent in (arguments(raw, header), arguments(raw, f"t=1700000000,v1={header}")):
        for by in ("check_event", "parse_event"):
            with pytest.raises(Refused):
                getattr(adapter(), by)(**sent)


@given(JSON, st.dictionaries(st.sampled_from(sorted(session_body())), JSON), st.booleans())
def test_any_signed_body_is_an_event_or_a_refusal(given_body: Any, changes: dict[str, Any], whole: bool) -> None:
    thing = session_body(payment_intent="pi_1") | changes
    body = event_body(thing) if whole else json.dumps(given_body)
    with suppress(Refused):
        found = parsed(adapter(), body)
        assert found.evidence is None or found.evidence.reference == found.reference


# --- events ---------------------------------------------------------------------------------------------------------


def test_a_signed_session_that_is_paid_proves_its_money_under_the_name_that_a_look_up_gives() -> None:
    event = parsed(adapter(), event_body())
    assert (event.event_id, event.event_type) == ("evt_1", "checkout.session.completed")
    assert (event.reference, event.provider_order_id) == ("N-1", "cs_test_1")
    assert event.evidence is not None
    assert money(event.evidence) == money(read())
    assert (event.evidence.state, event.evidence.provider_order_id) == (OrderState.PAID, "cs_test_1")


@pytest.mark.parametrize(
    "changes",
    [
        {"payment_status": "unpaid"},
        {"payment_status": "no_payment_required"},
        {"status": "open"},
        {"amount_total": None},
        {"amount_total": 0},
        {"currency": None},
        {"currency": "xau"},
        {"payment_intent": None},
        {"currency_conversion": {"fx_rate": "0.9"}},
        {"livemode": "no"},
    ],
)
def test_an_event_with_fewer_facts_is_a_hint(changes: dict[str, Any]) -> None:
    event = parsed(adapter(), event_body(session_body(payment_intent="pi_1") | changes))
    assert (event.reference, event.evidence) == ("N-1", None)


@pytest.mark.parametrize(
    "kind", ["checkout.session.expired", "checkout.session.async_payment_failed", "payment_intent.succeeded", "Odd!"]
)
def test_no_other_type_proves_anything(kind: str) -> None:
    event = parsed(adapter(), event_body(kind=kind))
    assert event.evidence is None
    assert event.event_type == ("unknown" if kind == "Odd!" else kind)


def test_an_account_that_holds_first_believes_no_event() -> None:
    assert parsed(adapter(two_phase=True), event_body()).evidence is None


@pytest.mark.parametrize("kind", ["payment_intent", "charge", "refund"])
def test_what_carries_our_reference_needs_no_question(kind: str) -> None:
    thing = {"id": "x", "object": kind, "metadata": {REFERENCE: "N-1"}}
    event = parsed(adapter(), event_body(thing, "charge.refunded"))
    assert (event.reference, event.provider_order_id, event.evidence) == ("N-1", None, None)


@pytest.mark.parametrize("kind", ["dispute", "refund", "charge"])
def test_what_names_its_payment_alone_leaves_it_to_the_books_whose_it_is(kind: str) -> None:
    thing = {"id": "x", "object": kind, "payment_intent": "pi_1", "metadata": {}}
    event = parsed(adapter(), event_body(thing, "charge.dispute.funds_withdrawn"))
    assert (event.reference, event.provider_order_id, event.payment, event.evidence) == (None, None, "pi_1", None)


@pytest.mark.parametrize(
    ("thing", "code"),
    [
        ({"id": "cus_1", "object": "customer"}, "order_missing"),
        ({"id": "pi_1", "object": "payment_intent", "metadata": {}}, "order_missing"),
        ({"id": "dp_1", "object": "dispute", "payment_intent": None}, "order_missing"),
        (session_body(metadata={}), "not_ours"),
        (session_body(client_reference_id=None), "not_ours"),
        (session_body(client_reference_id="N-2"), "not_ours"),
    ],
)
def test_what_another_program_does_at_the_same_account_is_not_ours(thing: dict[str, Any], code: str) -> None:
    body = event_body(thing)
    assert refusal(adapter(), arguments(body, signed(body)), by="parse_event") == code


def test_an_event_of_the_other_mode_or_account_is_refused() -> None:
    for changes, code in (({"livemode": True}, "livemode"), ({"account": "acct_2"}, "other_account")):
        body = event_body(**changes)
        assert refusal(adapter(livemode=False), arguments(body, signed(body)), by="parse_event") == code


def test_a_thin_event_is_no_snapshot() -> None:
    body = event_body(object="v2.core.event")
    assert refusal(adapter(), arguments(body, signed(body))) == "body_invalid"


# --- orders ---------------------------------------------------------------------------------------------------------


def order(**changes: Any) -> OrderRequest:
    given = {
        "reference": new_id(),
        "amount_minor": 10_000,
        "currency": "AMD",
        "description": "Կանխավճար",
        "return_url": "https://pay.example.am/l/t/return",
        "expires_in": timedelta(hours=1),
        "locale": "hy",
    }
    return OrderRequest(**(given | changes))


class Stripe:
    """Stripe's side of a few calls: keys are kept, sessions are listed newest first, by the page."""

    def __init__(self) -> None:
        self.sessions: list[dict[str, Any]] = []
        self.keys: dict[str, tuple[bytes, int, dict[str, Any]]] = {}
        self.requests: list[httpx.Request] = []
        self.page = 100
        self.faults: list[httpx.Response] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.method == "GET":
            return httpx.Response(200, json=self._listed(dict(request.url.params)))
        key = request.headers["idempotency-key"]
        if key in self.keys:
            body, status, answer = self.keys[key]
            if body == request.content:
                return httpx.Response(status, json=answer)
            return httpx.Response(400, json={"error": {"type": "idempotency_error", "message": "other parameters"}})
        answered = self.faults.pop(0) if self.faults else httpx.Response(200, json=self._made(request))
        self.keys[key] = (request.content, answered.status_code, answered.json())
        return answered

    def _made(self, request: httpx.Request) -> dict[str, Any]:
        given = dict(parse_qsl(request.content.decode()))
        reference = given["client_reference_id"]
        made = session_body(
            id=f"cs_{len(self.sessions)}",
            status="open",
            payment_status="unpaid",
            client_reference_id=reference,
            metadata={REFERENCE: reference},
            created=int(datetime.now(UTC).timestamp()),
            expires_at=int(given["expires_at"]),
            amount_total=int(given["line_items[0][price_data][unit_amount]"]),
            currency=given["line_items[0][price_data][currency]"],
            url=f"https://checkout.stripe.example/c/pay/cs_{len(self.sessions)}",
            payment_intent=None,
        )
        self.sessions.append(made)
        return made

    def _listed(self, params: dict[str, str]) -> dict[str, Any]:
        since, until = int(params["created[gte]"]), int(params.get("created[lt]", 10**12))
        found = [one for one in reversed(self.sessions) if since <= one["created"] < until]
        names = [one["id"] for one in found]
        start = names.index(params["starting_after"]) + 1 if "starting_after" in params else 0
        return {"data": found[start : start + self.page], "has_more": len(found) > start + self.page}

    @property
    def sent(self) -> dict[str, str]:
        last = next(request for request in reversed(self.requests) if request.method == "POST")
        return {name: values[0] for name, values in parse_qs(last.content.decode()).items()}


def aged(hours: float) -> str:
    """Return a reference that was made so long ago."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    milliseconds = int((datetime.now(UTC) - timedelta(hours=hours)).timestamp() * 1000)
    return "".join(alphabet[milliseconds >> shift & 31] for shift in range(45, -1, -5)) + new_id()[10:]


def test_a_session_is_made_under_our_reference_with_its_key() -> None:
    there = Stripe()
    request = order()
    made = adapter(there).create_order(request)
    (call,) = there.requests
    assert call.headers["idempotency-key"] == request.reference
    assert (call.headers["authorization"], call.headers["stripe-version"]) == (f"Bearer {KEY}", VERSION)
    sent = there.sent
    assert (
        request.reference
        == sent["client_reference_id"]
        == sent[f"metadata[{REFERENCE}]"]
        == (sent[f"payment_intent_data[metadata][{REFERENCE}]"])
    )
    assert (sent["line_items[0][price_data][unit_amount]"], sent["line_items[0][price_data][currency]"]) == (
        *("10000", "amd"),
    )
    assert sent["success_url"] == sent["cancel_url"] == request.return_url
    assert (sent["mode"], sent["locale"], sent["adaptive_pricing[enabled]"]) == ("payment", "auto", "false")
    assert "payment_intent_data[capture_method]" not in sent
    assert made.pay_url == there.sessions[0]["url"]
    assert made.pay_url not in repr(made)


@pytest.mark.parametrize(
    ("asked", "minutes"),
    [
        (timedelta(minutes=1), 32),
        (timedelta(minutes=31), 32),
        (timedelta(hours=3), 180),
        (timedelta(days=9), 24 * 60 - 2),
    ],
)
def test_trap_15_a_session_lives_from_half_an_hour_to_a_day(asked: timedelta, minutes: int) -> None:
    there = Stripe()
    made = adapter(there).create_order(order(expires_in=asked))
    assert made.expires_at is not None
    left = (made.expires_at - datetime.now(UTC)).total_seconds() / 60
    assert minutes - 0.1 < left <= minutes


@pytest.mark.parametrize(
    ("locale", "options", "word"),
    [
        ("hy", {}, "auto"),
        ("hy", {"locales": {"hy": "ru"}}, "ru"),
        ("ru", {}, "ru"),
        ("en", {}, "en"),
        ("en-US", {}, "en"),
        ("pt-BR", {}, "pt-BR"),
    ],
)
def test_the_page_speaks_the_customers_language_if_stripe_does(locale: str, options: Any, word: str) -> None:
    there = Stripe()
    adapter(there, **options).create_order(order(locale=locale))
    assert there.sent["locale"] == word
    assert word in LOCALES


def test_options_say_how_a_session_is_made() -> None:
    there = Stripe()
    provider = adapter(there, two_phase=True, payment_method_types=["card", "sepa_debit"], describe=False)
    request = order()
    provider.create_order(request)
    sent = there.sent
    assert sent["payment_intent_data[capture_method]"] == "manual"
    assert (sent["payment_method_types[0]"], sent["payment_method_types[1]"]) == ("card", "sepa_debit")
    assert sent["line_items[0][price_data][product_data][name]"] == request.reference
    assert provider.capabilities.capture


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"currency": "amd"},
        {"currency": "KWD", "amount_minor": 5_124},
        {"reference": ""},
        {"reference": "x" * 201},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "/relative"},
        {"return_url": "http://[broken"},
        {"return_url": "https://pay.example.am/" + "x" * 3_000},
    ],
)
def test_a_bad_order_is_refused_before_it_is_sent(changes: dict[str, Any]) -> None:
    there = Stripe()
    with pytest.raises(Refused) as caught:
        adapter(there).create_order(order(**changes))
    assert (caught.value.code, there.requests) == ("invalid_request", [])


def test_a_repeat_with_another_expiry_gives_the_first_session() -> None:
    there = Stripe()
    there.page = 2
    provider = adapter(there)
    request = order()
    first = provider.create_order(request)
    for _ in range(5):
        provider.create_order(order())
    again = provider.create_order(order(reference=request.reference, expires_in=timedelta(hours=2)))
    assert (again.provider_order_id, again.pay_url) == (first.provider_order_id, first.pay_url)
    assert len(there.sessions) == 6


def test_trap_27_an_old_reference_is_looked_for_before_its_key_makes_a_second_session() -> None:
    there = Stripe()
    provider = adapter(there)
    reference = aged(30)
    first = provider.create_order(order(reference=reference))
    there.keys.clear()  # as Stripe does after a day
    again = provider.create_order(order(reference=reference))
    assert again.provider_order_id == first.provider_order_id
    assert len(there.sessions) == 1


@pytest.mark.parametrize("hours", [1, 30])
def test_an_old_session_that_ran_out_is_replaced(hours: float) -> None:
    there = Stripe()
    provider = adapter(there)
    request = order(reference=aged(hours))
    first = provider.create_order(request)
    there.sessions[0] |= {"status": "expired", "url": None}
    second = provider.create_order(order(reference=request.reference, expires_in=timedelta(hours=2)))
    assert second.provider_order_id != first.provider_order_id
    assert provider.find_order(request.reference) == second


def test_a_session_that_was_paid_is_never_made_again() -> None:
    there = Stripe()
    provider = adapter(there)
    request = order()
    provider.create_order(request)
    there.sessions[0] |= {"status": "complete", "url": None}
    with pytest.raises(Unknown) as caught:
        provider.create_order(order(reference=request.reference, expires_in=timedelta(hours=2)))
    assert caught.value.code == "complete"


def test_a_stored_500_is_heard_until_a_fresh_key_makes_the_session() -> None:
    there = Stripe()
    there.faults = [httpx.Response(500, json={"error": {"type": "api_error"}})]
    provider = adapter(there)
    request = order()
    with pytest.raises(Unavailable) as caught:
        provider.create_order(request)
    assert caught.value.code == "api_error"
    assert [request.method for request in there.requests] == ["POST", "POST", "POST", "GET"]
    # The next try of its message counts the expiry from another moment.
    made = provider.create_order(order(reference=request.reference, expires_in=timedelta(hours=2)))
    assert len(there.sessions) == 1
    assert there.requests[-1].headers["idempotency-key"].startswith(f"{request.reference}:")
    assert provider.find_order(request.reference) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"client_reference_id": "another"},
        {"amount_total": 1},
        {"currency": "usd"},
        {"amount_total": None},
        {"url": None},
        {"url": "javascript:alert(1)"},
    ],
)
def test_an_answer_about_another_order_gives_no_page(changes: dict[str, Any]) -> None:
    request = order()

    def answer(asked: httpx.Request) -> httpx.Response:
        made = session_body(status="open", client_reference_id=request.reference, url="https://x.example/")
        return httpx.Response(200, json=made | changes)

    with pytest.raises(Unknown):
        adapter(answer).create_order(request)


def test_an_order_is_found_by_its_reference_alone_in_its_own_time() -> None:
    there = Stripe()
    provider = adapter(there)
    late = provider.create_order(order(reference=aged(50)))  # made two days after its reference
    assert provider.find_order(late.reference) is not None
    assert provider.find_order(new_id()) is None
    assert provider.find_order("not-an-id") is None
    windows = [dict(request.url.params) for request in there.requests if request.method == "GET"]
    assert [("created[lt]" in window) for window in windows] == [True, False, True, False, False, False]


@pytest.mark.parametrize("stands_still", [True, False])
def test_a_list_that_has_no_end_is_not_the_same_as_none(stands_still: bool) -> None:
    asked: list[httpx.Request] = []

    def endless(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        made = session_body(id="cs_1" if stands_still else f"cs_{len(asked)}")
        return httpx.Response(200, json={"data": [made], "has_more": True})

    with pytest.raises(Unavailable) as caught:
        adapter(endless).find_order(new_id())
    assert caught.value.code == "list_too_long"
    assert len(asked) == (2 if stands_still else 50)


# --- errors ---------------------------------------------------------------------------------------------------------


def failing(status: int, code: str = "", kind: str = "invalid_request_error", **headers: str) -> Any:
    error = {"type": kind, "message": "No such thing: 4242"} | ({"code": code} if code else {})
    return lambda request: httpx.Response(status, json={"error": error}, headers=headers)


WISH = RefundRequest("r-1", "N-1", "cs_test_1", 4_000, "AMD")
CALLS: dict[str, Callable[[StripeProvider], object]] = {
    "create_order": lambda provider: provider.create_order(order()),
    "find_order": lambda provider: provider.find_order(new_id()),
    "fetch_evidence": lambda provider: provider.fetch_evidence("N-1", "cs_test_1"),
    "cancel_order": lambda provider: provider.cancel_order("N-1", "cs_test_1"),
    "capture_order": lambda provider: provider.capture_order("N-1", "cs_test_1", 10_000, "AMD"),
    "release_order": lambda provider: provider.release_order("N-1", "cs_test_1"),
    "refund": lambda provider: provider.refund(WISH),
    "list_orders": lambda provider: provider.list_orders(ASKED_AT, ASKED_AT + timedelta(days=1)),
}


MEANINGS = [
    (400, "parameter_unknown", "invalid_request_error", Refused),
    (401, "", "invalid_request_error", LoginRefused),
    (402, "card_declined", "card_error", Refused),
    (403, "", "invalid_request_error", Refused),
    (409, "idempotency_key_in_use", "invalid_request_error", Unavailable),
    (429, "rate_limit", "invalid_request_error", Unavailable),
    (429, "lock_timeout", "invalid_request_error", Unavailable),
    (424, "", "api_error", Unavailable),
    (500, "", "api_error", Unavailable),
    (503, "", "api_error", Unavailable),
]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("create_order", meaning) for meaning in MEANINGS]
    + [(name, MEANINGS[place]) for name in CALLS for place in (0, 5)],
)
def test_every_error_of_every_call_has_one_meaning(
    name: str, meaning: tuple[int, str, str, type[GatewayError]]
) -> None:
    status, code, kind, failure = meaning
    provider = adapter(failing(status, code, kind, **{"request-id": "req_7", "retry-after": "0"}), two_phase=True)
    with pytest.raises(failure) as caught:
        CALLS[name](provider)
    assert caught.value.code == ("login_refused" if failure is LoginRefused else code or kind)
    assert caught.value.provider_request_id == "req_7"
    assert name in str(caught.value)
    assert "4242" not in str(caught.value)


def test_no_such_session_is_none_and_a_wrong_address_is_not() -> None:
    assert adapter(failing(404, "resource_missing")).fetch_evidence("N-1", "cs_test_1") is None
    with pytest.raises(Refused):
        adapter(failing(404)).fetch_evidence("N-1", "cs_test_1")
    with pytest.raises(Refused) as caught:
        adapter(failing(404, "resource_missing")).refund(WISH)
    assert caught.value.code == "order_not_found"


@given(st.binary(max_size=200), st.sampled_from([200, 302, 400, 404, 409, 429, 500]))
def test_any_bytes_as_an_answer_are_one_of_three_failures(raw: bytes, status: int) -> None:
    client = StripeClient("a", "https://api.stripe.example", KEY, None, fixed(httpx.Response(status, content=raw)))
    with pytest.raises(GatewayError):
        client.of_payment("look", "pi_1")


@given(JSON, st.dictionaries(st.sampled_from(sorted(session_body())), JSON, max_size=3))
def test_any_json_as_an_answer_is_a_session_or_a_failure(answer: Any, changes: dict[str, Any]) -> None:
    for body in (answer, {"data": answer, "has_more": False}, {"data": [session_body() | changes], "has_more": False}):
        client = StripeClient("a", "https://api.stripe.example", KEY, None, fixed(httpx.Response(200, json=body)))
        with suppress(GatewayError):
            found = client.of_payment("look", "pi_1")
            assert found is None or found.id


def fixed(response: httpx.Response) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: response)


def answering(*answers: dict[str, Any]) -> tuple[Callable[[httpx.Request], httpx.Response], list[httpx.Request]]:
    """Give the answers in turn, the last one for ever."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=answers[min(len(asked), len(answers)) - 1])

    return answer, asked


@pytest.mark.parametrize(
    ("changes", "options", "failure", "code"),
    [
        ({"client_reference_id": "N-2"}, {}, Unknown, "other_order"),
        ({"id": "cs_test_2"}, {}, Unknown, "other_order"),
        ({"livemode": True}, {"livemode": False}, Refused, "livemode"),
    ],
)
def test_an_answer_about_another_order_is_not_believed(
    changes: Any, options: Any, failure: type[GatewayError], code: str
) -> None:
    handler, _ = answering(session_body(**changes))
    for call in ("fetch_evidence", "cancel_order", "refund"):
        with pytest.raises(failure) as caught:
            CALLS[call](adapter(handler, **options))
        assert caught.value.code == code


def test_one_call_tells_all_and_a_long_list_of_refunds_is_read_to_its_end() -> None:
    handler, asked = answering(session_body())
    found = adapter(handler).fetch_evidence("N-1", "cs_test_1")
    assert found is not None
    assert (money(found), len(asked)) == (money(read()), 1)
    assert asked[0].url.params["expand[]"] == "payment_intent.latest_charge.refunds"
    many = charge_body(refunds={"data": [refund_body(1)], "has_more": True}, disputed=True)
    handler, asked = answering(
        session_body(payment_intent=intent_body(latest_charge=many)),
        {"data": [refund_body(1, amount=10), refund_body(2, amount=20)], "has_more": True},
        {"data": [refund_body(3, amount=30)], "has_more": False},
        {"data": [dispute((-40, "amd"))], "has_more": False},
    )
    found = adapter(handler).fetch_evidence("N-1", "cs_test_1")
    assert found is not None
    assert [amount for _, _, amount in money(found)] == [10_000, 10, 20, 30, 40]
    assert [request.url.path for request in asked[1:]] == ["/v1/refunds", "/v1/refunds", "/v1/disputes"]
    assert asked[2].url.params["starting_after"] == "re_2"


# --- holds and refunds ----------------------------------------------------------------------------------------------

HELD = session_body(
    payment_status="unpaid",
    payment_intent=intent_body(
        status="requires_capture",
        capture_method="manual",
        latest_charge=charge_body(captured=False, amount_captured=0),
    ),
)


def test_a_hold_is_captured_or_let_go_and_nothing_else_is() -> None:
    for call, path, form in (
        ("capture_order", "/v1/payment_intents/pi_1/capture", b"amount_to_capture=10000"),
        ("release_order", "/v1/payment_intents/pi_1/cancel", b""),
    ):
        handler, asked = answering(HELD, intent_body())
        CALLS[call](adapter(handler, two_phase=True))
        assert (asked[1].url.path, asked[1].content) == (path, form)
        assert asked[1].headers["idempotency-key"]
        handler, asked = answering(session_body())
        with pytest.raises(Refused) as caught:
            CALLS[call](adapter(handler, two_phase=True))
        assert (caught.value.code, len(asked)) == ("not_held", 1)
        with pytest.raises(Refused) as caught:
            CALLS[call](adapter(handler))
        assert caught.value.code == "not_offered"


@pytest.mark.parametrize("call", ["cancel_order", "capture_order", "release_order"])
@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [(500, "", Unknown), (503, "", Unknown), (409, "", Unknown), (429, "rate_limit", Unavailable)],
)
def test_a_move_whose_outcome_nobody_heard_is_unknown(
    call: str, status: int, code: str, failure: type[GatewayError]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=HELD)
        error = {"type": "api_error", "message": "?"} | ({"code": code} if code else {})
        return httpx.Response(status, json={"error": error}, headers={"retry-after": "60"})

    with pytest.raises(failure):
        CALLS[call](adapter(answer, two_phase=True))


def test_a_hold_in_another_currency_is_not_captured() -> None:
    handler, _ = answering(HELD)
    with pytest.raises(Refused) as caught:
        adapter(handler, two_phase=True).capture_order("N-1", "cs_test_1", 10_000, "USD")
    assert caught.value.code == "invalid_request"


def test_a_refund_carries_its_name_as_key_and_mark() -> None:
    handler, asked = answering(session_body(), refund_body(7, status="pending"))
    made = adapter(handler).refund(WISH)
    assert (made.provider_transaction_id, made.amount_minor) == ("re_7", 4_000)
    sent = dict(parse_qsl(asked[1].content.decode()))
    assert sent == {
        "payment_intent": "pi_1",
        "amount": "4000",
        f"metadata[{REFUND}]": "r-1",
        f"metadata[{REFERENCE}]": "N-1",
    }
    assert asked[1].headers["idempotency-key"] == "refund:r-1"


@pytest.mark.parametrize(
    ("changes", "failure", "code"),
    [
        ({}, None, ""),
        ({"status": "pending"}, None, ""),
        ({"status": "failed"}, Refused, "refund_failed"),
        ({"status": "canceled"}, Refused, "refund_failed"),
        ({"amount": 1}, Unknown, "other_amount"),
        ({"currency": "usd"}, Unknown, "other_amount"),
        ({"currency": "xau"}, Unknown, "other_amount"),
    ],
)
def test_trap_8_a_refund_that_is_there_already_is_not_made_again(
    changes: Any, failure: type[GatewayError] | None, code: str
) -> None:
    there = refund_body(7, metadata={REFUND: "r-1"}, **changes)
    charge = charge_body(refunds={"data": [refund_body(6), there], "has_more": False})
    handler, asked = answering(session_body(payment_intent=intent_body(latest_charge=charge)))
    if failure is None:
        assert adapter(handler).refund(WISH).provider_transaction_id == "re_7"
    else:
        with pytest.raises(failure) as caught:
            adapter(handler).refund(WISH)
        assert caught.value.code == code
    assert [request.method for request in asked] == ["GET"]


@pytest.mark.parametrize(
    ("session", "wish", "code"),
    [
        (session_body(payment_intent=None), WISH, "not_paid"),
        (session_body(payment_intent=intent_body(latest_charge=None)), WISH, "not_paid"),
        (session_body(payment_intent=intent_body(latest_charge=charge_body(captured=False))), WISH, "not_paid"),
        (session_body(payment_intent=intent_body(latest_charge=charge_body(status="pending"))), WISH, "not_paid"),
        (session_body(), RefundRequest("r", "N-1", "cs_test_1", 1, "USD"), "invalid_request"),
        (session_body(), RefundRequest("r", "N-1", "cs_test_1", 0, "AMD"), "invalid_request"),
        (session_body(), RefundRequest("r", "N-1", "cs_test_1", -1, "AMD"), "invalid_request"),
    ],
)
def test_a_refund_of_nothing_or_of_other_money_is_not_sent(session: Any, wish: RefundRequest, code: str) -> None:
    handler, asked = answering(session)
    with pytest.raises(Refused) as caught:
        adapter(handler).refund(wish)
    assert caught.value.code == code
    assert all(request.method == "GET" for request in asked)


# --- settings -------------------------------------------------------------------------------------------------------


def test_capabilities_say_what_is_true() -> None:
    capabilities = adapter().capabilities
    assert (capabilities.create, capabilities.opens) == (CreateMode.IDEMPOTENT, "at_pay")
    assert capabilities.lookup_gives_page
    assert capabilities.refund_idempotent
    assert capabilities.statement
    assert not capabilities.capture
    assert capabilities.session_life == timedelta(hours=24)
    assert adapter(session_life="PT45M").capabilities.session_life == timedelta(minutes=45)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"webhook_secrets": ("",)}, "secret"),
        ({"session_life": "PT10M"}, "session_life"),
        ({"session_life": timedelta(hours=25)}, "session_life"),
        ({"payment_method_types": ["card", "No!"]}, "payment_method_types"),
        ({"locales": {"hy": "hy"}}, "locales"),
        ({"livemode": True}, "livemode"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        adapter(**options)


def test_an_order_may_be_told_again_without_its_page() -> None:
    there = Stripe()
    provider = adapter(there)
    made = provider.create_order(order())
    there.sessions[0] |= {"status": "complete", "url": None}
    found = provider.find_order(made.reference)
    assert found is not None
    assert (found.provider_order_id, found.pay_url) == (made.provider_order_id, None)
