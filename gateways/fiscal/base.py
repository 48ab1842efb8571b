"""What every adapter of a fiscal device offers, and what it declares that it cannot do.

A device counts its receipts: every request carries the next number (`seq`), and who leaves one out or uses one again is
refused. The shape follows the web service of Armenia's tax authority for electronic cash registers (e-HDM), as it is
described in public, https://github.com/neetrino/borboraqua.am docs/payments/EHDM-INTEGRATION.md: sections 1 and 5.4 for
the counter, which a successful request alone moves on, 5.2 for returns, which name the receipt that they return.

Every method raises only Unavailable, Refused or Unknown (gateways.errors). A refusal uses no number up.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from contracts.fiscal import ReceiptKind

# The code of a refusal that is about the number alone: the device's counter stands elsewhere, and nothing was printed.
OUT_OF_STEP = "seq_out_of_step"


class Repeat(StrEnum):
    """What a second request with the same number and the same content does."""

    GIVES_FIRST = "gives_first"  # the first receipt again; nothing is printed
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the core must know to live without what a device has not.

    Where neither look-up nor repeat helps, a person decides about a receipt whose answer was lost, and the device
    prints nothing before he has.
    """

    lookup: bool  # tells which receipt has a number, and which number was the last
    repeat: Repeat
    settle: timedelta  # after a lost request, "there is no such receipt" counts only when this has passed
    returns: bool = True
    advances: bool = True
    currencies: frozenset[str] = frozenset()  # ISO 4217; empty: any


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """One receipt to print. `purpose` says what was sold, and holds no personal data: receipts go to the state."""

    receipt: str  # our id; the device may show it, and a look-up tells it again
    seq: int
    kind: ReceiptKind  # never FOREIGN
    amount_minor: int
    currency: str
    purpose: str
    original_number: str | None = None  # of a return: the receipt that it returns


@dataclass(frozen=True, slots=True)
class PrintedReceipt:
    """A receipt that the device printed. `receipt` is our id, or None where somebody else had it printed."""

    seq: int
    number: str
    receipt: str | None
    provider_request_id: str | None = None


class FiscalDevice(Protocol):
    """One device, or one account at a service that stands for one."""

    name: str
    capabilities: Capabilities

    def print_sale(self, request: ReceiptRequest) -> PrintedReceipt:
        """Print a receipt for money that came (sale, advance). Unknown when the answer was lost."""

    def print_return(self, request: ReceiptRequest) -> PrintedReceipt:
        """Print a receipt for money that went back (return, advance_return). Unknown when the answer was lost."""

    def find(self, seq: int) -> PrintedReceipt | None:
        """Return what was printed under a number; None: nothing was. Refused where `lookup` says so."""

    def last_seq(self) -> int:
        """Return the number that the device used last. Refused where `lookup` says so."""

    def close(self) -> None:
        """Release connections."""
