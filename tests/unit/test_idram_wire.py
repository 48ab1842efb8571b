"""What Idram posts, read: prechecks, confirmations, checksums, amounts, dates; and what nobody expects.

The document publishes no example of a checksum; the one here was calculated by another program (md5sum).
"""

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.evidence import OrderState, TransactionKind
from contracts.money import MAX_AMOUNT_MINOR
from gateways.errors import Refused, Unknown
from gateways.providers.base import CreateMode, OrderRequest, Precheck, ProviderEvent, RefundRequest
from gateways.providers.idram import IdramProvider
from gateways.providers.idram_events import checksum, minor_units, occurred_at

SECRET = "secret-key-of-the-merchant"
ACCOUNT = "100000114"
PAYER = "910055577"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEREVAN = ZoneInfo("Asia/Yerevan")
TEXT = st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text))

# echo -n '100000114:1900.00:secret-key-of-the-merchant:1806:910055577:12345678901234:01/03/2026' | md5sum
KNOWN_CHECKSUM = "ba660b1aa76344d262f679a38e123318"


def provider(*secrets: str, **options: Any) -> IdramProvider:
    given: dict[str, Any] = {"rec_account": ACCOUNT, "webhook_secrets": secrets or (SECRET,)} | options
    return IdramProvider("wallet", "https://banking.idram.am", "none", **given)


def signed(secret: str = SECRET, **changes: str) -> dict[str, str]:
    """A confirmation as Idram signs it."""
    told = {
        "EDP_BILL_NO": "1806",
        "EDP_REC_ACCOUNT": ACCOUNT,
        "EDP_PAYER_ACCOUNT": PAYER,
        "EDP_AMOUNT": "1900.00",
        "EDP_TRANS_ID": "12345678901234",
        "EDP_TRANS_DATE": "01/03/2026",
    } | changes
    names = ("EDP_REC_ACCOUNT", "EDP_AMOUNT", "", "EDP_BILL_NO", "EDP_PAYER_ACCOUNT", "EDP_TRANS_ID", "EDP_TRANS_DATE")
    text = ":".join(told[name] if name else secret for name in names)
    return told | {"EDP_CHECKSUM": hashlib.md5(text.encode()).hexdigest().upper()}


def question(**changes: str) -> dict[str, str]:
    return {
        "EDP_PRECHECK": "YES",
        "EDP_BILL_NO": "1806",
        "EDP_REC_ACCOUNT": ACCOUNT,
        "EDP_AMOUNT": "1900",
    } | changes


def post(told: Any, *, query: str = "", method: str = "POST") -> dict[str, Any]:
    body = told if isinstance(told, bytes) else urlencode(told).encode()
    return {"method": method, "query": query, "headers": {}, "body": body}


def parsed(told: Any, wallet: IdramProvider | None = None, at: datetime = NOON, **how: Any) -> ProviderEvent:
    return (wallet or provider()).parse_event(**post(told, **how), received_at=at)


def asked(told: Any, **how: Any) -> Precheck | None:
    return provider().parse_precheck(**post(told, **how))


def refusal(told: Any, wallet: IdramProvider | None = None, **how: Any) -> str:
    """The code of the refusal, the same at the door and behind it."""
    wallet = wallet or provider()
    with pytest.raises(Refused) as at_the_door:
        wallet.check_event(**post(told, **how), received_at=NOON)
    with pytest.raises(Refused) as behind:
        parsed(told, wallet, **how)
    assert at_the_door.value.code == behind.value.code
    assert PAYER not in str(behind.value)
    return behind.value.code


def order(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        reference="0190a1b2-0000-7000-8000-000000000001",
        amount_minor=190_000,
        currency="AMD",
        description="Կանխավճար, договор 17",
        return_url="https://pay.example.am/l/token/return",
        expires_in=timedelta(days=3),
        locale="hy",
    )
    return replace(request, **changes)


# --- the form -------------------------------------------------------------------------------------------------------


def test_an_order_is_the_documented_form_and_no_call() -> None:
    made = provider().create_order(order())
    assert made.pay_url == "https://banking.idram.am/Payment/GetPayment"
    assert made.pay_fields == {
        "EDP_LANGUAGE": "AM",
        "EDP_REC_ACCOUNT": ACCOUNT,
        "EDP_DESCRIPTION": "Կանխավճար, договор 17",
        "EDP_AMOUNT": "1900.00",
        "EDP_BILL_NO": order().reference,
    }
    assert (made.provider_order_id, made.expires_at) == (made.reference, None)


