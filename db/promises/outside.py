"""Promises 3, 7 and 11 about what we do outside: orders, tasks, and the CRM's record."""

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_

from contracts.catalog import Queue
from contracts.messages import CrmCheck, CrmUpdate, ExceptionCleared, ExceptionRaised, RefundMake
from contracts.statuses import AttemptState
from db.promises.base import IN_A_PERSONS_HANDS, broken_where, is_live, older_than
from db.schema import attempts, audit, exceptions, intents, invoices, messages, refunds
from rules.holds import CANCEL_ORDER, HOLD_ORDER
from rules.refunds import RefundState
from rules.verdicts import Reason

_UNDECIDED = (AttemptState.RESERVED.value, AttemptState.UNKNOWN.value)
_STANDING = (AttemptState.OPEN.value, AttemptState.PROCESSING.value)
_CRM_IS_TOLD_BY_A_PERSON = (Reason.CRM_REFUSED.value, Reason.DEAD_LETTER.value)

_other_attempt = attempts.alias()
_other_exception = exceptions.alias()
_other_refund = refunds.alias()


def _has_open_exception(invoice_id: ColumnElement[str], *reasons: str) -> ColumnElement[bool]:
    return exists(literal(1)).where(
        exceptions.c.invoice_id == invoice_id, exceptions.c.state == "open", exceptions.c.reason.in_(reasons)
    )


def _undecided_attempt() -> ColumnElement[bool]:
    """The intent is about an attempt of which nobody knows yet, and no person was told."""
    return exists(literal(1)).where(
        attempts.c.id == intents.c.reference,
        attempts.c.state.in_(_UNDECIDED),
        ~_has_open_exception(attempts.c.invoice_id, *IN_A_PERSONS_HANDS),
    )


def _unsettled_order() -> ColumnElement[bool]:
    """The intent is to close an order, or to settle what it holds, and the order still stands as it did."""
    return and_(
        intents.c.operation.in_((CANCEL_ORDER, HOLD_ORDER)),
        exists(literal(1)).where(
            attempts.c.id == intents.c.reference,
            attempts.c.state.in_(_STANDING),
            ~_has_open_exception(attempts.c.invoice_id, *IN_A_PERSONS_HANDS),
        ),
    )


def _undecided_task() -> ColumnElement[bool]:
    """The intent is about a task that was never found."""
    return exists(literal(1)).where(
        _other_exception.c.id == intents.c.reference, _other_exception.c.task_state == "none"
    )


ONE_EFFECT = (
    broken_where(
        3,
        "attempts",
        attempts,
        lambda _: exists(literal(1)).where(
            _other_attempt.c.account == attempts.c.account,
            _other_attempt.c.id != attempts.c.id,
            or_(
                _other_attempt.c.provider_order_id == attempts.c.provider_order_id,
                _other_attempt.c.reference == attempts.c.reference,
            ),
        ),
        "shares the order {0} (reference {1}) with another attempt",
        attempts.c.provider_order_id,
        attempts.c.reference,
        invoice=attempts.c.invoice_id,
    ),
    broken_where(
        3,
        "intents",
        intents,
        lambda bounds: and_(
            intents.c.result.is_(None),
            older_than(intents.c.deadline, bounds.late_seconds),
            ~exists(literal(1)).where(messages.c.id == intents.c.message_id),
            or_(_undecided_attempt(), _unsettled_order(), _undecided_task()),
        ),
        "{0} of {1} may have happened: no message asks, and no person was told",
        intents.c.operation,
        intents.c.reference,
    ),
    broken_where(
        3,
        "exceptions",
        exceptions,
        lambda _: exists(literal(1)).where(
            _other_exception.c.id != exceptions.c.id,
            _other_exception.c.invoice_id == exceptions.c.invoice_id,
            or_(
                and_(
                    exceptions.c.state == "open",
                    _other_exception.c.state == "open",
                    _other_exception.c.reason == exceptions.c.reason,
                ),
                _other_exception.c.task_id == exceptions.c.task_id,
            ),
        ),
        "{0} of invoice {1} is open twice, or shares its task {2}",
        exceptions.c.reason,
        exceptions.c.invoice_id,
        exceptions.c.task_id,
        invoice=exceptions.c.invoice_id,
    ),
)

