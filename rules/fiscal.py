"""Which way a fiscal receipt may go: it has a state of its own, beside the payment's.

not_required ──> pending ──> issued ──> returned
                    │  ^        ^
                    v  │        │
                   failed ──────┘

These moves bind what others say of a receipt. Where devices of ours print, the state is computed from their receipts
(`fiscal_status`): a second payment of an invoice makes an issued one pending again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.fiscal import MONEY_CAME, ReceiptKind
from contracts.statuses import FiscalStatus

# The intent to have a receipt printed: its reference is the receipt's id.
PRINT_RECEIPT = "print_receipt"

FISCAL_MOVES: dict[FiscalStatus, frozenset[FiscalStatus]] = {
    FiscalStatus.NOT_REQUIRED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED, FiscalStatus.FAILED}),
    FiscalStatus.PENDING: frozenset({FiscalStatus.ISSUED, FiscalStatus.FAILED, FiscalStatus.NOT_REQUIRED}),
    FiscalStatus.FAILED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED, FiscalStatus.NOT_REQUIRED}),
    FiscalStatus.ISSUED: frozenset({FiscalStatus.RETURNED}),
    # After a return another sale of the same invoice has a receipt of its own.
    FiscalStatus.RETURNED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED}),
}


def fiscal_refusal(now: FiscalStatus, to: FiscalStatus) -> str | None:
    """Return why a receipt cannot go there from here, or None; where it is already, nothing is in the way."""
    if to is now or to in FISCAL_MOVES[now]:
        return None
    allowed = ", ".join(sorted(FISCAL_MOVES[now]))
    return f"the receipt is {now}, and cannot become {to}: it can become {allowed}"


class ReceiptState(StrEnum):
    """How far one receipt got. A failed one that has a number may have been printed: a person decides."""

    WANTED = "wanted"
    SENT = "sent"  # with its number, and no answer yet
    ISSUED = "issued"
    FAILED = "failed"
    WAIVED = "waived"  # a person said that none is needed


OVER = frozenset({ReceiptState.ISSUED, ReceiptState.WAIVED})


@dataclass(frozen=True, slots=True)
class Slip:
    """One receipt of an invoice, as far as decisions need it. `attempt`: whose money it is for."""

    id: str
    device: str
    kind: ReceiptKind
    state: ReceiptState
    amount_minor: int
    currency: str
    attempt: str | None
    original: str | None = None


def fiscal_status(slips: Sequence[Slip]) -> FiscalStatus:
    """Return where an invoice's receipts stand together.

    A sale that failed is told before one that waits. A return changes nothing until all that was sold is returned by
    issued receipts: a sale's receipt stays issued when a part goes back, and when its return cannot be printed.
    """
    counted = [slip for slip in slips if slip.state is not ReceiptState.WAIVED]
    sales = [slip for slip in counted if slip.kind in MONEY_CAME]
    if not sales:
        return FiscalStatus.NOT_REQUIRED
    if any(slip.state is ReceiptState.FAILED for slip in sales):
        return FiscalStatus.FAILED
    if any(slip.state is not ReceiptState.ISSUED for slip in sales):
        return FiscalStatus.PENDING
    returned = [slip for slip in counted if slip.kind not in MONEY_CAME and slip.state is ReceiptState.ISSUED]
    is_all_back = _sum(returned) >= _sum(sales)
    return FiscalStatus.RETURNED if is_all_back else FiscalStatus.ISSUED


def original_of(attempt: str | None, amount_minor: int, currency: str, slips: Sequence[Slip]) -> Slip | None:
    """Return the receipt that money going back to its payer returns; None: we printed none for that payment.

    Of several receipts for one payment, the first that has so much left; else the one that has most.
    """
    counted = [slip for slip in slips if slip.state is not ReceiptState.WAIVED and slip.currency == currency]
    sales = [slip for slip in counted if slip.kind in MONEY_CAME and slip.attempt == attempt]
    left = {sale.id: sale.amount_minor - _sum([one for one in counted if one.original == sale.id]) for sale in sales}
    fitting = [sale for sale in sales if left[sale.id] >= amount_minor]
    return fitting[0] if fitting else max(sales, key=lambda sale: left[sale.id], default=None)


def _sum(slips: Sequence[Slip]) -> int:
    return sum(slip.amount_minor for slip in slips)
