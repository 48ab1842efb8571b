"""What an answer to GetPaymentDetails means: the evidence that it makes.

Sources: see ameriabank_wire; Table 1 (codes) and Table 2 (states) of the bank's documentation. ResponseCode tells how
the last try went, OrderStatus where the order stands. Movements have no ids of their own at the bank:

    {payment}:capture     the payment in one phase: ApprovedAmount, which refunds leave as it is (seen, 4.16)
    {payment}:capture     cumulative, in two phases: DepositedAmount, which refunds lower, and RefundedAmount
    {payment}:refund      cumulative: RefundedAmount, which grows with each refund
    {payment}:reversal    a payment that was undone (CancelPayment)
"""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import NoReturn

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.money import CURRENCIES
from gateways.errors import Refused, Unknown
from gateways.providers.ameriabank_wire import Details, minor, moment

_ALPHABETIC = {numeric: alphabetic for alphabetic, (numeric, _) in CURRENCIES.items()}

_REGISTERED, _APPROVED, _DEPOSITED, _VOID, _REFUNDED, _AT_ACS, _DECLINED = range(7)
_GOOD = frozenset({_APPROVED, _DEPOSITED, _REFUNDED})

_NO_TRY_YET = frozenset({"0-100", "00", "550", ""})
_EXPIRED = frozenset({"0-2007", "01001"})
# Nobody knows yet how these end: the processing centre did not answer in time, before or after; it has just begun.
_UNDECIDED = frozenset({"0-1", "0-9000", "0151018", "0151019"})
_TRIES_EXHAUSTED = "0-2013"
_DOCUMENTED_DECLINES = """0-2000 0-2001 0-20010 0-2002 0-2004 0-2005 0-2006 0-2011 0-2012 0-2015 0-2016 0-2018 0-2019
    02 0100 0101 0103 0104 0107 0109 0110 0111 0116 0120 0121 0123 0125 0151017 02001 02003 02005 0208 0209 0341014
    071015 09001 0902 0903 0904 0907 0909 0910 0913 0914 0999"""
_DECLINES = frozenset(_DOCUMENTED_DECLINES.split())


@dataclass(frozen=True, slots=True)
class Money:
    """How an order's money went so far, in minor units."""

    currency: str
    captured: int = 0
    refunded: int = 0
    reversed: int = 0

    @property
    def left(self) -> int:
        """What can still be given back."""
        return self.captured - self.refunded - self.reversed


