"""Promises 4 and 5: paid means proven, and money in equals money explained."""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, func, literal, or_, select

from contracts.evidence import TransactionKind
from contracts.messages import AttemptCheck, AttemptHold, ProviderEventReceived
from contracts.statuses import AttemptState, InvoiceStatus
from db.exceptions import BY_WORD_OF_A_PERSON
from db.promises.base import broken_where
from db.refunds import captured_less_returned
from db.schema import (
    attempts,
    audit,
    exceptions,
    invoices,
    links,
    message_history,
    messages,
    refunds,
    transactions,
    unmatched,
    verdicts,
)
from rules.refunds import HOLDING
from rules.verdicts import Reason

_CAPTURE = TransactionKind.CAPTURE.value
_RETURNS = (TransactionKind.REFUND.value, TransactionKind.REVERSAL.value)


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


def _a_person_took_the_part() -> ColumnElement[bool]:
    """True where somebody said that the part is enough."""
    return exists(literal(1)).where(
        exceptions.c.invoice_id == invoices.c.id,
        exceptions.c.reason == Reason.PARTIAL.value,
        exceptions.c.resolution == BY_WORD_OF_A_PERSON,
    )


# What asks the provider what happened, or reads its signed word.
_VERIFY = (AttemptCheck.TYPE, AttemptHold.TYPE, ProviderEventReceived.TYPE)


def _verified_in(message_id: ColumnElement[Any]) -> ColumnElement[bool]:
    live = exists(literal(1)).where(messages.c.id == message_id, messages.c.type.in_(_VERIFY))
    ended = exists(literal(1)).where(message_history.c.id == message_id, message_history.c.type.in_(_VERIFY))
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


def _lies_in_the_inbox() -> ColumnElement[bool]:
    """True where a transaction of nobody has its entry, and the trail says so."""
    return exists(literal(1)).where(
        unmatched.c.id == transactions.c.unmatched_id,
        unmatched.c.account == transactions.c.account,
        exists(literal(1)).where(audit.c.action == "money.unmatched", audit.c.subject == unmatched.c.id),
    )


def _kept_of_nobody() -> ColumnElement[bool]:
    """True where money of an entry is still with the merchant, in some currency, and is no invoice's."""
    captured = func.sum(case((transactions.c.kind == _CAPTURE, transactions.c.amount_minor), else_=0))
    returned = func.sum(case((transactions.c.kind != _CAPTURE, transactions.c.amount_minor), else_=0))
    return exists(
        select(literal(1))
        .where(transactions.c.unmatched_id == unmatched.c.id, transactions.c.invoice_id.is_(None))
        .group_by(transactions.c.currency)
        .having(captured > returned)
    )


def _refunds_exceed() -> ColumnElement[bool]:
    """True where what went back by one order, and what is about to, is more than what came by it.

    A refund that the books show before its answer is written here is not counted twice.
    """
    mine = (transactions.c.attempt_id == refunds.c.attempt_id, transactions.c.currency == refunds.c.currency)
    is_of_another = exists(literal(1)).where(
        _other_refund.c.account == transactions.c.account,
        _other_refund.c.provider_transaction_id == transactions.c.provider_transaction_id,
    )
    may_be_it = and_(
        transactions.c.kind == TransactionKind.REFUND.value,
        transactions.c.created_at >= refunds.c.created_at,
        ~is_of_another,
    )
    left = select(func.coalesce(captured_less_returned(), 0)).where(*mine, ~may_be_it).scalar_subquery()
    same = (_other_refund.c.attempt_id == refunds.c.attempt_id, _other_refund.c.currency == refunds.c.currency)
    held = select(func.coalesce(func.sum(_other_refund.c.amount_minor), 0)).where(
        *same, _other_refund.c.state.in_(_HOLDING)
    )
    return and_(refunds.c.attempt_id.is_not(None), held.scalar_subquery() > left)


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
            or_(_sum(_CAPTURE) == 0, ~or_(_accepts_a_part(), _a_person_took_the_part())),
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
_other_refund = refunds.alias()
_HOLDING = tuple(state.value for state in HOLDING)

EXPLAINED = (
    broken_where(
        5,
        "transactions",
        transactions,
        lambda _: and_(transactions.c.invoice_id.is_(None), ~_lies_in_the_inbox()),
        "{0} {1} of {2} belongs to no invoice, and lies in no inbox that somebody was told of",
        transactions.c.kind,
        transactions.c.provider_transaction_id,
        transactions.c.account,
    ),
    broken_where(
        5,
        "inbox",
        unmatched,
        lambda _: and_(unmatched.c.state != "open", _kept_of_nobody()),
        "is {0}, and its money is still nobody's",
        unmatched.c.state,
    ),
    broken_where(
        5,
        "refunds",
        refunds,
        lambda _: _refunds_exceed(),
        "with it more would go back than came by its order {0}",
        refunds.c.provider_order_id,
        invoice=refunds.c.invoice_id,
    ),
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
