"""What VPOS.am writes, read: sessions, words, amounts, signatures, the matrix; and what nobody expects."""

import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.evidence import Evidence, OrderState
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import OrderRequest, ProviderEvent, RefundRequest
from gateways.providers.vpos import VposProvider
from gateways.providers.vpos_options import FIELDS, STATUSES, read_options
from gateways.providers.vpos_wire import Fields, dig, error_code

SECRET = "webhook-secret"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = "https://checkout.example.am/s/1"
SESSION: dict[str, Any] = {
    "id": "ps_1",
    "merchantOrderId": "r-1",
    "amountMinor": 15_000,
    "currency": "AMD",
    "status": "created",
    "checkoutUrl": PAGE,
    "expiresAt": "2026-03-01T12:30:00Z",
}
MATRIX = {"providers": [{"provider": "manual", "capabilities": {"payLink": True, "refund": True}}]}
Handler = Callable[[httpx.Request], httpx.Response]


def adapter(handler: Handler | None = None, **options: Any) -> VposProvider:
    def none(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is to be asked")

    given = {"webhook_secrets": (SECRET,), "provider": "manual", "capabilities_life": "PT0S", **options}
    return VposProvider("a", "https://api.vpos.am", "token", transport=httpx.MockTransport(handler or none), **given)


def always(body: Any, status: int = 200) -> Handler:
    return lambda request: httpx.Response(status, json=body)


def session(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (SESSION | changes).items() if value is not None}


def order(**changes: Any) -> OrderRequest:
    asked: dict[str, Any] = {
        "reference": "r-1",
        "amount_minor": 15_000,
        "currency": "AMD",
        "description": "Ani Petrosyan, contract 17",
        "return_url": "https://pay.example.am/l/t/return",
        "expires_in": timedelta(minutes=10),
    }
    return OrderRequest(**(asked | changes))


def evidence(told: dict[str, Any], **options: Any) -> Evidence:
    found = adapter(always(told), **options).fetch_evidence("r-1", "ps_1")
    assert found is not None
    return found


def money(found: Evidence) -> list[tuple[str, int, str]]:
    return [(one.kind.value, one.amount_minor, one.currency) for one in found.transactions]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.code


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"provider": ""}, "provider"),
        ({"provider": 5}, "provider"),
        ({"no_such": 1}, "no_such"),
        ({"statuses": {"paid": "payed"}}, "statuses.paid"),
        ({"statuses": {"done": "declined"}}, "statuses maps no word to paid"),
        ({"statuses": ["paid"]}, "statuses"),
        ({"refund_words": ["given_back"]}, "given_back"),
        ({"refund_words": ["failed"]}, "failed"),
        ({"fields": {"no_such": "x"}}, "no_such"),
        ({"fields": {"id": ""}}, "fields.id"),
        ({"session_path": "v1/sessions"}, "session_path"),
        ({"session_path": ""}, "session_path"),
        ({"cancel_path": "v1/cancel"}, "cancel_path"),
        ({"refund_path": "v1/{id}/{id}"}, "refund_path"),
        ({"signature_scheme": "md5"}, "signature_scheme"),
        ({"signature_header": "two words"}, "signature_header"),
        ({"timestamp_tolerance": "PT0S"}, "timestamp_tolerance"),
        ({"timestamp_tolerance": "soon"}, "timestamp_tolerance"),
        ({"capabilities_life": "-PT1S"}, "capabilities_life"),
        ({"session_life": "PT0S"}, "session_life"),
        ({"decimals": {"AMD": 3}}, "AMD"),
        ({"decimals": {"XXX": 0}}, "XXX"),
        ({"decimals": {"AMD": True}}, "decimals.AMD"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"event_session": ""}, "event_id"),
        ({"webhook_secrets": ()}, "webhook_secrets"),
        ({"webhook_secrets": ("a", "")}, "webhook_secrets"),
    ],
)
def test_an_option_that_is_wrong_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match="provider a: ") as caught:
        adapter(**options)
    assert named in str(caught.value)


