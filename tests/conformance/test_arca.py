"""The ArCa adapter against a simulated gateway, a process of its own that was written from BPC's documentation.

SIMULATED: no bank's gateway was asked. Here is what is peculiar to this family; what every adapter does is asked in
test_every_provider. Tests are named after the traps that such gateways set.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contracts.evidence import Evidence, OrderState
from contracts.ids import new_id
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.arca import ArcaProvider
from gateways.providers.base import CreateMode, OrderRequest, ProviderEvent, ProviderOrder, RefundRequest
from sandbox.arca_orders import PLANTED
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.launch import ArcaProcess
from tests.conformance.receiver import Received, Receiver

PASSWORD = "password-of-the-api-user"
SECRET = "ooc7slpvc61k7sf7ma7p4hrefr"
AMOUNT = 1_500_000
EFFECT_IS_UNKNOWN = ["timeout_before", "timeout_after", "error_500_before", "error_500_after", "truncated"]


@pytest.fixture(scope="module")
def gateway() -> Iterator[ArcaProcess]:
    with ArcaProcess(password=PASSWORD, arguments=("--callback-pause-seconds", "0.1")) as process:
        yield process


class Till(ArcaProvider):
    """An adapter that knows who plays the customer at its gateway."""

    control: ProviderControl


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


Open = Callable[..., Till]


@pytest.fixture
def account(gateway: ArcaProcess) -> Iterator[Open]:
    """Opens a merchant of its own with some settings; returns its adapter, named like the API user."""
    adapters: list[Till] = []

    def open_one(*, options: dict[str, Any] | None = None, **settings: Any) -> Till:
        user = f"shop-{new_id()}-api"
        gateway.control.configure(user, password=PASSWORD, callback_secret=SECRET, **settings)
        given = {"user_name": user, "webhook_secrets": (SECRET,), **(options or {})}
        adapters.append(Till(user, gateway.rest_url, PASSWORD, **given))
        adapters[-1].control = gateway.control
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
        expires_in=timedelta(minutes=10),
        locale="hy",
    )
    return replace(request, **changes)


def made(provider: ArcaProvider, **changes: Any) -> ProviderOrder:
    return provider.create_order(order(**changes))


def evidence_of(provider: Till, created: ProviderOrder) -> Evidence:
    evidence = provider.fetch_evidence(created.reference, created.provider_order_id)
    assert evidence is not None
    return evidence


def money(evidence: Evidence) -> list[tuple[str, int]]:
    return [(one.kind.value, one.amount_minor) for one in evidence.transactions]


def act(provider: Till, created: ProviderOrder, action: str, **options: Any) -> None:
    provider.control.act(created.reference, action, account=provider.name, **options)


def the_order(provider: Till, reference: str) -> dict[str, Any]:
    return next(one for one in provider.control.orders(provider.name) if one["number"] == reference)


def paid(provider: Till, **changes: Any) -> ProviderOrder:
    created = made(provider, **changes)
    act(provider, created, "pay")
    return created


def wish(created: ProviderOrder, amount: int, name: str | None = None) -> RefundRequest:
    return RefundRequest(name or new_id(), created.reference, created.provider_order_id, amount, "AMD")


# --- create and look up ---------------------------------------------------------------------------------------------


def test_a_created_order_has_a_page_and_an_end(account: Open) -> None:
    provider = account()
    created = made(provider)
    assert created.pay_url is not None
    page = httpx.get(created.pay_url)
    assert (page.status_code, "<button" in page.text, 'lang="hy"' in page.text) == (200, True, True)
    assert created.expires_at is not None
    assert timedelta(minutes=9) < created.expires_at - datetime.now(UTC) <= timedelta(minutes=10)
    assert created.pay_url not in repr(created)


def test_trap_15_a_bank_order_lives_minutes_so_it_opens_at_pay(account: Open) -> None:
    capabilities = account().capabilities
    assert (capabilities.opens, capabilities.session_life) == ("at_pay", timedelta(minutes=20))
    assert (capabilities.create, capabilities.lookup_gives_page) == (CreateMode.UNIQUE, False)


def test_trap_13_the_wire_has_minor_units_and_the_numeric_code_with_its_zero(account: Open) -> None:
    provider = account()
    created = made(provider, amount_minor=150_050)
    kept = the_order(provider, created.reference)
    assert (kept["amount"], kept["currency"]) == (150_050, "051")
    act(provider, created, "pay")
    (capture,) = evidence_of(provider, created).transactions
    assert (capture.amount_minor, capture.currency) == (150_050, "AMD")
    for currency, numeric in {"USD": "840", "EUR": "978", "RUB": "643", "JPY": "392"}.items():
        other = made(provider, amount_minor=7, currency=currency)
        kept = the_order(provider, other.reference)
        assert (kept["amount"], kept["currency"]) == (7, numeric)


def test_trap_14_an_end_without_a_zone_is_the_accounts_local_time(account: Open) -> None:
    by_date = account(options={"expiry": "date"})
    created = made(by_date, expires_in=timedelta(minutes=5))
    left = the_order(by_date, created.reference)["expires_at"] - time.time()
    assert 290 < left <= 301
    by_seconds = account()
    created = made(by_seconds, expires_in=timedelta(minutes=5))
    left = the_order(by_seconds, created.reference)["expires_at"] - time.time()
    assert 290 < left <= 301


@pytest.mark.parametrize(("locale", "language"), [("hy", "hy"), ("ru", "ru"), ("en", "en"), ("fr", "en")])
def test_the_page_speaks_the_customers_language(account: Open, locale: str, language: str) -> None:
    provider = account()
    assert the_order(provider, made(provider, locale=locale).reference)["language"] == language


@pytest.mark.parametrize(
    ("description", "sent"),
    [
        ("Tom & Jerry <b>bold</b>", "Tom & Jerry  b bold /b"),
        ("x" * 700, "x" * 598),
        ("a\x00b\nc", "a b c"),
    ],
)
def test_a_description_never_makes_the_gateway_decline(account: Open, description: str, sent: str) -> None:
    provider = account()
    assert the_order(provider, made(provider, description=description).reference)["description"] == sent


def test_a_description_may_be_kept_from_the_gateway(account: Open) -> None:
    provider = account(options={"describe": False})
    for words in ("Ani Petrosyan, contract 17", ""):
        created = made(provider, description=words)
        assert the_order(provider, created.reference)["description"] == created.reference


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"currency": "amd"},
        {"currency": "051"},
        {"reference": ""},
        {"reference": "x" * 37},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "/relative"},
        {"return_url": "https://pay.example.am/" + "x" * 512},
        {"expires_in": timedelta(0)},
    ],
)
def test_a_bad_order_is_refused_before_it_is_sent(account: Open, changes: dict[str, Any]) -> None:
    provider = account()
    with pytest.raises(Refused) as caught:
        made(provider, **changes)
    assert caught.value.code == "invalid_request"
    assert provider.control.stats(provider.name)["calls"] == {}


def test_trap_6_register_twice_tells_no_page_and_is_asked_about(account: Open) -> None:
    provider = account()
    request = order()
    created = provider.create_order(request)
    with pytest.raises(Unknown) as caught:
        provider.create_order(request)
    assert caught.value.code == "duplicate_reference"
    found = provider.find_order(request.reference)
    assert found is not None
    assert (found.provider_order_id, found.pay_url) == (created.provider_order_id, None)
    assert len(provider.control.orders(provider.name)) == 1


def test_an_order_that_does_not_exist_is_none(account: Open) -> None:
    provider = account()
    assert provider.find_order(new_id()) is None
    assert provider.fetch_evidence(new_id(), None) is None
    assert provider.fetch_evidence(new_id(), "no-such-id") is None


def test_a_wrong_password_is_no_refusal_and_never_taken_for_no_such_order(gateway: ArcaProcess) -> None:
    provider = ArcaProvider("x", gateway.rest_url, "wrong", ("s",), user_name="shop-api")
    for call in (lambda: provider.find_order("x"), lambda: provider.fetch_evidence("x", None), lambda: made(provider)):
        with pytest.raises(LoginRefused, match="errorCode 5"):
            call()
    provider.close()


def test_a_wrong_address_is_refused_and_never_taken_for_no_such_order(gateway: ArcaProcess) -> None:
    provider = ArcaProvider("x", gateway.base_url + "/elsewhere", PASSWORD, ("s",), user_name="shop-api")
    with pytest.raises(Refused) as caught:
        provider.find_order("x")
    assert caught.value.code == "http_404"
    provider.close()


def test_an_answer_that_names_another_order_anywhere_is_not_believed(account: Open) -> None:
    provider = account()
    created = paid(provider)
    for changed in ({"orderNumber": "another"}, {"attributes": [{"name": "mdOrder", "value": "another"}]}):
        provider.control.configure(provider.name, changed_answer=changed)
        with pytest.raises(Unknown) as caught:
            provider.fetch_evidence(created.reference, created.provider_order_id)
        assert caught.value.code == "other_order"


def test_trap_12_ids_are_the_same_in_both_cases(account: Open) -> None:
    provider = account()
    created = paid(provider)
    upper = provider.fetch_evidence(created.reference, created.provider_order_id.upper())
    assert upper is not None
    assert upper.transactions == evidence_of(provider, created).transactions


# --- what happens to an order ---------------------------------------------------------------------------------------


def test_trap_1_a_redirect_proves_nothing(account: Open) -> None:
    provider = account()
    created = made(provider)
    back = httpx.post(created.pay_url or "", data={"action": "abandon"})
    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert query == {"lang": ["hy", "hy"], "orderId": [created.provider_order_id]}
    assert evidence_of(provider, created).state is OrderState.OPEN
    httpx.post(created.pay_url or "", data={"action": "pay"})
    assert evidence_of(provider, created).state is OrderState.PAID


def test_declines_may_be_followed_by_a_capture_in_the_same_order(account: Open) -> None:
    provider = account()
    created = made(provider)
    for _ in range(2):
        act(provider, created, "decline")
        declined = evidence_of(provider, created)
        assert (declined.state, declined.retryable, declined.transactions) == (OrderState.DECLINED, True, ())
    act(provider, created, "pay")
    found = evidence_of(provider, created)
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", AMOUNT)])
    assert abs(found.transactions[0].occurred_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_last_decline_ends_the_order(account: Open) -> None:
    provider = account(tries_allowed=1)
    created = made(provider)
    act(provider, created, "decline")
    found = evidence_of(provider, created)
    assert (found.state, found.retryable) == (OrderState.DECLINED, False)


@pytest.mark.parametrize("action", ["acs", "pending", "unknown"])
def test_an_outcome_that_nobody_knows_is_never_a_failure(account: Open, action: str) -> None:
    provider = account()
    created = made(provider)
    act(provider, created, action)
    found = evidence_of(provider, created)
    assert (found.state, found.transactions) == (OrderState.PROCESSING, ())
    act(provider, created, "settle")
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


def test_a_session_ends_by_itself_and_takes_no_payment_then(account: Open) -> None:
    provider = account()
    created = made(provider, expires_in=timedelta(seconds=1))
    eventually(lambda: evidence_of(provider, created).state, lambda state: state is OrderState.EXPIRED, seconds=5)
    with pytest.raises(ControlError):
        act(provider, created, "pay")
    with pytest.raises(Refused):
        provider.cancel_order(created.reference, created.provider_order_id)


def test_a_status_of_the_future_is_no_failure(account: Open) -> None:
    provider = account(changed_answer={"orderStatus": 12})
    assert evidence_of(provider, made(provider)).state is OrderState.PROCESSING


@pytest.mark.parametrize("version", [1, 2, 3, 5, 6, 10, 12, 21, 46])
def test_an_answer_of_any_version_shows_the_payment(account: Open, version: int) -> None:
    provider = account(version=version)
    created = paid(provider)
    found = evidence_of(provider, created)
    assert money(found) == [("capture", AMOUNT)]
    assert found.transactions[0].provider_transaction_id == f"{created.provider_order_id}:capture"


# --- holds ----------------------------------------------------------------------------------------------------------

TWO_PHASE = {"two_phase": True}


def test_a_hold_is_captured_in_part_and_zero_is_never_sent(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    for wrong in (0, -1):
        with pytest.raises(Refused) as caught:
            provider.capture_order(created.reference, created.provider_order_id, wrong, "AMD")
        assert caught.value.code == "invalid_request"
    with pytest.raises(Refused):
        provider.capture_order(created.reference, created.provider_order_id, AMOUNT + 1, "AMD")
    provider.capture_order(created.reference, created.provider_order_id, 500_000, "AMD")
    assert money(evidence_of(provider, created)) == [("capture", 500_000)]


def test_several_captures_grow_one_total(account: Open) -> None:
    provider = account(options=TWO_PHASE, several_deposits=True)
    created = paid(provider)
    for taken, state in ((500_000, OrderState.HELD), (AMOUNT - 500_000, OrderState.PAID)):
        provider.capture_order(created.reference, created.provider_order_id, taken, "AMD")
        found = evidence_of(provider, created)
        assert found.state is state
    assert money(found) == [("capture", AMOUNT)]
    assert found.transactions[0].cumulative


@pytest.mark.parametrize("fault", EFFECT_IS_UNKNOWN)
def test_a_lost_capture_is_unknown_and_never_repeated(account: Open, fault: str) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    provider.control.fault(fault, account=provider.name, operation="deposit", seconds=0.1)
    with pytest.raises(Unknown):
        provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    assert provider.control.stats(provider.name)["calls"]["deposit"] == 1


def test_letting_go_of_a_hold_never_undoes_a_payment(account: Open) -> None:
    provider = account(options=TWO_PHASE)
    created = paid(provider)
    provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    with pytest.raises(Refused) as refusal:
        provider.release_order(created.reference, created.provider_order_id)
    assert refusal.value.code == "not_held"
    assert money(evidence_of(provider, created)) == [("capture", AMOUNT)]


# --- refunds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 5, 12, 21, 46])
@pytest.mark.parametrize("named", [True, False])
def test_a_full_refund_is_the_transaction_that_evidence_names(account: Open, version: int, named: bool) -> None:
    provider = account(version=version, options={"external_refund_id": named})
    created = paid(provider)
    refund = provider.refund(wish(created, AMOUNT))
    found = evidence_of(provider, created)
    assert money(found) == [("capture", AMOUNT), ("refund", AMOUNT)]
    name = found.transactions[1].provider_transaction_id
    expected = f"{name}:{AMOUNT}" if found.transactions[1].cumulative else name
    assert refund.provider_transaction_id == expected


def test_refunds_of_older_answers_are_one_growing_total(account: Open) -> None:
    provider = account(version=4)
    created = paid(provider)
    names = [provider.refund(wish(created, 100_000)).provider_transaction_id for _ in range(2)]
    base = f"{created.provider_order_id}:refund"
    assert names == [f"{base}:100000", f"{base}:200000"]
    total = evidence_of(provider, created).transactions[1]
    assert (total.provider_transaction_id, total.amount_minor, total.cumulative) == (base, 200_000, True)


def test_a_named_refund_asked_twice_is_made_once(account: Open) -> None:
    provider = account(version=21, options={"external_refund_id": True})
    created = paid(provider)
    provider.refund(wish(created, 100_000))
    request = wish(created, 100_000)
    first, second = provider.refund(request), provider.refund(request)
    assert first == second
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000), ("refund", 100_000)]


def test_a_named_refund_that_no_answer_names_is_unknown_rather_than_another_one(account: Open) -> None:
    provider = account(version=12, options={"external_refund_id": True})
    created = paid(provider)
    request = wish(created, 100_000)
    provider.refund(request)
    with pytest.raises(Unknown) as caught:
        provider.refund(request)
    assert caught.value.code == "not_shown"
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000)]


@pytest.mark.parametrize("fault", ["timeout_after", "error_500_after", "truncated"])
def test_a_named_refund_with_a_lost_answer_is_repeated_at_once_and_made_once(account: Open, fault: str) -> None:
    provider = account(version=21, options={"external_refund_id": True})
    created = paid(provider)
    provider.control.fault(fault, account=provider.name, operation="refund", seconds=0.1)
    provider.refund(wish(created, 100_000))
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000)]
    assert provider.control.stats(provider.name)["calls"]["refund"] == 2


@pytest.mark.parametrize("fault", EFFECT_IS_UNKNOWN)
def test_trap_8_an_unnamed_refund_is_never_repeated_blindly(account: Open, fault: str) -> None:
    provider = account()
    created = paid(provider)
    provider.control.fault(fault, account=provider.name, operation="refund", seconds=0.1)
    with pytest.raises(Unknown):
        provider.refund(wish(created, 100_000))
    assert provider.control.stats(provider.name)["calls"]["refund"] == 1
    happened = [] if fault.endswith("before") else [("refund", 100_000)]
    assert money(evidence_of(provider, created))[1:] == happened


def test_a_refund_that_cannot_be_shown_afterwards_is_unknown(account: Open, gateway: ArcaProcess) -> None:
    provider = account()
    created = paid(provider)
    # An answer of another order, from the refund on: the look before it had passed.
    looks = 0

    def broken(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        with httpx.Client(trust_env=False) as client:
            answer = client.post(str(request.url), content=request.read(), headers=dict(request.headers))
        looks += "getOrderStatusExtended" in request.url.path
        return httpx.Response(answer.status_code, content=b"{" if looks > 1 else answer.content)

    transport = httpx.MockTransport(broken)
    other = ArcaProvider("x", gateway.rest_url, PASSWORD, (SECRET,), user_name=provider.name, transport=transport)
    with pytest.raises(Unknown) as caught:
        other.refund(wish(created, 100_000))
    assert caught.value.code == "not_shown"
    assert money(evidence_of(provider, created))[1:] == [("refund", 100_000)]
    other.close()


def test_without_amounts_no_refund_is_begun(account: Open) -> None:
    provider = account(version=2)
    created = paid(provider)
    with pytest.raises(Refused) as caught:
        provider.refund(wish(created, 1))
    assert caught.value.code == "amounts_missing"
    act(provider, created, "refund", amount_minor=1)
    with pytest.raises(Refused) as caught:
        provider.fetch_evidence(created.reference, created.provider_order_id)
    assert caught.value.code == "amounts_missing"


def test_a_chargeback_is_seen_from_version_6(account: Open) -> None:
    provider = account(version=6)
    created = paid(provider)
    act(provider, created, "refund", amount_minor=100_000)
    act(provider, created, "chargeback")
    assert money(evidence_of(provider, created)) == [
        ("capture", AMOUNT),
        ("refund", 100_000),
        ("chargeback", AMOUNT - 100_000),
    ]


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_an_account_without_the_permission_cancels_nothing(account: Open) -> None:
    provider = account(options={"cancel": False})
    created = made(provider)
    with pytest.raises(Refused) as caught:
        provider.cancel_order(created.reference, created.provider_order_id)
    assert (caught.value.code, provider.capabilities.cancel) == ("not_offered", False)


# --- bad weather ----------------------------------------------------------------------------------------------------


def fixed(answer: httpx.Response) -> ArcaProvider:
    transport = httpx.MockTransport(lambda request: answer)
    return ArcaProvider("a", "https://ipay.example.am/payment/rest", "p", ("s",), user_name="u", transport=transport)


@pytest.mark.parametrize(
    ("answer", "of_create", "of_look_up"),
    [
        (httpx.Response(400, json={"errorCode": "7"}), Unknown, Unavailable),
        (httpx.Response(502, text="<html>"), Unknown, Unavailable),
        (httpx.Response(200, text="<html>"), Unknown, Unavailable),
        (httpx.Response(200, json={"errorCode": "7", "errorMessage": "System error"}), Unknown, Unavailable),
        (httpx.Response(200, json={"errorCode": 5, "errorMessage": "Access denied"}), LoginRefused, LoginRefused),
        (httpx.Response(200, json={"success": False}), Refused, Refused),
        (httpx.Response(200, json={"errorCode": "0"}), Unknown, None),
        (httpx.Response(200, json={"orderId": "1", "formUrl": "javascript:1"}), Unknown, None),
        (httpx.Response(403, text="no"), Refused, Refused),
        (httpx.Response(404, text="no"), Refused, Refused),
    ],
)
def test_http_200_says_nothing_and_400_is_their_fault(
    answer: httpx.Response, of_create: type[GatewayError], of_look_up: type[GatewayError] | None
) -> None:
    with pytest.raises(of_create):
        made(fixed(answer))
    if of_look_up is None:
        assert fixed(answer).find_order("x") is None
        return
    with pytest.raises(of_look_up):
        fixed(answer).find_order("x")


def test_trap_23_no_card_name_or_address_reaches_an_error_a_log_or_evidence(
    account: Open, caplog: pytest.LogCaptureFixture
) -> None:
    provider = account(version=46)
    created = paid(provider)
    seen = [repr(evidence_of(provider, created)), evidence_of(provider, created).model_dump_json()]
    for changed in (
        {"amount": PLANTED["pan"] + "x"},
        {"orderNumber": PLANTED["cardholderName"]},
        {"currency": PLANTED["pan"]},
        {"currency": "999"},
        {"errorCode": PLANTED["pan"], "orderStatus": None},
        {"errorCode": PLANTED["cardholderName"], "orderStatus": None},
        {"refunds": [{"amount": PLANTED["pan"]}]},
    ):
        provider.control.configure(provider.name, changed_answer=changed)
        with pytest.raises(GatewayError) as caught:
            provider.fetch_evidence(created.reference, created.provider_order_id)
        error = caught.value
        seen += [str(error), repr(error), error.detail, error.code, repr(error.__cause__), repr(error.__context__)]
    seen += [caplog.text]
    for planted in PLANTED.values():
        assert not [text for text in seen if planted in text]
    assert not [text for text in seen if PASSWORD in text]


# --- callbacks ------------------------------------------------------------------------------------------------------


def one_received(receiver: Receiver, count: int = 1) -> Received:
    return eventually(lambda: list(receiver.received), lambda received: len(received) >= count)[count - 1]


def parse(provider: ArcaProvider, received: Received, *, query: str | None = None) -> ProviderEvent:
    given = urlsplit(received.path).query if query is None else query
    method = "POST" if received.body else "GET"
    told = {"method": method, "query": given, "headers": received.headers, "body": received.body}
    assert provider.check_event(**told, received_at=received.received_at) is None
    return provider.parse_event(**told, received_at=received.received_at)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_callback_names_the_order_and_proves_no_money(account: Open, receiver: Receiver, method: str) -> None:
    provider = account(callback_url=receiver.url, callback_method=method, callback_date=True)
    created = paid(provider)
    event = parse(provider, one_received(receiver))
    assert (event.reference, event.provider_order_id) == (created.reference, created.provider_order_id)
    assert (event.event_type, event.event_id, event.evidence) == ("deposited", None, None)


def test_trap_2_a_callback_is_never_evidence_not_even_of_a_failure(account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url)
    created = made(provider)
    act(provider, created, "decline")
    event = parse(provider, one_received(receiver))
    assert (event.event_type, event.evidence) == ("deposited", None)
    act(provider, created, "pay")
    assert evidence_of(provider, created).state is OrderState.PAID


def test_every_operation_calls_back(account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url, options=TWO_PHASE)
    created = paid(provider)
    provider.capture_order(created.reference, created.provider_order_id, AMOUNT, "AMD")
    act(provider, created, "refund", amount_minor=1)
    other = paid(provider)
    provider.release_order(other.reference, other.provider_order_id)
    third = made(provider)
    act(provider, third, "expire")
    received = eventually(lambda: list(receiver.received), lambda received: len(received) >= 6)
    told = sorted(parse(provider, one).event_type for one in received)
    assert told == ["approved", "approved", "declinedByTimeout", "deposited", "refunded", "reversed"]


def test_a_forged_an_altered_and_an_unsigned_callback_are_refused(account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url)
    paid(provider)
    received = one_received(receiver)
    query = urlsplit(received.path).query
    for wrong in (
        query.replace("status=1", "status=0"),
        query.replace("orderNumber=", "orderNumber=x"),
        query.replace("checksum=", "checksum=0"),
        query[: query.index("&checksum")],
        "",
    ):
        with pytest.raises(Refused):
            parse(provider, received, query=wrong)
    provider.control.configure(provider.name, callback_secret="of-somebody-else")
    paid(provider)
    with pytest.raises(Refused) as caught:
        parse(provider, one_received(receiver, 2))
    assert caught.value.code == "signature_mismatch"


def test_trap_24_a_parameter_that_a_proxy_added_breaks_no_checksum(account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url + "?route=hook")
    created = paid(provider)
    assert parse(provider, one_received(receiver)).reference == created.reference


def test_a_key_may_be_replaced_while_both_sign(gateway: ArcaProcess, account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url, options={"webhook_secrets": ("the-next-one", SECRET)})
    paid(provider)
    parse(provider, one_received(receiver))
    provider.control.configure(provider.name, callback_secret="the-next-one")
    paid(provider)
    parse(provider, one_received(receiver, 2))


def test_a_callback_may_be_signed_with_the_gateways_own_key(account: Open, receiver: Receiver) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    provider = account(
        callback_url=receiver.url,
        callback_private_key=private,
        options={"callbacks": "rsa", "public_keys": [public], "webhook_secrets": ()},
    )
    created = paid(provider)
    received = one_received(receiver)
    assert parse(provider, received).reference == created.reference
    with pytest.raises(Refused) as caught:
        parse(provider, received, query=urlsplit(received.path).query.replace("status=1", "status=0"))
    assert caught.value.code == "signature_mismatch"


def test_an_unsigned_callback_is_a_hint_where_the_account_says_so(account: Open, receiver: Receiver) -> None:
    provider = account(callback_url=receiver.url, options={"callbacks": "unsigned", "webhook_secrets": ()})
    provider.control.configure(provider.name, callback_secret="")
    created = paid(provider)
    event = parse(provider, one_received(receiver))
    assert (event.reference, event.evidence) == (created.reference, None)
    assert (provider.capabilities.signed_events, provider.capabilities.push) == (False, True)


def test_trap_25_the_gateway_tries_three_times_and_then_never_again(account: Open, receiver: Receiver) -> None:
    receiver.status = 503
    provider = account(callback_url=receiver.url)
    created = paid(provider)
    eventually(lambda: list(receiver.received), lambda received: len(received) >= 3)
    time.sleep(0.3)
    assert len(receiver.received) == 3
    assert evidence_of(provider, created).state is OrderState.PAID  # the scheduled check finds it all the same


# --- the simulator as a program -------------------------------------------------------------------------------------


def test_the_simulator_is_a_command_and_takes_no_secret_from_the_command_line_alone() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "cli.main", "sandbox", "arca", "--help"], capture_output=True, text=True, timeout=60
    )
    assert (shown.returncode, "--version" in shown.stdout, "SANDBOX_API_KEY" in shown.stdout) == (0, True, True)


def test_the_simulator_opens_nothing_without_the_control_key(gateway: ArcaProcess) -> None:
    answer = httpx.put(f"{gateway.base_url}/control/thief", json={"password": "x"}, trust_env=False)
    assert answer.status_code == 401


def test_the_simulator_takes_forms_alone_and_names_a_setting_that_it_has_not(gateway: ArcaProcess) -> None:
    url = f"{gateway.rest_url}/getOrderStatusExtended.do"
    assert httpx.post(url, json={"userName": "x"}, trust_env=False).status_code == 400
    assert httpx.post(f"{gateway.rest_url}/pay.do", data={"a": "b"}, trust_env=False).status_code == 404
    with pytest.raises(ControlError, match="no such setting"):
        gateway.control.configure("shop-api", colour="red")