def test_the_same_order_gives_the_same_form() -> None:
    assert provider().create_order(order()) == provider().create_order(order())
    assert provider().capabilities.create is CreateMode.IDEMPOTENT


@pytest.mark.parametrize(("locale", "language"), [("hy", "AM"), ("ru", "RU"), ("en", "EN"), ("it", "EN"), ("", "EN")])
def test_the_page_speaks_the_customers_language_where_idram_does(locale: str, language: str) -> None:
    assert provider().create_order(order(locale=locale)).pay_fields["EDP_LANGUAGE"] == language


@given(st.integers(1, MAX_AMOUNT_MINOR))
@example(1)
@example(150_050)
def test_an_amount_is_written_exactly_and_read_as_the_same(amount: int) -> None:
    written = provider().create_order(order(amount_minor=amount)).pay_fields["EDP_AMOUNT"]
    assert Decimal(written) * 100 == amount
    assert minor_units(written) == amount


def test_the_description_may_be_kept_back_and_never_holds_control_characters() -> None:
    silent = provider(describe=False).create_order(order()).pay_fields
    assert silent["EDP_DESCRIPTION"] == order().reference
    assert provider().create_order(order(description="a\r\nb\x00" + "c" * 999)).pay_fields["EDP_DESCRIPTION"] == (
        "a b " + "c" * 246
    )


def test_the_address_for_alarms_goes_along_where_it_is_set() -> None:
    assert provider(email="pay@example.am").create_order(order()).pay_fields["EDP_EMAIL"] == "pay@example.am"


@pytest.mark.parametrize(
    "changes",
    [
        {"currency": "USD"},
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"amount_minor": MAX_AMOUNT_MINOR + 1},
        {"reference": ""},
        {"reference": "a:b"},
        {"reference": "a\nb"},
        {"reference": "x" * 65},
    ],
)
def test_what_idram_would_not_take_or_would_read_otherwise_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        provider().create_order(order(**changes))
    assert caught.value.code == "invalid_request"


