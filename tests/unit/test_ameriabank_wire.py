"""What Ameriabank's vPOS writes, read: codes, states, amounts, times; and what nobody expects.

Shapes are those of the bank's documentation and of what was seen on its test host; ids, names and logins are invented.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.evidence import Evidence, OrderState, TransactionKind
from contracts.money import major
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.http import decode_json
from gateways.providers.ameriabank import AmeriabankProvider
from gateways.providers.ameriabank_client import AmeriabankClient
from gateways.providers.ameriabank_evidence import Reading, state_of
from gateways.providers.ameriabank_looks import opaque
from gateways.providers.ameriabank_wire import Details, Named, Registered, Result, guid, minor, moment
from gateways.providers.base import CreateMode, Opens, OrderRequest, References, RefundRequest

YEREVAN = ZoneInfo("Asia/Yerevan")
ASKED_AT = datetime(2026, 9, 1, 12, tzinfo=UTC)
PAYMENT = "0A1B2C3D-4E5F-4A6B-8C7D-9E0F1A2B3C4D"
NUMBER = "4565037"
FAULT = {"Message": "An error has occurred."}
NAMED = {"PaymentId": PAYMENT.lower(), "ResponseCode": "00", "ResponseMessage": ""}
WRONG_LOGIN = {"PaymentId": "", "ResponseCode": "20", "ResponseMessage": "Incorrect Username and Password"}
UNREGISTERED = {"PaymentId": "", "ResponseCode": "06", "ResponseMessage": "Unregistered OrderId"}
# Every text but one is empty, and there is no ResponseMessage (CONVENTIONS.md, 4.25).
SYSTEM_ERROR = {"ResponseCode": "550", "Description": "System Error", "OrderID": "", "OrderStatus": "", "Currency": ""}
TEXT = st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text))


def body(**fields: Any) -> dict[str, Any]:
    """Return the answer about a payment of 10 drams, changed."""
    told = {
        "ResponseCode": "00",
        "OrderID": NUMBER,
        "OrderStatus": "2",
        "PaymentState": "payment_deposited",
        "Amount": 10.0,
        "ApprovedAmount": 10.0,
        "DepositedAmount": 10.0,
        "RefundedAmount": 0.0,
        "Currency": "051",
        "DateTime": "26/08/2026 17:29:07",
        "Opaque": opaque(NUMBER),
    }
    return told | fields


STATES = ["started", "approved", "deposited", "void", "refunded", "autoauthorized", "declined"]


def at_status(status: int, **fields: Any) -> dict[str, Any]:
    return body(OrderStatus=str(status), PaymentState=f"payment_{STATES[status]}", **fields)


def evidence(told: dict[str, Any], *, two_phase: bool = False, currency: str | None = None) -> Evidence:
    reading = Reading("a", two_phase, YEREVAN, currency)
    return reading.evidence(Details.model_validate(told), PAYMENT, NUMBER, ASKED_AT, None)


def money(found: Evidence) -> list[tuple[str, int]]:
    return [(one.kind.value, one.amount_minor) for one in found.transactions]


class Bank:
    """Answers each operation as it is told, and keeps what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.rpartition("/")[2]
        self.asked.append((operation, request.read()))
        answer = self.answers[operation]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        status = 500 if answer == FAULT else 200
        return httpx.Response(status, json=answer)

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.asked]


def adapter(bank: Callable[[httpx.Request], httpx.Response] | None = None, **options: Any) -> AmeriabankProvider:
    given = {"client_id": "client-of-tests", "user_name": "user-of-tests", "currency": "AMD", **options}
    transport = httpx.MockTransport(bank) if bank is not None else None
    return AmeriabankProvider("a", "https://bank.example.am/VPOS/", "pass-word", transport=transport, **given)


def order(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        reference=NUMBER,
        amount_minor=1_000,
        currency="AMD",
        description="Կանխավճար 17",
        return_url="https://pay.example.am/l/token/return",
        expires_in=timedelta(minutes=10),
        locale="hy",
    )
    return replace(request, **changes)


def wish(amount: int, currency: str = "AMD") -> RefundRequest:
    return RefundRequest("r-1", NUMBER, PAYMENT, amount, currency)


# --- codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "code", "is_done"),
    [
        ("00", "00", True),
        ("00 : Payment Successfully Completed", "00", True),
        (" 00 ", "00", True),
        ("0-100", "0-100", False),
        ("0100", "0100", False),
        ("000", "000", False),
        ("0", "0", False),
        (0, "0", False),
        (1, "1", False),
        ("001", "001", False),
        ("00x", "unsuccessful", False),
        ("00-", "unsuccessful", False),
        ("OK", "unsuccessful", False),
        ("٠٠", "unsuccessful", False),
        ("550", "550", False),
        (20, "20", False),
        ("", "", False),
        (None, "", False),
    ],
)
def test_only_00_is_a_success_and_never_what_begins_so(told: Any, code: str, is_done: bool) -> None:
    result = Result.model_validate({"ResponseCode": told})
    assert (result.response_code, result.is_done) == (code, is_done)


@pytest.mark.parametrize(
    ("told", "is_done"),
    [(1, True), ("1", True), ("01", False), ("00", False), (20, False), (0, False), ("1 : OK", True)],
)
def test_an_order_is_made_with_the_number_1_which_01_is_not(told: Any, is_done: bool) -> None:
    assert Registered.model_validate({"ResponseCode": told}).is_done is is_done


