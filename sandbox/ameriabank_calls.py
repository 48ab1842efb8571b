"""The calls of the simulated Ameriabank vPOS: what each does, and the shape of each answer.

[doc] and [obs n] are explained in sandbox.ameriabank_payments.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.ameriabank_merchants import Books, Merchant, ServerFault, minor, whole
from sandbox.ameriabank_payments import (
    DEPOSITED,
    EMPTY_DETAILS,
    MESSAGES,
    NO_TRY,
    OK,
    STARTED,
    TIME_LIMIT,
    Payment,
    Refused,
    cancel,
    confirm,
    details,
    refund,
)
from sandbox.ameriabank_reports import pending

BY_CLIENT = frozenset({"InitPayment", "GetPaymentId", "GetPendingTransactions"})  # these send a ClientID
WRONG_PASSWORD = "Incorrect Username and Password"  # noqa: S105  # the bank's words for it


def carry_out(operation: str, books: Books, payment: Payment | None, told: Mapping[str, Any]) -> Any:
    """Do one call and return its answer. Refused and ServerFault are the other ways to answer."""
    if operation == "GetPaymentDetails":
        return _details(books, payment, told)
    if not books.knows(told, client=operation in BY_CLIENT):
        raise Refused("20", WRONG_PASSWORD)
    match operation:
        case "InitPayment":
            made = books.register(told)
            return {"PaymentID": made.id.upper(), "ResponseCode": 1, "ResponseMessage": "OK"}  # upper case [obs 4.12]
        case "GetPaymentId":
            known = books.payments.get(whole(told.get("OrderID")))
            if known is None:
                raise Refused("06", "Unregistered OrderId")
            # `PaymentId`, in lower case, and no words on success [obs 4.8, 4.12, 4.17]
            return {"PaymentId": known.id, "ResponseMessage": "", "ResponseCode": "00"}
        case "GetPendingTransactions":
            return pending(books.payments.values(), told)
    if payment is None:
        raise Refused("06", "Unregistered OrderId")
    _change(operation, books.merchant, payment, told)
    return {"ResponseCode": "00", "ResponseMessage": "Success", "Opaque": payment.opaque}  # [obs 4.17]


def not_let_in(operation: str) -> dict[str, Any]:
    """Return the answer to a Username that nobody has."""
    wrong = Refused("20", WRONG_PASSWORD) if operation != "GetPaymentDetails" else Refused("550", "System Error")
    return refusal(operation, wrong, None)


def refusal(operation: str, error: Refused, payment: Payment | None) -> dict[str, Any]:
    """Return a refusal in the operation's own shape."""
    said = {"ResponseCode": error.code, "ResponseMessage": error.message}
    match operation:
        case "InitPayment":  # a number [obs 4.3], and an empty id, never null [obs 4.12]
            return {"PaymentID": "", "ResponseCode": int(error.code), "ResponseMessage": error.message}
        case "GetPaymentDetails":  # all fields, empty but for Description, and no ResponseMessage [obs 4.25]
            return EMPTY_DETAILS | {"ResponseCode": error.code, "Description": error.message}
        case "GetPaymentId":
            return {"PaymentId": "", **said}
        case "GetPendingTransactions":
            return said
    return said | {"Opaque": payment.opaque if payment else ""}  # echoed in a refusal too [obs 4.17]


def _details(books: Books, payment: Payment | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """Answer GetPaymentDetails. The fault page comes before the password is looked at [obs 4.26]."""
    merchant = books.merchant
    untried = payment is not None and (
        payment.code == NO_TRY or (payment.code == TIME_LIMIT and merchant.expired == "never_attempted")
    )
    if untried and merchant.never_attempted == "500":
        raise ServerFault
    if payment is None or not books.knows(told, client=False) or (untried and merchant.never_attempted == "550"):
        raise Refused("550", "System Error")  # one code for several conditions [obs 4.25]
    seen = replace(payment, status=STARTED, code=NO_TRY, words=MESSAGES[NO_TRY]) if untried else payment
    long_code = merchant.response_code_style != OK
    answer = details(seen, long_code=long_code, terminal=merchant.terminal)
    if merchant.one_phase_amounts == "approved" and payment.status == DEPOSITED and not payment.two_phase:
        answer["DepositedAmount"] = 0.0
    answer |= merchant.changed_answer
    return {name: value for name, value in answer.items() if value is not None}


def _change(operation: str, merchant: Merchant, payment: Payment, told: Mapping[str, Any]) -> None:
    match operation:
        case "ConfirmPayment":
            confirm(payment, minor(told.get("Amount", 0)))
        case "CancelPayment":
            if not merchant.may_reverse:
                raise Refused("514", "Do not have Reverse operation permission")  # [doc Table 1]
            cancel(payment)
        case "RefundPayment":
            if not merchant.may_refund:
                raise Refused("513", "Do not have Refund operation permission")  # [doc Table 1]
            refund(payment, minor(told.get("Amount", 0)))
