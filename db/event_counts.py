"""What became of the events that came for an account, counted by day (UTC): good to know, and decisive for nothing."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from db.schema import event_counts
from db.tx import Tx


def add(tx: Tx, counted: Mapping[tuple[str, str], int]) -> None:
    """Add to today's numbers; `counted` is (account, kind) -> how many more."""
    insert = postgres_insert(event_counts) if tx.is_postgres else sqlite_insert(event_counts)
    more = insert.on_conflict_do_update(
        index_elements=["account", "day", "kind"], set_={"count": event_counts.c.count + insert.excluded.count}
    )
    day = datetime.now(UTC).date().isoformat()
    # In one order, so that two processes cannot lock each other.
    for (account, kind), count in sorted(counted.items()):
        tx.execute(more.values(account=account, day=day, kind=kind, count=count))


def since(tx: Tx, day: date) -> list[Row[Any]]:
    """Return (account, day, kind, count) from a day on, oldest first."""
    found = select(event_counts).where(event_counts.c.day >= day.isoformat())
    columns = event_counts.c
    return list(tx.execute(found.order_by(columns.day, columns.account, columns.kind)).all())
