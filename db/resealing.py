"""Everything that an older data key sealed is sealed again under the newest one, so that the older one may go.

Every sealed column is walked in portions, each a transaction of its own; it may be stopped and begun again at any time.
A value is replaced only while it is the one that was read: work that goes on meanwhile wins.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, LargeBinary, bindparam, select, update

from db.database import Database
from db.schema import metadata
from db.sealing import SealBroken
from db.tx import Tx

PORTION = 200


@dataclass(slots=True)
class Resealed:
    """How many values of each column were sealed anew, and how many open with no configured key."""

    counts: Counter[str] = field(default_factory=Counter)
    unopened: int = 0


def sealed_columns() -> list[Column[Any]]:
    """Return every column that holds sealed bytes."""
    return [
        column
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name.endswith("sealed")
    ]


def reseal(database: Database, *, portion: int = PORTION) -> Resealed:
    """Seal everything under the newest key. Nothing may seal under an older one any more: change settings first."""
    done = Resealed()
    for column in sealed_columns():
        after: str | None = ""
        while after is not None:
            with database.begin() as tx:
                after = _portion(tx, column, after, portion, done)
    return done


def _portion(tx: Tx, column: Column[Any], after: str, portion: int, done: Resealed) -> str | None:
    """Renew one portion; return the last id of it, None after the last portion."""
    table: Any = column.table
    found = select(table.c.id, column.label("sealed")).where(table.c.id > after, column.is_not(None))
    rows = tx.execute(found.order_by(table.c.id).limit(portion)).all()
    for row in rows:
        sealed = bytes(row.sealed)
        if tx.sealer.is_newest(sealed):
            continue
        try:
            renewed = tx.sealer.renew(sealed)
        except SealBroken:
            done.unopened += 1
            continue
        was = bindparam("was", sealed, LargeBinary)
        changed = tx.execute(update(table).where(table.c.id == row.id, column == was).values({column.name: renewed}))
        done.counts[str(column)] += changed.rowcount
    return rows[-1].id if len(rows) == portion else None
