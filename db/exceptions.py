"""Exceptions: cases that no rule may close alone. At most one open per invoice and reason, by a unique index."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, or_, select, update

from contracts.ids import new_id
from contracts.messages import ExceptionCleared, ExceptionRaised
from db.hot import Hot
from db.schema import exceptions
from db.tx import Tx
from db.types import Word, constant, db_now

_OPEN = constant("open")
# How an exception ended that a person closed by saying so; others end when their reason does.
BY_WORD_OF_A_PERSON = "by_word"

_OPEN_REASONS = Hot(
    select(exceptions.c.reason).where(exceptions.c.invoice_id == bindparam("of_invoice"), exceptions.c.state == _OPEN)
)
_OPEN_AND_ACCEPTED = Hot(
    select(exceptions.c.reason, exceptions.c.state, exceptions.c.closed_at)
    .where(
        exceptions.c.invoice_id == bindparam("of_invoice"),
        or_(exceptions.c.state == _OPEN, exceptions.c.resolution == constant(BY_WORD_OF_A_PERSON)),
    )
    .order_by(exceptions.c.id)
)
_CLOSE = Hot(
    update(exceptions)
    .where(
        exceptions.c.invoice_id == bindparam("of_invoice"),
        exceptions.c.reason == bindparam("of_reason"),
        exceptions.c.state == _OPEN,
    )
    .values(state="closed", closed_at=db_now(), resolution=bindparam("how", type_=Word))
    .returning(exceptions.c.id, exceptions.c.episode)
)


def open_reasons(tx: Tx, invoice_id: str) -> set[str]:
    """Return the reasons that are open now."""
    return {row.reason for row in _OPEN_REASONS.rows(tx, of_invoice=invoice_id)}


@dataclass(frozen=True, slots=True)
class Cases:
    """The exceptions of an invoice that count: what is open, and what a person took as it is, and when last."""

    open: set[str]
    accepted: dict[str, datetime]


def cases(tx: Tx, invoice_id: str) -> Cases:
    """Return what is open, and what a person accepted."""
    rows = _OPEN_AND_ACCEPTED.rows(tx, of_invoice=invoice_id)
    return Cases(
        {row.reason for row in rows if row.state == "open"},
        {row.reason: row.closed_at for row in rows if row.state != "open"},
    )


def raise_(tx: Tx, invoice_id: str, reason: str, detail: str) -> bool:
    """Open an exception and ask for its task; False when it is open already. The caller holds the invoice's lock."""
    if reason in open_reasons(tx, invoice_id):
        return False
    same = (exceptions.c.invoice_id == invoice_id, exceptions.c.reason == reason)
    episode = int(tx.execute(select(func.coalesce(func.max(exceptions.c.episode), 0) + 1).where(*same)).scalar_one())
    exception_id = new_id()
    tx.execute(
        insert(exceptions).values(
            id=exception_id,
            invoice_id=invoice_id,
            reason=reason,
            episode=episode,
            state="open",
            detail=detail,
            request_id=tx.cause.request_id,
        )
    )
    tx.then(ExceptionRaised(invoice=invoice_id, exception=exception_id, reason=reason, episode=episode))
    return True


def clear(tx: Tx, invoice_id: str, reason: str, *, by_word: bool = False) -> bool:
    """Close an open exception and ask to close its task; False when none is open. `by_word`: a person said so."""
    how = BY_WORD_OF_A_PERSON if by_word else None
    row = _CLOSE.first(tx, of_invoice=invoice_id, of_reason=reason, how=how)
    if row is None:
        return False
    tx.then(ExceptionCleared(invoice=invoice_id, exception=row.id, reason=reason, episode=row.episode))
    return True


def lock(tx: Tx, exception_id: str) -> Row[Any]:
    """Lock one exception and return it."""
    return tx.execute(select(exceptions).where(exceptions.c.id == exception_id).with_for_update()).one()


def get(tx: Tx, exception_id: str) -> Row[Any]:
    """Return one exception."""
    return tx.execute(select(exceptions).where(exceptions.c.id == exception_id)).one()


def set_task(tx: Tx, exception_id: str, task_state: str, task_id: str | None = None) -> None:
    """Note the CRM's task: none, skipped, open or closed."""
    values = {"task_state": task_state} | ({"task_id": task_id} if task_id is not None else {})
    tx.execute(update(exceptions).where(exceptions.c.id == exception_id).values(**values))


def of_invoice(tx: Tx, invoice_id: str) -> list[Row[Any]]:
    """Return all exceptions of an invoice, oldest first."""
    found = select(exceptions).where(exceptions.c.invoice_id == invoice_id)
    return list(tx.execute(found.order_by(exceptions.c.id)).all())