def test_there_is_nothing_to_ask_and_nothing_to_call() -> None:
    wallet, request = provider(), RefundRequest("r", "1806", "1806", 1, "AMD")
    calls = [
        lambda: wallet.find_order("1806"),
        lambda: wallet.fetch_evidence("1806", None),
        lambda: wallet.cancel_order("1806", "1806"),
        lambda: wallet.capture_order("1806", "1806", 1, "AMD"),
        lambda: wallet.release_order("1806", "1806"),
        lambda: wallet.refund(request),
        lambda: wallet.list_orders(NOON, NOON),
    ]
    for call in calls:
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "not_offered"
    wallet.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rec_account": ""}, "rec_account"),
        ({"rec_account": "1:2"}, "rec_account"),
        ({"webhook_secrets": ()}, "webhook_secrets"),
        ({"webhook_secrets": ("new", "")}, "webhook_secrets"),
        ({"zone": "Asia/Nowhere"}, "zone"),
        ({"settle": "soon"}, "settle|duration"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        provider(**options)


@pytest.mark.parametrize("base_url", ["", "banking.idram.am", "ftp://banking.idram.am", "https://[", "https:///x"])
def test_a_base_url_that_is_no_web_address_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        IdramProvider("wallet", base_url, "none", (SECRET,), rec_account=ACCOUNT)


def test_an_account_may_be_written_as_a_number() -> None:
    assert provider(rec_account=100000114).create_order(order()) == provider().create_order(order())


# --- the precheck ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "minor"), [("1900", 190_000), ("1900.00", 190_000), ("0.5", 50), ("1.05", 105)])
def test_a_precheck_names_bill_and_money(amount: str, minor: int) -> None:
    assert asked(question(EDP_AMOUNT=amount)) == Precheck("1806", minor, "AMD")


def test_a_confirmation_is_no_precheck() -> None:
    assert asked(signed()) is None


def test_what_is_nothing_of_idrams_is_no_precheck_and_no_event() -> None:
    for told in ({}, {"hello": "1"}, b"", b"{}"):
        assert asked(told) is None
        assert refusal(told) == "signature_missing"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"EDP_PRECHECK": "NO"}, "precheck_unknown"),
        ({"EDP_PRECHECK": "yes"}, "precheck_unknown"),
        ({"EDP_PRECHECK": ""}, "precheck_unknown"),
        ({"EDP_REC_ACCOUNT": "100000115"}, "other_account"),
        ({"EDP_REC_ACCOUNT": ""}, "other_account"),
        ({"EDP_BILL_NO": ""}, "order_missing"),
        ({"EDP_BILL_NO": "1" * 65}, "order_missing"),
        ({"EDP_BILL_NO": "18\x0006"}, "order_missing"),
        *[
            ({"EDP_AMOUNT": amount}, "amount_unreadable")
            for amount in (
                *("", "0", "0.00", "-1", "+1900", "1,900", "1900,00", "1 900", " 1900", "1900.", ".50", "1900.000"),
                *("1e3", "0x10", "NaN", "Infinity", "١٩٠٠", "1900.0.0", "1900\n", "9999999999", "9" * 40),
            )
        ],
    ],
)
def test_a_precheck_that_cannot_be_trusted_to_mean_what_it_says_is_no_yes(changes: dict[str, str], code: str) -> None:
    with pytest.raises(Refused) as caught:
        asked(question(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["EDP_BILL_NO", "EDP_REC_ACCOUNT", "EDP_AMOUNT"])
def test_a_precheck_without_a_field_is_no_yes(name: str) -> None:
    told = question()
    del told[name]
    with pytest.raises(Refused):
        asked(told)


def test_a_precheck_is_never_an_event_not_even_a_signed_one() -> None:
    assert refusal(question()) == "precheck"
    assert refusal(signed() | {"EDP_PRECHECK": "YES"}) == "precheck"
    assert refusal(signed() | {"EDP_PRECHECK": ""}) == "precheck"
    assert asked(signed() | {"EDP_PRECHECK": "YES"}) == Precheck("1806", 190_000, "AMD")


# --- the confirmation -----------------------------------------------------------------------------------------------


def test_a_confirmation_is_evidence_of_the_whole_payment() -> None:
    event = parsed(signed())
    assert (event.event_id, event.event_type, event.reference) == (None, "confirmation", "1806")
    assert event.evidence is not None
    assert (event.evidence.reference, event.evidence.provider_order_id) == ("1806", "1806")
    assert (event.evidence.state, event.evidence.asked_at) == (OrderState.PAID, NOON)
    (capture,) = event.evidence.transactions
    assert (capture.kind, capture.provider_transaction_id) == (TransactionKind.CAPTURE, "12345678901234")
    assert (capture.amount_minor, capture.currency, capture.occurred_at) == (190_000, "AMD", NOON)


def test_a_known_checksum_is_genuine() -> None:
    told = {name: value for name, value in signed().items() if name != "EDP_CHECKSUM"}
    assert checksum(told, SECRET.encode()) == KNOWN_CHECKSUM
    assert parsed(told | {"EDP_CHECKSUM": KNOWN_CHECKSUM}).reference == "1806"


def test_the_checksum_is_compared_without_regard_to_case() -> None:
    told = signed()
    assert parsed(told | {"EDP_CHECKSUM": told["EDP_CHECKSUM"].lower()}) == parsed(told)


@pytest.mark.parametrize("name", ["EDP_BILL_NO", "EDP_PAYER_ACCOUNT", "EDP_AMOUNT", "EDP_TRANS_ID", "EDP_TRANS_DATE"])
def test_an_altered_or_missing_field_is_forged(name: str) -> None:
    told = signed()
    assert refusal(told | {name: "7"}) == "signature_mismatch"
    assert refusal(told | {name: told[name] + " "}) == "signature_mismatch"
    assert refusal({key: value for key, value in told.items() if key != name}) == "signature_missing"


def test_the_amount_is_signed_as_it_was_written() -> None:
    assert refusal(signed() | {"EDP_AMOUNT": "1900"}) == "signature_mismatch"
    assert parsed(signed(EDP_AMOUNT="1900")).evidence == parsed(signed()).evidence


@pytest.mark.parametrize("given_", ["", "0", "x" * 32, "0" * 32, "é" * 16, "0" * 31 + "\x00"])
def test_a_checksum_that_is_none_is_forged(given_: str) -> None:
    assert refusal(signed() | {"EDP_CHECKSUM": given_}) == "signature_mismatch"


def test_no_checksum_no_event() -> None:
    told = signed()
    del told["EDP_CHECKSUM"]
    assert refusal(told) == "signature_missing"


def test_another_merchants_payment_is_not_ours_even_under_the_same_secret() -> None:
    assert refusal(signed(EDP_REC_ACCOUNT="100000115")) == "other_account"


def test_each_active_secret_may_sign() -> None:
    for secret in ("new", "old"):
        assert parsed(signed(secret), provider("new", "old")).reference == "1806"
    assert refusal(signed("older"), provider("new", "old")) == "signature_mismatch"


def test_the_api_key_signs_nothing() -> None:
    assert refusal(signed("none")) == "signature_mismatch"


@pytest.mark.parametrize(
    ("left", "right"),
    [("EDP_BILL_NO", "EDP_PAYER_ACCOUNT"), ("EDP_PAYER_ACCOUNT", "EDP_TRANS_ID"), ("EDP_TRANS_ID", "EDP_TRANS_DATE")],
)
def test_text_cannot_move_from_one_field_to_the_next_under_the_same_checksum(left: str, right: str) -> None:
    """MD5 covers "a:b" + "c" like "a" + "b:c": whoever pays for one bill could claim to have paid another."""
    genuine = signed(**{left: "A", right: "B:C"})
    moved = genuine | {left: "A:B", right: "C"}
    assert refusal(moved) == "field_ambiguous"
    if right != "EDP_TRANS_DATE":
        assert refusal(genuine) == "field_ambiguous"


def test_the_secret_is_no_field_that_could_be_told_apart_wrongly() -> None:
    wallet = provider("a:b")
    assert parsed(signed("a:b"), wallet).reference == "1806"
    assert refusal(signed("a", EDP_BILL_NO="b:1806"), wallet) == "field_ambiguous"


def test_text_behind_the_end_is_no_other_payment() -> None:
    """Whoever knows one checksum can extend an MD5; all he can add lands in the date."""
    longer = "01/03/2026\x80\x00\x00 anything"
    assert parsed(signed(EDP_TRANS_DATE=longer)).evidence == parsed(signed()).evidence


def test_a_payer_whom_idram_does_not_name_is_no_reason_to_lose_a_payment() -> None:
    assert parsed(signed(EDP_PAYER_ACCOUNT="")).reference == "1806"


def test_a_transaction_that_is_padded_to_its_length_is_the_same() -> None:
    evidence = parsed(signed(EDP_TRANS_ID="123           ")).evidence
    assert evidence is not None
    assert evidence.transactions[0].provider_transaction_id == "123"


def test_a_confirmation_may_come_again_and_says_the_same() -> None:
    assert parsed(signed()) == parsed(signed())
    assert provider().check_event(**post(signed()), received_at=NOON) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"EDP_AMOUNT": "1900,00"}, "amount_unreadable"),
        ({"EDP_AMOUNT": "0.00"}, "amount_unreadable"),
        ({"EDP_BILL_NO": ""}, "bill_unreadable"),
        ({"EDP_TRANS_ID": ""}, "transaction_unreadable"),
        ({"EDP_TRANS_ID": "a b"}, "transaction_unreadable"),
        ({"EDP_TRANS_ID": "1" * 65}, "transaction_unreadable"),
    ],
)
def test_what_is_signed_and_cannot_be_read_is_kept_for_a_person(changes: dict[str, str], code: str) -> None:
    """The door takes it, so that it is not lost; the worker ends in a dead letter, not in a refusal."""
    told = signed(**changes)
    provider().check_event(**post(told), received_at=NOON)
    with pytest.raises(Unknown) as caught:
        parsed(told)
    assert caught.value.code == code
    assert PAYER not in str(caught.value)


