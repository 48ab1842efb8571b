"""Refunds: money that goes back, from the wish to the provider's answer."""

from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, exists, func, insert, or_, select, update

from contracts.evidence import TransactionKind
from contracts.ids import new_id
from contracts.messages import RefundMake
from db.schema import attempts, messages, refunds, transactions, unmatched
from db.tx import Tx
from db.types import db_now
from rules.refunds import HOLDING, UNDECIDED, Payment, RefundState

_OPEN = tuple(state.value for state in HOLDING)


def holds_money() -> ColumnElement[bool]:
    """True where a refund's money is spoken for: it is on its way, or done and not yet in the books."""
    booked = exists().where(
        transactions.c.account == refunds.c.account,
        transactions.c.kind == TransactionKind.REFUND.value,
        transactions.c.provider_transaction_id == refunds.c.provider_transaction_id,
    )
    return or_(refunds.c.state.in_(_OPEN), and_(refunds.c.state == RefundState.DONE.value, ~booked))


def captured_less_returned() -> ColumnElement[int]:
    """Sum transactions: what came, less what went back."""
    is_capture = transactions.c.kind == TransactionKind.CAPTURE.value
    return func.sum(case((is_capture, transactions.c.amount_minor), else_=-transactions.c.amount_minor))


def payments_of(tx: Tx, invoice_id: str) -> list[Payment]:
    """Return the invoice's payments, oldest first, with what is left of each."""
    rows = tx.execute(
        select(attempts, transactions.c.currency.label("of_currency"), captured_less_returned().label("left"))
        .join(transactions, transactions.c.attempt_id == attempts.c.id)
        .where(attempts.c.invoice_id == invoice_id)
        .group_by(*attempts.c, transactions.c.currency)
        .order_by(attempts.c.id, transactions.c.currency)
    ).all()
    held = _held(tx, refunds.c.invoice_id == invoice_id, refunds.c.attempt_id)
    return [
        Payment(
            attempt=row.id,
            account=row.account,
            reference=row.reference,
            provider_order_id=row.provider_order_id,
            currency=row.of_currency,
            left_minor=int(row.left) - held.get((row.id, row.of_currency), 0),
            names=_names(tx, row),
        )
        for row in rows
    ]


def _names(tx: Tx, attempt: Row[Any]) -> frozenset[str]:
    ids = tx.execute(select(transactions.c.provider_transaction_id).where(transactions.c.attempt_id == attempt.id))
    return frozenset({attempt.id, attempt.provider_order_id, *ids.scalars()})


def left_of_unmatched(tx: Tx, unmatched_id: str) -> dict[str, int]:
    """Return what is left of money of nobody, by currency."""
    rows = tx.execute(
        select(transactions.c.currency, captured_less_returned().label("left"))
        .where(transactions.c.unmatched_id == unmatched_id, transactions.c.invoice_id.is_(None))
        .group_by(transactions.c.currency)
    ).all()
    held = _held(tx, refunds.c.unmatched_id == unmatched_id, refunds.c.unmatched_id)
    return {row.currency: int(row.left) - held.get((unmatched_id, row.currency), 0) for row in rows}


def _held(tx: Tx, of: ColumnElement[bool], by: ColumnElement[Any]) -> dict[tuple[str, str], int]:
    found = select(by.label("whose"), refunds.c.currency, func.sum(refunds.c.amount_minor).label("held"))
    rows = tx.execute(found.where(of, holds_money()).group_by(by, refunds.c.currency))
    return {(row.whose, row.currency): int(row.held) for row in rows}


def create(
    tx: Tx, payment: Payment, *, invoice_id: str, amount_minor: int, state: RefundState, requested_by: str
) -> Row[Any]:
    """Keep a wish to give money back; the caller holds the invoice's lock and saw that so much is left."""
    return _insert(
        tx,
        invoice_id=invoice_id,
        attempt_id=payment.attempt,
        account=payment.account,
        reference=payment.reference,
        provider_order_id=payment.provider_order_id,
        amount_minor=amount_minor,
        currency=payment.currency,
        state=state.value,
        requested_by=requested_by,
    )


