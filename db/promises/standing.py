"""Promise 10: where an invoice stands is what all its money says, computed again by the rules that decided it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, literal, select

from contracts.evidence import TransactionKind
from contracts.statuses import OPEN_ATTEMPTS, AttemptState, InvoiceStatus, LinkState
from db.exceptions import BY_WORD_OF_A_PERSON
from db.invoices import flags_of
from db.promises.base import Bounds, Check, Finding, Suspect, broken_where, named
from db.schema import attempts, exceptions, invoices, links, tombstones, transactions, verdicts
from db.tx import Tx
from rules.policy import LinkPolicy
from rules.verdicts import (
    MONEY_REASONS,
    REVIEW_REASONS,
    InvoiceView,
    Money,
    Reason,
    Standing,
    link_then,
    stand,
    still_accepted,
)

_LESSER = (
    InvoiceStatus.PENDING.value,
    InvoiceStatus.FAILED.value,
    InvoiceStatus.EXPIRED.value,
    InvoiceStatus.CANCELLED.value,
)
_BETWEEN_TRIES = {InvoiceStatus.PENDING, InvoiceStatus.FAILED}


@dataclass(slots=True)
class _Facts:
    """All that decides about one invoice."""

    links: list[Row[Any]] = field(default_factory=list)  # oldest first
    attempts: list[Row[Any]] = field(default_factory=list)  # oldest first
    money: list[Row[Any]] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)  # of its open exceptions
    accepted: dict[str, datetime] = field(default_factory=dict)  # what a person took as it is, and when
    cancelled_at: datetime | None = None  # for the version that is wanted


def _stands_elsewhere(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
    """Invoices whose row says something else than their money does."""
    rows = tx.execute(select(invoices).where(within)).all()
    facts = _facts_of(tx, [row.id for row in rows])
    for row in rows:
        standing, status = _computed(row, facts[row.id])
        for what in _differences(row, facts[row.id], standing, status):
            yield Suspect((row.id,), named(invoices, (row.id,)), what, row.id)


def _facts_of(tx: Tx, ids: Sequence[str]) -> dict[str, _Facts]:
    facts: dict[str, _Facts] = defaultdict(_Facts)
    for row in tx.execute(select(links).where(links.c.invoice_id.in_(ids)).order_by(links.c.number)):
        facts[row.invoice_id].links.append(row)
    of_attempts = select(attempts.c.invoice_id, attempts.c.state).where(attempts.c.invoice_id.in_(ids))
    for row in tx.execute(of_attempts.order_by(attempts.c.id)):
        facts[row.invoice_id].attempts.append(row)
    of_money = select(transactions, attempts.c.link_id).join(attempts, attempts.c.id == transactions.c.attempt_id)
    for row in tx.execute(of_money.where(transactions.c.invoice_id.in_(ids))):
        facts[row.invoice_id].money.append(row)
    for row in tx.execute(select(exceptions).where(exceptions.c.invoice_id.in_(ids)).order_by(exceptions.c.id)):
        if row.state == "open":
            facts[row.invoice_id].reasons.add(row.reason)
        elif row.resolution == BY_WORD_OF_A_PERSON:
            facts[row.invoice_id].accepted[row.reason] = row.closed_at
    same = (
        tombstones.c.crm == invoices.c.crm,
        tombstones.c.payable_type == invoices.c.payable_type,
        tombstones.c.external_id == invoices.c.external_id,
        tombstones.c.cancelled_through >= invoices.c.version,
    )
    ends = select(invoices.c.id, tombstones.c.created_at).join_from(invoices, tombstones, and_(*same))
    for row in tx.execute(ends.where(invoices.c.id.in_(ids))):
        facts[row.id].cancelled_at = row.created_at
    return facts


def _computed(invoice: Row[Any], facts: _Facts) -> tuple[Standing, InvoiceStatus]:
    standing = stand(_view(invoice, facts), _money(facts))
    if standing.is_settled or not facts.reasons & REVIEW_REASONS:
        return standing, standing.status
    return standing, InvoiceStatus.MANUAL_REVIEW


def _view(invoice: Row[Any], facts: _Facts) -> InvoiceView:
    newest = facts.links[-1] if facts.links else None
    return InvoiceView(
        amount_minor=invoice.amount_minor,
        currency=invoice.currency,
        cancelled_at=facts.cancelled_at,
        policy=LinkPolicy.kept(newest.policy) if newest is not None else LinkPolicy(),
        link=LinkState(newest.state) if newest else None,
        any_open_attempt=any(AttemptState(one.state) in OPEN_ATTEMPTS for one in facts.attempts),
        last_attempt=AttemptState(facts.attempts[-1].state) if facts.attempts else None,
        settled_elsewhere_at=invoice.settled_elsewhere_at,
        accepted=still_accepted(facts.accepted, max((row.created_at for row in facts.money), default=None)),
    )


def _money(facts: _Facts) -> Iterator[Money]:
    by_id = {link.id: link for link in facts.links}
    for row in facts.money:
        link = by_id.get(row.link_id)
        if link is not None:
            yield Money(
                kind=TransactionKind(row.kind),
                amount_minor=row.amount_minor,
                currency=row.currency,
                occurred_at=row.occurred_at,
                attempt_id=row.attempt_id,
                link_was=link_then(LinkState(link.state), link.closed_at, row.occurred_at),
                link_expires_at=link.expires_at,
                link_current=link is facts.links[-1],
                link_id=link.id,
            )


def _differences(invoice: Row[Any], facts: _Facts, standing: Standing, status: InvoiceStatus) -> Iterator[str]:
    if invoice.status != status and not _is_between_tries(invoice, facts, status):
        yield f"is {invoice.status}, and its money and links say {status}"
    if set(flags_of(invoice)) != set(standing.flags):
        yield f"has the flags {sorted(flags_of(invoice))}, and its money says {sorted(standing.flags)}"
    untold = standing.reasons - {Reason(reason) for reason in facts.reasons}
    if untold:
        yield f"its money is odd ({', '.join(sorted(untold))}), and no exception is open"
    stale = ({Reason(reason) for reason in facts.reasons} & MONEY_REASONS) - standing.reasons
    if stale:
        yield f"an exception is open ({', '.join(sorted(stale))}) that its money does not bear out"


def _is_between_tries(invoice: Row[Any], facts: _Facts, status: InvoiceStatus) -> bool:
    """The customer just pressed Pay again: the word is written when the provider's order opens."""
    reserved = any(one.state == AttemptState.RESERVED.value for one in facts.attempts)
    return reserved and {invoice.status, status} <= _BETWEEN_TRIES


MONOTONE = (
    Check(10, "invoices", invoices, _stands_elsewhere),
    broken_where(
        10,
        "invoices",
        invoices,
        lambda _: and_(
            invoices.c.status.in_(_LESSER),
            exists(literal(1)).where(
                verdicts.c.invoice_id == invoices.c.id,
                verdicts.c.status.in_((InvoiceStatus.PAID.value, InvoiceStatus.REFUNDED.value)),
            ),
        ),
        "was paid by a verdict, and is {0} now",
        invoices.c.status,
        invoice=invoices.c.id,
    ),
)
