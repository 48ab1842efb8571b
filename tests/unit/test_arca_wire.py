"""What an ArCa iPay / BPC gateway writes, read: checksums, statuses, amounts, times; and what nobody expects."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.evidence import Evidence, OrderState, TransactionKind
from gateways.errors import Refused
from gateways.http import decode_json
from gateways.providers.arca import ArcaProvider
from gateways.providers.arca_client import ArcaClient
from gateways.providers.arca_events import Callbacks, EventReader, parameters, signed_text
from gateways.providers.arca_evidence import Reading, state_of
from gateways.providers.arca_wire import Registered, Result, Status, moment

# Published in BPC's documentation, "Callback notifications", "Code examples".
PUBLISHED_KEY = "ooc7slpvc61k7sf7ma7p4hrefr"
PUBLISHED = {
    "mdOrder": "06cf5599-3f17-7c86-bdbc-bd7d00a8b38b",
    "operation": "approved",
    "orderNumber": "2003",
    "status": "1",
    "checksum": "EAF2FB72CAB99FD5067F4BA493DD84F4D79C1589FDE8ED29622F0F07215AA972",
}
# The same page's example of the asymmetric way, SHA-512 with RSA.
PUBLISHED_PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwtuGKbQ4WmfdV1gjWWys
5jyHKTWXnxX3zVa5/Cx5aKwJpOsjrXnHh6l8bOPQ6Sgj3iSeKJ9plZ3i7rPjkfmw
qUOJ1eLU5NvGkVjOgyi11aUKgEKwS5Iq5HZvXmPLzu+U22EUCTQwjBqnE/Wf0hnI
wYABDgc0fJeJJAHYHMBcJXTuxF8DmDf4DpbLrQ2bpGaCPKcX+04POS4zVLVCHF6N
6gYtM7U2QXYcTMTGsAvmIqSj1vddGwvNGeeUVoPbo6enMBbvZgjN5p6j3ItTziMb
Vba3m/u7bU1dOG2/79UpGAGR10qEFHiOqS6WpO7CuIR2tL9EznXRc7D9JZKwGfoY
/QIDAQAB
-----END PUBLIC KEY-----
"""
PUBLISHED_BY_RSA = {
    "amount": "35000099",
    "sign_alias": "SHA-512 with RSA",
    "mdOrder": "12b59da8-f68f-7c8d-12b5-9da8000826ea",
    "operation": "deposited",
    "status": "1",
    "checksum": (
        "9524FD765FB1BABFB1F42E4BC6EF5A4B07BAA3F9C809098ACBB462618A9327539F975FEDB4CF6EC1556FF88BA74774342AF4F5B51BA63903"
        "BE9647C670EBD962467282955BD1D57B16935C956864526810870CD32967845EBABE1C6565C03F94FF66907CEDB54669A1C74AC1AD6E39B6"
        "7FA7EF6D305A007A474F03B80FD6C965656BEAA74E09BB1189F4B32E622C903DC52843C454B7ACF76D6F76324C27767DE2FF6E7217716C19"
        "C530CA7551DB58268CC815638C30F3BCA3270E1FD44F63C14974B108E65C20638ECE2F2D752F32742FFC5077415102706FA5235D310D4948"
        "A780B08D1B75C8983F22F211DFCBF14435F262ADDA6A97BFEB6D332C3D51010B"
    ),
}
YEREVAN = ZoneInfo("Asia/Yerevan")
ASKED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_MS = 1_740_392_720_718  # 2025-02-24T10:25:20.718Z, the documentation's example
TEXT = st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text))


def reader(*secrets: str) -> EventReader:
    return EventReader("a", Callbacks.HMAC, secrets or (PUBLISHED_KEY,), (), "sha512")


def read(told: dict[str, str], events: EventReader | None = None, method: str = "GET") -> Any:
    text = urlencode(told)
    return (events or reader()).read(method, text if method == "GET" else "", b"" if method == "GET" else text.encode())