@pytest.mark.parametrize("told", [True, 1.5, [], {}])
def test_what_is_no_code_is_no_answer(told: Any) -> None:
    with pytest.raises(ValidationError):
        Result.model_validate({"ResponseCode": told})


def test_ids_are_told_in_two_cases_and_are_one() -> None:
    assert guid(PAYMENT.lower()) == guid(PAYMENT) == PAYMENT
    assert [guid(wrong) for wrong in (None, "", "x", PAYMENT[:-1], PAYMENT + "0", PAYMENT + "\n")] == [None] * 6


# --- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "state", "retryable"),
    [
        (0, "00", OrderState.OPEN, False),
        (0, "0-100", OrderState.OPEN, False),
        (0, "550", OrderState.OPEN, False),
        (0, "0116", OrderState.DECLINED, True),
        (0, "0-2013", OrderState.DECLINED, False),
        (0, "0-2007", OrderState.EXPIRED, False),
        (0, "01001", OrderState.EXPIRED, False),
        (0, "0-1", OrderState.PROCESSING, False),
        (0, "0-9000", OrderState.PROCESSING, False),
        (0, "0151019", OrderState.PROCESSING, False),
        (0, "0777", OrderState.PROCESSING, False),
        (0, "unsuccessful", OrderState.PROCESSING, False),
        (1, "00", OrderState.HELD, False),
        (2, "00", OrderState.PAID, False),
        (3, "00", OrderState.CANCELLED, False),
        (3, "0116", OrderState.CANCELLED, False),
        (4, "00", OrderState.PAID, False),
        (5, "0-100", OrderState.PROCESSING, False),
        (6, "0116", OrderState.DECLINED, False),
        (6, "00", OrderState.DECLINED, False),
        (6, "0-2007", OrderState.EXPIRED, False),
        (6, "0151018", OrderState.PROCESSING, False),
    ],
)
def test_every_state_has_one_meaning(status: int, code: str, state: OrderState, retryable: bool) -> None:
    found = evidence(at_status(status, ResponseCode=code, RefundedAmount=4 if status == 4 else 0))
    assert (found.state, found.retryable) == (state, retryable)


@pytest.mark.parametrize("told", ["2", 2])
def test_the_state_comes_as_text_or_number(told: Any) -> None:
    assert evidence(body(OrderStatus=told)).state is OrderState.PAID


@pytest.mark.parametrize("told", ["7", 99, "12", "payment_won", "-1", "٢", True, 1.5, [2]])
def test_a_state_that_is_not_documented_is_neither_success_nor_failure(told: Any) -> None:
    found = evidence(body(OrderStatus=told, PaymentState="Successful"))
    assert (found.state, found.transactions) == (OrderState.PROCESSING, ())


def test_the_states_name_counts_where_its_number_is_missing() -> None:
    assert evidence(body(OrderStatus="", PaymentState="payment_declined")).state is OrderState.DECLINED
    assert evidence(body(OrderStatus=None, PaymentState="Payment_Deposited")).state is OrderState.PAID
    assert state_of(None, "00") == (OrderState.OPEN, False)


def test_a_name_that_is_not_documented_says_nothing() -> None:
    assert evidence(body(PaymentState="Successful")).state is OrderState.PAID


@pytest.mark.parametrize(
    "told",
    [
        body(PaymentState="payment_declined"),
        at_status(6, ResponseCode="0116") | {"OrderStatus": "2"},
        body(ResponseCode="0116"),
        body(ResponseCode="07"),
        at_status(4, ResponseCode="0-100"),
        at_status(1, ResponseCode="550"),
    ],
)
def test_an_answer_that_contradicts_itself_is_not_believed(told: dict[str, Any]) -> None:
    with pytest.raises(Unknown) as caught:
        evidence(told)
    assert caught.value.code == "contradiction"


@pytest.mark.parametrize("status", [0, 1, 5, 6])
def test_no_money_is_seen_in_a_hold_or_an_unpaid_order(status: int) -> None:
    assert evidence(at_status(status)).transactions == ()


# --- money ----------------------------------------------------------------------------------------------------------


def test_refunds_lower_what_is_deposited_and_not_what_was_captured() -> None:
    # The sums of a payment as they were seen: CONVENTIONS.md, 4.16.
    seen = [
        evidence(body()),
        evidence(at_status(4, DepositedAmount=6.0, RefundedAmount=4.0)),
        evidence(at_status(4, DepositedAmount=3.0, RefundedAmount=7.0)),
    ]
    assert [money(found) for found in seen] == [
        [("capture", 1_000)],
        [("capture", 1_000), ("refund", 400)],
        [("capture", 1_000), ("refund", 700)],
    ]
    assert {found.state for found in seen} == {OrderState.PAID}
    capture, refund = seen[2].transactions
    assert (capture.cumulative, refund.cumulative) == (False, True)
    assert (capture.provider_transaction_id, refund.provider_transaction_id) == (
        f"{PAYMENT.lower()}:capture",
        f"{PAYMENT.lower()}:refund",
    )


def test_state_4_without_a_sum_of_refunds_is_what_is_no_longer_deposited() -> None:
    assert money(evidence(at_status(4, DepositedAmount=6, RefundedAmount=None)))[1:] == [("refund", 400)]


@pytest.mark.parametrize("deposited", [None, "", 10, 11])
def test_a_refund_is_never_guessed(deposited: Any) -> None:
    with pytest.raises(Refused) as caught:
        evidence(at_status(4, DepositedAmount=deposited, RefundedAmount=0))
    assert caught.value.code == "amounts_missing"