REFUNDS_FOLLOW = (
    broken_where(
        3,
        "refunds",
        refunds,
        lambda _: exists(literal(1)).where(
            _other_refund.c.id != refunds.c.id,
            _other_refund.c.account == refunds.c.account,
            _other_refund.c.provider_transaction_id == refunds.c.provider_transaction_id,
        ),
        "shares the transaction {0} with another refund",
        refunds.c.provider_transaction_id,
        invoice=refunds.c.invoice_id,
    ),
    broken_where(
        8,
        "refunds",
        refunds,
        lambda _: (
            ~exists(literal(1)).where(
                audit.c.action == "refund.asked",
                audit.c.subject == func.coalesce(refunds.c.invoice_id, refunds.c.unmatched_id),
                audit.c.detail.contains(refunds.c.id),
                audit.c.reason != "",
            )
        ),
        "nothing says who asked for it, and why",
        invoice=refunds.c.invoice_id,
    ),
    broken_where(
        11,
        "refunds",
        refunds,
        lambda bounds: and_(
            refunds.c.state == RefundState.PENDING.value,
            older_than(refunds.c.created_at, bounds.late_seconds),
            ~is_live(func.coalesce(refunds.c.invoice_id, refunds.c.unmatched_id), RefundMake.TYPE, naming=refunds.c.id),
        ),
        "is on its way, and nothing calls the provider",
        invoice=refunds.c.invoice_id,
    ),
    broken_where(
        11,
        "refunds",
        refunds,
        lambda _: and_(
            refunds.c.invoice_id.is_not(None),
            or_(
                and_(
                    refunds.c.state == RefundState.WAITING.value,
                    ~_has_open_exception(refunds.c.invoice_id, Reason.REFUND_WAITS.value),
                ),
                and_(
                    refunds.c.state == RefundState.UNKNOWN.value,
                    ~_has_open_exception(refunds.c.invoice_id, Reason.REFUND_FAILED.value),
                ),
            ),
        ),
        "is {0}, and no person was told",
        refunds.c.state,
        invoice=refunds.c.invoice_id,
    ),
)

THE_CRM_AGREES = (
    broken_where(
        7,
        "invoices",
        invoices,
        lambda _: or_(
            invoices.c.crm_revision > invoices.c.revision,
            and_(
                invoices.c.crm_revision < invoices.c.revision,
                ~is_live(invoices.c.id, CrmUpdate.TYPE, CrmCheck.TYPE),
                ~_has_open_exception(invoices.c.id, *_CRM_IS_TOLD_BY_A_PERSON),
            ),
        ),
        "its revision is {0}, the CRM has {1}, and nothing will tell it",
        invoices.c.revision,
        invoices.c.crm_revision,
        invoice=invoices.c.id,
    ),
)

TASKS_FOLLOW = (
    broken_where(
        11,
        "exceptions",
        exceptions,
        lambda bounds: and_(
            exceptions.c.state == "open",
            exceptions.c.task_state == "none",
            older_than(exceptions.c.created_at, bounds.late_seconds),
            ~is_live(exceptions.c.invoice_id, ExceptionRaised.TYPE, naming=exceptions.c.id),
        ),
        "{0} of invoice {1} is open, has no task, and will get none",
        exceptions.c.reason,
        exceptions.c.invoice_id,
        invoice=exceptions.c.invoice_id,
    ),
    broken_where(
        11,
        "exceptions",
        exceptions,
        lambda bounds: and_(
            exceptions.c.state == "closed",
            exceptions.c.task_state == "open",
            older_than(exceptions.c.closed_at, bounds.late_seconds),
            ~is_live(exceptions.c.invoice_id, ExceptionCleared.TYPE, naming=exceptions.c.id),
        ),
        "{0} of invoice {1} is over, and nothing closes its task {2}",
        exceptions.c.reason,
        exceptions.c.invoice_id,
        exceptions.c.task_id,
        invoice=exceptions.c.invoice_id,
    ),
    broken_where(
        11,
        "live messages",
        messages,
        lambda bounds: and_(
            messages.c.state == "dead",
            messages.c.queue != Queue.MANAGER_TASKS.value,
            older_than(messages.c.available_at, bounds.late_seconds),
            exists(literal(1)).where(invoices.c.id == messages.c.subject),
            ~_has_open_exception(messages.c.subject, Reason.DEAD_LETTER.value),
            # Where the CRM refused, the manager was told that and why.
            or_(
                messages.c.queue != Queue.CRM_UPDATE.value,
                ~_has_open_exception(messages.c.subject, Reason.CRM_REFUSED.value),
            ),
        ),
        "gave up on invoice {0} ({1}), and no person was told",
        messages.c.subject,
        messages.c.type,
        invoice=messages.c.subject,
    ),
)