def test_a_settings_file_writes_texts_and_lists() -> None:
    read = read_options(
        "a",
        {
            "provider": "manual",
            "statuses": {"ok": "paid", "back": "paid", "waits": "processing"},
            "refund_words": ["back"],
            "session_life": "PT15M",
            "signature_scheme": "t-v1",
            "not_found_codes": ["gone"],
        },
    )
    assert read.statuses["waits"] is OrderState.PROCESSING
    assert read.words_of_refunds == {"back"}
    assert read.session_life == timedelta(minutes=15)


def test_the_assumed_words_of_refunds_are_those_that_are_mapped() -> None:
    assert read_options("a", {"provider": "m"}).words_of_refunds == {"partially_refunded", "refunded"}
    assert read_options("a", {"provider": "m", "statuses": {"paid": "paid"}}).words_of_refunds == set()


def test_an_account_without_events_needs_no_secret_and_takes_none() -> None:
    quiet = adapter(signature_scheme="off", webhook_secrets=())
    assert (quiet.capabilities.push, quiet.capabilities.signed_events) == (False, False)
    assert refusal(lambda: read(quiet, b"{}", {})) == "not_offered"


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_names_are_settings_and_may_lead_into_objects() -> None:
    told = {"session": {"uuid": "ps_1", "state": "paid"}, "merchantOrderId": "r-1", "amountMinor": 15_000}
    names = {"id": "session.uuid", "status": "session.state", "currency": "money.code"}
    found = evidence(told | {"money": {"code": "AMD"}}, fields=names)
    assert money(found) == [("capture", 15_000, "AMD")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", 7),
        ("id", ""),
        ("id", "x" * 101),
        ("merchantOrderId", None),
        ("amountMinor", None),
        ("amountMinor", "15000"),
        ("amountMinor", 150.0),
        ("amountMinor", True),
        ("amountMinor", -1),
        ("currency", None),
        ("currency", 51),
        ("status", None),
        ("status", ["paid"]),
        ("paidAmountMinor", "15000"),
        ("refundedAmountMinor", 1.5),
    ],
)
def test_a_field_that_decides_is_read_strictly_or_the_answer_is_none(field: str, value: Any) -> None:
    told = session(**{field: value})
    with pytest.raises(Unavailable) as caught:
        adapter(always(told)).fetch_evidence("r-1", "ps_1")
    assert caught.value.code == "unreadable"
    with pytest.raises(Unknown):
        adapter(always(told, 201)).create_order(order())


def test_an_answer_about_another_session_is_not_believed() -> None:
    for changed in ({"merchantOrderId": "r-2"}, {"id": "ps_2"}):
        with pytest.raises(Unknown) as caught:
            adapter(always(session(**changed))).fetch_evidence("r-1", "ps_1")
        assert caught.value.code == "other_order"
    for changed in ({"merchantOrderId": "r-2"}, {"amountMinor": 150}, {"currency": "USD"}):
        with pytest.raises(Unknown) as caught:
            adapter(always(session(**changed), 201)).create_order(order())
        assert caught.value.code == "other_order"


@pytest.mark.parametrize("page", [None, "javascript:alert(1)", "/relative", "https://[broken"])
def test_a_session_without_a_page_is_no_order(page: str | None) -> None:
    with pytest.raises(Unknown) as caught:
        adapter(always(session(checkoutUrl=page), 201)).create_order(order())
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("told", ["2026-03-01T12:30:00", "tomorrow", 1_740_000_000, "9999-99-99T00:00:00Z", None])
def test_trap_14_a_time_without_a_zone_is_no_time(told: Any) -> None:
    created = adapter(always(session(expiresAt=told), 201)).create_order(order())
    assert created.expires_at is None
    found = evidence(session(status="paid", paidAt=told))
    assert found.transactions[0].occurred_at == found.asked_at


def test_times_with_a_zone_are_told_in_utc() -> None:
    found = evidence(session(status="paid", paidAt="2026-03-01T16:00:00+04:00"))
    assert found.transactions[0].occurred_at == NOW