# --- how it travels -------------------------------------------------------------------------------------------------


def test_a_body_that_a_proxy_wrote_anew_says_the_same() -> None:
    told = signed(EDP_BILL_NO="ա 18/06")
    plain = urlencode(told)
    ways = [
        plain.encode(),
        plain.replace("%D5", "%d5").encode(),
        "&".join(f"{name}={quote(value, safe='')}" for name, value in told.items()).encode(),
        "&".join(f"{name}={value}" for name, value in reversed(told.items())).encode(),  # raw UTF-8
        "&".join(f"{name.replace('_', '%5F')}={value.replace(' ', '+')}" for name, value in told.items()).encode(),
        b"utm=1&" + plain.encode() + b"&order_number=7&order_number=8",  # the merchant's own fields, and a proxy's
    ]
    assert [parsed(way).evidence for way in ways] == [parsed(told).evidence] * len(ways)


def test_fields_are_decoded_once() -> None:
    told = signed(EDP_BILL_NO="a%2Fb")
    assert parsed(told).reference == "a%2Fb"
    assert refusal(urlencode(told).replace("%252F", "%2F").encode()) == "signature_mismatch"


def test_fields_may_come_by_the_query_but_none_by_both() -> None:
    told = signed()
    assert parsed(b"", query=urlencode(told)).reference == "1806"
    assert parsed(told, query="tenant=7").reference == "1806"
    assert refusal(told, query="EDP_AMOUNT=1900.00") == "field_repeated"
    assert refusal(told, query="EDP_PRECHECK=YES") == "precheck"


