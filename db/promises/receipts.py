"""Promises 3, 5 and 11 about fiscal receipts: one per movement of money, no number unexplained, none forgotten."""

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select

from contracts.fiscal import ReceiptKind
from contracts.messages import ReceiptIssue
from db.promises.base import broken_where, is_live, older_than
from db.schema import fiscal_devices, fiscal_receipts, message_history, messages, transactions
from rules.fiscal import ReceiptState

_WAITING = (ReceiptState.WANTED.value, ReceiptState.SENT.value)
_ISSUED = ReceiptState.ISSUED.value

_other = fiscal_receipts.alias()


def _counted() -> ColumnElement[int]:
    """Count the numbers of a device's counter, since we met it, that a receipt explains."""
    numbers = select(func.count(func.distinct(fiscal_receipts.c.seq))).where(
        fiscal_receipts.c.device == fiscal_devices.c.name,
        fiscal_receipts.c.state == _ISSUED,
        fiscal_receipts.c.seq > fiscal_devices.c.base_seq,
        fiscal_receipts.c.seq <= fiscal_devices.c.last_seq,
    )
    return numbers.scalar_subquery()


def _is_of_its_money() -> ColumnElement[bool]:
    return exists(literal(1)).where(
        transactions.c.id == fiscal_receipts.c.transaction_id,
        transactions.c.invoice_id == fiscal_receipts.c.invoice_id,
        transactions.c.amount_minor == fiscal_receipts.c.amount_minor,
        transactions.c.currency == fiscal_receipts.c.currency,
    )


def _a_person_knows() -> ColumnElement[bool]:
    """True where its dead letter lies there, or somebody discarded that or gave the receipt up by his word.

    Who discards one whose number is undecided has decided nothing: the device waits for that.
    """
    discarded = exists(literal(1)).where(
        fiscal_receipts.c.seq.is_(None),
        message_history.c.id == fiscal_receipts.c.message_id,
        message_history.c.outcome == "discarded",
    )
    lies_there = exists(literal(1)).where(messages.c.id == fiscal_receipts.c.message_id)
    return or_(fiscal_receipts.c.message_id.is_(None), lies_there, discarded)


RECEIPTS = (
    broken_where(
        3,
        "fiscal receipts",
        fiscal_receipts,
        lambda _: exists(literal(1)).where(
            _other.c.id != fiscal_receipts.c.id,
            or_(
                and_(
                    _other.c.transaction_id == fiscal_receipts.c.transaction_id,
                    _other.c.kind == fiscal_receipts.c.kind,
                ),
                and_(_other.c.device == fiscal_receipts.c.device, _other.c.seq == fiscal_receipts.c.seq),
            ),
        ),
        "is the second {0} for the transaction {1}, or the second receipt {2} of {3}",
        fiscal_receipts.c.kind,
        fiscal_receipts.c.transaction_id,
        fiscal_receipts.c.seq,
        fiscal_receipts.c.device,
        invoice=fiscal_receipts.c.invoice_id,
    ),
    broken_where(
        3,
        "fiscal devices",
        fiscal_devices,
        lambda _: and_(
            fiscal_devices.c.last_seq.is_not(None),
            _counted() != fiscal_devices.c.last_seq - fiscal_devices.c.base_seq,
        ),
        "counted from {0} to {1}, and {2} of these numbers have a receipt",
        fiscal_devices.c.base_seq,
        fiscal_devices.c.last_seq,
        _counted(),
    ),
    broken_where(
        5,
        "fiscal receipts",
        fiscal_receipts,
        lambda _: and_(fiscal_receipts.c.kind != ReceiptKind.FOREIGN.value, ~_is_of_its_money()),
        "its transaction {0} says other money, or is another invoice's",
        fiscal_receipts.c.transaction_id,
        invoice=fiscal_receipts.c.invoice_id,
    ),
    broken_where(
        11,
        "fiscal receipts",
        fiscal_receipts,
        lambda bounds: and_(
            fiscal_receipts.c.state.in_(_WAITING),
            older_than(fiscal_receipts.c.created_at, bounds.late_seconds),
            ~is_live(fiscal_receipts.c.invoice_id, ReceiptIssue.TYPE, naming=fiscal_receipts.c.id),
        ),
        "is {0} at {1}, and nothing has it printed",
        fiscal_receipts.c.state,
        fiscal_receipts.c.device,
        invoice=fiscal_receipts.c.invoice_id,
    ),
    broken_where(
        11,
        "fiscal receipts",
        fiscal_receipts,
        lambda _: and_(fiscal_receipts.c.state == ReceiptState.FAILED.value, ~_a_person_knows()),
        "failed at {0}, and no person was told",
        fiscal_receipts.c.device,
        invoice=fiscal_receipts.c.invoice_id,
    ),
)