def test_a_dotted_name_that_leads_nowhere_is_nothing() -> None:
    assert dig({"a": {"b": 1}}, "a.b") == 1
    assert dig({"a": {"b": 1}}, "") == {"a": {"b": 1}}
    assert [dig(body, "a.b") for body in ({"a": [1]}, {"a": None}, [], None, "a.b")] == [None] * 5


# --- create -----------------------------------------------------------------------------------------------------------


def test_the_key_names_the_attempt_and_nothing_personal_is_sent() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json=SESSION)

    created = adapter(answer).create_order(order())
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", "https://api.vpos.am/v1/payment-sessions")
    assert request.headers["idempotency-key"] == "order-r-1-pay-attempt-1"
    assert request.headers["authorization"] == "Bearer token"
    assert json.loads(request.content) == {
        "merchantOrderId": "r-1",
        "amountMinor": 15_000,
        "currency": "AMD",
        "provider": "manual",
        "returnUrl": "https://pay.example.am/l/t/return",
        "metadata": {"source": "paylinks"},
    }
    assert (created.provider_order_id, created.pay_url) == ("ps_1", PAGE)
    assert created.expires_at == NOW + timedelta(minutes=30)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"currency": "amd"},
        {"currency": "051"},
        {"reference": ""},
        {"reference": "x" * 65},
        {"return_url": "/relative"},
        {"return_url": "https://pay.example.am/" + "x" * 2048},
        {"expires_in": timedelta(0)},
    ],
)
def test_a_bad_order_is_refused_before_anything_is_asked(changes: dict[str, Any]) -> None:
    assert refusal(lambda: adapter().create_order(order(**changes))) == "invalid_request"


def test_trap_13_an_account_may_count_drams_instead_of_lumas() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json=session(amountMinor=json.loads(request.content)["amountMinor"]))

    whole = adapter(answer, decimals={"AMD": 0})
    assert whole.create_order(order(amount_minor=15_000)).provider_order_id == "ps_1"
    assert refusal(lambda: whole.create_order(order(amount_minor=15_050))) == "invalid_request"
    found = evidence(session(status="paid", amountMinor=150, refundedAmountMinor=50), decimals={"AMD": 0})
    assert money(found) == [("capture", 15_000, "AMD"), ("refund", 5_000, "AMD")]


@pytest.mark.parametrize(
    ("answer", "of_create", "of_look_up"),
    [
        (httpx.Response(401, json={"error": "invalid_token"}), LoginRefused, LoginRefused),
        (httpx.Response(403, json={"error": {"code": "origin_not_trusted"}}), Refused, Refused),
        (httpx.Response(404, text="no"), Refused, Refused),
        (httpx.Response(404, json={"error": "not_found"}), Refused, Refused),
        (httpx.Response(409, json={"code": "key_in_use"}), Unknown, Refused),
        (httpx.Response(429, headers={"retry-after": "40"}), Unavailable, Unavailable),
        (httpx.Response(500, text="<html>"), Unknown, Unavailable),
        (httpx.Response(200, text="<html>"), Unknown, Unavailable),
        (httpx.Response(200, json=[]), Unknown, Unavailable),
        (httpx.Response(302, headers={"location": "https://evil.example"}), Unknown, Unavailable),
    ],
)
def test_each_answer_is_one_of_three_failures(
    answer: httpx.Response, of_create: type[GatewayError], of_look_up: type[GatewayError]
) -> None:
    with pytest.raises(of_create):
        adapter(lambda request: answer).create_order(order())
    with pytest.raises(of_look_up):
        adapter(lambda request: answer).fetch_evidence("r-1", "ps_1")


def test_a_short_code_is_picked_out_of_an_error_of_any_shape() -> None:
    shapes = ({"error": "gone"}, {"error": {"code": "gone"}}, {"code": "gone"})
    assert [error_code(body) for body in shapes] == ["gone"] * 3


# --- words and money --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "state"), STATUSES.items())
def test_each_assumed_word_has_its_state(word: str, state: OrderState) -> None:
    found = evidence(session(status=word, refundedAmountMinor=100 if "refunded" in word else None))
    assert (found.state, found.retryable) == (state, False)
    assert bool(found.transactions) is (state is OrderState.PAID)