def refusal(told: dict[str, str], events: EventReader | None = None) -> str:
    with pytest.raises(Refused) as caught:
        read(told, events)
    return caught.value.code


def status(**fields: Any) -> Status:
    body = {"errorCode": "0", "orderNumber": "N-1", "orderStatus": 2, "amount": 10_000, "currency": "051"}
    return Status.model_validate(body | {"date": DAY_MS} | fields)


def amounts(deposited: int, refunded: int = 0, approved: int | None = None) -> dict[str, Any]:
    approved = deposited + refunded if approved is None else approved
    return {"approvedAmount": approved, "depositedAmount": deposited, "refundedAmount": refunded}


def evidence(*, two_phase: bool = False, currency: str | None = None, **fields: Any) -> Evidence:
    return Reading("a", two_phase, YEREVAN, currency).evidence(status(**fields), "ID-1", "N-1", ASKED_AT, None)


def money(found: Evidence) -> list[tuple[str, str, int]]:
    return [(one.kind.value, one.provider_transaction_id, one.amount_minor) for one in found.transactions]


# --- checksums ------------------------------------------------------------------------------------------------------


def test_the_published_checksum_is_genuine_by_get_and_by_post() -> None:
    for method in ("GET", "POST"):
        event = read(PUBLISHED, method=method)
        assert (event.reference, event.provider_order_id) == ("2003", PUBLISHED["mdOrder"])
        assert (event.event_type, event.event_id, event.evidence) == ("approved", None, None)


def test_the_published_rsa_signature_is_genuine() -> None:
    events = EventReader("a", Callbacks.RSA, (), (PUBLISHED_PUBLIC_KEY,), "sha512")
    assert read(PUBLISHED_BY_RSA, events).provider_order_id == PUBLISHED_BY_RSA["mdOrder"]
    assert refusal(PUBLISHED_BY_RSA | {"amount": "1"}, events) == "signature_mismatch"
    assert refusal(PUBLISHED_BY_RSA | {"checksum": "zz"}, events) == "signature_mismatch"


def test_the_signed_text_has_names_in_order_and_a_last_semicolon() -> None:
    told = {"status": "1", "mdOrder": "m", "checksum": "c", "sign_alias": "s", "amount": "123"}
    assert signed_text(told) == b"amount;123;mdOrder;m;status;1;"


@pytest.mark.parametrize("name", ["mdOrder", "operation", "orderNumber", "status"])
def test_an_altered_or_missing_parameter_is_forged(name: str) -> None:
    assert refusal(PUBLISHED | {name: "x"}) == "signature_mismatch"
    assert refusal({key: value for key, value in PUBLISHED.items() if key != name}) == "signature_mismatch"


def test_a_callback_without_a_checksum_is_refused_where_one_is_agreed() -> None:
    assert refusal({key: value for key, value in PUBLISHED.items() if key != "checksum"}) == "signature_missing"
    assert refusal(PUBLISHED | {"checksum": ""}) == "signature_missing"


def test_each_active_secret_may_sign_and_lower_case_hex_is_the_same() -> None:
    assert read(PUBLISHED, reader("new", PUBLISHED_KEY)).reference == "2003"
    assert read(PUBLISHED | {"checksum": PUBLISHED["checksum"].lower()}).reference == "2003"
    assert refusal(PUBLISHED, reader("new", "old")) == "signature_mismatch"


def test_a_parameter_that_a_proxy_added_breaks_no_checksum() -> None:
    assert read(PUBLISHED | {"utm_source": "cdn", "cf_token": "x"}).reference == "2003"


def test_a_documented_parameter_that_was_added_breaks_it() -> None:
    assert refusal(PUBLISHED | {"amount": "1"}) == "signature_mismatch"


def test_parameters_are_decoded_once() -> None:
    assert parameters("GET", "operation=a%252Fb&x=%D5%A1+b", b"") == {"operation": "a%2Fb", "x": "ա b"}


