"""The audit trail: who did what, when and why. Rows are only ever added; the database refuses to change them."""

import json
from typing import Any

from sqlalchemy import Row, bindparam, insert, select

from contracts.ids import new_id
from db.hot import Hot
from db.schema import audit
from db.tx import Tx

_WRITE = Hot(
    insert(audit)
    .values(
        id=bindparam("new_id"),
        actor=bindparam("the_actor"),
        action=bindparam("the_action"),
        subject=bindparam("the_subject"),
        reason=bindparam("the_reason"),
        request_id=bindparam("the_request"),
        detail=bindparam("the_detail"),
    )
    .returning(audit.c.id)
)


def write(tx: Tx, *, actor: str, action: str, subject: str, reason: str = "", **detail: Any) -> None:
    """Add one row in the transaction of the deed. No personal data in `detail`."""
    _WRITE.rows(
        tx,
        new_id=new_id(),
        the_actor=actor,
        the_action=action,
        the_subject=subject,
        the_reason=reason,
        the_request=tx.cause.request_id,
        the_detail=json.dumps(detail, ensure_ascii=False, sort_keys=True),
    )


def of_subject(tx: Tx, *subjects: str) -> list[Row[Any]]:
    """Return what was done to these, oldest first."""
    found = select(audit).where(audit.c.subject.in_(subjects))
    return list(tx.execute(found.order_by(audit.c.created_at, audit.c.id)).all())
