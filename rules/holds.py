"""What becomes of money that a provider holds: captured while the invoice wants it, else let go."""

from typing import Literal

from contracts.statuses import InvoiceStatus, LinkState

# The operations of intents about an order that exists.
HOLD_ORDER = "settle_hold"
CANCEL_ORDER = "cancel_order"

# By an expired link it is late money, and the policy decides about it; by the others nobody wants it any more.
_TAKES_MONEY = frozenset({LinkState.ACTIVE, LinkState.EXPIRED})
_CLOSED = frozenset({InvoiceStatus.PAID, InvoiceStatus.REFUNDED, InvoiceStatus.CANCELLED})


def hold_action(link: LinkState, invoice: InvoiceStatus) -> Literal["capture", "release"]:
    """Decide what to do with money that is held for an invoice, by one of its links."""
    return "capture" if link in _TAKES_MONEY and invoice not in _CLOSED else "release"