@pytest.mark.parametrize("query", ["a=1&a=2", "a=%ff", "&".join(f"p{n}=1" for n in range(200))])
def test_a_callback_that_could_be_read_in_two_ways_is_refused(query: str) -> None:
    with pytest.raises(Refused):
        parameters("GET", query, b"")


def test_an_unsigned_account_takes_a_hint_and_an_account_without_callbacks_none() -> None:
    told = {key: value for key, value in PUBLISHED.items() if key != "checksum"}
    unsigned = EventReader("a", Callbacks.UNSIGNED, (), (), "sha512")
    assert (read(told, unsigned).reference, read(told, unsigned).evidence) == ("2003", None)
    assert refusal(told, EventReader("a", Callbacks.OFF, (), (), "sha512")) == "not_offered"
    assert refusal({"operation": "deposited"}, unsigned) == "order_missing"


NAMED = st.dictionaries(st.sampled_from(["orderNumber", "operation", "status", "amount"]), TEXT)


@given(NAMED)
def test_whatever_is_signed_is_read_back(told: dict[str, str]) -> None:
    told |= {"mdOrder": "m-1"}
    key = rsa_key()
    signature = key.sign(signed_text(told), padding.PKCS1v15(), SHA512()).hex().upper()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    events = EventReader("a", Callbacks.RSA, (), (pem,), "sha512")
    event = read({**told, "checksum": signature}, events)
    assert (event.provider_order_id, event.evidence) == ("m-1", None)


@given(st.binary(max_size=300), st.sampled_from(list(Callbacks)))
def test_any_bytes_as_a_callback_are_an_event_or_a_refusal(raw: bytes, mode: Callbacks) -> None:
    events = EventReader("a", mode, ("s",), (PUBLISHED_PUBLIC_KEY,), "sha512")
    for method, query, body in (("POST", "", raw), ("GET", raw.decode("latin-1"), b""), ("GET", quote(raw), b"")):
        with suppress(Refused):
            assert events.read(method, query, body).evidence is None


_KEYS: list[rsa.RSAPrivateKey] = []


def rsa_key() -> rsa.RSAPrivateKey:
    if not _KEYS:
        _KEYS.append(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    return _KEYS[0]


# --- success and failure --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({}, None),
        ({"errorCode": "0"}, None),
        ({"errorCode": 0}, None),
        ({"errorCode": "5"}, "5"),
        ({"errorCode": 7}, "7"),
        ({"success": True, "errorCode": "5"}, None),
        ({"success": False, "errorCode": "0"}, "unsuccessful"),
        ({"success": False}, "unsuccessful"),
        ({"errorCode": "ANAHIT"}, "unsuccessful"),
    ],
)
def test_success_overrides_the_error_code(body: dict[str, Any], failure: str | None) -> None:
    assert Result.model_validate(body).failure == failure


# --- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_status", "action_code", "state", "retryable"),
    [
        (0, -100, OrderState.OPEN, False),
        (0, -2014, OrderState.OPEN, False),
        (0, 116, OrderState.DECLINED, True),
        (0, "-2013", OrderState.DECLINED, False),
        (0, 151019, OrderState.PROCESSING, False),
        (0, -2007, OrderState.EXPIRED, False),
        (1, 0, OrderState.HELD, False),
        (2, 0, OrderState.PAID, False),
        (3, 0, OrderState.CANCELLED, False),
        (4, 0, OrderState.PAID, False),
        (5, -100, OrderState.PROCESSING, False),
        (6, 116, OrderState.DECLINED, False),
        (6, -2007, OrderState.EXPIRED, False),
        (6, -2013, OrderState.DECLINED, False),
        (6, 4005, OrderState.CANCELLED, False),
        (6, 151018, OrderState.PROCESSING, False),
        (6, "151019", OrderState.PROCESSING, False),
        (7, -30001, OrderState.PROCESSING, False),
        (8, 0, OrderState.HELD, False),
        (9, 0, OrderState.PROCESSING, False),
        (77, 116, OrderState.PROCESSING, False),
    ],
)
def test_every_status_has_one_meaning(order_status: int, action_code: Any, state: OrderState, retryable: bool) -> None:
    assert state_of(status(orderStatus=order_status, actionCode=action_code)) == (state, retryable)


