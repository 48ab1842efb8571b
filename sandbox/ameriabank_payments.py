"""The payments of the simulated Ameriabank vPOS: what happens to them, and what GetPaymentDetails says.

[doc] is the bank's "AmeriaBank vPOS 3.1 API Protocol Description"; [obs n] is section n of what others observed at the
bank's test host, https://github.com/davit-vardanyan/ameriabank-vpos-php/blob/main/CONVENTIONS.md. ASSUMED marks what
neither says; sandbox.ameriabank lists it.
"""

import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

# [doc Table 2]: the order status is the place in this list.
STATES = (
    "payment_started",
    "payment_approved",
    "payment_deposited",
    "payment_void",
    "payment_refunded",
    "payment_autoauthorized",
    "payment_declined",
)
STARTED, APPROVED, DEPOSITED, VOID, REFUNDED, AUTOAUTHORIZED, DECLINED = range(7)

OK, IMPOSSIBLE = "00", "07"
NO_TRY, TIME_LIMIT, TRIES_EXHAUSTED, BEGUN, NOT_ENOUGH_MONEY = "0-100", "0-2007", "0-2013", "0-9000", "0116"
MESSAGES = {  # [doc Table 1]
    NO_TRY: "no_payments_yet",
    TIME_LIMIT: "Decline. Payment time limit",
    TRIES_EXHAUSTED: "Payment attempts expired",
    BEGUN: "Started",
    NOT_ENOUGH_MONEY: "Decline. Not enough money",
    "0-1": "sv_unavailable",
    "0-2006": "Decline. 3DSec decline",
    "0100": "Decline. Card declined",
    "0101": "Decline. Expired card",
    "0125": "Decline. Card declined",
    "0151018": "Decline. Processing timeout",
    "0151019": "Decline. Processing timeout",
    "0999": "Declined by fraud",
}
REVERSIBLE_SECONDS = 72 * 3600  # [doc CancelPayment]
YEREVAN = timezone(timedelta(hours=4))  # ASSUMED for every time that the bank writes: it names no zone

# What no merchant needs and every answer about a payment holds: a reader must neither keep nor show it [obs 4.20].
PLANTED = {
    "CardNumber": "411111**1111",
    "ClientName": "ANAHIT TESTYAN",
    "ClientEmail": "anahit@example.am",
    "ExpDate": "203412",
    "ProcessingIP": "203.0.113.77",
    "ApprovalCode": "935724",
}


class Refused(Exception):
    """An answer with a ResponseCode that is not success. HTTP 200 all the same [obs 4.1]."""

    def __init__(self, code: str, message: str) -> None:
        """`code` as [doc Table 1] writes it."""
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Payment:
    """One payment. Amounts are minor units, times are seconds since 1970."""

    order_id: int
    amount: int
    currency: str
    description: str
    back_url: str
    opaque: str
    card_holder_id: str
    two_phase: bool
    ends_at: float
    tries_allowed: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    md_order_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: int = STARTED
    code: str = NO_TRY
    words: str = MESSAGES[NO_TRY]
    attempted: bool = False
    tries: int = 0
    approved: int = 0
    deposited: int = 0
    refunded: int = 0
    registrations: int = 1
    initiated_at: float = field(default_factory=time.time)
    tried_at: float = 0.0

    @property
    def is_payable(self) -> bool:
        """Whether a customer may try, or try again while tries are left (ASSUMED)."""
        open_ = self.status in {STARTED, AUTOAUTHORIZED} or (self.status == DECLINED and self.attempted)
        return open_ and self.tries < self.tries_allowed and time.time() < self.ends_at


def lapse(payment: Payment) -> None:
    """Let the session of a payment that nobody tried end [doc InitPayment Timeout, Table 1 0-2007]."""
    if payment.status == STARTED and time.time() >= payment.ends_at:
        payment.status, payment.code, payment.words = DECLINED, TIME_LIMIT, MESSAGES[TIME_LIMIT]


def pay(payment: Payment, amount: int | None = None, *, late: bool = False, hold: bool = False) -> None:
    """Authorise, and deposit at once in one stage [doc CancelPayment]. `late`: begun in time, done after."""
    if not (payment.is_payable or (late and payment.status in {STARTED, AUTOAUTHORIZED, DECLINED})):
        raise Refused(IMPOSSIBLE, "The payment is not payable")
    _try(payment, OK, "Approved. - Payment post authorized")  # the words: [obs 4.15]
    payment.approved = payment.amount if amount is None else amount
    if payment.two_phase or hold:
        payment.status, payment.words = APPROVED, "Approved. - Payment pre authorized"  # ASSUMED words
    else:
        payment.status, payment.deposited = DEPOSITED, payment.approved


def decline(payment: Payment, code: str = NOT_ENOUGH_MONEY) -> None:
    """Decline one try. ASSUMED: others may follow in the same session, as 0-2013 lets think, and one may succeed."""
    if not payment.is_payable and payment.status != AUTOAUTHORIZED:
        raise Refused(IMPOSSIBLE, "The payment is not payable")
    payment.tries += 1
    told = code if payment.tries < payment.tries_allowed or payment.tries_allowed == 1 else TRIES_EXHAUSTED
    _try(payment, told, MESSAGES.get(told, "Decline."))
    payment.status = DECLINED


def begin(payment: Payment, code: str = BEGUN) -> None:
    """Leave a try under way: in the issuer's ACS, or sent and not answered. ASSUMED: 0-9000 with status 5."""
    if not payment.is_payable:
        raise Refused(IMPOSSIBLE, "The payment is not payable")
    _try(payment, code, MESSAGES.get(code, ""))
    payment.status = AUTOAUTHORIZED