@pytest.mark.parametrize("word", ["authorized", "PAID", "Paid", "paid ", "succeeded", "ANAHIT TESTYAN", "paid2"])
def test_a_word_that_nobody_mapped_is_a_persons_case(word: str) -> None:
    with pytest.raises(Refused) as caught:
        evidence(session(status=word, paidAmountMinor=15_000))
    assert caught.value.code == "unmapped_status"
    assert "ANAHIT" not in str(caught.value)


def test_words_are_replaced_as_a_whole() -> None:
    words = {"done": "paid", "open": "open"}
    assert evidence(session(status="done"), statuses=words).state is OrderState.PAID
    assert refusal(lambda: evidence(session(status="paid"), statuses=words)) == "unmapped_status"


def test_what_was_paid_goes_before_what_was_asked_for() -> None:
    assert money(evidence(session(status="paid"))) == [("capture", 15_000, "AMD")]
    assert money(evidence(session(status="paid", paidAmountMinor=40))) == [("capture", 40, "AMD")]
    told = session(status="paid", paidAmountMinor=40, paidCurrency="USD")
    assert money(evidence(told)) == [("capture", 40, "USD")]


def test_trap_16_money_that_is_told_counts_in_every_state() -> None:
    for word in ("created", "processing", "failed", "expired", "cancelled"):
        assert money(evidence(session(status=word, paidAmountMinor=15_000))) == [("capture", 15_000, "AMD")]
        assert money(evidence(session(status=word, paidAmountMinor=0))) == []


def test_trap_3_a_refund_is_a_growing_total_beside_the_capture() -> None:
    found = evidence(session(status="partially_refunded", refundedAmountMinor=5_000))
    assert money(found) == [("capture", 15_000, "AMD"), ("refund", 5_000, "AMD")]
    capture, refund = found.transactions
    assert (capture.provider_transaction_id, capture.cumulative) == ("ps_1:capture", False)
    assert (refund.provider_transaction_id, refund.cumulative) == ("ps_1:refund", True)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"status": "refunded"}, "amounts_missing"),
        ({"status": "partially_refunded", "refundedAmountMinor": 0}, "amounts_missing"),
        ({"status": "paid", "refundedAmountMinor": 15_001}, "amounts_contradict"),
        ({"status": "failed", "refundedAmountMinor": 1}, "amounts_contradict"),
        ({"status": "paid", "paidAmountMinor": 0}, "amounts_contradict"),
        ({"status": "paid", "currency": "051"}, "unknown_currency"),
        ({"status": "paid", "currency": "amd"}, "unknown_currency"),
        ({"status": "paid", "paidCurrency": "XXX"}, "unknown_currency"),
    ],
)
def test_money_that_cannot_be_told_is_refused_and_never_guessed(told: dict[str, Any], code: str) -> None:
    assert refusal(lambda: evidence(session(**told))) == code


# --- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_session_whose_id_is_not_known_is_never_said_to_be_none() -> None:
    for ask in (lambda: adapter().find_order("r-1"), lambda: adapter().fetch_evidence("r-1", None)):
        assert refusal(ask) == "session_unknown"


def test_a_session_is_found_by_our_order_id_where_there_is_a_call_for_that() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"data": {"items": [SESSION]}})

    options = {"find_path": "v1/payment-sessions", "find_param": "order", "find_list": "data.items"}
    found = adapter(answer, **options).find_order("r-1")
    assert found is not None
    assert (found.provider_order_id, found.pay_url) == ("ps_1", PAGE)
    assert seen == ["https://api.vpos.am/v1/payment-sessions?order=r-1"]


@pytest.mark.parametrize(
    ("listed", "failure"),
    [
        ([SESSION, session(id="ps_2")], Refused),
        ([session(merchantOrderId="r-2")], Unknown),
        ([7], Unavailable),
        ({}, Unavailable),
        (None, Unavailable),
    ],
)
def test_a_list_that_does_not_name_one_session_decides_nothing(listed: Any, failure: type[GatewayError]) -> None:
    with pytest.raises(failure):
        adapter(always({"sessions": listed}), find_path="v1/payment-sessions").find_order("r-1")


