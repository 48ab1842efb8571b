"""When links were looked at, to the minute: good to know for support, and decisive for nothing."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.ids import new_id
from db.schema import link_views, links
from db.tx import Tx


def add(tx: Tx, seen: Iterable[tuple[str, datetime]]) -> None:
    """Note links and the minutes in which they were looked at; what another process noted before stays as it is."""
    insert = postgres_insert(link_views) if tx.is_postgres else sqlite_insert(link_views)
    # In one order, so that two processes cannot lock each other.
    rows = [{"id": new_id(), "link_id": link_id, "viewed_at": minute} for link_id, minute in sorted(seen)]
    tx.execute(insert.on_conflict_do_nothing(), rows)


def of_invoice(tx: Tx, invoice_id: str, *, limit: int) -> list[Row[Any]]:
    """Return the newest looks at an invoice's links, oldest first."""
    found = (
        select(link_views.c.viewed_at, links.c.id.label("link_id"), links.c.number, links.c.created_at)
        .join(links, links.c.id == link_views.c.link_id)
        .where(links.c.invoice_id == invoice_id)
        .order_by(link_views.c.viewed_at.desc())
        .limit(limit)
    )
    return list(reversed(tx.execute(found).all()))
