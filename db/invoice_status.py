"""What a CRM may ask about one of its invoices: where it stands, its link, and what went wrong last.

An invoice that was accepted a moment ago is still a message; it is answered for as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, func, select

from contracts.base import key_of
from contracts.messages import InvoiceCreated
from contracts.statuses import AttemptState
from db import invoices, links
from db.schema import attempts, exceptions, message_attempts, messages
from db.tx import Tx

_FAILED_ATTEMPTS = (AttemptState.FAILED.value, AttemptState.EXPIRED.value, AttemptState.UNKNOWN.value)


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest trouble that is not over, in words that are safe to show."""

    source: Literal["message", "attempt", "exception"]
    code: str
    detail: str
    at: datetime
    is_final: bool  # nothing more happens by itself: a person decides


@dataclass(frozen=True, slots=True)
class InvoiceStatusView:
    """`invoice` is None while only its message is there."""

    request_id: str
    invoice: Row[Any] | None
    link: Row[Any] | None
    last_error: LastError | None


def of(tx: Tx, crm: str, payable_type: str, external_id: str) -> InvoiceStatusView | None:
    """Return what is known of an invoice, or None when it never came."""
    asked_for = key_of(crm, payable_type, external_id)
    invoice = invoices.find(tx, crm, external_id, payable_type)
    if invoice is None:
        arrived = _arrived(tx, asked_for)
        return arrived and InvoiceStatusView(arrived.request_id, None, None, _last_error(tx, [asked_for], None))
    error = _last_error(tx, [asked_for, invoice.id], invoice.id)
    return InvoiceStatusView(invoice.request_id, invoice, links.newest(tx, invoice.id), error)


def _arrived(tx: Tx, subject: str) -> Row[Any] | None:
    found = select(messages.c.request_id).where(messages.c.subject == subject, messages.c.type == InvoiceCreated.TYPE)
    return tx.execute(found.order_by(messages.c.created_at.desc()).limit(1)).first()


def _last_error(tx: Tx, subjects: Sequence[str], invoice_id: str | None) -> LastError | None:
    found = [_of_messages(tx, subjects)]
    if invoice_id is not None:
        found += [_of_newest_attempt(tx, invoice_id), _of_exceptions(tx, invoice_id)]
    return max((error for error in found if error is not None), key=lambda error: error.at, default=None)


def _of_messages(tx: Tx, subjects: Sequence[str]) -> LastError | None:
    """Return the newest failure among messages that are still being tried, or gave up."""
    last_try = (
        select(func.max(message_attempts.c.ended_at))
        .where(message_attempts.c.message_id == messages.c.id, message_attempts.c.error_class.is_not(None))
        .scalar_subquery()
    )
    at = func.coalesce(last_try, messages.c.created_at, type_=messages.c.created_at.type).label("at")
    failing = (
        select(messages.c.type, messages.c.state, messages.c.error_class, messages.c.error, at)
        .where(messages.c.subject.in_(subjects), messages.c.error_class.is_not(None))
        .order_by(at.desc())
        .limit(1)
    )
    row = tx.execute(failing).first()
    if row is None:
        return None
    return LastError("message", row.error_class, f"{row.type}: {row.error}", row.at, row.state == "dead")


def _of_newest_attempt(tx: Tx, invoice_id: str) -> LastError | None:
    """Return what ended the newest payment attempt; an older one's trouble is over."""
    newest = select(attempts).where(attempts.c.invoice_id == invoice_id).order_by(attempts.c.id.desc()).limit(1)
    row = tx.execute(newest).first()
    if row is None or row.error is None or row.state not in _FAILED_ATTEMPTS:
        return None
    return LastError("attempt", row.state, row.error, row.ended_at or row.created_at, False)


def _of_exceptions(tx: Tx, invoice_id: str) -> LastError | None:
    newest = select(exceptions).where(exceptions.c.invoice_id == invoice_id, exceptions.c.state == "open")
    row = tx.execute(newest.order_by(exceptions.c.created_at.desc()).limit(1)).first()
    return row and LastError("exception", row.reason, row.detail, row.created_at, True)