@pytest.mark.parametrize("order_status", [0, 1, 5, 6, 7, 9])
def test_no_money_is_seen_in_a_hold_or_an_unpaid_order(order_status: int) -> None:
    found = evidence(orderStatus=order_status, paymentAmountInfo=amounts(0, approved=10_000))
    assert found.transactions == ()


# --- money ----------------------------------------------------------------------------------------------------------


def test_a_refund_lowers_what_is_deposited_and_not_what_was_captured() -> None:
    part = {"amount": 4_000, "date": "2026-02-01T10:00:00", "actionCode": "000", "referenceNumber": "R1"}
    found = evidence(orderStatus=4, paymentAmountInfo=amounts(6_000, 4_000), refunds=[part])
    assert money(found) == [("capture", "id-1:capture", 10_000), ("refund", "id-1:refund:R1", 4_000)]
    assert found.transactions[1].occurred_at == datetime(2026, 2, 1, 6, tzinfo=UTC)
    assert found.state is OrderState.PAID


def test_a_gateway_that_does_not_lower_it_captured_no_more_for_that() -> None:
    found = evidence(orderStatus=4, paymentAmountInfo=amounts(10_000, 4_000, approved=10_000))
    assert money(found)[0] == ("capture", "id-1:capture", 10_000)


def test_two_refunds_that_look_alike_are_two() -> None:
    one = {"amount": 100, "date": "2026-02-01T10:00:00", "actionCode": "0"}
    found = evidence(orderStatus=4, paymentAmountInfo=amounts(9_800, 200), refunds=[one, dict(one)])
    assert money(found)[1:] == [("refund", "id-1:refund:1", 100), ("refund", "id-1:refund:2", 100)]


def test_a_refund_in_progress_or_failed_moved_nothing_and_keeps_its_place() -> None:
    entries = [
        {"amount": 300, "date": "2026-02-03T10:00:00", "actionCode": "0"},
        {"amount": 100, "date": "2026-02-01T10:00:00", "actionCode": "1120"},
        {"amount": 200, "date": "2026-02-02T10:00:00", "actionCode": "914"},
    ]
    found = evidence(orderStatus=4, paymentAmountInfo=amounts(9_700, 300), refunds=entries)
    assert money(found)[1:] == [("refund", "id-1:refund:3", 300)]


def test_a_single_refund_may_come_without_its_list() -> None:
    found = evidence(paymentAmountInfo=amounts(9_900, 100), refunds={"amount": 100, "referenceNumber": "R"})
    assert money(found)[1:] == [("refund", "id-1:refund:R", 100)]


def test_a_refund_with_a_coarse_date_is_not_before_its_payment() -> None:
    part = {"amount": 4_000, "date": "2025-02-24T14:25:20", "referenceNumber": "R1"}
    capture, refund = evidence(paymentAmountInfo=amounts(6_000, 4_000), refunds=[part]).transactions
    assert capture.occurred_at == refund.occurred_at == moment(DAY_MS, YEREVAN)


def test_a_total_of_refunds_is_told_as_a_total() -> None:
    found = evidence(orderStatus=4, paymentAmountInfo=amounts(7_000, 3_000))
    assert money(found)[1:] == [("refund", "id-1:refund", 3_000)]
    assert found.transactions[1].cumulative


def test_parts_that_are_captured_one_after_the_other_are_a_total() -> None:
    found = evidence(two_phase=True, orderStatus=8, paymentAmountInfo=amounts(3_000, approved=10_000))
    assert (found.state, money(found)) == (OrderState.HELD, [("capture", "id-1:capture", 3_000)])
    assert found.transactions[0].cumulative


def test_without_amounts_a_one_phase_payment_is_the_registered_amount() -> None:
    assert money(evidence()) == [("capture", "id-1:capture", 10_000)]


def test_without_amounts_a_two_phase_payment_is_a_word_without_money() -> None:
    found = evidence(two_phase=True)
    assert (found.state, found.transactions) == (OrderState.PAID, ())