def test_none_is_said_of_an_empty_list_and_of_the_codes_that_are_set() -> None:
    assert adapter(always({"sessions": []}), find_path="v1/payment-sessions").find_order("r-1") is None
    assert adapter(always({"error": "session_not_found"}, 404)).fetch_evidence("r-1", "ps_1") is None
    gone = adapter(always({"error": "gone"}, 410), not_found_codes=["gone"])
    assert gone.fetch_evidence("r-1", "ps_1") is None


def test_an_id_names_no_other_path() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(404, json={"error": "session_not_found"})

    for name in ("../admin", "a/b?c", "{id}"):
        adapter(answer).fetch_evidence("r-1", name)
    assert not [path for path in seen if path.count(b"/") != 3 or b"?" in path]


# --- the matrix -------------------------------------------------------------------------------------------------------


class Office:
    """Answers with a matrix and with a session, and counts the questions."""

    def __init__(self, matrix: httpx.Response) -> None:
        self.matrix, self.told = matrix, session(status="paid", refundedAmountMinor=0)
        self.paths: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(f"{request.method} {request.url.path}")
        return self.matrix if request.url.path == "/v1/capabilities" else httpx.Response(200, json=self.told)

    def account(self, **options: Any) -> VposProvider:
        given = {"capabilities_life": "PT5M", "refund_path": "v1/payment-sessions/{id}/refunds", **options}
        return adapter(self, **given)


def denying(**flags: bool) -> Office:
    entry = {"provider": "manual", "capabilities": {"payLink": True, "refund": True} | flags}
    return Office(httpx.Response(200, json={"providers": [{"provider": "idram", "capabilities": {}}, entry]}))


def wish(amount: int = 5_000, currency: str = "AMD") -> RefundRequest:
    return RefundRequest("f-1", "r-1", "ps_1", amount, currency)


def test_a_payment_that_the_matrix_denies_is_refused_and_a_look_up_never() -> None:
    office = denying(payLink=False)
    account = office.account()
    for _ in range(2):
        assert refusal(lambda: account.create_order(order())) == "capability_denied"
    found = account.fetch_evidence("r-1", "ps_1")
    assert found is not None
    assert office.paths == ["GET /v1/capabilities", "GET /v1/payment-sessions/ps_1"]


def test_a_refund_that_the_matrix_denies_is_refused_before_anything_is_asked() -> None:
    office = denying(refund=False)
    assert refusal(lambda: office.account().refund(wish())) == "capability_denied"
    assert office.paths == ["GET /v1/capabilities"]


def test_a_provider_that_is_not_listed_is_not_offered() -> None:
    office = Office(httpx.Response(200, json={"providers": [{"provider": "idram", "capabilities": {}}]}))
    assert refusal(lambda: office.account().create_order(order())) == "capability_denied"


@pytest.mark.parametrize(
    "matrix",
    [
        httpx.Response(500),
        httpx.Response(404, text="no"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"providers": {"manual": {"payLink": False}}}),
        httpx.Response(200, json={"providers": [7, {"provider": 5}]}),
        httpx.Response(200, json={"providers": [{"provider": "manual", "capabilities": None}]}),
        httpx.Response(200, json={"providers": [{"provider": "manual", "capabilities": {"payLink": "no"}}]}),
        httpx.Response(200, json=MATRIX),
    ],
)
def test_a_matrix_that_cannot_be_read_denies_nothing_and_is_asked_once_in_a_while(matrix: httpx.Response) -> None:
    office = Office(matrix)
    account = office.account()
    for _ in range(2):
        assert account.create_order(order()).pay_url == PAGE
    assert office.paths == ["GET /v1/capabilities", *["POST /v1/payment-sessions"] * 2]


# --- refunds ----------------------------------------------------------------------------------------------------------


