"""The merchants of the simulated Ameriabank vPOS: their settings, their books, and what InitPayment takes.

[doc] and [obs n] are explained in sandbox.ameriabank_payments; [history] is docs/DEVELOPMENT-HISTORY.md beside [obs].
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from sandbox.ameriabank_payments import NO_TRY, STARTED, Payment, Refused, lapse
from sandbox.faults import Faults
from sandbox.server import Gate

OPERATIONS = frozenset(
    {"InitPayment", "GetPaymentDetails", "ConfirmPayment", "CancelPayment", "RefundPayment"}
    | {"GetPaymentId", "GetPendingTransactions"}
)
REPORT = "GetTransactionList"  # SOAP
CLIENT_ID = "5F6B1D7E-0C41-4D0A-9B1E-7A3C2E9D4B10"  # invented
_CURRENCIES = frozenset({"051", "978", "840", "643"})  # [doc InitPayment]
_LONGEST_SECONDS = 1200  # [doc InitPayment Timeout]


class ServerFault(Exception):
    """The platform's HTTP 500 without a ResponseCode [obs 4.2]."""


@dataclass(frozen=True)
class Merchant:
    """A merchant's settings, as the bank makes them, and which of the described behaviours he meets."""

    username: str
    password: str
    client_id: str = CLIENT_ID
    terminal: str = "99000001"
    two_phase: bool = False
    first_order_id: int = 1  # the bank gives each merchant a range
    last_order_id: int = 2**31 - 1
    tries_allowed: int = 3
    may_refund: bool = True
    may_reverse: bool = True
    test_amount: bool = False  # the test host takes 10 AMD and nothing else [obs 13]
    duplicate: str = "same_id"  # [obs 4.4]; "refuse": 08204; "refuse_01": 01, which as a number is success [doc]
    never_attempted: str = "500"  # [obs 4.2]; "550" [obs 4.26]; "0-100" [doc Table 1]
    expired: str = "0-2007"  # [doc Table 1]; or "never_attempted": as before the session's end
    response_code_style: str = "00"  # or "00 : Payment Successfully Completed"
    one_phase_amounts: str = "both"  # [obs 4.16]; "approved": DepositedAmount stays 0 until a refund
    page_broken: bool = False  # the page sends everybody back at once with 0999, as it did for months [history]
    every_500_alike: bool = False  # faults answer like a payment that was never attempted
    changed_answer: Mapping[str, Any] = field(default_factory=dict)  # put over every GetPaymentDetails; None takes away
    latency_ms: float = 0.0


CHOICES = {
    "duplicate": {"same_id", "refuse", "refuse_01"},
    "never_attempted": {"500", "550", NO_TRY},
    "expired": {"0-2007", "never_attempted"},
    "response_code_style": {"00", "00 : Payment Successfully Completed"},
    "one_phase_amounts": {"both", "approved"},
}


class Books:
    """One merchant with his payments, his faults and his counts."""

    def __init__(self, merchant: Merchant) -> None:
        """Begin empty."""
        self.merchant = merchant
        self.payments: dict[int, Payment] = {}
        self._by_id: dict[str, Payment] = {}
        self.faults = Faults(OPERATIONS | {REPORT})
        self.gate = Gate(merchant.password, self.faults, lambda: None, merchant.latency_ms / 1000)

    def knows(self, told: Mapping[str, Any], *, client: bool) -> bool:
        """Whether the credentials are right; `client`: the operation sends a ClientID too."""
        one = self.merchant
        right = told.get("Username") == one.username and told.get("Password") == one.password
        return right and (not client or str(told.get("ClientID", "")).lower() == one.client_id.lower())

    def find(self, payment_id: str) -> Payment | None:
        """Return a payment; upper and lower case are one [obs 4.12]."""
        found = self._by_id.get(payment_id.lower())
        if found is not None:
            lapse(found)
        return found

    def register(self, told: Mapping[str, Any]) -> Payment:
        """Make a payment, or give the first one of this OrderID again, with what is told now [obs 4.4]."""
        wish = _wish(told, self.merchant)
        known = self.payments.get(wish.order_id)
        if known is None:
            self.payments[wish.order_id] = self._by_id[wish.id] = wish
            return wish
        if self.merchant.duplicate == "refuse":
            raise Refused("08204", "Decline. Duplicate order")
        if self.merchant.duplicate == "refuse_01":
            raise Refused("01", "Order already exists")
        known.registrations += 1
        if not known.attempted:  # ASSUMED: a try ends the overwriting
            for name in ("amount", "currency", "description", "back_url", "opaque", "card_holder_id", "ends_at"):
                setattr(known, name, getattr(wish, name))
            known.status, known.code, known.words = STARTED, wish.code, wish.words  # ASSUMED: a new session
        return known


def _wish(told: Mapping[str, Any], merchant: Merchant) -> Payment:
    """Read InitPayment's parameters. ASSUMED: the codes of refusals, but for 560."""
    for name in ("OrderID", "Amount", "Description"):
        if told.get(name) in (None, ""):
            raise Refused("04", "Required parameter missed")  # [doc Table 1]
    order_id, timeout = whole(told["OrderID"]), whole(told.get("Timeout") or 0)
    currency = text(told.get("Currency")) or "051"
    if currency not in _CURRENCIES:
        raise Refused("03", "Incorrect Currency")  # [doc Table 1]
    amount = minor(told["Amount"])
    if amount == 0:
        raise Refused("50", "Payment sum error")
    if merchant.test_amount and (amount, currency) != (1000, "051"):
        raise Refused("560", "In test mode amount must be 10 AMD")  # [obs 13]
    if not merchant.first_order_id <= order_id <= merchant.last_order_id:
        raise Refused("510", "Incorrect parameters")
    # Timeout is not validated [obs 4.12]. ASSUMED: what the document forbids counts as the longest session.
    seconds = timeout if 0 < timeout <= _LONGEST_SECONDS else _LONGEST_SECONDS
    return Payment(
        order_id=order_id,
        amount=amount,
        currency=currency,
        description=text(told["Description"]),
        back_url=text(told.get("BackURL")),
        opaque=text(told.get("Opaque")),
        card_holder_id=text(told.get("CardHolderID")),
        two_phase=merchant.two_phase,
        ends_at=time.time() + seconds,
        tries_allowed=merchant.tries_allowed,
    )


def minor(value: Any) -> int:
    """Read an amount of major units, a number or a decimal text [obs 4.7], as minor units."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ServerFault
    try:
        amount = Decimal(str(value)) * 100
    except InvalidOperation:
        raise ServerFault from None  # ASSUMED: what the platform cannot read is its fault page, as elsewhere
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value() or amount > 10**14:
        raise Refused("50", "Payment sum error")  # [doc Table 1]
    return int(amount)


def whole(value: Any) -> int:
    """Read a 32-bit integer, a number or a text of digits. ASSUMED: anything else is the platform's fault page."""
    digits = str(value)
    if isinstance(value, bool) or not digits.removeprefix("-").isascii() or not digits.removeprefix("-").isdigit():
        raise ServerFault
    if not -(2**31) <= int(digits) < 2**31:
        raise ServerFault
    return int(digits)


def text(value: Any) -> str:
    """Read a text; nothing is an empty one."""
    return "" if value is None else str(value)