def test_a_field_twice_is_refused_even_with_the_same_value() -> None:
    for name in ("EDP_AMOUNT", "EDP_BILL_NO", "EDP_CHECKSUM", "EDP_REC_ACCOUNT"):
        assert refusal(urlencode([*signed().items(), (name, signed()[name])]).encode()) == "field_repeated"
    with pytest.raises(Refused):
        asked(urlencode([*question().items(), ("EDP_AMOUNT", "1")]).encode())


@pytest.mark.parametrize("method", ["GET", "PUT", ""])
def test_nothing_but_a_post_counts(method: str) -> None:
    assert refusal(signed(), method=method) == "method"
    with pytest.raises(Refused):
        asked(question(), method=method)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"EDP_PRECHECK=%FF", b"a=1&" * 100])
def test_a_body_that_is_no_form_is_refused(body: bytes) -> None:
    assert refusal(body) == "body_invalid"
    with pytest.raises(Refused):
        asked(body)


# --- dates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("01/03/2026", NOON),  # today: just now
        ("28/02/2026", datetime(2026, 2, 28, 19, 59, 59, tzinfo=UTC)),  # as that day ended in Yerevan
        ("02/03/2026", NOON),  # ahead of us: no later than we heard of it
        ("03/01/2026", datetime(2026, 1, 3, 19, 59, 59, tzinfo=UTC)),  # day first
        ("31/02/2026", NOON),
        ("2026-03-01", NOON),
        ("1/3/2026", NOON),
        ("00/00/0000", NOON),
        ("01/01/0001", datetime(1, 1, 1, 19, 59, 59, tzinfo=UTC)),
        ("31/12/9999", NOON),
        ("", NOON),
        ("٠١/٠٣/٢٠٢٦", NOON),
    ],
)
def test_a_day_becomes_a_moment_that_is_never_later_than_its_telling(told: str, moment: datetime) -> None:
    found = occurred_at(told, YEREVAN, NOON)
    assert abs(found - moment) <= timedelta(hours=2)  # Yerevan had other hours in the year 1


def test_just_after_midnight_yesterdays_payment_stays_yesterdays() -> None:
    soon = datetime(2026, 3, 1, 20, 5, tzinfo=UTC)  # 00:05 in Yerevan, on the 2nd
    assert occurred_at("01/03/2026", YEREVAN, soon) == datetime(2026, 3, 1, 19, 59, 59, tzinfo=UTC)
    assert occurred_at("02/03/2026", YEREVAN, soon) == soon


# --- what nobody expects --------------------------------------------------------------------------------------------


def read_all(body: bytes, query: str = "", method: str = "POST") -> None:
    """Whatever comes, only the gateway's own errors may leave the adapter."""
    wallet, told = provider(), {"method": method, "query": query, "headers": {}, "body": body}
    with suppress(Refused):
        wallet.parse_precheck(**told)  # type: ignore[arg-type]  # one dict for all
    with suppress(Refused):
        wallet.check_event(**told, received_at=NOON)  # type: ignore[arg-type]
    with suppress(Refused, Unknown):
        wallet.parse_event(**told, received_at=NOON)  # type: ignore[arg-type]


@given(st.binary(max_size=300), TEXT, st.sampled_from(["POST", "GET"]))
def test_any_bytes_are_refused_or_read(body: bytes, query: str, method: str) -> None:
    read_all(body, query, method)


NAMES = st.sampled_from([*signed(), "EDP_PRECHECK", "x"])


@given(st.lists(st.tuples(NAMES, TEXT), max_size=12))
def test_any_fields_are_refused_or_read(pairs: list[tuple[str, str]]) -> None:
    read_all(urlencode(pairs).encode())


@given(st.dictionaries(st.sampled_from([name for name in signed() if name not in ("EDP_CHECKSUM",)]), TEXT))
def test_any_signed_fields_are_refused_or_read(changes: dict[str, str]) -> None:
    told = signed(**changes)
    read_all(urlencode(told).encode())
    with suppress(Refused, Unknown):
        event = parsed(told)
        assert event.evidence is not None
        assert event.evidence.transactions[0].occurred_at <= NOON


@given(TEXT)
def test_any_amount_is_read_exactly_or_not_at_all(text: str) -> None:
    minor = minor_units(text)
    assert minor is None or Decimal(text) * 100 == minor


@given(TEXT)
def test_no_date_makes_a_payment_later_than_its_telling(text: str) -> None:
    assert occurred_at(text, YEREVAN, NOON) <= NOON


@given(st.text("0123456789abcdefABCDEF", min_size=32, max_size=32))
def test_no_guess_is_genuine(guess: str) -> None:
    assert refusal(signed() | {"EDP_CHECKSUM": guess}) == "signature_mismatch"
