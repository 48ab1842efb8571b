"""The audit trail: who did what, when and why. Rows are only ever added; the database refuses to change them."""

import json
from typing import Any

from sqlalchemy import Row, insert, select

from contracts.ids import new_id
from db.schema import audit
from db.tx import Tx


def write(tx: Tx, *, actor: str, action: str, subject: str, reason: str = "", **detail: Any) -> None:
    """Add one row in the transaction of the deed. No personal data in `detail`."""
    tx.execute(
        insert(audit).values(
            id=new_id(),
            actor=actor,
            action=action,
            subject=subject,
            reason=reason,
            request_id=tx.cause.request_id,
            detail=json.dumps(detail, ensure_ascii=False, sort_keys=True),
        )
    )


def of_subject(tx: Tx, *subjects: str) -> list[Row[Any]]:
    """Return what was done to these, oldest first."""
    found = select(audit).where(audit.c.subject.in_(subjects))
    return list(tx.execute(found.order_by(audit.c.created_at, audit.c.id)).all())
