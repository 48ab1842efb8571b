"""Promises 4 and 5: paid means proven, and money in equals money explained."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, func, literal, or_, select

from contracts.catalog import Queue
from contracts.evidence import TransactionKind
from contracts.statuses import AttemptState, InvoiceStatus
from db.promises.base import Bounds, Check, Finding, Suspect, broken_where, named
from db.schema import attempts, audit, invoices, links, message_history, messages, transactions, verdicts
from db.tx import Tx

_CAPTURE = TransactionKind.CAPTURE.value
_RETURNS = (TransactionKind.REFUND.value, TransactionKind.REVERSAL.value)
# The audit row is written right after the money, in the same transaction.
_TOGETHER = timedelta(minutes=1)


def _sum(*kinds: str) -> ColumnElement[int]:
    """Sum the invoice's money of these kinds in its own currency."""
    total = select(func.coalesce(func.sum(transactions.c.amount_minor), 0)).where(
        transactions.c.invoice_id == invoices.c.id,
        transactions.c.kind.in_(kinds),
        transactions.c.currency == invoices.c.currency,
    )
    return total.scalar_subquery()


def _accepts_a_part() -> ColumnElement[bool]:
    """True where the policy of one of the invoice's links lets a part settle it."""
    return exists(literal(1)).where(
        links.c.invoice_id == invoices.c.id, links.c.policy.contains('"partial":"accept"', autoescape=True)
    )


def _verified_in(message_id: ColumnElement[Any]) -> ColumnElement[bool]:
    queue = Queue.WEBHOOK_VERIFICATION.value
    live = exists(literal(1)).where(messages.c.id == message_id, messages.c.queue == queue)
    ended = exists(literal(1)).where(message_history.c.id == message_id, message_history.c.queue == queue)
    return or_(live, ended)


def _returned_more() -> ColumnElement[bool]:
    """True where, in some currency, more went back than came."""
    returned = func.sum(case((transactions.c.kind.in_(_RETURNS), transactions.c.amount_minor), else_=0))
    captured = func.sum(case((transactions.c.kind == _CAPTURE, transactions.c.amount_minor), else_=0))
    return exists(
        select(literal(1))
        .where(transactions.c.invoice_id == invoices.c.id)
        .group_by(transactions.c.currency)
        .having(returned > captured)
    )


def _unmatched_in_silence(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
    """Money of nobody without the audit row that was written with it."""
    table = transactions.c
    columns = (table.id, table.account, table.kind, table.provider_transaction_id, table.created_at)
    lone = tx.execute(select(*columns).where(within, table.invoice_id.is_(None))).all()
    for row in lone:
        said = select(audit.c.id).where(
            audit.c.action == "money.unmatched",
            audit.c.subject == row.account,
            audit.c.created_at.between(row.created_at - _TOGETHER, row.created_at + _TOGETHER),
        )
        if tx.execute(said.limit(1)).first() is None:
            what = f"{row.kind} {row.provider_transaction_id} of {row.account} belongs to no invoice; nothing says so"
            yield Suspect((row.id,), named(transactions, (row.id,)), what)


def _is_settled_elsewhere() -> ColumnElement[bool]:
    """True where a person said that it was paid past the link, and the trail says who."""
    return and_(
        invoices.c.settled_elsewhere_at.is_not(None),
        exists(literal(1)).where(
            audit.c.action == "invoice.settled_elsewhere", audit.c.subject == invoices.c.id, audit.c.reason != ""
        ),
    )


PROVEN = (
    broken_where(
        4,
        "invoices",
        invoices,
        lambda _: and_(
            invoices.c.status == InvoiceStatus.PAID.value,
            _sum(_CAPTURE) < invoices.c.amount_minor,
            or_(_sum(_CAPTURE) == 0, ~_accepts_a_part()),
            ~_is_settled_elsewhere(),
        ),
        "is paid, and captures prove {0} of {1} (minor units)",
        _sum(_CAPTURE),
        invoices.c.amount_minor,
        invoice=invoices.c.id,
    ),
    broken_where(
        4,
        "invoices",
        invoices,
        lambda _: and_(
            or_(
                invoices.c.status.in_((InvoiceStatus.PAID.value, InvoiceStatus.REFUNDED.value)),
                invoices.c.paid_minor > 0,
            ),
            ~exists(literal(1)).where(verdicts.c.invoice_id == invoices.c.id, verdicts.c.rule_id != ""),
            ~_is_settled_elsewhere(),
        ),
        "is {0}, and no rule decided so",
        invoices.c.status,
        invoice=invoices.c.id,
    ),
    broken_where(
        4,
        "transactions",
        transactions,
        lambda _: and_(
            transactions.c.kind == _CAPTURE,
            transactions.c.invoice_id.is_not(None),
            or_(
                ~exists(literal(1)).where(verdicts.c.attempt_id == transactions.c.attempt_id),
                ~exists(literal(1)).where(
                    attempts.c.id == transactions.c.attempt_id, attempts.c.state == AttemptState.PAID.value
                ),
            ),
        ),
        "its attempt {0} was never verified as paid",
        transactions.c.attempt_id,
        invoice=transactions.c.invoice_id,
    ),
    broken_where(
        4,
        "verdicts",
        verdicts,
        lambda _: or_(verdicts.c.rule_id == "", verdicts.c.message_id.is_(None), ~_verified_in(verdicts.c.message_id)),
        "rule {0} decided without a message that asked the provider",
        verdicts.c.rule_id,
        invoice=verdicts.c.invoice_id,
    ),
)

_again = transactions.alias()

EXPLAINED = (
    Check(5, "transactions", transactions, _unmatched_in_silence),
    broken_where(
        5,
        "transactions",
        transactions,
        lambda _: and_(
            transactions.c.invoice_id.is_not(None),
            ~exists(literal(1)).where(
                attempts.c.id == transactions.c.attempt_id, attempts.c.invoice_id == transactions.c.invoice_id
            ),
        ),
        "is booked on invoice {0}, and its attempt {1} is not that invoice's",
        transactions.c.invoice_id,
        transactions.c.attempt_id,
        invoice=transactions.c.invoice_id,
    ),
    broken_where(
        5,
        "transactions",
        transactions,
        lambda _: exists(literal(1)).where(
            _again.c.account == transactions.c.account,
            _again.c.kind == transactions.c.kind,
            _again.c.provider_transaction_id == transactions.c.provider_transaction_id,
            _again.c.id != transactions.c.id,
        ),
        "{0} {1} is booked twice",
        transactions.c.kind,
        transactions.c.provider_transaction_id,
        invoice=transactions.c.invoice_id,
    ),
    broken_where(
        5,
        "invoices",
        invoices,
        lambda _: _returned_more(),
        "more was given back than was captured",
        invoice=invoices.c.id,
    ),
    broken_where(
        5,
        "invoices",
        invoices,
        lambda _: or_(
            invoices.c.paid_minor != _sum(_CAPTURE),
            invoices.c.refunded_minor != _sum(*_RETURNS, TransactionKind.CHARGEBACK.value),
        ),
        "says paid {0}, given back {1}; its transactions say {2} and {3} (minor units)",
        invoices.c.paid_minor,
        invoices.c.refunded_minor,
        _sum(_CAPTURE),
        _sum(*_RETURNS, TransactionKind.CHARGEBACK.value),
        invoice=invoices.c.id,
    ),
)
