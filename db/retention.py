"""What came from outside whole, and is erased some time after its work has ended. Rows, keys and histories stay.

A message that is live or dead still needs its raw bytes, and a rejected body that is open waits for a person: neither
is touched. Batches are bounded, and two that run at once take different rows.
"""

from collections.abc import Callable

from sqlalchemy import func, null, select, update

from contracts.messages import ProviderEventReceived
from db.schema import message_history, rejections
from db.sealing import SEAL_BYTES
from db.tx import Tx
from db.types import constant, db_after

ERASED = b""  # what a kept body is afterwards

Erase = Callable[..., int]


def erase_raw_events(tx: Tx, *, older_than_seconds: float, limit: int) -> int:
    """Erase query, headers and body of provider events that ended so long ago; return of how many."""
    table = message_history
    old = (
        select(table.c.id)
        .where(
            table.c.type == constant(ProviderEventReceived.TYPE),
            table.c.sealed.is_not(None),
            table.c.finished_at < db_after(-older_than_seconds),
        )
        .order_by(table.c.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return tx.execute(update(table).where(table.c.id.in_(old.scalar_subquery())).values(sealed=null())).rowcount


def erase_rejected_bodies(tx: Tx, *, older_than_seconds: float, limit: int) -> int:
    """Erase kept bodies that a person replayed or discarded so long ago; return how many."""
    table = rejections
    old = (
        select(table.c.id)
        .where(
            table.c.state != constant("open"),
            table.c.resolved_at < db_after(-older_than_seconds),
            func.length(table.c.body_sealed) > SEAL_BYTES,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    erased = update(table).where(table.c.id.in_(old.scalar_subquery()))
    return tx.execute(erased.values(body_sealed=tx.sealer.seal(ERASED))).rowcount
