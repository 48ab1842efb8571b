"""Promise 8: who did what, and an audit trail that the database itself keeps from changes."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, literal, or_, select, text

from contracts.statuses import LinkState
from db.promises.base import Suspect, broken_where
from db.schema import api_keys, audit, links, message_history, rejections
from db.tx import Tx

# Deeds of persons: each says why.
_WITH_A_REASON = (
    *("message.retried", "message.discarded", "message.revealed", "api_key.revoked"),
    *("intake.replayed", "intake.discarded", "intake.shown"),
    *("link.resent", "link.reissued", "link.retried", "link.extended", "payment.verified"),
    *("invoice.marked", "exception.resolved", "invoice.settled_elsewhere", "money.assigned"),
    *("refund.asked", "refund.approved", "refund.rejected"),
    *("privacy.exported", "privacy.erased"),
)
_other_link = links.alias()


def _is_written(
    action: str | ColumnElement[str], subject: ColumnElement[Any], naming: ColumnElement[Any] | None = None
) -> ColumnElement[bool]:
    found = exists(literal(1)).where(audit.c.action == action, audit.c.subject == subject)
    return found if naming is None else found.where(audit.c.detail.contains(naming))


def _more_cancelled_than_written() -> ColumnElement[bool]:
    cancelled = select(func.count()).where(
        _other_link.c.invoice_id == links.c.invoice_id, _other_link.c.state == LinkState.CANCELLED.value
    )
    written = select(func.count()).where(audit.c.subject == links.c.invoice_id, audit.c.action == "link.cancelled")
    return cancelled.scalar_subquery() > written.scalar_subquery()


WRITTEN_DOWN = (
    broken_where(
        8,
        "links",
        links,
        lambda _: ~_is_written("link.created", links.c.invoice_id, links.c.id),
        "nothing says who made it",
        invoice=links.c.invoice_id,
    ),
    broken_where(
        8,
        "links",
        links,
        lambda _: and_(links.c.state == LinkState.CANCELLED.value, _more_cancelled_than_written()),
        "nothing says who cancelled it",
        invoice=links.c.invoice_id,
    ),
    broken_where(
        8,
        "links",
        links,
        lambda _: and_(
            links.c.state == LinkState.EXPIRED.value, ~_is_written("link.expired", links.c.invoice_id, links.c.id)
        ),
        "nothing says that its time was over",
        invoice=links.c.invoice_id,
    ),
    broken_where(
        8,
        "ended messages",
        message_history,
        lambda _: and_(
            message_history.c.outcome == "discarded",
            ~_is_written("message.discarded", message_history.c.subject, message_history.c.id),
        ),
        "nothing says who discarded it",
    ),
    broken_where(
        8,
        "rejections",
        rejections,
        lambda _: and_(
            rejections.c.state != "open", ~_is_written(literal("intake.") + rejections.c.state, rejections.c.id)
        ),
        "nothing says who {0} it",
        rejections.c.state,
    ),
    broken_where(
        8,
        "API keys",
        api_keys,
        lambda _: or_(
            ~_is_written("api_key.created", api_keys.c.id),
            and_(api_keys.c.revoked_at.is_not(None), ~_is_written("api_key.revoked", api_keys.c.id)),
        ),
        "nothing says who made or revoked it",
    ),
    broken_where(
        8,
        "audit rows",
        audit,
        lambda _: or_(
            audit.c.actor == "",
            audit.c.action == "",
            audit.c.subject == "",
            and_(audit.c.action.in_(_WITH_A_REASON), func.trim(audit.c.reason) == ""),
        ),
        "{0} lacks its actor, its subject or its reason",
        audit.c.action,
    ),
)

# --- the trail itself -----------------------------------------------------------------------------------------------

_TRIGGERS_POSTGRESQL = """
SELECT bool_or(tgtype & 16 > 0) AS "UPDATE", bool_or(tgtype & 8 > 0) AS "DELETE", bool_or(tgtype & 32 > 0) AS "TRUNCATE"
FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = to_regclass('audit') AND tgenabled IN ('O', 'A') AND proname = 'audit_refuse'
"""
_TRIGGERS_SQLITE = """
SELECT max(sql LIKE '%BEFORE UPDATE ON audit%') AS "UPDATE", max(sql LIKE '%BEFORE DELETE ON audit%') AS "DELETE",
       max(sql LIKE '%BEFORE INSERT ON audit%') AS "REPLACE"
FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit' AND sql LIKE '%RAISE(ABORT%'
"""


def unprotected(tx: Tx) -> Iterator[Suspect]:
    """Say which changes of the audit trail the database would let through."""
    guarded = tx.execute(text(_TRIGGERS_POSTGRESQL if tx.is_postgres else _TRIGGERS_SQLITE)).one()
    for change, is_refused in guarded._mapping.items():
        if not is_refused:
            yield Suspect((), "table audit", f"{change} is not refused: a trigger is missing or switched off")