class Books:
    """A session that is paid; a refund adds to its total, or does not."""

    def __init__(self, *, grows: int | None = None, status: int = 201) -> None:
        self.grows, self.status, self.refunded = grows, status, 1_000
        self.posted: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=session(status="paid", refundedAmountMinor=self.refunded))
        self.posted.append(request)
        asked = json.loads(request.content)["amountMinor"]
        self.refunded += asked if self.grows is None else self.grows
        return httpx.Response(self.status, json={"error": "whatever"})


REFUNDS = {"refund_path": "v1/payment-sessions/{id}/refunds"}


def test_a_refund_is_named_as_the_growing_total_will_be() -> None:
    books = Books()
    made = adapter(books, **REFUNDS).refund(wish())
    assert (made.provider_transaction_id, made.amount_minor) == ("ps_1:refund:6000", 5_000)
    (request,) = books.posted
    assert request.headers["idempotency-key"] == "refund-f-1"
    assert json.loads(request.content) == {"amountMinor": 5_000, "reason": "refund"}


@pytest.mark.parametrize("grows", [0, 4_999, 10_000])
def test_a_refund_that_the_session_does_not_show_is_unknown(grows: int) -> None:
    with pytest.raises(Unknown) as caught:
        adapter(Books(grows=grows), **REFUNDS).refund(wish())
    assert caught.value.code == "not_shown"


@pytest.mark.parametrize(
    ("status", "failure"), [(409, Unknown), (500, Unknown), (429, Unavailable), (400, Refused), (403, Refused)]
)
def test_a_refund_that_is_not_accepted_fails_as_its_answer_says(status: int, failure: type[GatewayError]) -> None:
    books = Books(grows=0, status=status)
    with pytest.raises(failure):
        adapter(books, **REFUNDS).refund(wish())
    assert len(books.posted) == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (wish(0), "invalid_request"),
        (wish(-1), "invalid_request"),
        (wish(14_001), "amount_too_large"),
        (wish(5_000, "USD"), "invalid_request"),
    ],
)
def test_trap_8_a_refund_of_nothing_or_of_too_much_is_never_sent(request_: RefundRequest, code: str) -> None:
    books = Books()
    assert refusal(lambda: adapter(books, **REFUNDS).refund(request_)) == code
    assert books.posted == []


def test_without_amounts_no_refund_is_begun() -> None:
    assert refusal(lambda: adapter(always(session(status="paid")), **REFUNDS).refund(wish())) == "amounts_missing"
    gone = adapter(always({"error": "session_not_found"}, 404), **REFUNDS)
    assert refusal(lambda: gone.refund(wish())) == "order_not_found"


def test_what_is_not_public_is_not_offered_until_it_is_set() -> None:
    plain = adapter()
    told = plain.capabilities
    assert (told.cancel, told.refund, told.statement, told.lookup_gives_page) == (False, False, False, False)
    for call in (
        lambda: plain.cancel_order("r-1", "ps_1"),
        lambda: plain.refund(wish()),
        lambda: plain.list_orders(NOW, NOW),
        lambda: plain.capture_order("r-1", "ps_1", 1, "AMD"),
        lambda: plain.release_order("r-1", "ps_1"),
    ):
        assert refusal(call) == "not_offered"


# --- events -----------------------------------------------------------------------------------------------------------


def signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def stamped(body: bytes, when: datetime = NOW, *secrets: str) -> str:
    seconds = int(when.timestamp())
    signed = [signature(f"{seconds}.".encode() + body, secret) for secret in secrets or (SECRET,)]
    return ",".join([f"t={seconds}", *(f"v1={one}" for one in signed)])


def read(
    account: VposProvider, body: bytes, headers: dict[str, str], *, method: str = "POST", at: datetime = NOW
) -> ProviderEvent:
    told: dict[str, Any] = {"method": method, "query": "", "headers": headers, "body": body, "received_at": at}
    event = account.parse_event(**told)
    assert account.check_event(**told) == event.event_id
    return event


def event_body(**changes: Any) -> bytes:
    return json.dumps({"id": "evt_1", "type": "session.paid", "data": session(**changes)}).encode()


def signed(body: bytes, **options: Any) -> ProviderEvent:
    return read(adapter(**options), body, {"x-vpos-signature": signature(body)})