def create_for_unmatched(
    tx: Tx, entry: Row[Any], *, amount_minor: int, currency: str, state: RefundState, requested_by: str
) -> Row[Any]:
    """Keep a wish to give money of nobody back; the caller holds the entry's lock."""
    return _insert(
        tx,
        unmatched_id=entry.id,
        account=entry.account,
        reference=entry.reference,
        provider_order_id=entry.provider_order_id,
        amount_minor=amount_minor,
        currency=currency,
        state=state.value,
        requested_by=requested_by,
    )


def _insert(tx: Tx, **values: Any) -> Row[Any]:
    made = insert(refunds).values(id=new_id(), request_id=tx.cause.request_id, **values)
    return tx.execute(made.returning(*refunds.c)).one()


def find(tx: Tx, refund_id: str) -> Row[Any] | None:
    """Return one refund, or None."""
    return tx.execute(select(refunds).where(refunds.c.id == refund_id)).first()


def lock(tx: Tx, refund_id: str) -> Row[Any]:
    """Lock one refund, after what it is about, and return it."""
    found = find(tx, refund_id)
    if found is None:
        raise LookupError(f"no refund {refund_id}")
    if found.unmatched_id is not None:
        tx.execute(select(unmatched.c.id).where(unmatched.c.id == found.unmatched_id).with_for_update())
    return tx.execute(select(refunds).where(refunds.c.id == refund_id).with_for_update()).one()


def move(
    tx: Tx,
    refund_id: str,
    to: RefundState,
    *,
    decided_by: str | None = None,
    provider_transaction_id: str | None = None,
    error: str | None = None,
) -> None:
    """Move a refund; the caller holds its lock and saw where it stood."""
    is_over = to not in HOLDING
    values = {"state": to.value, "error": error, "ended_at": db_now() if is_over else None}
    if decided_by is not None:
        values["decided_by"] = decided_by
    if provider_transaction_id is not None:
        values["provider_transaction_id"] = provider_transaction_id
    tx.execute(update(refunds).where(refunds.c.id == refund_id).values(**values))


def is_undecided(tx: Tx, refund: Row[Any]) -> bool:
    """Tell whether a person decides: it waits for one, nobody knows what became of it, or nothing works on it any more.

    The last is one whose message gave up, or was discarded: else its money would be spoken for for ever.
    """
    if refund.state != RefundState.PENDING:
        return RefundState(refund.state) in UNDECIDED
    at_work = select(messages.c.id).where(
        messages.c.subject == (refund.invoice_id or refund.unmatched_id),
        messages.c.type == RefundMake.TYPE,
        messages.c.state != "dead",
        messages.c.payload.contains(refund.id),
    )
    return tx.execute(at_work.limit(1)).first() is None


def hold_unmatched(tx: Tx, unmatched_id: str) -> bool:
    """Tell whether money of nobody is spoken for by a refund."""
    return bool(_held(tx, refunds.c.unmatched_id == unmatched_id, refunds.c.unmatched_id))


def is_waiting(tx: Tx, invoice_id: str) -> bool:
    """Tell whether a refund of the invoice waits for a second person."""
    waiting = (refunds.c.invoice_id == invoice_id, refunds.c.state == RefundState.WAITING.value)
    return tx.execute(select(refunds.c.id).where(*waiting).limit(1)).first() is not None


def strangers(tx: Tx, refund: Row[Any]) -> set[str]:
    """Return the refund transactions of the same order that are surely not this refund.

    Those that another refund of ours is, and those that were in the books before it was wished.
    """
    others = select(refunds.c.provider_transaction_id).where(
        refunds.c.account == refund.account,
        refunds.c.id != refund.id,
        refunds.c.provider_transaction_id.is_not(None),
    )
    before = select(transactions.c.provider_transaction_id).where(
        transactions.c.account == refund.account,
        transactions.c.kind == TransactionKind.REFUND.value,
        transactions.c.created_at < refund.created_at,
        or_(
            transactions.c.attempt_id == refund.attempt_id,
            transactions.c.unmatched_id == refund.unmatched_id,
        ),
    )
    return {*tx.execute(others).scalars(), *tx.execute(before).scalars()}
