"""What is read to compare our books with those of providers and CRMs: orders, money, records, tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, exists, func, literal, select

from contracts.messages import (
    AttemptCheck,
    AttemptClose,
    CheckoutStart,
    CrmCheck,
    CrmUpdate,
    ExceptionCleared,
    ExceptionRaised,
    LinkCreate,
    ProviderEventReceived,
)
from contracts.statuses import AttemptState
from db.database import Database
from db.schema import attempts, exceptions, invoices, messages, transactions
from db.tx import Tx
from rules.verdicts import Reason

PORTION = 500
_ORDER_WORK = (AttemptCheck.TYPE, AttemptClose.TYPE, CheckoutStart.TYPE, LinkCreate.TYPE)
_CRM_WORK = (CrmUpdate.TYPE, CrmCheck.TYPE)
_TASK_WORK = (ExceptionRaised.TYPE, ExceptionCleared.TYPE)


def _walk(database: Database, statement: Select[Any], key: Any) -> Iterator[Row[Any]]:
    """Give every row, in portions, with no transaction open while the caller asks somebody outside."""
    after = ""
    while True:
        with database.read() as tx:
            rows = tx.execute(statement.where(key > after).order_by(key).limit(PORTION)).all()
        yield from rows
        if len(rows) < PORTION:
            return
        after = rows[-1].id


def orders(database: Database, account: str) -> Iterator[Row[Any]]:
    """Give every attempt at an account, with its invoice's status."""
    found = select(attempts, invoices.c.status.label("invoice_status")).join(
        invoices, invoices.c.id == attempts.c.invoice_id
    )
    yield from _walk(database, found.where(attempts.c.account == account), attempts.c.id)


def records(database: Database, crm: str) -> Iterator[Row[Any]]:
    """Give every invoice of a CRM."""
    yield from _walk(database, select(invoices).where(invoices.c.crm == crm), invoices.c.id)


def tasks(database: Database, crm: str) -> Iterator[Row[Any]]:
    """Give every exception of a CRM's invoices."""
    found = select(exceptions).join(invoices, invoices.c.id == exceptions.c.invoice_id).where(invoices.c.crm == crm)
    yield from _walk(database, found, exceptions.c.id)


def first_attempt_at(tx: Tx, account: str) -> datetime | None:
    """Return when the first attempt at an account was made."""
    found: datetime | None = tx.execute(
        select(func.min(attempts.c.created_at)).where(attempts.c.account == account)
    ).scalar()
    return found


@dataclass(frozen=True, slots=True)
class Booked:
    """One movement of money as we keep it."""

    id: str
    amount_minor: int
    currency: str


def money(tx: Tx, account: str, since: datetime, until: datetime) -> dict[tuple[str, str], Booked]:
    """Return an account's money that moved in [since, until), by (kind, the provider's id)."""
    table = transactions.c
    found = select(table.id, table.kind, table.provider_transaction_id, table.amount_minor, table.currency).where(
        table.account == account, table.occurred_at >= since, table.occurred_at < until
    )
    return {
        (row.kind, row.provider_transaction_id): Booked(row.id, row.amount_minor, row.currency)
        for row in tx.execute(found)
    }


def is_being_asked(tx: Tx, account: str, reference: str) -> bool:
    """Tell whether a live message will ask the provider about an order, or an event about the account waits unread."""
    attempt = tx.execute(
        select(attempts.c.id, attempts.c.invoice_id).where(
            attempts.c.account == account, attempts.c.reference == reference
        )
    ).first()
    if attempt is not None and _lives(tx, attempt.invoice_id, _ORDER_WORK, attempt.id):
        return True
    return _lives(tx, account, (ProviderEventReceived.TYPE,))


def is_left_to_a_person(tx: Tx, attempt: Row[Any]) -> bool:
    """Tell whether a person was told that nobody knows what became of an attempt, and has not decided yet."""
    told = exists(literal(1)).where(
        exceptions.c.invoice_id == attempt.invoice_id,
        exceptions.c.reason == Reason.OUTCOME_UNKNOWN,
        exceptions.c.state == "open",
    )
    return attempt.state == AttemptState.UNKNOWN and bool(tx.execute(select(told)).scalar())


def is_being_written(tx: Tx, invoice_id: str) -> bool:
    """Tell whether a live message, or a dead letter, is about the CRM's record of an invoice."""
    return _lives(tx, invoice_id, _CRM_WORK)


def is_being_made(tx: Tx, exception: Row[Any]) -> bool:
    """Tell whether a live message, or a dead letter, is about the task of an exception."""
    return _lives(tx, exception.invoice_id, _TASK_WORK, exception.id)


def _lives(tx: Tx, subject: str, types: Sequence[str], naming: str = "") -> bool:
    found = exists(literal(1)).where(
        messages.c.subject == subject, messages.c.type.in_(types), messages.c.payload.contains(naming)
    )
    return bool(tx.execute(select(found)).scalar())