def test_an_event_without_a_signed_time_is_a_hint_and_no_evidence() -> None:
    event = signed(event_body(status="paid"))
    assert (event.reference, event.provider_order_id) == ("r-1", "ps_1")
    assert (event.event_id, event.event_type, event.evidence) == ("evt_1", "session.paid", None)


def test_an_event_with_a_signed_time_carries_the_facts_of_that_time() -> None:
    account = adapter(signature_scheme="t-v1")
    body = event_body(status="paid")
    event = read(account, body, {"x-vpos-signature": stamped(body)}, at=NOW + timedelta(seconds=9))
    assert event.evidence is not None
    assert (event.evidence.state, event.evidence.asked_at) == (OrderState.PAID, NOW)
    for changes in ({"status": "odd"}, {"amountMinor": "x"}, {"status": "refunded"}):
        body = event_body(**changes)
        assert read(account, body, {"x-vpos-signature": stamped(body)}).evidence is None


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_an_old_and_an_early_event_are_refused(seconds: int) -> None:
    account, body = adapter(signature_scheme="t-v1"), event_body()
    headers = {"x-vpos-signature": stamped(body)}
    late = NOW + timedelta(seconds=seconds)
    assert refusal(lambda: read(account, body, headers, at=late)) == "timestamp_outside_tolerance"
    wide = adapter(signature_scheme="t-v1", timestamp_tolerance="P2D")
    assert read(wide, body, headers, at=late).reference == "r-1"


def test_each_active_secret_may_sign() -> None:
    body = event_body()
    both = ("new", SECRET)
    assert signed(body, webhook_secrets=both).reference == "r-1"
    account = adapter(signature_scheme="t-v1", webhook_secrets=both)
    assert read(account, body, {"x-vpos-signature": stamped(body, NOW, "old", "new")}).reference == "r-1"
    assert refusal(lambda: signed(body, webhook_secrets=("new", "other"))) == "signature_mismatch"


def test_a_prefix_and_upper_case_hex_are_the_same_signature() -> None:
    body = event_body()
    for written in (f"sha256={signature(body)}", signature(body).upper()):
        assert read(adapter(), body, {"x-vpos-signature": written}).reference == "r-1"


def test_the_headers_name_is_a_setting() -> None:
    body = event_body()
    account = adapter(signature_header="X-Signature")
    assert read(account, body, {"x-signature": signature(body)}).reference == "r-1"
    assert refusal(lambda: read(account, body, {"x-vpos-signature": signature(body)})) == "signature_missing"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "signature_missing"),
        ("0" * 64, "signature_mismatch"),
        ("ո" * 64, "signature_mismatch"),
        ("t=1,v1=" + "0" * 64, "signature_mismatch"),
    ],
)
def test_a_wrong_signature_is_refused(header: str, code: str) -> None:
    assert refusal(lambda: read(adapter(), event_body(), {"x-vpos-signature": header})) == code


@pytest.mark.parametrize("header", ["v1=00", "t=1", "t=1,t=2,v1=00", "t=-1,v1=00", "t=" + "9" * 12 + ",v1=0", "t,v1"])
def test_a_stamp_of_another_form_is_refused(header: str) -> None:
    account = adapter(signature_scheme="t-v1")
    assert refusal(lambda: read(account, b"{}", {"x-vpos-signature": header})) == "signature_malformed"


def test_events_come_by_post_as_a_json_object_that_names_a_session() -> None:
    body = event_body()
    get = {"x-vpos-signature": signature(body)}
    assert refusal(lambda: read(adapter(), body, get, method="GET")) == "method"
    for raw, code in ((b"{", "body_invalid"), (b"[]", "body_invalid")):
        assert refusal(lambda raw=raw: signed(raw)) == code  # type: ignore[misc]  # bound now, not later
    with pytest.raises(Refused) as caught:
        raw = b'{"id":"evt_1"}'
        account = adapter()
        account.parse_event(
            method="POST", query="", headers={"x-vpos-signature": signature(raw)}, body=raw, received_at=NOW
        )
    assert caught.value.code == "order_missing"


