"""Whether the database is there, up to date, and in step: for `paylinks doctor` and the readiness of the web part."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from db import inbox
from db.database import Database
from db.schema import messages, rejections
from db.tx import Tx
from db.types import constant, db_after, db_now

_UNDEFINED_TABLE = "42P01"


def is_schema_missing(error: BaseException) -> bool:
    """Tell whether a statement failed because the tables are not there."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state == _UNDEFINED_TABLE or "no such table" in str(error.orig)


def clock_skew_seconds(database: Database) -> float:
    """Return by how much this machine's clock is ahead of the database's, which decides about every due time."""
    with database.read() as tx:
        before = datetime.now(UTC)
        theirs: datetime = tx.execute(select(db_now())).scalar_one()
        after = datetime.now(UTC)
    return (before + (after - before) / 2 - theirs).total_seconds()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for somebody."""

    dead: int
    open_rejections: int
    unmatched: int  # orders with money that is nobody's
    waiting: dict[str, int]  # queue -> messages that were due before `late_seconds` and that nobody claimed


def backlog(tx: Tx, *, late_seconds: float) -> Backlog:
    """Count what waits; every count comes from an index of its own."""
    dead = select(func.count()).select_from(messages).where(messages.c.state == constant("dead"))
    rejected = select(func.count()).select_from(rejections).where(rejections.c.state == constant("open"))
    late = (
        select(messages.c.queue, func.count().label("late"))
        .where(messages.c.state == constant("ready"), messages.c.available_at < db_after(-late_seconds))
        .group_by(messages.c.queue)
    )
    return Backlog(
        dead=tx.execute(dead).scalar_one(),
        open_rejections=tx.execute(rejected).scalar_one(),
        unmatched=inbox.count_open(tx),
        waiting={row.queue: row.late for row in tx.execute(late)},
    )