def test_more_back_than_came_is_not_believed() -> None:
    with pytest.raises(Refused) as caught:
        evidence(at_status(4, RefundedAmount=11))
    assert caught.value.code == "amounts_contradict"


def test_what_was_approved_in_one_phase_came_even_if_it_is_a_part() -> None:
    assert money(evidence(body(ApprovedAmount=4, DepositedAmount=4))) == [("capture", 400)]
    assert money(evidence(body(ApprovedAmount=None, DepositedAmount=6, RefundedAmount=4))) == [
        ("capture", 1_000),
        ("refund", 400),
    ]


def test_a_payment_without_amounts_is_a_word_without_money() -> None:
    found = evidence(body(ApprovedAmount=None, DepositedAmount=None, RefundedAmount=None))
    assert (found.state, found.transactions) == (OrderState.PAID, ())


def test_in_two_phases_what_was_approved_is_only_held() -> None:
    part = evidence(body(ApprovedAmount=10, DepositedAmount=6), two_phase=True)
    assert (money(part), part.transactions[0].cumulative) == ([("capture", 600)], True)
    refunded = at_status(4, ApprovedAmount=10, DepositedAmount=2, RefundedAmount=4)
    assert money(evidence(refunded, two_phase=True)) == [("capture", 600), ("refund", 400)]


def test_a_payment_that_was_undone_came_and_went_and_a_hold_moved_nothing() -> None:
    undone = at_status(3, DepositedAmount=0)
    assert money(evidence(undone)) == [("capture", 1_000), ("reversal", 1_000)]
    assert money(evidence(undone, two_phase=True)) == []
    assert evidence(undone).state is OrderState.CANCELLED
    after_a_refund = at_status(3, DepositedAmount=0, RefundedAmount=4)
    assert money(evidence(after_a_refund)) == [("capture", 1_000), ("refund", 400), ("reversal", 600)]
    assert money(evidence(at_status(3, ApprovedAmount=0, DepositedAmount=0))) == []


@pytest.mark.parametrize(("told", "minor_units"), [(1500.5, 150_050), ("1500.50", 150_050), (0.29, 29), (1e9, 10**11)])
def test_major_decimals_become_minor_units_exactly(told: Any, minor_units: int) -> None:
    assert money(evidence(body(ApprovedAmount=told))) == [("capture", minor_units)]


