"""What an order's status means: the evidence that an answer of the ArCa iPay / BPC family makes.

Source: https://dev.bpcbt.com/en/integration/api/rest.html, sections "Order status" and "Refund", and the list of
refusal reasons (action codes) of the same documentation. Ids of transactions are derived, as the gateway gives few:

    {order}:capture              the payment of a one-phase order: there is one
    {order}:capture              cumulative, in two phases: the ledger keeps what is new as {order}:capture:{total}
    {order}:refund:{number}      a refund by its reference number, else by its place in time
    {order}:refund               cumulative, where answers have no single refunds (versions 3 and 4)
    {order}:reversal             a payment that was undone
    {order}:chargeback           a payment that the bank took back
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import NoReturn

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.money import CURRENCIES
from gateways.errors import Refused
from gateways.providers.arca_wire import Status, first_moment, moment

_ALPHABETIC = {numeric: alphabetic for alphabetic, (numeric, _) in CURRENCIES.items()}

_REFUNDED, _PARTLY_DEPOSITED = 4, 8

_NO_TRY_YET = frozenset({"-100", "-2014", "0", "000", ""})
_EXPIRED = frozenset({"-2007", "-2014"})
# Nobody knows yet how these end: an inquiry runs; the bank's processing did not answer in time, before or after.
_UNDECIDED = frozenset({"-30001", "151018", "151019"})
_CANCELLED = frozenset({"4005", "2012"})
_TRIES_EXHAUSTED = frozenset({"-2013", "1115"})


@dataclass(frozen=True, slots=True)
class Reading:
    """How an account's answers are to be read."""

    name: str
    two_phase: bool
    zone: tzinfo
    currency: str | None  # where answers name none

    def evidence(
        self, status: Status, order_id: str, reference: str, asked_at: datetime, request: str | None
    ) -> Evidence:
        """Return the whole word on one order. Refused when it speaks of money and does not say how much."""
        state, retryable = state_of(status)
        return Evidence(
            reference=reference,
            provider_order_id=order_id,
            state=state,
            retryable=retryable,
            transactions=tuple(self._transactions(status, order_id, asked_at)),
            provider_request_id=request,
            asked_at=asked_at,
        )

    def _transactions(self, status: Status, order_id: str, asked_at: datetime) -> list[ProviderTransaction]:
        made = self._maker(status, order_id)
        paid_at = first_moment(status.deposited_date, status.auth_date_time, status.date) or asked_at
        match status.order_status:
            case 2 | 4 | 8:
                captured = self._captured(status)
                if captured is None:
                    return []
                capture = made(TransactionKind.CAPTURE, "capture", captured, paid_at, self.two_phase)
                back = self._returned(status, captured, asked_at, made)
                # Dates of refunds may be coarse, to the second or the day: none went back before it came.
                return [
                    *capture,
                    *(one.model_copy(update={"occurred_at": max(one.occurred_at, paid_at)}) for one in back),
                ]
            case 3 if self._was_captured(status):
                sum_ = status.approved or status.amount or 0
                back_at = first_moment(status.reversed_date) or asked_at
                capture = made(TransactionKind.CAPTURE, "capture", sum_, paid_at, self.two_phase)
                return [*capture, *made(TransactionKind.REVERSAL, "reversal", sum_, back_at, False)]
        return []

    def _was_captured(self, status: Status) -> bool:
        """Tell a payment that was reversed from a hold that was let go: in one phase nothing is held first."""
        return not self.two_phase or bool(status.deposited_date)

    def _captured(self, status: Status) -> int | None:
        """Return what was captured in all; None where the gateway does not say it.

        A refund lowers depositedAmount (section "Refund", expectedDepositedAmount), so both make the captured sum;
        where that exceeds what the order is for, this gateway does not lower it. In one phase the state "captured"
        speaks of the whole registered amount, as partial authorisation is never asked for. In two phases less may be
        captured than was held, so that without amounts nobody knows how much.
        """
        if status.deposited is not None:
            both = status.deposited + status.refunded
            if status.chargeback and not both:  # taken back, and taken out of the amounts
                return status.approved or (None if self.two_phase else status.amount)
            limit = max(status.approved or 0, status.amount or 0)
            return status.deposited if both > limit >= status.deposited > 0 else both
        if status.order_status == _REFUNDED:
            self._refuse("amounts_missing", "it was refunded, and the answer does not say how much")
        return None if self.two_phase or status.order_status == _PARTLY_DEPOSITED else status.amount

    def _returned(
        self, status: Status, captured: int, asked_at: datetime, made: Callable[..., list[ProviderTransaction]]
    ) -> list[ProviderTransaction]:
        refunds = []
        for name, one in status.refund_entries(self.zone):
            when = moment(one.date, self.zone) or first_moment(status.refunded_date) or asked_at
            refunds += made(TransactionKind.REFUND, f"refund:{name}", one.amount, when, False)
        if status.chargeback:
            # Taken back by the bank: all that was not refunded.
            left = captured - sum(one.amount_minor for one in refunds)
            return [*refunds, *made(TransactionKind.CHARGEBACK, "chargeback", left, asked_at, False)]
        if not status.refunds and status.refunded:
            when = first_moment(status.refunded_date) or asked_at
            return made(TransactionKind.REFUND, "refund", status.refunded, when, True)
        return refunds

    def _maker(self, status: Status, order_id: str) -> Callable[..., list[ProviderTransaction]]:
        def made(
            kind: TransactionKind, name: str, amount: int | None, when: datetime, cumulative: bool
        ) -> list[ProviderTransaction]:
            if not amount or amount < 0:
                return []
            return [
                ProviderTransaction(
                    provider_transaction_id=f"{order_id.lower()}:{name}",
                    kind=kind,
                    amount_minor=amount,
                    currency=self._currency(status),
                    occurred_at=when,
                    cumulative=cumulative,
                )
            ]

        return made

    def _currency(self, status: Status) -> str:
        code = _ALPHABETIC.get(status.currency.zfill(3)) if status.currency else self.currency
        if code is None:
            self._refuse("unknown_currency", "the answer names no currency that is known here")
        return code

    def _refuse(self, code: str, why: str) -> NoReturn:
        raise Refused(f"fetch_evidence at {self.name}: {why}", code=code)


def state_of(status: Status) -> tuple[OrderState, bool]:
    """Return how far the order got, and whether the customer may try again in it. A hold is never "paid"."""
    code = status.action_code
    match status.order_status:
        case 0:
            return _state_of_registered(code)
        case 1 | 8:
            return OrderState.HELD, False
        case 2 | 4:
            return OrderState.PAID, False
        case 3:
            return OrderState.CANCELLED, False
        case 6 if code in _EXPIRED:
            return OrderState.EXPIRED, False
        case 6 if code in _CANCELLED:
            return OrderState.CANCELLED, False
        case 6 if code not in _UNDECIDED:
            return OrderState.DECLINED, False
    # An ACS at work, a pending payment, an unknown outcome; and statuses of the future, which are no failures.
    return OrderState.PROCESSING, False


def _state_of_registered(code: str) -> tuple[OrderState, bool]:
    if code == "-2007":
        return OrderState.EXPIRED, False
    if code in _UNDECIDED:
        return OrderState.PROCESSING, False
    if code in _TRIES_EXHAUSTED:
        return OrderState.DECLINED, False
    # A decline in an order that is open: the next try may succeed.
    return (OrderState.OPEN, False) if code in _NO_TRY_YET else (OrderState.DECLINED, True)
