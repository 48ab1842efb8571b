"""The VPOS.am adapter against simulated payment sessions, a process of its own that was written from the public pages.

SIMULATED: VPOS.am was not asked. The account here has what the pages show and nothing else: create, look-up by id,
signed events, the matrix. Tests are named after the traps that such providers set.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from contracts.evidence import Evidence, OrderState, ProviderReceipt
from contracts.ids import new_id
from contracts.statuses import FiscalStatus
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import OrderRequest, ProviderEvent, ProviderOrder, RefundRequest
from gateways.providers.vpos import VposProvider
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.launch import SimulatorProcess
from sandbox.vpos_sessions import PLANTED
from tests.conformance.receiver import Received, Receiver

TOKEN = "token-of-nobody"
SECRET = "webhook-secret-of-the-merchant"
AMOUNT = 1_500_000
EFFECT_IS_UNKNOWN = ["timeout_before", "timeout_after", "error_500_before", "error_500_after", "truncated"]
REFUND_PATH = "/v1/payment-sessions/{id}/refunds"


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("vpos", password=TOKEN, arguments=("--webhook-pause-seconds", "0.1")) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


class Till(VposProvider):
    """An adapter that knows who plays the buyer."""

    control: ProviderControl


Open = Callable[..., Till]


@pytest.fixture
def account(process: SimulatorProcess) -> Iterator[Open]:
    """Opens a merchant of its own with some settings; returns its adapter, named like the merchant."""
    adapters: list[Till] = []

    def open_one(*, options: dict[str, Any] | None = None, **settings: Any) -> Till:
        name, token = f"shop-{new_id()}", f"token-{new_id()}"
        process.control.configure(name, api_key=token, webhook_secret=SECRET, **settings)
        given = {"provider": "manual", "webhook_secrets": (SECRET,), "event_session": "data.session"}
        adapters.append(Till(name, process.base_url, token, **(given | (options or {}))))
        adapters[-1].control = process.control
        return adapters[-1]

    yield open_one
    for adapter in adapters:
        adapter.close()


def order(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        reference=new_id(),
        amount_minor=AMOUNT,
        currency="AMD",
        description="Ani Petrosyan, contract 17",
        return_url="https://pay.example.am/l/token/return?lang=hy",
        expires_in=timedelta(minutes=10),
    )
    return replace(request, **changes)


def made(provider: VposProvider, **changes: Any) -> ProviderOrder:
    return provider.create_order(order(**changes))


def evidence_of(provider: VposProvider, created: ProviderOrder) -> Evidence:
    evidence = provider.fetch_evidence(created.reference, created.provider_order_id)
    assert evidence is not None
    return evidence


def money(evidence: Evidence) -> list[tuple[str, int]]:
    return [(one.kind.value, one.amount_minor) for one in evidence.transactions]


def act(provider: Till, created: ProviderOrder, action: str, **options: Any) -> None:
    provider.control.act(created.reference, action, account=provider.name, **options)


def paid(provider: Till) -> ProviderOrder:
    created = made(provider)
    act(provider, created, "pay")
    return created


def calls(provider: Till) -> dict[str, int]:
    counted: dict[str, int] = provider.control.stats(provider.name)["calls"]
    return counted


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_created_session_has_a_page_and_an_end_and_holds_nothing_personal(account: Open) -> None:
    provider = account()
    created = made(provider)
    assert created.pay_url is not None
    page = httpx.get(created.pay_url)
    assert (page.status_code, "<button" in page.text) == (200, True)
    assert created.expires_at is not None
    assert timedelta(minutes=29) < created.expires_at - datetime.now(UTC) <= timedelta(minutes=30)
    (kept,) = provider.control.orders(provider.name)
    assert (kept["order_id"], kept["key"]) == (created.reference, f"order-{created.reference}-pay-attempt-1")
    assert (kept["amount"], kept["currency"], kept["metadata"]) == (AMOUNT, "AMD", {"source": "paylinks"})
    assert "Petrosyan" not in json.dumps(kept)


def test_what_the_public_pages_do_not_show_is_not_offered(account: Open) -> None:
    provider = account()
    created = paid(provider)
    told = provider.capabilities
    assert (told.cancel, told.refund, told.capture, told.statement) == (False, False, False, False)
    wish = RefundRequest(new_id(), created.reference, created.provider_order_id, 1, "AMD")
    for call in (
        lambda: provider.cancel_order(created.reference, created.provider_order_id),
        lambda: provider.refund(wish),
        lambda: provider.list_orders(datetime.now(UTC), datetime.now(UTC)),
    ):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "not_offered"


def test_an_attempt_that_is_asked_for_again_gets_its_session_again(account: Open) -> None:
    provider, request = account(), order()
    first, second = provider.create_order(request), provider.create_order(request)
    assert (first.provider_order_id, first.pay_url) == (second.provider_order_id, second.pay_url)
    assert len(provider.control.orders(provider.name)) == 1


def test_trap_7_a_key_with_another_amount_is_unknown_and_changes_nothing(account: Open) -> None:
    provider, request = account(), order()
    created = provider.create_order(request)
    with pytest.raises(Unknown) as caught:
        provider.create_order(replace(request, amount_minor=AMOUNT * 2))
    assert caught.value.code == "idempotency_key_reused"
    act(provider, created, "pay")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


@pytest.mark.parametrize("fault", EFFECT_IS_UNKNOWN)
def test_trap_6_a_lost_create_is_unknown_and_the_next_one_gets_the_same_session(account: Open, fault: str) -> None:
    provider, request = account(), order()
    provider.control.fault(fault, account=provider.name, operation="create", seconds=0.1)
    with pytest.raises(Unknown):
        provider.create_order(request)
    with pytest.raises(Refused) as caught:
        provider.find_order(request.reference)
    assert caught.value.code == "session_unknown"
    assert provider.create_order(request).pay_url
    assert len(provider.control.orders(provider.name)) == 1


def test_an_overload_is_unavailable_before_any_effect(account: Open) -> None:
    provider = account()
    provider.control.fault("rate_limited_429", account=provider.name, operation="create", seconds=7)
    with pytest.raises(Unavailable) as caught:
        made(provider)
    assert caught.value.retry_after_seconds == 7
    assert provider.control.orders(provider.name) == []


def test_a_provider_of_theirs_that_is_not_ours_is_refused_by_the_matrix(account: Open) -> None:
    provider = account(options={"provider": "ameria"})
    with pytest.raises(Refused) as caught:
        made(provider)
    assert caught.value.code == "capability_denied"
    assert calls(provider) == {"capabilities": 1}
    unasked = account(options={"provider": "ameria", "capabilities_life": "PT0S"})
    with pytest.raises(Refused) as caught:
        made(unasked)
    assert caught.value.code != "capability_denied"
    assert calls(unasked) == {"create": 1}


@pytest.mark.parametrize("fault", [*EFFECT_IS_UNKNOWN, "rate_limited_429"])
def test_a_matrix_that_is_not_to_be_had_stops_no_payment(account: Open, fault: str) -> None:
    provider = account()
    provider.control.fault(fault, account=provider.name, operation="capabilities", seconds=0.1)
    for _ in range(2):
        assert made(provider).pay_url
    assert calls(provider) == {"capabilities": 1, "create": 2}


def test_a_wrong_token_is_no_refusal_and_never_taken_for_no_such_session(process: SimulatorProcess) -> None:
    provider = VposProvider("x", process.base_url, "wrong", (SECRET,), provider="manual")
    for call in (lambda: made(provider), lambda: provider.fetch_evidence("r", "ps_1")):
        with pytest.raises(LoginRefused, match="HTTP 401 invalid_token"):
            call()
    provider.close()


def test_a_wrong_path_is_refused_and_never_taken_for_no_such_session(account: Open) -> None:
    provider = account(options={"session_path": "v1/sessions/{id}"})
    created = made(provider)
    with pytest.raises(Refused) as caught:
        evidence_of(provider, created)
    assert caught.value.code == "not_found"
    assert account().fetch_evidence(created.reference, "ps_none") is None


# --- what happens to a session ----------------------------------------------------------------------------------------


def test_trap_1_a_redirect_proves_nothing(account: Open) -> None:
    provider = account()
    created = made(provider)
    httpx.post(created.pay_url or "", data={"action": "abandon"})
    assert evidence_of(provider, created).state is OrderState.OPEN
    back = httpx.post(created.pay_url or "", data={"action": "pay"})
    assert parse_qs(urlsplit(back.headers["location"]).query)["lang"] == ["hy"]
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])
    assert abs(found.transactions[0].occurred_at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("action", ["pending", "processing"])
def test_pending_is_no_failure_and_no_payment(account: Open, action: str) -> None:
    provider = account()
    created = made(provider)
    act(provider, created, action)
    found = evidence_of(provider, created)
    assert (found.state, found.transactions) == (OrderState.PROCESSING, ())
    act(provider, created, "pay")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


def test_a_word_that_nobody_mapped_is_a_persons_case_whatever_came(account: Open) -> None:
    provider = account()
    created = paid(provider)
    act(provider, created, "odd_status", word="settlement_hold")
    with pytest.raises(Refused) as caught:
        evidence_of(provider, created)
    assert caught.value.code == "unmapped_status"
    assert "settlement_hold" in caught.value.detail


def test_words_and_names_of_another_account_are_settings(account: Open) -> None:
    words = {"created": "NEW", "paid": "DONE", "partially_refunded": "BACK"}
    names = {"id": "sessionId", "status": "state", "checkoutUrl": "url", "paidAmountMinor": "captured"}
    statuses = {"NEW": "open", "DONE": "paid", "BACK": "paid"}
    fields = {"id": "sessionId", "status": "state", "page": "url", "paid_amount": "captured"}
    options = {"statuses": statuses, "refund_words": ["BACK"], "fields": fields}
    provider = account(options=options, words=words, names=names)
    created = made(provider)
    assert evidence_of(provider, created).state is OrderState.OPEN
    act(provider, created, "pay", amount_minor=40)
    assert money(evidence_of(provider, created)) == [("capture", 40)]
    act(provider, created, "refund", amount_minor=15)
    assert money(evidence_of(provider, created)) == [("capture", 40), ("refund", 15)]
    assert account(options=options).capabilities.lookup
    with pytest.raises(Unknown):
        made(account(options=options))  # an account whose answers have the assumed names


def test_trap_16_a_payment_that_settles_after_the_session_ended_is_money(account: Open) -> None:
    provider = account()
    created = made(provider)
    act(provider, created, "expire")
    assert evidence_of(provider, created).state is OrderState.EXPIRED
    act(provider, created, "settle_late")
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])


@pytest.mark.parametrize("fault", ["wrong_amount", "wrong_currency"])
def test_trap_13_money_is_told_as_it_came(account: Open, fault: str) -> None:
    provider = account()
    created = made(provider)
    provider.control.fault(fault, account=provider.name)
    act(provider, created, "pay")
    (capture,) = evidence_of(provider, created).transactions
    right = (AMOUNT // 2, "AMD") if fault == "wrong_amount" else (AMOUNT, "USD")
    assert (capture.amount_minor, capture.currency) == right


def test_trap_10_refunds_made_there_are_one_growing_total(account: Open) -> None:
    provider = account(refund_path=REFUND_PATH)
    created = paid(provider)
    for total in (100_000, 200_000):
        act(provider, created, "refund", amount_minor=100_000)
        assert money(evidence_of(provider, created)) == [("capture", AMOUNT), ("refund", total)]
    assert evidence_of(provider, created).transactions[1].cumulative


def test_a_refund_whose_sum_is_not_told_is_never_guessed(account: Open) -> None:
    provider = account(refund_path=REFUND_PATH)
    created = paid(provider)
    act(provider, created, "refund", amount_minor=1)
    provider.control.configure(provider.name, changed_answer={"refundedAmountMinor": None})
    with pytest.raises(Refused) as caught:
        evidence_of(provider, created)
    assert caught.value.code == "amounts_missing"


def test_a_refund_is_refused_where_the_matrix_denies_it_and_made_where_it_does_not(account: Open) -> None:
    provider = account(options={"refund_path": REFUND_PATH})
    created = paid(provider)
    wish = RefundRequest(new_id(), created.reference, created.provider_order_id, 500_000, "AMD")
    with pytest.raises(Refused) as caught:
        provider.refund(wish)
    assert caught.value.code == "capability_denied"
    assert evidence_of(provider, created).state is OrderState.PAID
    other = account(options={"refund_path": REFUND_PATH}, refund_path=REFUND_PATH)
    created = paid(other)
    made_ = other.refund(replace(wish, reference=created.reference, provider_order_id=created.provider_order_id))
    assert made_.provider_transaction_id == f"{created.provider_order_id}:refund:500000"
    assert money(evidence_of(other, created)) == [("capture", AMOUNT), ("refund", 500_000)]


def test_trap_28_a_fiscal_status_is_another_thing_than_paid(account: Open) -> None:
    provider = account(fiscal="failed")
    created = paid(provider)
    evidence = evidence_of(provider, created)
    assert evidence.state is OrderState.PAID
    assert (provider.capabilities.receipt, evidence.receipt) == (True, ProviderReceipt(status=FiscalStatus.FAILED))
    unread = account(fiscal="issued", options={"fiscal_statuses": {}})
    assert (unread.capabilities.receipt, evidence_of(unread, paid(unread)).receipt) == (False, None)


def test_trap_5_a_failing_look_up_is_no_failed_payment(account: Open) -> None:
    provider = account()
    created = paid(provider)
    for fault in EFFECT_IS_UNKNOWN:
        provider.control.fault(fault, account=provider.name, operation="get", times=3, seconds=0.05)
        with pytest.raises(Unavailable):
            evidence_of(provider, created)
    assert evidence_of(provider, created).state is OrderState.PAID


def test_trap_23_no_card_name_or_address_reaches_an_error_a_log_or_evidence(
    account: Open, caplog: pytest.LogCaptureFixture
) -> None:
    provider = account()
    created = paid(provider)
    seen = [repr(evidence_of(provider, created)), evidence_of(provider, created).model_dump_json()]
    for changed in (
        {"amountMinor": PLANTED["maskedPan"]},
        {"merchantOrderId": PLANTED["name"]},
        {"currency": PLANTED["phone"][:8], "paidCurrency": None},
        {"paidCurrency": PLANTED["phone"][:8]},
        {"status": PLANTED["name"]},
        {"status": PLANTED["email"]},
        {"id": PLANTED["ip"]},
    ):
        provider.control.configure(provider.name, changed_answer=changed)
        with pytest.raises(GatewayError) as caught:
            evidence_of(provider, created)
        error = caught.value
        seen += [str(error), repr(error), error.detail, error.code, repr(error.__cause__), repr(error.__context__)]
    seen += [caplog.text]
    for planted in (*PLANTED.values(), PLANTED["phone"][:8]):
        assert not [text for text in seen if planted in text]


# --- events -----------------------------------------------------------------------------------------------------------


def one_received(receiver: Receiver, count: int = 1) -> Received:
    return eventually(lambda: list(receiver.received), lambda received: len(received) >= count)[count - 1]


def parse(provider: VposProvider, received: Received) -> ProviderEvent:
    told = {"method": "POST", "query": "", "headers": received.headers, "body": received.body}
    event = provider.parse_event(**told, received_at=received.received_at)  # type: ignore[arg-type]  # as the door has it
    assert provider.check_event(**told, received_at=received.received_at) == event.event_id  # type: ignore[arg-type]
    return event


def test_trap_2_an_event_without_a_signed_time_only_hastens_a_look_up(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url)
    created = paid(provider)
    event = parse(provider, one_received(receiver))
    assert (event.reference, event.provider_order_id) == (created.reference, created.provider_order_id)
    assert (event.event_type, event.evidence) == ("payment_session.paid", None)
    assert event.event_id is not None


STAMPED = {"signature_scheme": "t-v1"}


def test_an_event_with_a_signed_time_carries_the_facts(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options=STAMPED, **STAMPED)
    paid(provider)
    event = parse(provider, one_received(receiver))
    assert event.evidence is not None
    assert (event.evidence.state, money(event.evidence)) == (OrderState.PAID, [("capture", AMOUNT)])


def test_an_old_event_is_refused_where_its_time_is_signed(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options=STAMPED, **STAMPED)
    provider.control.fault("stale", account=provider.name)
    paid(provider)
    with pytest.raises(Refused) as caught:
        parse(provider, one_received(receiver))
    assert caught.value.code == "timestamp_outside_tolerance"


@pytest.mark.parametrize("scheme", ["hmac-sha256-hex", "t-v1"])
def test_a_forged_event_is_refused(account: Open, receiver: Receiver, scheme: str) -> None:
    named = {"signature_scheme": scheme}
    provider = account(webhook_url=receiver.url, options=named, **named)
    provider.control.fault("forged", account=provider.name)
    created = made(provider)
    act(provider, created, "decline")
    one_received(receiver, 2)
    codes = []
    for received in receiver.received[:2]:
        try:
            codes.append(parse(provider, received).event_type)
        except Refused as refused:
            codes.append(refused.code)
    assert sorted(codes) == ["payment_session.failed", "signature_mismatch"]


def test_a_hint_without_facts_still_names_the_session(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options=STAMPED, **STAMPED)
    provider.control.fault("hint_only", account=provider.name)
    created = paid(provider)
    event = parse(provider, one_received(receiver))
    assert (event.reference, event.event_id, event.evidence) == (created.reference, None, None)


def test_a_secret_is_replaced_while_both_are_known(account: Open, receiver: Receiver) -> None:
    provider = account(webhook_url=receiver.url, options={"webhook_secrets": ("the-new-one", SECRET)})
    for count, secret in enumerate((SECRET, "the-new-one"), start=1):
        provider.control.configure(provider.name, webhook_secret=secret)
        paid(provider)
        assert parse(provider, one_received(receiver, count)).reference
    provider.control.configure(provider.name, webhook_secret="of-somebody-else")
    paid(provider)
    with pytest.raises(Refused) as caught:
        parse(provider, one_received(receiver, 3))
    assert caught.value.code == "signature_mismatch"


def test_the_buyer_of_a_session_that_failed_cannot_pay_it(account: Open) -> None:
    provider = account()
    created = made(provider)
    act(provider, created, "decline")
    found = evidence_of(provider, created)
    assert (found.state, found.retryable) == (OrderState.DECLINED, False)
    with pytest.raises(ControlError):
        act(provider, created, "pay")