@pytest.mark.parametrize("wrong", [True, -5, "1e3", "١٢", "1,5", "1 0", "0x1", 1e16, [1], "1.", ".5"])
def test_what_is_no_amount_is_no_answer(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        Details.model_validate(body(ApprovedAmount=wrong))


@pytest.mark.parametrize(("told", "currency"), [("10.005", "051"), ("10.5", "392")])
def test_an_amount_smaller_than_the_smallest_coin_is_refused(told: str, currency: str) -> None:
    with pytest.raises(Refused) as caught:
        evidence(body(ApprovedAmount=told, Currency=currency))
    assert caught.value.code == "amount_too_fine"


@given(st.integers(1, 10**11), st.sampled_from(["AMD", "JPY", "KWD", "USD"]), st.booleans())
def test_an_amount_survives_the_way_out_and_back(amount: int, currency: str, as_number: bool) -> None:
    client = AmeriabankClient("a", "https://bank.example.am/VPOS", "c", "u", "p", httpx.MockTransport(Bank()))
    text = client.amount("create_order", amount, currency)
    client.close()
    wire = decode_json(
        json.dumps({"ResponseCode": "00", "ApprovedAmount": float(text) if as_number else text}).encode()
    )
    read = Details.model_validate(wire).approved
    assert read is not None
    assert (read, minor(read, currency)) == (major(amount, currency), amount)


@pytest.mark.parametrize(("wire", "code"), [("051", "AMD"), ("51", "AMD"), (51, "AMD"), ("840", "USD"), ("643", "RUB")])
def test_numeric_currencies_are_read_with_and_without_their_zero(wire: Any, code: str) -> None:
    assert evidence(body(Currency=wire)).transactions[0].currency == code


def test_money_of_an_unknown_currency_is_refused_and_none_is_the_accounts() -> None:
    for told, account in (("999", "AMD"), ("AMD", "AMD"), ("", None), (None, None)):
        with pytest.raises(Refused) as caught:
            evidence(body(Currency=told), currency=account)
        assert caught.value.code == "unknown_currency"
    for told in ("", None):
        assert evidence(body(Currency=told), currency="AMD").transactions[0].currency == "AMD"


# --- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "read_as"),
    [
        ("26/08/2026 17:29:07", datetime(2026, 8, 26, 13, 29, 7, tzinfo=UTC)),
        (" 01/02/2026 00:00:00 ", datetime(2026, 1, 31, 20, tzinfo=UTC)),
        ("08/26/2026 17:29:07", None),
        ("2026-08-26T17:29:07", None),
        ("01/01/0001 00:00:00", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_without_a_zone_is_the_accounts(told: str | None, read_as: datetime | None) -> None:
    assert moment(told, YEREVAN) == read_as


def test_a_refund_is_dated_by_the_question_and_never_before_its_payment() -> None:
    capture, refund = evidence(at_status(4, RefundedAmount=4)).transactions
    assert (capture.occurred_at, refund.occurred_at) == (datetime(2026, 8, 26, 13, 29, 7, tzinfo=UTC), ASKED_AT)
    capture, refund = evidence(at_status(4, RefundedAmount=4, DateTime="26/08/2027 17:29:07")).transactions
    assert capture.occurred_at == refund.occurred_at
    assert evidence(body(DateTime="")).transactions[0].occurred_at == ASKED_AT


# --- orders ---------------------------------------------------------------------------------------------------------

MADE = {"PaymentID": PAYMENT, "ResponseCode": 1, "ResponseMessage": "OK"}


def test_an_order_goes_out_in_the_banks_words_and_the_page_is_made_of_its_id() -> None:
    bank = Bank(InitPayment=MADE)
    created = adapter(bank).create_order(order(amount_minor=150_050))
    assert json.loads(bank.asked[0][1]) == {
        "ClientID": "client-of-tests",
        "Username": "user-of-tests",
        "Password": "pass-word",
        "OrderID": 4565037,
        "Amount": "1500.50",
        "Currency": "051",
        "Description": "Կանխավճար 17",
        "BackURL": "https://pay.example.am/l/token/return",
        "Opaque": "paylinks-4565037",
        "Timeout": 600,
    }
    assert created.provider_order_id == PAYMENT
    assert created.pay_url == f"https://bank.example.am/VPOS/Payments/Pay?id={PAYMENT}&lang=am"
    assert created.pay_url not in repr(created)


def test_trap_7_equal_requests_are_equal_bytes() -> None:
    bank = Bank(InitPayment=MADE)
    provider = adapter(bank)
    provider.create_order(order())
    provider.create_order(order())
    assert bank.asked[0] == bank.asked[1]


@pytest.mark.parametrize(("locale", "lang"), [("hy", "am"), ("am", "am"), ("ru", "ru"), ("en", "en"), ("fr", "en")])
def test_the_page_speaks_the_customers_language(locale: str, lang: str) -> None:
    page = adapter(Bank(InitPayment=MADE)).create_order(order(locale=locale)).pay_url or ""
    assert page.endswith(f"&lang={lang}")
    only_english = adapter(Bank(InitPayment=MADE), languages=["en"]).create_order(order(locale=locale)).pay_url or ""
    assert only_english.endswith("&lang=en")


@pytest.mark.parametrize(
    ("description", "sent"), [("a\x00b\nc", "a b c"), ("x" * 2000, "x" * 1000), ("", NUMBER), (" \t ", NUMBER)]
)
def test_a_description_is_always_there_and_plain(description: str, sent: str) -> None:
    bank = Bank(InitPayment=MADE)
    adapter(bank).create_order(order(description=description))
    adapter(bank, describe=False).create_order(order(description="Ani, contract 17"))
    assert [json.loads(raw)["Description"] for _, raw in bank.asked] == [sent, NUMBER]


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "0190-abc"},
        {"reference": ""},
        {"reference": "007"},
        {"reference": "0"},
        {"reference": "-5"},
        {"reference": "2147483648"},
        {"reference": "9" * 30},
        {"reference": "٤٥"},
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"currency": "051"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "https://[x"},
        {"expires_in": timedelta(0)},
        {"expires_in": timedelta(seconds=1201)},
    ],
)
def test_a_bad_order_is_refused_before_it_is_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        adapter(Bank()).create_order(order(**changes))
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    ("answer", "failure", "code"),
    [
        (
            {"ResponseCode": 20, "PaymentID": "", "ResponseMessage": "Incorrect Username and Password"},
            LoginRefused,
            "login_refused",
        ),
        (
            {"ResponseCode": 560, "PaymentID": "", "ResponseMessage": "In test mode amount must be 10 AMD"},
            Refused,
            "560",
        ),
        ({"ResponseCode": "01", "PaymentID": ""}, Unknown, "duplicate_reference"),
        ({"ResponseCode": 8204, "PaymentID": ""}, Unknown, "duplicate_reference"),
        ({"ResponseCode": "08204"}, Unknown, "duplicate_reference"),
        ({"ResponseCode": 1, "PaymentID": ""}, Unknown, "unreadable"),
        ({"ResponseCode": 1, "PaymentID": "not-a-guid"}, Unknown, "unreadable"),
        ({"ResponseCode": 7}, Unknown, "7"),
        ({"ResponseCode": 550}, Unknown, "550"),
        ({"ResponseCode": 500}, Unknown, "500"),
        ({}, Unknown, "unreadable"),
        ({"ResponseCode": "nothing known"}, Refused, "unsuccessful"),
        (FAULT, Unknown, "http_500"),
        (httpx.ReadTimeout("slow"), Unknown, "no_answer"),
        (httpx.ConnectError("no"), Unavailable, "no_connection"),
        (httpx.Response(503), Unavailable, "http_503"),
        (httpx.Response(404, text="<html>"), Refused, "http_404"),
        (httpx.Response(200, text="<html>"), Unknown, "no_answer"),
        (httpx.Response(200, json=[1]), Unknown, "no_answer"),
    ],
)
def test_an_order_that_was_not_made(answer: Any, failure: type[GatewayError], code: str) -> None:
    bank = Bank(InitPayment=answer)
    with pytest.raises(failure) as caught:
        adapter(bank).create_order(order())
    assert (caught.value.code, bank.operations) == (code, ["InitPayment"])


