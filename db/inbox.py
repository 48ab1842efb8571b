"""The inbox of money that is nobody's: orders at a provider that brought money and belong to no invoice of ours.

An entry is open until a person assigns it to an invoice or the money went back. Nothing is ever guessed: candidates are
shown, a person decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.evidence import Evidence
from contracts.ids import new_id
from contracts.messages import MoneyUnmatched
from contracts.statuses import AttemptState, InvoiceStatus
from db import audit, ledger, refunds
from db.schema import attempts, invoices, transactions, unmatched
from db.tx import Tx
from db.types import db_now
from rules.verdicts import UNMATCHED

OPEN, ASSIGNED, REFUNDED = "open", "assigned", "refunded"
_MAY_STILL_BE_PAID = (
    InvoiceStatus.PENDING.value,
    InvoiceStatus.FAILED.value,
    InvoiceStatus.EXPIRED.value,
    InvoiceStatus.CANCELLED.value,
    InvoiceStatus.MANUAL_REVIEW.value,
)
MAX_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """An invoice that the money may be for, and what speaks for it."""

    invoice: Row[Any]
    because: tuple[str, ...]


def keep(tx: Tx, account: str, evidence: Evidence, *, message_id: str) -> Row[Any]:
    """Keep an order of nobody with its money; an order that is known already gets what is new."""
    into = postgres_insert(unmatched) if tx.is_postgres else sqlite_insert(unmatched)
    facts = {"evidence": evidence.model_dump_json(exclude={"provider_request_id"}), "message_id": message_id}
    made = into.values(
        id=new_id(),
        account=account,
        reference=evidence.reference,
        provider_order_id=evidence.provider_order_id,
        rule_id=UNMATCHED.rule_id,
        state=OPEN,
        request_id=tx.cause.request_id,
        **facts,
    ).on_conflict_do_update(index_elements=["account", "provider_order_id"], set_=facts)
    entry = tx.execute(made.returning(*unmatched.c)).one()
    ledger.record(
        tx,
        account,
        evidence.transactions,
        invoice_id=None,
        attempt_id=None,
        unmatched_id=entry.id,
        proof=evidence.proof,
    )
    is_new = entry.message_id == message_id and not _is_written(tx, entry)
    if is_new:
        _announce(tx, entry)
    settle(tx, entry.id)
    return entry


def _is_written(tx: Tx, entry: Row[Any]) -> bool:
    return any(row.action == "money.unmatched" for row in audit.of_subject(tx, entry.id))


def _announce(tx: Tx, entry: Row[Any]) -> None:
    audit.write(
        tx,
        actor="paylinks",
        action="money.unmatched",
        subject=entry.id,
        account=entry.account,
        order=entry.provider_order_id,
    )
    for currency, left in sorted(refunds.left_of_unmatched(tx, entry.id).items()):
        if left > 0:
            tx.then(
                MoneyUnmatched(
                    unmatched=entry.id,
                    account=entry.account,
                    provider_order_id=entry.provider_order_id,
                    amount_minor=left,
                    currency=currency,
                    request_id=entry.request_id,
                )
            )
            return


def settle(tx: Tx, entry_id: str) -> None:
    """Close an entry whose money went back, and open one again whose money did not."""
    kept = select(transactions.c.id).where(transactions.c.unmatched_id == entry_id)
    is_there = tx.execute(kept.limit(1)).first() is not None
    gone = is_there and not any(left > 0 for left in _left_in_the_books(tx, entry_id).values())
    of = update(unmatched).where(unmatched.c.id == entry_id)
    if gone:
        tx.execute(of.where(unmatched.c.state == OPEN).values(state=REFUNDED, closed_at=db_now()))
    else:
        tx.execute(of.where(unmatched.c.state == REFUNDED).values(state=OPEN, closed_at=None))


def _left_in_the_books(tx: Tx, entry_id: str) -> dict[str, int]:
    rows = tx.execute(
        select(transactions.c.currency, refunds.captured_less_returned().label("left"))
        .where(transactions.c.unmatched_id == entry_id, transactions.c.invoice_id.is_(None))
        .group_by(transactions.c.currency)
    )
    return {row.currency: int(row.left) for row in rows}


def find(tx: Tx, entry_id: str) -> Row[Any] | None:
    """Return one entry, or None."""
    return tx.execute(select(unmatched).where(unmatched.c.id == entry_id)).first()


def lock(tx: Tx, entry_id: str) -> Row[Any] | None:
    """Lock one entry, after the invoice that it is assigned to, and return it; None: there is none."""
    return tx.execute(select(unmatched).where(unmatched.c.id == entry_id).with_for_update()).first()


def listed(tx: Tx, *, every: bool = False, limit: int = 200) -> list[Row[Any]]:
    """Return the entries, oldest first: those that wait for a person, or all."""
    found = select(unmatched).order_by(unmatched.c.id).limit(limit)
    return list(tx.execute(found if every else found.where(unmatched.c.state == OPEN)).all())


def count_open(tx: Tx) -> int:
    """Return how many entries wait for a person."""
    found = select(func.count()).select_from(unmatched).where(unmatched.c.state == OPEN)
    return int(tx.execute(found).scalar_one())


def money_of(tx: Tx, entry_id: str) -> Sequence[Row[Any]]:
    """Return an entry's transactions, oldest first."""
    found = select(transactions).where(transactions.c.unmatched_id == entry_id)
    return tx.execute(found.order_by(transactions.c.occurred_at, transactions.c.id)).all()