def _try(payment: Payment, code: str, words: str) -> None:
    payment.attempted, payment.code, payment.words, payment.tried_at = True, code, words, time.time()


def confirm(payment: Payment, amount: int) -> None:
    """Deposit a hold [doc ConfirmPayment], once. ASSUMED: a part lets the rest go; the words of refusals."""
    if payment.status != APPROVED:
        raise Refused(IMPOSSIBLE, "Confirmation is impossible for current transaction state")
    if not 0 < amount <= payment.approved:
        raise Refused(IMPOSSIBLE, "Confirm amount exceeds approved amount")
    payment.status, payment.deposited = DEPOSITED, amount
    payment.words = "Approved. - Payment post authorized"


def cancel(payment: Payment) -> None:
    """Reverse a hold or a payment, within 72 hours [doc CancelPayment]. ASSUMED: 520 later; nothing stays deposited."""
    if payment.status not in {APPROVED, DEPOSITED}:
        raise Refused(IMPOSSIBLE, "Reversal is impossible for current transaction state")  # [obs 4.17]
    if time.time() - payment.initiated_at > REVERSIBLE_SECONDS:
        raise Refused("520", "Overtime error")
    payment.status, payment.deposited = VOID, 0  # ApprovedAmount does not move [obs 4.16]
    payment.words = "Approved. - Payment reversed"  # ASSUMED words


def refund(payment: Payment, amount: int) -> None:
    """Give a part or all back. There is no key: a repeated call is another refund [doc RefundPayment, obs 4.5]."""
    if payment.status not in {DEPOSITED, REFUNDED} or amount > payment.deposited:
        raise Refused(IMPOSSIBLE, "Refund amount exceeds deposited amount")  # [obs 4.17]
    if amount <= 0:
        raise Refused("0125", MESSAGES["0125"])  # [doc Table 1]: attempt to refund zero amount
    payment.deposited -= amount  # [obs 4.16]: it decrements, and RefundedAmount accumulates
    payment.refunded += amount
    payment.status = REFUNDED  # [obs 4.18]: after a part too
    payment.words = "Approved. - Refunded payment back to client card"  # [obs 4.15]


def stored(text: str) -> str:
    """Return text as it comes back: what is not Latin is U+00BF, one for one [obs 4.15; ASSUMED beyond Armenian]."""
    return "".join(letter if ord(letter) < 0x250 else "\u00bf" for letter in text)


def major(minor: int) -> float:
    """Return an amount as answers write it, a JSON float of major units [obs 4.16]."""
    return minor / 100


def written(moment: float, pattern: str) -> str:
    """Return a moment as the bank's local time, without a zone."""
    return datetime.fromtimestamp(moment, YEREVAN).strftime(pattern)


def details(payment: Payment, *, long_code: bool, terminal: str) -> dict[str, Any]:
    """Return the thirty fields of PaymentDetailsResponse, in their order [obs 4.22, 4.27]."""
    card = PLANTED if payment.attempted else dict.fromkeys(PLANTED, "")
    code = "00 : Payment Successfully Completed" if long_code and payment.code == OK else payment.code
    return (
        EMPTY_DETAILS
        | {
            "Amount": major(payment.amount),
            "ApprovedAmount": major(payment.approved),
            **card,
            "Currency": payment.currency,
            "DateTime": written(payment.tried_at, "%d/%m/%Y %H:%M:%S") if payment.attempted else "",  # [obs 4.19]
            "DepositedAmount": major(payment.deposited),
            "Description": payment.words,  # the processor's words; the merchant's are in TrxnDescription [obs 4.15]
            "MDOrderID": payment.md_order_id,
            "MerchantId": terminal,
            "TerminalId": terminal,
            "OrderID": str(payment.order_id),  # a string [obs 4.12]
            "PaymentState": STATES[payment.status],
            "PaymentType": 5,
            "PrimaryRC": payment.code[:1],  # ASSUMED: a code of Table 1 is this and the action code, joined
            "ResponseCode": code,
            "OrderStatus": str(payment.status),  # a string [obs 4.12]
            "CardHolderID": payment.card_holder_id,
            "RefundedAmount": major(payment.refunded),
            "Opaque": payment.opaque,
            "TrxnDescription": stored(payment.description),
            "rrn": payment.md_order_id,  # the same value twice [obs 4.19]
            "ActionCode": payment.code[1:],
            "BankInfo": {"BankName": "", "BankCountryCode": "AM", "BankCountryName": "Armenia"},  # [obs 4.19]
        }
    )


# Absent values are empty strings, never null [obs 4.19].
EMPTY_DETAILS: dict[str, Any] = {
    "Amount": 0.0,
    "ApprovedAmount": 0.0,
    "ApprovalCode": "",
    "CardNumber": "",
    "ClientName": "",
    "ClientEmail": "",
    "Currency": "",
    "DateTime": "",
    "DepositedAmount": 0.0,
    "Description": "",
    "MDOrderID": "",
    "MerchantId": "",
    "TerminalId": "",
    "OrderID": "",
    "PaymentState": "",
    "PaymentType": 0,
    "PrimaryRC": "",
    "ResponseCode": "",
    "ExpDate": "",
    "ProcessingIP": "",
    "OrderStatus": "",
    "CardHolderID": "",
    "BindingID": "",
    "RefundedAmount": 0.0,
    "Opaque": "",
    "TrxnDescription": "",
    "rrn": "",
    "ActionCode": "",
    "ExchangeRate": 0.0,
    "BankInfo": {"BankName": "", "BankCountryCode": "", "BankCountryName": ""},
}