def test_a_found_order_has_its_page_again() -> None:
    found = adapter(Bank(GetPaymentId=NAMED)).find_order(NUMBER)
    assert found is not None
    assert (found.provider_order_id, found.pay_url) == (
        PAYMENT,
        f"https://bank.example.am/VPOS/Payments/Pay?id={PAYMENT}&lang=en",
    )
    assert found.expires_at is not None
    assert timedelta(minutes=19) < found.expires_at - datetime.now(UTC) <= timedelta(minutes=20)


@pytest.mark.parametrize("answer", [UNREGISTERED, {"PaymentId": "", "ResponseCode": "00"}])
def test_an_unknown_number_is_none(answer: dict[str, Any]) -> None:
    assert adapter(Bank(GetPaymentId=answer)).find_order(NUMBER) is None
    assert adapter(Bank(GetPaymentId=answer)).fetch_evidence(NUMBER, None) is None


@pytest.mark.parametrize(
    ("answer", "failure", "code"),
    [
        (WRONG_LOGIN, LoginRefused, "login_refused"),
        ({"ResponseCode": "07"}, Unavailable, "07"),
        ({"ResponseCode": "550"}, Unavailable, "550"),
        ({"ResponseCode": "00", "PaymentId": "x"}, Unavailable, "unreadable"),
        ({"ResponseCode": "513"}, Refused, "513"),
        (FAULT, Unavailable, "http_500"),
    ],
)
def test_no_failure_is_taken_for_no_such_order(answer: Any, failure: type[GatewayError], code: str) -> None:
    for look in (lambda p: p.find_order(NUMBER), lambda p: p.fetch_evidence(NUMBER, None)):
        with pytest.raises(failure) as caught:
            look(adapter(Bank(GetPaymentId=answer)))
        assert caught.value.code == code


def test_a_look_up_of_what_is_no_number_is_refused_unasked() -> None:
    for look in (lambda p: p.find_order("0190-a"), lambda p: p.fetch_evidence("0190-a", PAYMENT)):
        with pytest.raises(Refused) as caught:
            look(adapter(Bank()))
        assert caught.value.code == "invalid_request"


# --- what a look-up says ----------------------------------------------------------------------------------------------


def test_a_paid_order_is_one_question() -> None:
    bank = Bank(GetPaymentDetails=body())
    found = adapter(bank).fetch_evidence(NUMBER, PAYMENT.lower())
    assert found is not None
    assert (found.state, money(found), found.provider_order_id) == (OrderState.PAID, [("capture", 1_000)], PAYMENT)
    assert bank.operations == ["GetPaymentDetails"]


@pytest.mark.parametrize("answer", [FAULT, SYSTEM_ERROR, {"ResponseCode": "0-100"}, FAULT | {"more": 1}])
def test_trap_5_an_order_that_nobody_tried_is_open_when_the_same_login_finds_it(answer: dict[str, Any]) -> None:
    status = 500 if "Message" in answer else 200
    bank = Bank(GetPaymentDetails=httpx.Response(status, json=answer), GetPaymentId=NAMED)
    found = adapter(bank).fetch_evidence(NUMBER, PAYMENT)
    assert found is not None
    assert (found.state, found.retryable, found.transactions) == (OrderState.OPEN, False, ())
    assert bank.operations == ["GetPaymentDetails", "GetPaymentId", "GetPaymentDetails"]
    # Where the id had to be asked for, the login is known to be right.
    bank = Bank(GetPaymentDetails=httpx.Response(status, json=answer), GetPaymentId=NAMED)
    again = adapter(bank).fetch_evidence(NUMBER, None)
    assert again is not None
    assert again.model_copy(update={"asked_at": found.asked_at}) == found
    assert bank.operations == ["GetPaymentId", "GetPaymentDetails", "GetPaymentDetails"]


@pytest.mark.parametrize("answer", [FAULT, SYSTEM_ERROR])
def test_a_fault_that_was_only_a_fault_hides_no_payment(answer: dict[str, Any]) -> None:
    bank = Bank(GetPaymentDetails=[answer, body()], GetPaymentId=NAMED)
    found = adapter(bank).fetch_evidence(NUMBER, PAYMENT)
    assert found is not None
    assert (found.state, money(found)) == (OrderState.PAID, [("capture", 1_000)])


@pytest.mark.parametrize("answer", [FAULT, SYSTEM_ERROR, {"ResponseCode": "0-100"}])
@pytest.mark.parametrize(
    ("named", "failure", "code"),
    [
        (WRONG_LOGIN, LoginRefused, "login_refused"),
        (FAULT, Unavailable, "http_500"),
        (httpx.Response(502, text="<html>"), Unavailable, "http_502"),
        ({"ResponseCode": "550"}, Unavailable, "550"),
        ({**NAMED, "PaymentId": "F" + PAYMENT[1:]}, Unknown, "other_order"),
    ],
)
def test_silence_and_no_word_of_the_same_login_is_no_open_order(
    answer: Any, named: Any, failure: type[GatewayError], code: str
) -> None:
    with pytest.raises(failure) as caught:
        adapter(Bank(GetPaymentDetails=answer, GetPaymentId=named)).fetch_evidence(NUMBER, PAYMENT)
    assert caught.value.code == code


@pytest.mark.parametrize("answer", [FAULT, SYSTEM_ERROR, {"ResponseCode": "06"}])
def test_silence_about_a_number_that_the_bank_has_not_is_none(answer: Any) -> None:
    bank = Bank(GetPaymentDetails=answer, GetPaymentId=UNREGISTERED)
    assert adapter(bank).fetch_evidence(NUMBER, PAYMENT) is None