def candidates(tx: Tx, entry: Row[Any]) -> list[Candidate]:
    """Return invoices that the money may be for, those first that the order names. A person decides."""
    found: dict[str, Candidate] = {}
    named = invoices.c.external_id.in_(_words(entry.reference) | _words(entry.provider_order_id))
    for row in tx.execute(select(invoices).where(named).limit(MAX_CANDIDATES)):
        found[row.id] = Candidate(row, ("the order names it",))
    for currency, left in _left_in_the_books(tx, entry.id).items():
        rest = invoices.c.amount_minor - invoices.c.paid_minor + invoices.c.refunded_minor
        fits = (invoices.c.currency == currency, or_(invoices.c.amount_minor == left, rest == left))
        open_ = invoices.c.status.in_(_MAY_STILL_BE_PAID)
        same = select(invoices).where(*fits, open_).order_by(invoices.c.id.desc()).limit(MAX_CANDIDATES)
        for row in tx.execute(same):
            known = found.get(row.id)
            found[row.id] = Candidate(row, (*(known.because if known else ()), "it asks for this amount"))
    return sorted(found.values(), key=lambda one: -len(one.because))[:MAX_CANDIDATES]


def _words(text: str) -> set[str]:
    """Return what an invoice's id may look like inside an order's name."""
    return {text, *text.replace("_", " ").replace(":", " ").replace("/", " ").split()}


def assign(tx: Tx, entry: Row[Any], link: Row[Any]) -> Row[Any] | None:
    """Make the order an attempt of an invoice's link; the caller holds the invoice's lock and asks the provider again.

    None: an attempt of the account has this reference already, so nobody can tell the two apart.
    """
    same = (attempts.c.account == entry.account, attempts.c.reference == entry.reference)
    if tx.execute(select(attempts.c.id).where(*same)).first() is not None:
        return None
    number = select(func.coalesce(func.max(attempts.c.number), 0) + 1).where(attempts.c.link_id == link.id)
    made = insert(attempts).values(
        id=new_id(),
        invoice_id=link.invoice_id,
        link_id=link.id,
        number=number.scalar_subquery(),
        account=entry.account,
        reference=entry.reference,
        provider_order_id=entry.provider_order_id,
        # Money may still arrive after this end, and does: the provider's answer makes it paid.
        state=AttemptState.CLOSED.value,
        amount_minor=link.amount_minor,
        currency=link.currency,
        error="assigned by a person",
        ended_at=db_now(),
        unmatched_id=entry.id,
    )
    attempt = tx.execute(made.returning(*attempts.c)).one()
    closed = update(unmatched).where(unmatched.c.id == entry.id)
    tx.execute(closed.values(state=ASSIGNED, invoice_id=link.invoice_id, closed_at=db_now()))
    return attempt