@dataclass(frozen=True, slots=True)
class Reading:
    """How an account's answers are to be read."""

    name: str
    two_phase: bool
    zone: tzinfo
    currency: str | None  # where answers name none

    def evidence(
        self, details: Details, payment_id: str, reference: str, asked_at: datetime, request: str | None
    ) -> Evidence:
        """Return the whole word on one order, which the answer names as ours."""
        state, retryable = self._state(details)
        return Evidence(
            reference=reference,
            provider_order_id=payment_id,
            state=state,
            retryable=retryable,
            transactions=tuple(self._transactions(details, payment_id, asked_at)),
            provider_request_id=request,
            asked_at=asked_at,
        )

    def money(self, details: Details) -> Money | None:
        """Return how the money went; None where none moved. Refused when it moved and nobody says how much."""
        status = details.status
        if status not in {_DEPOSITED, _VOID, _REFUNDED}:
            return None
        captured = self._captured(details)
        if not captured:
            return None
        currency = self._currency(details)
        refunded = self._refunded(details, captured)
        if refunded > captured:
            self._refuse("amounts_contradict", "more went back than came")
        undone = captured - refunded if status == _VOID else Decimal(0)
        return Money(
            currency,
            self._minor(captured, currency),
            self._minor(refunded, currency),
            self._minor(undone, currency),
        )

    def _state(self, details: Details) -> tuple[OrderState, bool]:
        is_contrary = details.status in _GOOD and not details.is_done
        if details.contradicts_itself or is_contrary:
            why = "the answer contradicts itself about the order's state"
            raise Unknown(f"fetch_evidence at {self.name}: {why}", code="contradiction")
        return state_of(details.status, details.response_code)

    def _transactions(self, details: Details, payment_id: str, asked_at: datetime) -> list[ProviderTransaction]:
        money = self.money(details)
        if money is None:
            return []
        paid_at = moment(details.date_time, self.zone) or asked_at
        later = max(paid_at, asked_at)  # the bank dates no refund
        movements = (
            (TransactionKind.CAPTURE, money.captured, paid_at, self.two_phase),
            (TransactionKind.REFUND, money.refunded, later, True),
            (TransactionKind.REVERSAL, money.reversed, later, False),
        )
        return [
            ProviderTransaction(
                provider_transaction_id=f"{payment_id.lower()}:{kind.value}",
                kind=kind,
                amount_minor=amount,
                currency=money.currency,
                occurred_at=when,
                cumulative=cumulative,
            )
            for kind, amount, when, cumulative in movements
            if amount
        ]

    def _captured(self, details: Details) -> Decimal | None:
        """Return what was captured in all; None where it is not told.

        In two phases less may be captured than was approved, and a hold that was let go was never captured.
        """
        now_and_back = None if details.deposited is None else details.deposited + (details.refunded or 0)
        if self.two_phase:
            return now_and_back
        return details.approved if details.approved is not None else now_and_back

    def _refunded(self, details: Details, captured: Decimal) -> Decimal:
        """Return what went back in all: state 4 says that some did, after a part of the money already (seen, 4.18)."""
        if details.refunded or details.status != _REFUNDED:
            return details.refunded or Decimal(0)
        if details.deposited is None or details.deposited >= captured:
            self._refuse("amounts_missing", "it was refunded, and the answer does not say how much")
        return captured - details.deposited

    def _currency(self, details: Details) -> str:
        told = (details.currency or "").strip()
        code = _ALPHABETIC.get(told.zfill(3)) if told else self.currency
        if code is None:
            self._refuse("unknown_currency", "the answer names no currency that is known here")
        return code

    def _minor(self, amount: Decimal, currency: str) -> int:
        whole = minor(amount, currency)
        if whole is None:
            self._refuse("amount_too_fine", "an amount is smaller than the currency's smallest coin")
        return whole

    def _refuse(self, code: str, why: str) -> NoReturn:
        raise Refused(f"fetch_evidence at {self.name}: {why}", code=code)


def state_of(status: int | None, code: str) -> tuple[OrderState, bool]:
    """Return how far the order got, and whether the customer may try again in it. A hold is never "paid"."""
    match status:
        case None | 0:
            return _state_of_registered(code)
        case 1:
            return OrderState.HELD, False
        case 2 | 4:
            return OrderState.PAID, False
        case 3:
            return OrderState.CANCELLED, False
        case 6 if code in _EXPIRED:
            return OrderState.EXPIRED, False
        case 6 if code not in _UNDECIDED:
            return OrderState.DECLINED, False
    # The issuer's ACS at work, an unknown outcome; and states that are not documented, which are no failures.
    return OrderState.PROCESSING, False


def _state_of_registered(code: str) -> tuple[OrderState, bool]:
    if code in _NO_TRY_YET:
        return OrderState.OPEN, False
    if code in _EXPIRED:
        return OrderState.EXPIRED, False
    if code == _TRIES_EXHAUSTED:
        return OrderState.DECLINED, False
    # A decline in an order that is open: the next try may succeed.
    return (OrderState.DECLINED, True) if code in _DECLINES else (OrderState.PROCESSING, False)


def says_how_it_went(code: str) -> bool:
    """Whether a code alone tells how an order's last try went, where the answer names no state."""
    return code in _EXPIRED | _UNDECIDED | _DECLINES or code == _TRIES_EXHAUSTED