def test_a_payment_that_the_bank_denies_although_it_knows_the_number_is_asked_again() -> None:
    bank = Bank(GetPaymentDetails={"ResponseCode": "06"}, GetPaymentId=NAMED)
    with pytest.raises(Unavailable) as caught:
        adapter(bank).fetch_evidence(NUMBER, PAYMENT)
    assert caught.value.code == "06"


@pytest.mark.parametrize(
    ("answer", "failure", "code"),
    [
        (httpx.Response(500, text="<html>"), Unavailable, "no_answer"),
        (httpx.Response(500, json={"Message": "Another one."}), Unavailable, "no_answer"),
        (httpx.Response(500, json=body()), Unavailable, "http_500"),
        (httpx.Response(502, json=FAULT), Unavailable, "http_502"),
        (httpx.Response(503), Unavailable, "http_503"),
        (httpx.Response(404), Refused, "http_404"),
        ({"ResponseCode": "20"}, Refused, "20"),
        ({"ResponseCode": "07", "Description": "System Error"}, Unavailable, "07"),
        ({"ResponseCode": "520"}, Unavailable, "520"),
        ({"ResponseCode": "510"}, Refused, "510"),
        ({}, Unavailable, "no_answer"),
        ({"ResponseCode": "", "OrderID": NUMBER, "OrderStatus": "2"}, Unavailable, "no_answer"),
        ({"ResponseCode": "00"}, Unknown, "other_order"),
        ({"ResponseCode": "0116"}, Unknown, "other_order"),
        (body(OrderID=""), Unknown, "other_order"),
        (body(OrderID="4565038"), Unknown, "other_order"),
        (body(OrderID="04565037"), Unknown, "other_order"),
        (body(Opaque="order-17-of-a-shop"), Unknown, "other_order"),
        (body(Opaque=""), Unknown, "other_order"),
        (body(OrderStatus="", PaymentState=""), Unavailable, "unreadable"),
        (body(OrderStatus="", PaymentState="", ResponseCode="07"), Unavailable, "07"),
        (body(ApprovedAmount="ten"), Unavailable, "no_answer"),
    ],
)
def test_what_is_not_believed(answer: Any, failure: type[GatewayError], code: str) -> None:
    with pytest.raises(failure) as caught:
        adapter(Bank(GetPaymentDetails=answer, GetPaymentId=NAMED)).fetch_evidence(NUMBER, PAYMENT)
    assert caught.value.code == code


def test_a_code_tells_how_the_last_try_went_where_no_state_is_told() -> None:
    def found(code: str) -> OrderState | None:
        told = body(OrderStatus="", PaymentState="", ResponseCode=code)
        seen = adapter(Bank(GetPaymentDetails=told)).fetch_evidence(NUMBER, PAYMENT)
        return seen.state if seen else None

    told = [found(code) for code in ("0116", "0-2007", "0151019")]
    assert told == [OrderState.DECLINED, OrderState.EXPIRED, OrderState.PROCESSING]


def test_an_order_number_that_comes_as_a_number_and_an_answer_without_opaque_are_ours() -> None:
    told = body(OrderID=int(NUMBER))
    del told["Opaque"]
    assert adapter(Bank(GetPaymentDetails=told)).fetch_evidence(NUMBER, PAYMENT) is not None


# --- refunds --------------------------------------------------------------------------------------------------------

DONE = {"ResponseCode": "00", "ResponseMessage": "Success", "Opaque": ""}
TOO_MUCH = {"ResponseCode": "07", "ResponseMessage": "Refund amount exceeds deposited amount"}


def refunded(total: float) -> dict[str, Any]:
    return at_status(4, DepositedAmount=10 - total, RefundedAmount=total)


def test_a_refund_is_named_by_the_total_that_it_made() -> None:
    bank = Bank(GetPaymentDetails=[refunded(3), refunded(7)], RefundPayment=DONE)
    made = adapter(bank).refund(wish(400))
    assert (made.provider_transaction_id, made.amount_minor) == (f"{PAYMENT.lower()}:refund:700", 400)
    assert bank.operations == ["GetPaymentDetails", "RefundPayment", "GetPaymentDetails"]
    sent = json.loads(bank.asked[1][1])
    assert sent == {"Username": "user-of-tests", "Password": "pass-word", "PaymentID": PAYMENT, "Amount": "4.00"}


@pytest.mark.parametrize(
    ("before", "amount", "currency", "code"),
    [
        (body(), 1_001, "AMD", "too_much"),
        (refunded(7), 301, "AMD", "too_much"),
        (body(), 100, "USD", "other_currency"),
        (at_status(3), 100, "AMD", "not_paid"),
        (at_status(1), 100, "AMD", "not_paid"),
        (FAULT, 100, "AMD", "not_paid"),
        (body(), 0, "AMD", "invalid_request"),
        (body(), -1, "AMD", "invalid_request"),
    ],
)
def test_a_refund_that_cannot_be_is_never_sent(before: Any, amount: int, currency: str, code: str) -> None:
    bank = Bank(GetPaymentDetails=before, GetPaymentId=NAMED)
    with pytest.raises(Refused) as caught:
        adapter(bank).refund(wish(amount, currency))
    assert (caught.value.code, "RefundPayment" in bank.operations) == (code, False)


