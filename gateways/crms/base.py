"""What every CRM adapter offers: write one normalised result, read it back, keep one task per key."""

from dataclasses import dataclass
from typing import Protocol

from contracts.results import PaymentResult


@dataclass(frozen=True, slots=True)
class Payable:
    """Whose record is written: the CRM's own name of the invoice, deal or order."""

    type: str
    id: str
    deal_id: str | None


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A manager's task. `key` is ours: one task per key, found by it again after a lost answer."""

    key: str
    payable: Payable
    manager_id: str | None
    title: str
    body: str


class Crm(Protocol):
    """One CRM account. Every method raises only Unavailable, Refused or Unknown (gateways.errors)."""

    name: str

    def write_result(self, payable: Payable, result: PaymentResult) -> None:
        """Set the whole result on the record: an absolute write, so that twice is once."""

    def read_result(self, payable: Payable) -> PaymentResult | None:
        """Read back what the record says now; None: it has no result of ours. Refused: there is no such record."""

    def find_task(self, key: str) -> str | None:
        """Return the CRM's id of the task with our key, open or closed, or None."""

    def create_task(self, task: TaskRequest) -> str:
        """Create a task and return the CRM's id. Not idempotent: Unknown means ask find_task."""

    def close_task(self, task_id: str, note: str) -> None:
        """Complete the task with a note; a task already completed stays so without an error."""

    def close(self) -> None:
        """Release connections."""