def test_without_amounts_a_refund_is_never_guessed() -> None:
    with pytest.raises(Refused) as caught:
        evidence(orderStatus=4)
    assert caught.value.code == "amounts_missing"


def test_a_reversed_payment_came_and_went() -> None:
    found = evidence(orderStatus=3, paymentAmountInfo=amounts(0, approved=10_000), reversedDate=DAY_MS)
    assert money(found) == [("capture", "id-1:capture", 10_000), ("reversal", "id-1:reversal", 10_000)]
    assert found.state is OrderState.CANCELLED


def test_a_hold_that_was_let_go_moved_nothing() -> None:
    found = evidence(two_phase=True, orderStatus=3, paymentAmountInfo=amounts(0, approved=10_000))
    assert (found.state, found.transactions) == (OrderState.CANCELLED, ())


def test_a_chargeback_takes_what_was_not_refunded() -> None:
    part = {"amount": 4_000, "referenceNumber": "R1"}
    found = evidence(paymentAmountInfo=amounts(6_000, 4_000), refunds=[part], chargeback=True)
    assert money(found)[2:] == [("chargeback", "id-1:chargeback", 6_000)]
    assert evidence(paymentAmountInfo=amounts(10_000), chargeback=False).transactions[1:] == ()


@pytest.mark.parametrize("told", [amounts(10_000), amounts(0, 10_000), amounts(0, 0, approved=10_000), amounts(0)])
def test_a_chargeback_is_the_whole_payment_however_the_amounts_tell_it(told: dict[str, Any]) -> None:
    found = evidence(paymentAmountInfo=told, chargeback=True)
    assert money(found) == [("capture", "id-1:capture", 10_000), ("chargeback", "id-1:chargeback", 10_000)]


@pytest.mark.parametrize(("wire", "code"), [("051", "AMD"), ("51", "AMD"), (51, "AMD"), ("840", "USD"), (643, "RUB")])
def test_numeric_currencies_are_read_with_and_without_their_zero(wire: Any, code: str) -> None:
    found = Reading("a", False, YEREVAN, None).evidence(status(currency=wire), "i", "N-1", ASKED_AT, None)
    assert found.transactions[0].currency == code


def test_money_of_an_unknown_currency_is_refused_and_none_is_the_accounts() -> None:
    reading = Reading("a", False, YEREVAN, "AMD")
    with pytest.raises(Refused) as caught:
        reading.evidence(status(currency="999"), "i", "N-1", ASKED_AT, None)
    assert caught.value.code == "unknown_currency"
    assert reading.evidence(status(currency=None), "i", "N-1", ASKED_AT, None).transactions[0].currency == "AMD"
    with pytest.raises(Refused):
        Reading("a", False, YEREVAN, None).evidence(status(currency=None), "i", "N-1", ASKED_AT, None)


