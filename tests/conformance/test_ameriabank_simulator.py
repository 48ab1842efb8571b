"""The simulated Ameriabank vPOS, asked with bare HTTP: what the bank's document and the observations say, it does.

SIMULATED: nobody asked the bank. What is ASSUMED is listed in sandbox.ameriabank.
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import httpx
import pytest

from contracts.ids import new_id
from sandbox.ameriabank_merchants import CLIENT_ID
from sandbox.ameriabank_payments import EMPTY_DETAILS, PLANTED
from sandbox.control import ControlError
from sandbox.launch import SimulatorProcess

PASSWORD = "password-of-the-merchant"
BACK = "https://pay.example.am/l/token/return?lang=hy"
YEREVAN = timezone(timedelta(hours=4))
SERVICE = "http://payments.ameriabank.am/ITransactionsInformationService"
ORDER_IDS = itertools.count(1001)


@pytest.fixture(scope="module")
def bank() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("ameriabank", password=PASSWORD) as process:
        yield process


class Shop:
    """A merchant who writes HTTP by hand."""

    def __init__(self, bank: SimulatorProcess, **settings: Any) -> None:
        self.bank = bank
        self.username = f"shop-{new_id()}"
        self.configure(password=PASSWORD, **settings)

    def configure(self, **settings: Any) -> None:
        self.bank.control.configure(self.username, **settings)

    def post(self, operation: str, body: dict[str, Any]) -> httpx.Response:
        told = {"Username": self.username, "Password": PASSWORD, **body}
        return httpx.post(f"{self.bank.base_url}/VPOS/api/VPOS/{operation}", json=told)

    def ask(self, operation: str, **body: Any) -> Any:
        response = self.post(operation, body)
        assert response.status_code == 200
        return response.json()

    def init(self, **changes: Any) -> Any:
        body = {"ClientID": CLIENT_ID, "OrderID": next(ORDER_IDS), "Amount": "15000.00", "Description": "Contract 17"}
        return self.ask("InitPayment", **{**body, "BackURL": BACK, "Opaque": "token-1", **changes})

    def made(self, **changes: Any) -> tuple[str, str]:
        """Make a payment; return its PaymentID and OrderID."""
        order_id = changes.pop("OrderID", None) or next(ORDER_IDS)
        return self.init(OrderID=order_id, **changes)["PaymentID"], str(order_id)

    def paid(self, **changes: Any) -> tuple[str, str]:
        payment_id, order_id = self.made(**changes)
        self.act(order_id, "pay")
        return payment_id, order_id

    def details(self, payment_id: str) -> Any:
        return self.ask("GetPaymentDetails", PaymentID=payment_id)

    def act(self, order_id: str, action: str, **options: Any) -> dict[str, Any]:
        return self.bank.control.act(order_id, action, account=self.username, **options)

    def order(self, order_id: str) -> dict[str, Any]:
        return next(one for one in self.bank.control.orders(self.username) if one["reference"] == order_id)


Open = Callable[..., Shop]


@pytest.fixture
def shop(bank: SimulatorProcess) -> Open:
    return lambda **settings: Shop(bank, **settings)


def state(details: Any) -> tuple[str, str, str]:
    return details["ResponseCode"], details["OrderStatus"], details["PaymentState"]


def money(details: Any) -> tuple[float, float, float]:
    return details["ApprovedAmount"], details["DepositedAmount"], details["RefundedAmount"]


# --- InitPayment ----------------------------------------------------------------------------------------------------


def test_success_is_a_number_from_init_payment_and_a_text_from_all_others(shop: Open) -> None:
    merchant = shop()
    made = merchant.init(OrderID=77)
    assert (made["ResponseCode"], made["ResponseMessage"]) == (1, "OK")
    merchant.act("77", "pay")
    assert merchant.details(made["PaymentID"])["ResponseCode"] == "00"
    found = merchant.ask("GetPaymentId", ClientID=CLIENT_ID, OrderID=77)
    assert found == {"PaymentId": made["PaymentID"].lower(), "ResponseMessage": "", "ResponseCode": "00"}


def test_an_id_is_upper_case_here_and_lower_case_there_and_taken_in_both(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.paid()
    assert payment_id == payment_id.upper()
    assert merchant.details(payment_id) == merchant.details(payment_id.lower())
    assert merchant.details(payment_id)["OrderID"] == order_id


@pytest.mark.parametrize("amount", ["10", "10.00", "10.0", 10, 10.0, "0.07"])
def test_amounts_are_major_units_as_number_or_text(shop: Open, amount: Any) -> None:
    merchant = shop()
    payment_id, _ = merchant.paid(Amount=amount)
    assert merchant.details(payment_id)["Amount"] == float(amount)


def test_a_repeated_init_gives_the_same_id_and_overwrites(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    again = merchant.init(OrderID=int(order_id), Amount=7, Opaque="token-2")
    assert (again["PaymentID"], again["ResponseCode"]) == (payment_id, 1)
    merchant.act(order_id, "pay")
    details = merchant.details(payment_id)
    assert (details["Amount"], details["ApprovedAmount"], details["Opaque"]) == (7.0, 7.0, "token-2")


def test_a_repeated_init_after_a_payment_changes_nothing(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.paid()
    assert merchant.init(OrderID=int(order_id), Amount=7)["PaymentID"] == payment_id
    assert merchant.details(payment_id)["Amount"] == 15_000.0


@pytest.mark.parametrize(("setting", "code"), [("refuse", 8204), ("refuse_01", 1)])
def test_a_repeated_init_may_be_refused_and_01_looks_like_success(shop: Open, setting: str, code: int) -> None:
    merchant = shop(duplicate=setting)
    _, order_id = merchant.made()
    again = merchant.init(OrderID=int(order_id))
    assert (again["ResponseCode"], again["PaymentID"]) == (code, "")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Password": "wrong"}, 20),
        ({"Username": "nobody"}, 20),
        ({"ClientID": "another"}, 20),
        ({"Description": ""}, 4),
        ({"OrderID": None}, 4),
        ({"Amount": None}, 4),
        ({"Currency": "AMD"}, 3),
        ({"Currency": "51"}, 3),
        ({"Amount": "10.005"}, 50),
        ({"Amount": -1}, 50),
        ({"Amount": 0}, 50),
        ({"OrderID": 9}, 510),
    ],
)
def test_a_refusal_is_http_200_with_an_empty_id(shop: Open, changes: dict[str, Any], code: int) -> None:
    told = shop(first_order_id=1000).init(**changes)
    assert (told["PaymentID"], told["ResponseCode"]) == ("", code)
    assert told["ResponseMessage"]


@pytest.mark.parametrize(
    "changes", [{"OrderID": "INV-1"}, {"OrderID": 2**31}, {"OrderID": True}, {"Amount": "ten"}, {"Timeout": "soon"}]
)
def test_what_the_platform_cannot_read_is_its_fault_page(shop: Open, changes: dict[str, Any]) -> None:
    merchant = shop()
    body = {"ClientID": CLIENT_ID, "OrderID": 5, "Amount": 10, "Description": "x", **changes}
    response = merchant.post("InitPayment", body)
    assert (response.status_code, response.json()) == (500, {"Message": "An error has occurred."})


@pytest.mark.parametrize(("timeout", "seconds"), [(600, 600), (1200, 1200), (0, 1200), (-1, 1200), (1201, 1200)])
def test_a_timeout_is_not_validated(shop: Open, timeout: int, seconds: int) -> None:
    merchant = shop()
    _, order_id = merchant.made(Timeout=timeout)
    kept = merchant.order(order_id)
    assert seconds - 5 < kept["ends_at"] - kept["initiated_at"] < seconds + 5


def test_unknown_fields_are_ignored_and_the_currency_is_dram_by_default(shop: Open) -> None:
    merchant = shop()
    payment_id, _ = merchant.paid(Colour="red")
    assert merchant.details(payment_id)["Currency"] == "051"


def test_a_test_merchant_takes_ten_dram_and_nothing_else(shop: Open) -> None:
    merchant = shop(test_amount=True)
    assert merchant.init()["ResponseCode"] == 560
    assert merchant.init(Amount=10)["ResponseCode"] == 1
    assert merchant.init(Amount=10, Currency="840")["ResponseCode"] == 560


# --- GetPaymentDetails and GetPaymentId -----------------------------------------------------------------------------


def test_a_payment_that_nobody_tried_is_http_500_before_any_password(shop: Open) -> None:
    merchant = shop()
    payment_id, _ = merchant.made()
    for password in (PASSWORD, "wrong"):
        response = merchant.post("GetPaymentDetails", {"PaymentID": payment_id, "Password": password})
        assert (response.status_code, response.json()) == (500, {"Message": "An error has occurred."})


def test_or_it_is_550_like_a_wrong_password(shop: Open) -> None:
    merchant = shop(never_attempted="550")
    untried, _ = merchant.made()
    paid, _ = merchant.paid()
    refused = EMPTY_DETAILS | {"ResponseCode": "550", "Description": "System Error"}
    assert merchant.details(untried) == refused
    assert merchant.ask("GetPaymentDetails", PaymentID=paid, Password="wrong") == refused
    assert merchant.details(new_id()) == refused


def test_or_it_is_the_documented_code(shop: Open) -> None:
    merchant = shop(never_attempted="0-100")
    payment_id, _ = merchant.made()
    details = merchant.details(payment_id)
    assert state(details) == ("0-100", "0", "payment_started")
    assert (details["Amount"], *money(details)) == (15_000.0, 0.0, 0.0, 0.0)


def test_details_have_thirty_fields_in_the_banks_shapes(shop: Open) -> None:
    merchant = shop()
    before = datetime.now(YEREVAN).replace(microsecond=0, tzinfo=None)
    payment_id, order_id = merchant.paid(Description="Կանխավճար 17")
    details = merchant.details(payment_id)
    assert list(details) == list(EMPTY_DETAILS)
    assert len(details) == 30
    assert details["rrn"] == details["MDOrderID"]
    assert datetime.strptime(details["DateTime"], "%d/%m/%Y %H:%M:%S") >= before  # noqa: DTZ007  # it has no zone
    assert (details["OrderID"], details["OrderStatus"], details["PaymentType"]) == (order_id, "2", 5)
    assert details["TrxnDescription"] == "\u00bf" * 9 + " 17"
    assert details["Description"] == "Approved. - Payment post authorized"
    assert {name: details[name] for name in PLANTED} == PLANTED


def test_the_code_of_success_may_have_words(shop: Open) -> None:
    merchant = shop(response_code_style="00 : Payment Successfully Completed")
    payment_id, _ = merchant.paid()
    declined, declined_order = merchant.made()
    merchant.act(declined_order, "decline")
    assert merchant.details(payment_id)["ResponseCode"] == "00 : Payment Successfully Completed"
    assert merchant.details(declined)["ResponseCode"] == "0116"


def test_an_answer_may_be_changed_by_a_test(shop: Open) -> None:
    merchant = shop(changed_answer={"Currency": "840", "ApprovedAmount": None})
    payment_id, _ = merchant.paid()
    details = merchant.details(payment_id)
    assert (details["Currency"], "ApprovedAmount" in details) == ("840", False)
    merchant.configure(changed_answer={}, one_phase_amounts="approved")
    assert money(merchant.details(payment_id)) == (15_000.0, 0.0, 0.0)


def test_a_lost_payment_id_is_found_by_the_order_id(shop: Open) -> None:
    merchant = shop()
    assert merchant.ask("GetPaymentId", ClientID=CLIENT_ID, OrderID=424242)["ResponseCode"] == "06"
    wrong = merchant.ask("GetPaymentId", ClientID=CLIENT_ID, OrderID=424242, Password="wrong")
    assert wrong == {"PaymentId": "", "ResponseCode": "20", "ResponseMessage": "Incorrect Username and Password"}


# --- the customer, his bank, and the time ---------------------------------------------------------------------------


def test_a_customer_pays_on_the_page_and_comes_back_unsigned(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    url = merchant.order(order_id)["pay_url"]
    assert urlsplit(url).path == "/VPOS/Payments/Pay"
    assert (
        'lang="hy"'
        in httpx.get(f"{merchant.bank.base_url}/VPOS/Payments/Pay", params={"id": payment_id, "lang": "am"}).text
    )
    back = httpx.post(url, data={"action": "pay"})
    assert (back.status_code, back.headers["location"].startswith(BACK + "&")) == (303, True)
    told = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
    assert told == {
        "lang": "hy",
        "orderID": order_id,
        "resposneCode": "00",
        "paymentID": payment_id.lower(),
        "opaque": "token-1",
        "description": "Operation Approved ",
    }
    assert state(merchant.details(payment_id)) == ("00", "2", "payment_deposited")
    assert "<button" not in httpx.get(url).text


def test_a_declined_customer_comes_back_and_may_try_again(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    url = merchant.order(order_id)["pay_url"]
    back = httpx.post(url, data={"action": "decline", "code": "0101"})
    assert "resposneCode=0101" in back.headers["location"]
    assert state(merchant.details(payment_id)) == ("0101", "6", "payment_declined")
    assert money(merchant.details(payment_id)) == (0.0, 0.0, 0.0)
    httpx.post(url, data={"action": "pay"})
    assert state(merchant.details(payment_id)) == ("00", "2", "payment_deposited")


def test_a_broken_page_sends_back_a_code_although_nobody_tried(shop: Open) -> None:
    merchant = shop(page_broken=True)
    payment_id, order_id = merchant.made()
    back = httpx.get(merchant.order(order_id)["pay_url"])
    assert (back.status_code, "resposneCode=0999" in back.headers["location"]) == (302, True)
    assert merchant.post("GetPaymentDetails", {"PaymentID": payment_id}).status_code == 500


def test_without_a_back_url_the_customer_stays(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made(BackURL=None)
    stayed = httpx.post(merchant.order(order_id)["pay_url"], data={"action": "pay"})
    assert (stayed.status_code, "<button" in stayed.text) == (200, False)
    assert merchant.details(payment_id)["OrderStatus"] == "2"


def test_tries_end(shop: Open) -> None:
    merchant = shop(tries_allowed=2)
    payment_id, order_id = merchant.made()
    merchant.act(order_id, "decline")
    merchant.act(order_id, "decline")
    assert state(merchant.details(payment_id)) == ("0-2013", "6", "payment_declined")
    with pytest.raises(ControlError):
        merchant.act(order_id, "pay")


def test_a_session_ends_and_what_was_under_way_may_still_settle(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    merchant.act(order_id, "expire")
    assert state(merchant.details(payment_id)) == ("0-2007", "6", "payment_declined")
    assert "<button" not in httpx.get(merchant.order(order_id)["pay_url"]).text
    merchant.act(order_id, "settle_late")
    assert state(merchant.details(payment_id)) == ("00", "2", "payment_deposited")


def test_or_an_ended_session_answers_like_one_that_nobody_tried(shop: Open) -> None:
    merchant = shop(expired="never_attempted")
    payment_id, order_id = merchant.made()
    merchant.act(order_id, "expire")
    assert merchant.post("GetPaymentDetails", {"PaymentID": payment_id}).status_code == 500
    merchant.configure(never_attempted="0-100")
    assert state(merchant.details(payment_id)) == ("0-100", "0", "payment_started")


def test_a_payment_may_be_under_way_past_the_end(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    merchant.act(order_id, "pending")
    merchant.act(order_id, "expire")
    assert state(merchant.details(payment_id)) == ("0-9000", "5", "payment_autoauthorized")
    merchant.act(order_id, "settle_late")
    assert money(merchant.details(payment_id)) == (15_000.0, 15_000.0, 0.0)


def test_a_customer_may_pay_another_amount(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.made()
    merchant.act(order_id, "pay", amount_minor=1_400_050)
    assert money(merchant.details(payment_id)) == (14_000.5, 14_000.5, 0.0)


# --- confirm, cancel, refund ----------------------------------------------------------------------------------------


def test_two_stages_hold_and_then_deposit(shop: Open) -> None:
    merchant = shop(two_phase=True)
    payment_id, _ = merchant.paid()
    assert state(merchant.details(payment_id)) == ("00", "1", "payment_approved")
    assert money(merchant.details(payment_id)) == (15_000.0, 0.0, 0.0)
    assert merchant.ask("ConfirmPayment", PaymentID=payment_id, Amount=15_001)["ResponseCode"] == "07"
    told = merchant.ask("ConfirmPayment", PaymentID=payment_id, Amount="14000.00")
    assert told == {"ResponseCode": "00", "ResponseMessage": "Success", "Opaque": "token-1"}
    assert money(merchant.details(payment_id)) == (15_000.0, 14_000.0, 0.0)
    assert merchant.ask("ConfirmPayment", PaymentID=payment_id, Amount=1)["ResponseCode"] == "07"


def test_cancel_reverses_a_hold_or_a_payment_within_72_hours(shop: Open) -> None:
    merchant = shop()
    held, held_order = merchant.made()
    merchant.act(held_order, "hold")
    paid, _ = merchant.paid()
    old, old_order = merchant.paid()
    merchant.act(old_order, "grow_old", seconds=72 * 3600 + 1)
    for payment_id in (held, paid):
        assert merchant.ask("CancelPayment", PaymentID=payment_id)["ResponseCode"] == "00"
        assert state(merchant.details(payment_id)) == ("00", "3", "payment_void")
        assert money(merchant.details(payment_id)) == (15_000.0, 0.0, 0.0)
        assert merchant.ask("CancelPayment", PaymentID=payment_id)["ResponseCode"] == "07"
    assert merchant.ask("CancelPayment", PaymentID=old)["ResponseCode"] == "520"


def test_refunds_take_from_what_is_deposited_and_a_part_says_refunded(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.paid(Amount=10)
    assert merchant.ask("RefundPayment", PaymentID=payment_id, Amount="4.00")["ResponseMessage"] == "Success"
    assert state(merchant.details(payment_id)) == ("00", "4", "payment_refunded")
    assert money(merchant.details(payment_id)) == (10.0, 6.0, 4.0)
    merchant.act(order_id, "refund", amount_minor=300)
    details = merchant.details(payment_id)
    assert money(details) == (10.0, 3.0, 7.0)
    assert details["Description"] == "Approved. - Refunded payment back to client card"


def test_07_means_several_things(shop: Open) -> None:
    merchant = shop()
    payment_id, _ = merchant.paid(Amount=10)
    merchant.ask("RefundPayment", PaymentID=payment_id, Amount=4)
    much = merchant.ask("RefundPayment", PaymentID=payment_id, Amount=7)
    late = merchant.ask("CancelPayment", PaymentID=payment_id)
    assert much == {
        "ResponseCode": "07",
        "ResponseMessage": "Refund amount exceeds deposited amount",
        "Opaque": "token-1",
    }
    assert (late["ResponseCode"], late["ResponseMessage"]) == (
        "07",
        "Reversal is impossible for current transaction state",
    )


def test_there_is_no_key_so_a_repeated_refund_is_another_refund_and_zero_is_none(shop: Open) -> None:
    merchant = shop()
    payment_id, _ = merchant.paid(Amount=10)
    for _ in range(2):
        assert merchant.ask("RefundPayment", PaymentID=payment_id, Amount=4)["ResponseCode"] == "00"
    assert merchant.ask("RefundPayment", PaymentID=payment_id)["ResponseCode"] == "0125"
    assert money(merchant.details(payment_id)) == (10.0, 2.0, 8.0)


def test_a_merchant_may_lack_permissions(shop: Open) -> None:
    merchant = shop(may_refund=False, may_reverse=False)
    payment_id, _ = merchant.paid()
    assert merchant.ask("RefundPayment", PaymentID=payment_id, Amount=1)["ResponseCode"] == "513"
    assert merchant.ask("CancelPayment", PaymentID=payment_id)["ResponseCode"] == "514"


@pytest.mark.parametrize("operation", ["ConfirmPayment", "CancelPayment", "RefundPayment"])
def test_who_changes_needs_the_password_and_a_payment(shop: Open, operation: str) -> None:
    merchant = shop()
    payment_id, _ = merchant.paid()
    assert merchant.ask(operation, PaymentID=payment_id, Amount=1, Password="wrong")["ResponseCode"] == "20"
    assert merchant.ask(operation, PaymentID=payment_id, Amount=1, Username="nobody")["ResponseCode"] == "20"
    assert merchant.ask(operation, PaymentID=new_id(), Amount=1)["ResponseCode"] == "06"


# --- reports --------------------------------------------------------------------------------------------------------


def test_pending_transactions_are_rows_without_an_envelope(shop: Open) -> None:
    merchant = shop()
    merchant.paid()
    _, order_id = merchant.made()
    merchant.act(order_id, "decline")
    day = datetime.now(YEREVAN).replace(tzinfo=None)
    dates = {"StartDate": f"{day - timedelta(days=1):%Y-%m-%d}", "EndDate": f"{day + timedelta(days=1):%Y-%m-%d}"}
    (row,) = merchant.ask("GetPendingTransactions", ClientID=CLIENT_ID, **dates)
    assert (row["OrderId"], row["Amount"], row["ErrorMessage"]) == (
        int(order_id),
        15_000.0,
        "Decline. Not enough money",
    )
    bad = merchant.post("GetPendingTransactions", {"ClientID": CLIENT_ID, "StartDate": "soon", "EndDate": "later"})
    assert bad.status_code == 500


def soap(
    shop: Shop, *, header: str = "", order: str = "ClientID EndDate Password StartDate Username", **http: Any
) -> Any:
    day = datetime.now(YEREVAN)
    told = {
        "ClientID": CLIENT_ID,
        "EndDate": f"{day + timedelta(minutes=1):%Y/%m/%d %H:%M}",
        "Password": PASSWORD,
        "StartDate": f"{day - timedelta(minutes=1):%Y/%m/%d %H:%M}",
        "Username": shop.username,
    }
    members = "".join(f"<c:{name}>{told[name]}</c:{name}>" for name in order.split())
    body = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f'<s:Header>{header}</s:Header><s:Body><GetTransactionList xmlns="{SERVICE}">'
        f'<transclient xmlns:c="payments.ameriabank.am/TransactionClient">{members}</transclient>'
        "</GetTransactionList></s:Body></s:Envelope>"
    )
    action = f'"{SERVICE}/ITransactionsInformationService/GetTransactionList"'
    headers = {"content-type": "text/xml; charset=utf-8", "soapaction": action, **http}
    url = f"{shop.bank.base_url}/Admin/webservice/TransactionsInformationService.svc"
    return httpx.post(url, content=body.encode(), headers=headers)


def listed(response: httpx.Response) -> list[dict[str, str | None]]:
    space = "{payments.ameriabank.am/TransactionFields}"
    root = ElementTree.fromstring(response.text)
    return [{one.tag.removeprefix(space): one.text for one in row} for row in root.iter(space + "PaymentFields")]


def test_the_soap_list_has_what_was_tried_with_a_date_that_lost_its_year(shop: Open) -> None:
    merchant = shop()
    payment_id, order_id = merchant.paid(Amount=10, Description="Կանխավճար & 17")
    merchant.ask("RefundPayment", PaymentID=payment_id, Amount=4)
    merchant.made()
    response = soap(merchant)
    assert response.headers["content-type"] == "text/xml; charset=utf-8"
    (row,) = listed(response)
    assert (row["OrderID"], row["PaymentID"], row["PaymentState"]) == (order_id, payment_id.lower(), "4")
    assert (row["Amount"], row["ApproveAmount"], row["DepositAmount"]) == ("10.00", "10.00", "6.00")
    assert (row["RespCode"], row["ErrorMessage"]) == ("00 : Payment Successfully Completed", None)
    assert row["TrxnDetails"] == "\u00bf" * 9 + " & 17"
    assert len(row["OperDate"] or "") == 25


def test_the_soap_host_refuses_what_it_was_seen_to_refuse(shop: Open) -> None:
    merchant = shop()
    action = '<Action xmlns="http://schemas.microsoft.com/ws/2005/05/addressing/none">x</Action>'
    assert soap(merchant, header=action).status_code == 400
    assert soap(merchant, **{"content-type": "application/soap+xml"}).status_code == 415
    unsupported = soap(merchant, soapaction='""')
    assert (unsupported.status_code, "ActionNotSupported" in unsupported.text) == (500, True)
    shuffled = soap(merchant, order="Username Password ClientID StartDate EndDate")
    assert shuffled.status_code == 500


# --- control and faults ---------------------------------------------------------------------------------------------


def test_calls_are_counted_and_faults_strike(shop: Open) -> None:
    merchant = shop()
    merchant.bank.control.fault("error_500_after", account=merchant.username, operation="InitPayment")
    body = {"ClientID": CLIENT_ID, "OrderID": 31, "Amount": 10, "Description": "x"}
    assert merchant.post("InitPayment", body).status_code == 500
    assert merchant.ask("GetPaymentId", ClientID=CLIENT_ID, OrderID=31)["ResponseCode"] == "00"
    stats = merchant.bank.control.stats(merchant.username)
    assert stats == {"calls": {"InitPayment": 1, "GetPaymentId": 1}, "struck": {"error_500_after": 1}}


def test_a_fault_may_look_like_a_payment_that_nobody_tried(shop: Open) -> None:
    merchant = shop(every_500_alike=True)
    payment_id, _ = merchant.paid()
    merchant.bank.control.fault("error_500_before", account=merchant.username, operation="GetPaymentDetails")
    response = merchant.post("GetPaymentDetails", {"PaymentID": payment_id})
    assert (response.status_code, response.json()) == (500, {"Message": "An error has occurred."})


def test_one_merchant_sees_nothing_of_another(shop: Open) -> None:
    first, second = shop(), shop()
    payment_id, order_id = first.paid()
    assert second.details(payment_id)["ResponseCode"] == "550"
    assert second.ask("RefundPayment", PaymentID=payment_id, Amount=1)["ResponseCode"] == "20"
    assert second.ask("GetPaymentId", ClientID=CLIENT_ID, OrderID=int(order_id))["ResponseCode"] == "06"


def test_settings_and_actions_are_checked(shop: Open) -> None:
    merchant = shop()
    _, order_id = merchant.made()
    for settings in ({"colour": "red"}, {"duplicate": "maybe"}):
        with pytest.raises(ControlError):
            merchant.configure(**settings)
    with pytest.raises(ControlError):
        merchant.act(order_id, "dance")
    with pytest.raises(ControlError):
        merchant.act("5", "pay")


def test_the_command_line_opens_a_merchant_and_without_the_control_key_nobody_changes_him() -> None:
    with SimulatorProcess("ameriabank", password=PASSWORD, arguments=("--two-phase", "--username", "deli")) as process:
        body = {"Username": "deli", "Password": PASSWORD, "ClientID": CLIENT_ID}
        order = {"OrderID": 1, "Amount": 10, "Description": "x"}
        assert (
            httpx.post(f"{process.base_url}/VPOS/api/VPOS/InitPayment", json=body | order).json()["ResponseCode"] == 1
        )
        assert process.control.act("1", "pay", account="deli")["status"] == 1
        assert httpx.put(f"{process.base_url}/control/deli", json={"two_phase": False}).status_code == 401


def test_only_json_and_only_known_operations_are_taken(shop: Open) -> None:
    base = f"{shop().bank.base_url}/VPOS/api/VPOS"
    assert httpx.post(f"{base}/InitPayment", data={"OrderID": "1"}).status_code == 415
    assert httpx.post(f"{base}/DeactivateBindings", json={}).status_code == 404
    assert (
        httpx.post(f"{base}/InitPayment", content=b"[", headers={"content-type": "application/json"}).status_code == 500
    )