@pytest.mark.parametrize(
    ("answer", "after", "failure", "code"),
    [
        (TOO_MUCH, body(), Refused, "07"),
        ({"ResponseCode": "560"}, body(), Refused, "560"),
        (TOO_MUCH, refunded(4), Unknown, "07"),
        (TOO_MUCH, FAULT, Unknown, "07"),
        (TOO_MUCH, httpx.Response(502), Unknown, "07"),
        ({"ResponseCode": "513"}, body(), Refused, "513"),
        ({"ResponseCode": "20"}, body(), Refused, "20"),
        ({"ResponseCode": "550"}, body(), Unknown, "550"),
        ({"ResponseCode": "520"}, body(), Unknown, "520"),
        (FAULT, body(), Unknown, "http_500"),
        (httpx.ReadTimeout("slow"), body(), Unknown, "no_answer"),
        (httpx.Response(200, text="{"), refunded(4), Unknown, "no_answer"),
        (DONE, body(), Unknown, "not_shown"),
        (DONE, refunded(5), Unknown, "not_shown"),
        (DONE, FAULT, Unknown, "not_shown"),
        (DONE, httpx.Response(502), Unknown, "not_shown"),
    ],
)
def test_a_refund_is_sent_once_whatever_is_answered(
    answer: Any, after: Any, failure: type[GatewayError], code: str
) -> None:
    bank = Bank(GetPaymentDetails=[body(), after], RefundPayment=answer, GetPaymentId=NAMED)
    with pytest.raises(failure) as caught:
        adapter(bank).refund(wish(400))
    assert (caught.value.code, bank.operations.count("RefundPayment")) == (code, 1)


# --- holds ----------------------------------------------------------------------------------------------------------


def hold(bank: Bank, operation: str) -> None:
    provider = adapter(bank, two_phase=True)
    if operation == "capture":
        provider.capture_order(NUMBER, PAYMENT, 1_000, "AMD")
    else:
        provider.release_order(NUMBER, PAYMENT)


CALLS = {"capture": "ConfirmPayment", "release": "CancelPayment"}


@pytest.mark.parametrize("operation", ["capture", "release"])
def test_a_hold_is_captured_or_let_go_while_it_is_one(operation: str) -> None:
    bank = Bank(GetPaymentDetails=at_status(1), **{CALLS[operation]: DONE})
    hold(bank, operation)
    assert bank.operations == ["GetPaymentDetails", CALLS[operation]]
    sent = json.loads(bank.asked[1][1])
    assert sent.get("Amount") == ("10.00" if operation == "capture" else None)


@pytest.mark.parametrize("operation", ["capture", "release"])
@pytest.mark.parametrize("seen", [body(), refunded(4), at_status(3), at_status(0), FAULT])
def test_what_is_not_held_is_left_alone(operation: str, seen: Any) -> None:
    bank = Bank(GetPaymentDetails=seen, GetPaymentId=NAMED)
    with pytest.raises(Refused) as caught:
        hold(bank, operation)
    assert (caught.value.code, CALLS[operation] in bank.operations) == ("not_held", False)


@pytest.mark.parametrize("operation", ["capture", "release"])
@pytest.mark.parametrize(
    ("answer", "after", "failure", "code"),
    [
        ({"ResponseCode": "07"}, at_status(1), Refused, "07"),
        ({"ResponseCode": "07"}, body(), Unknown, "07"),
        ({"ResponseCode": "07"}, httpx.Response(502), Unknown, "07"),
        ({"ResponseCode": "514"}, at_status(1), Refused, "514"),
        ({"ResponseCode": "550"}, at_status(1), Unknown, "550"),
        (FAULT, at_status(1), Unknown, "http_500"),
        (httpx.ReadTimeout("slow"), at_status(1), Unknown, "no_answer"),
    ],
)
def test_a_hold_is_moved_once_whatever_is_answered(
    operation: str, answer: Any, after: Any, failure: type[GatewayError], code: str
) -> None:
    bank = Bank(GetPaymentDetails=[at_status(1), after], **{CALLS[operation]: answer})
    with pytest.raises(failure) as caught:
        hold(bank, operation)
    assert (caught.value.code, bank.operations.count(CALLS[operation])) == (code, 1)


def test_what_the_bank_or_the_account_has_not_is_refused_unasked() -> None:
    provider = adapter(Bank())
    event = {
        "method": "GET",
        "query": f"orderID={NUMBER}&resposneCode=00&paymentID={PAYMENT}",
        "headers": {},
        "body": b"",
    }
    calls: list[Callable[[], object]] = [
        lambda: provider.cancel_order(NUMBER, PAYMENT),
        lambda: provider.capture_order(NUMBER, PAYMENT, 1, "AMD"),
        lambda: provider.release_order(NUMBER, PAYMENT),
        lambda: provider.list_orders(ASKED_AT, ASKED_AT),
        lambda: provider.check_event(**event, received_at=ASKED_AT),
        lambda: provider.parse_event(**event, received_at=ASKED_AT),
    ]
    for call in calls:
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "not_offered"
    assert provider.parse_precheck(method="GET", query="", headers={}, body=b"") is None


# --- anything -------------------------------------------------------------------------------------------------------