@pytest.mark.parametrize("wrong", [True, 1.5, -5, "1e3", "١٢", "1 0"])
def test_what_is_no_whole_number_is_no_amount(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        status(amount=wrong)


def test_fields_that_are_null_are_fields_that_are_absent() -> None:
    names = ("paymentAmountInfo", "refunds", "authDateTime", "depositedDate", "chargeback", "attributes", "actionCode")
    assert money(evidence(**dict.fromkeys(names))) == [("capture", "id-1:capture", 10_000)]
    assert status(orderStatus=None).order_status is None


# --- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "read_as"),
    [
        (DAY_MS, datetime(2025, 2, 24, 10, 25, 20, 718_000, UTC)),
        (str(DAY_MS), datetime(2025, 2, 24, 10, 25, 20, 718_000, UTC)),
        ("2025-02-24T14:25:20", datetime(2025, 2, 24, 10, 25, 20, tzinfo=UTC)),
        ("2025-02-24T14:25:20+00:00", datetime(2025, 2, 24, 14, 25, 20, tzinfo=UTC)),
        ("Mon Jan 31 21:46:52 UTC 2022", None),
        ("9" * 40, None),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_the_accounts(told: Any, read_as: datetime | None) -> None:
    assert moment(told, YEREVAN) == read_as


def test_the_capture_has_the_best_time_that_is_told() -> None:
    def at(**fields: Any) -> datetime:
        return evidence(**fields).transactions[0].occurred_at

    later = DAY_MS + 60_000
    assert at() == moment(DAY_MS, YEREVAN)
    assert at(authDateTime=later) == moment(later, YEREVAN)
    assert at(authDateTime=later, depositedDate=later + 1000) == moment(later + 1000, YEREVAN)
    assert at(depositedDate=10**14 * 9) == moment(DAY_MS, YEREVAN)


# --- anything -------------------------------------------------------------------------------------------------------

_NAMES = (
    "orderStatus actionCode amount currency date depositedDate refunds attributes success paymentAmountInfo chargeback"
)
FIELDS = st.sampled_from(f"{_NAMES} errorCode orderNumber approvedAmount depositedAmount refundedAmount name".split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(FIELDS, JSON, max_size=8), st.booleans())
def test_any_json_is_evidence_or_a_refusal_and_never_money_out_of_nothing(body: dict[str, Any], two: bool) -> None:
    for model in (Result, Registered):
        try:
            model.model_validate(decode_json(json.dumps(body).encode()))
        except ValueError:
            continue
    try:
        read_status = Status.model_validate(decode_json(json.dumps(body).encode()))
        found = Reading("a", two, YEREVAN, "AMD").evidence(read_status, "i", "N-1", ASKED_AT, None)
    except (ValueError, Refused):
        return
    captured = sum(one.amount_minor for one in found.transactions if one.kind is TransactionKind.CAPTURE)
    if captured:
        assert read_status.order_status in {2, 3, 4, 8}
    assert all(one.amount_minor > 0 for one in found.transactions)


# --- settings -------------------------------------------------------------------------------------------------------


def adapter(**options: Any) -> ArcaProvider:
    given = {"user_name": "shop-api", "webhook_secrets": ("s",), **options}
    return ArcaProvider("a", "https://ipay.example.am/payment/rest", "password", **given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"user_name": ""}, "user_name"),
        ({"webhook_secrets": ()}, "webhook_secrets"),
        ({"webhook_secrets": ("",)}, "webhook_secrets"),
        ({"callbacks": "rsa"}, "public_keys"),
        ({"callbacks": "rsa", "public_keys": ["x"]}, "PEM"),
        ({"callbacks": "rsa", "public_keys": [PUBLISHED_PUBLIC_KEY], "callback_hash": "md5"}, "callback_hash"),
        ({"callbacks": "magic"}, "magic"),
        ({"zone": "Asia/Nowhere"}, "zone"),
        ({"expiry": "never"}, "expiry"),
        ({"currency": "XXX"}, "currency"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        adapter(**options)


def test_capabilities_follow_the_settings() -> None:
    plain = adapter().capabilities
    assert (plain.signed_events, plain.push, plain.capture, plain.refund_idempotent) == (True, True, False, False)
    assert (plain.statement, plain.amount_unit, plain.currency_code) == (False, "minor", "numeric")
    assert plain.session_life == timedelta(minutes=20)
    other = adapter(callbacks="off", two_phase=True, external_refund_id=True, cancel=False, session_life="PT1H")
    capabilities = other.capabilities
    assert (capabilities.signed_events, capabilities.push, capabilities.capture) == (False, False, True)
    assert (capabilities.refund_idempotent, capabilities.cancel) == (True, False)
    assert capabilities.session_life == timedelta(hours=1)
    assert adapter(callbacks="unsigned").capabilities.signed_events is False


def test_the_password_shows_nowhere() -> None:
    client = ArcaClient("a", "https://ipay.example.am/payment/rest", "shop-api", "s3cret-password")
    assert "s3cret" not in repr(client)
    assert "s3cret" not in str(client.invalid("refund", "amount"))
    client.close()