def test_an_event_may_be_the_session_itself() -> None:
    body = json.dumps(SESSION | {"eventId": "e-1"}).encode()
    assert signed(body, event_session="", event_id="eventId").event_id == "e-1"
    assert signed(body, event_session="", event_id="").event_id is None


# --- what nobody expects ----------------------------------------------------------------------------------------------

# Without NUL, which makes the whole answer unreadable, so that it would be asked for again after a pause.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from(["id", "amountMinor"]), PLAIN, max_size=2)
SESSIONS = st.dictionaries(st.sampled_from(sorted(FIELDS.values())), JSON, max_size=4)


@given(st.binary(max_size=200))
def test_any_bytes_as_the_answer_to_a_create_or_of_the_matrix_are_a_value_or_a_failure(raw: bytes) -> None:
    account = adapter(lambda request: httpx.Response(200, content=raw), capabilities_life="PT5M")
    with suppress(GatewayError):
        account.create_order(order())


@given(SESSIONS, st.booleans())
def test_any_session_is_evidence_or_one_of_three_failures(told: dict[str, Any], ours: bool) -> None:
    raw = json.dumps((SESSION if ours else {}) | told)
    account = adapter(lambda request: httpx.Response(200, text=raw), **REFUNDS)
    with suppress(GatewayError):
        found = account.fetch_evidence("r-1", "ps_1")
        assert found is None or found.reference == "r-1"
    with suppress(GatewayError):
        assert account.create_order(order()).reference == "r-1"
    with suppress(GatewayError):
        account.refund(wish())


@given(st.lists(SESSIONS, max_size=2) | JSON)
def test_any_list_is_an_order_or_one_of_three_failures(listed: Any) -> None:
    raw = json.dumps({"sessions": listed})
    account = adapter(lambda request: httpx.Response(200, text=raw), find_path="v1/payment-sessions")
    with suppress(GatewayError):
        found = account.find_order("r-1")
        assert found is None or found.reference == "r-1"


@given(
    st.lists(st.dictionaries(st.sampled_from(["provider", "id", "capabilities"]), JSON, max_size=3), max_size=2) | JSON
)
def test_any_matrix_denies_a_payment_or_does_not(entries: Any) -> None:
    office = Office(httpx.Response(200, text=json.dumps({"providers": entries})))
    with suppress(Refused):
        office.account().create_order(order())


@given(SESSIONS)
def test_a_session_that_can_be_read_has_whole_amounts(told: dict[str, Any]) -> None:
    with suppress(ValueError):
        found = Fields(FIELDS).read(told)
        assert type(found.amount) is int
        assert found.amount >= 0


@given(st.binary(max_size=200), st.text(max_size=80), st.sampled_from(["hmac-sha256-hex", "t-v1"]))
def test_any_bytes_as_an_event_are_an_event_or_a_refusal(raw: bytes, header: str, scheme: str) -> None:
    account = adapter(signature_scheme=scheme)
    right = stamped(raw) if scheme == "t-v1" else signature(raw)
    for given_ in (header, right):
        with suppress(Refused):
            told = {"method": "POST", "query": "", "headers": {"x-vpos-signature": given_}, "body": raw}
            assert account.parse_event(**told, received_at=NOW).provider_order_id != ""


@given(JSON, st.sampled_from(["hmac-sha256-hex", "t-v1"]))
def test_any_signed_json_is_an_event_or_a_refusal(told: Any, scheme: str) -> None:
    raw = json.dumps({"id": told, "type": told, "data": told}).encode()
    account = adapter(signature_scheme=scheme)
    right = stamped(raw) if scheme == "t-v1" else signature(raw)
    with suppress(Refused):
        account.parse_event(method="POST", query="", headers={"x-vpos-signature": right}, body=raw, received_at=NOW)


def test_neither_token_nor_secret_nor_page_is_shown() -> None:
    account = adapter(always(SESSION, 201))
    created = account.create_order(order())
    shown = [repr(account), repr(created), str(vars(account))]
    assert not [text for text in shown if PAGE in text or "token" in text]
    assert not [text for text in shown if SECRET in text]