_NAMES = "ResponseCode OrderID OrderStatus PaymentState ApprovedAmount DepositedAmount RefundedAmount Currency DateTime"
FIELDS = st.sampled_from(f"{_NAMES} PaymentID PaymentId Message Opaque Amount".split())
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["00", "0-100", "550", "2", "4", "051", "10.00", NUMBER, PAYMENT, "payment_deposited"])
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(FIELDS, JSON, max_size=10), st.booleans())
def test_any_json_is_evidence_or_a_failure_and_never_money_out_of_nothing(told: dict[str, Any], two: bool) -> None:
    for model in (Result, Registered, Named):
        with suppress(ValueError):
            model.model_validate(decode_json(json.dumps(told).encode()))
    with suppress(GatewayError):
        bank = Bank(GetPaymentDetails=httpx.Response(200, json=told), GetPaymentId=NAMED)
        found = adapter(bank, two_phase=two).fetch_evidence(NUMBER, PAYMENT)
        assert found is not None
        if found.transactions:
            details = Details.model_validate(told)
            assert (details.is_done or details.status == 3, details.status in {2, 3, 4}) == (True, True)
            assert details.order_id == NUMBER
        assert all(one.amount_minor > 0 for one in found.transactions)


@given(st.dictionaries(st.sampled_from(sorted(body())), JSON, max_size=3), st.booleans())
def test_a_payment_that_is_told_oddly_balances_or_is_a_failure(odd: dict[str, Any], two: bool) -> None:
    with suppress(GatewayError):
        bank = Bank(GetPaymentDetails=httpx.Response(200, json=refunded(4) | odd), GetPaymentId=NAMED)
        found = adapter(bank, two_phase=two).fetch_evidence(NUMBER, PAYMENT)
        assert found is not None
        sums = dict.fromkeys(TransactionKind, 0) | {one.kind: one.amount_minor for one in found.transactions}
        left = sums[TransactionKind.CAPTURE] - sums[TransactionKind.REFUND] - sums[TransactionKind.REVERSAL]
        assert left >= 0


@given(st.binary(max_size=200), st.sampled_from([200, 400, 500]))
def test_any_bytes_are_a_failure_of_ours_and_no_other(raw: bytes, status: int) -> None:
    answer = httpx.Response(status, content=raw)
    names = ("InitPayment", "GetPaymentId", "GetPaymentDetails", "RefundPayment")
    provider = adapter(Bank(**dict.fromkeys(names, answer)))
    for call in (
        lambda: provider.create_order(order()),
        lambda: provider.find_order(NUMBER),
        lambda: provider.fetch_evidence(NUMBER, PAYMENT),
        lambda: provider.refund(wish(1)),
    ):
        with pytest.raises(GatewayError):
            call()


@given(TEXT)
def test_any_text_as_a_code_an_amount_a_time_or_an_id_is_read_or_refused(text: str) -> None:
    if Result.model_validate({"ResponseCode": text}).is_done:
        assert text.strip().partition(":")[0].strip() == "00"
    assert moment(text, YEREVAN) is None or "/" in text
    assert guid(text) is None or len(text) == 36
    with suppress(ValidationError):
        Details.model_validate({"ResponseCode": "00", "ApprovedAmount": text, "OrderStatus": text, "Currency": text})


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"client_id": ""}, "client_id"),
        ({"user_name": ""}, "user_name"),
        ({"zone": "Asia/Nowhere"}, "zone"),
        ({"currency": "XXX"}, "currency"),
        ({"languages": ["am", "hy", "en"]}, "languages"),
        ({"languages": ["am", "ru"]}, "languages"),
        ({"session_life": "PT21M"}, "session_life"),
        ({"session_life": "PT0S"}, "session_life"),
        ({"session_life": "soon"}, "timedelta"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        adapter(**options)


def test_capabilities_follow_the_settings() -> None:
    plain = adapter().capabilities
    assert (plain.create, plain.opens, plain.reference) == (CreateMode.OVERWRITES, Opens.AT_PAY, References.NUMBER)
    assert (plain.lookup, plain.lookup_gives_page, plain.cancel, plain.statement) == (True, True, False, False)
    assert (plain.push, plain.signed_events, plain.precheck) == (False, False, False)
    assert (plain.refund, plain.refund_idempotent, plain.capture) == (True, False, False)
    assert (plain.amount_unit, plain.currency_code) == ("major", "numeric")
    assert plain.session_life == timedelta(minutes=20)
    other = adapter(two_phase=True, session_life="PT5M", settle="PT1M").capabilities
    assert (other.capture, other.session_life, other.settle) == (True, timedelta(minutes=5), timedelta(minutes=1))


def test_the_password_and_what_is_personal_show_nowhere() -> None:
    planted = {"ClientName": "ANI PETROSYAN", "CardNumber": "400000**0002", "ProcessingIP": "192.0.2.17"}
    seen: list[str] = []
    for told in (body(**planted), body(**planted, OrderID="1"), body(**planted, ApprovedAmount=planted["CardNumber"])):
        provider = adapter(Bank(GetPaymentDetails=told))
        try:
            found = provider.fetch_evidence(NUMBER, PAYMENT)
            seen += [repr(found), found.model_dump_json() if found else ""]
        except GatewayError as error:
            seen += [str(error), repr(error), error.code, repr(error.__cause__), repr(error.__context__)]
        seen += [repr(provider), repr(Details.model_validate(body(**planted)))]
    for hidden in (*planted.values(), "pass-word"):
        assert not [text for text in seen if hidden in text]


def test_minor_units_of_half_a_coin_are_none() -> None:
    assert (minor(Decimal("10.5"), "AMD"), minor(Decimal("10.005"), "AMD"), minor(Decimal(7), "JPY")) == (1050, None, 7)
