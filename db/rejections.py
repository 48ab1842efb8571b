"""Rejections: bodies that could not be read, kept sealed until a person replays or discards them.

    keep ──> open ──replay──> replayed
              └───discard──> discarded

The same body, from the same sender by the same way, is kept once while it is open and counted after that: a publisher
that repeats itself fills no table.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.envelope import Problem
from contracts.ids import new_id
from db import audit
from db.schema import rejections
from db.tx import Tx
from db.types import constant, db_now

_OPEN = constant("open")


class NotOpen(Exception):
    """There is no open rejection of that id: a wrong id, or somebody resolved it before."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is to be kept. `body` may be cut; `body_bytes` is how long it came."""

    channel: str
    routing_key: str | None
    sender: str | None
    event_source: str | None
    event_id: str | None
    event_type: str | None
    problems: tuple[Problem, ...]
    body: bytes
    body_bytes: int

    def digest(self) -> bytes:
        """Name what came, from whom and which way."""
        way = json.dumps([self.channel, self.routing_key, self.sender, self.body_bytes])
        return hashlib.sha256(way.encode() + b"\0" + self.body).digest()


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept body, opened. `is_cut`: it was over the limit, and the rest is gone."""

    id: str
    channel: str
    routing_key: str | None
    sender: str | None
    event_source: str | None
    event_id: str | None
    event_type: str | None
    problems: tuple[Problem, ...]
    body: bytes
    body_bytes: int
    repeats: int
    state: str
    message_id: str | None
    created_at: datetime
    resolved_at: datetime | None

    @property
    def is_cut(self) -> bool:
        """Tell whether only the beginning was kept."""
        return len(self.body) < self.body_bytes


def keep(tx: Tx, refusals: Sequence[Refusal]) -> list[tuple[str, bool]]:
    """Keep bodies, in the order of their digests so that two batches cannot lock each other.

    Return for each, in the order given, its id and whether it is new: an equal one that is still open is only counted.
    """
    digests = [refusal.digest() for refusal in refusals]
    kept = {}
    for place in sorted(range(len(refusals)), key=digests.__getitem__):
        kept[place] = _keep(tx, refusals[place], digests[place])
    return [kept[place] for place in range(len(refusals))]


def _keep(tx: Tx, refusal: Refusal, digest: bytes) -> tuple[str, bool]:
    counted = (
        update(rejections)
        .where(rejections.c.digest == digest, rejections.c.state == _OPEN)
        .values(repeats=rejections.c.repeats + 1)
        .returning(rejections.c.id)
    )
    known = tx.execute(counted).scalar()
    if known is not None:
        return str(known), False
    row = _insert(tx).values(
        id=new_id(),
        channel=refusal.channel,
        routing_key=refusal.routing_key,
        sender=refusal.sender,
        event_source=refusal.event_source,
        event_id=refusal.event_id,
        event_type=refusal.event_type,
        problems=json.dumps([{"field": one.field, "problem": one.problem} for one in refusal.problems]),
        body_sealed=tx.sealer.seal(refusal.body),
        body_bytes=refusal.body_bytes,
        digest=digest,
    )
    # Somebody else may have kept the same since the look above.
    written = row.on_conflict_do_update(
        index_elements=["digest"],
        index_where=text("state = 'open'"),
        set_={"repeats": rejections.c.repeats + 1},
    ).returning(rejections.c.id, rejections.c.repeats)
    found = tx.execute(written).one()
    return str(found.id), found.repeats == 0


def _insert(tx: Tx) -> Any:
    return postgres_insert(rejections) if tx.is_postgres else sqlite_insert(rejections)


# --- review ---------------------------------------------------------------------------------------------------------

_LISTED = (
    *("id", "channel", "routing_key", "sender", "event_source", "event_id", "event_type", "problems", "body_bytes"),
    *("repeats", "state", "message_id", "created_at", "resolved_at"),
)


def listed(tx: Tx, *, state: str | None = "open", limit: int = 100) -> list[Row[Any]]:
    """List rejections, oldest first, without bodies; `problems_of(row)` reads the problems. None: in every state."""
    found = select(*(rejections.c[name] for name in _LISTED))
    if state is not None:
        found = found.where(rejections.c.state == state)
    return list(tx.execute(found.order_by(rejections.c.created_at, rejections.c.id).limit(limit)).all())


def problems_of(row: Row[Any]) -> tuple[Problem, ...]:
    """Return what was wrong with a body."""
    return tuple(Problem(one["field"], one["problem"]) for one in json.loads(row.problems))


def open_count(tx: Tx) -> int:
    """Return how many bodies wait for review."""
    waiting = select(func.count()).select_from(rejections).where(rejections.c.state == _OPEN)
    return int(tx.execute(waiting).scalar_one())


def show(tx: Tx, rejection_id: str, *, actor: str, reason: str) -> Kept | None:
    """Open one kept body for a person; that he looked is written down, since bodies are personal."""
    kept = _find(tx, rejection_id)
    if kept is not None:
        audit.write(tx, actor=actor, action="intake.shown", subject=rejection_id, reason=reason)
    return kept


def lock_open(tx: Tx, rejection_id: str) -> Kept:
    """Lock one open rejection and return it opened; raise NotOpen."""
    kept = _find(tx, rejection_id, lock=True)
    if kept is None or kept.state != "open":
        was = "no rejection has this id" if kept is None else f"it is {kept.state} already"
        raise NotOpen(f"{rejection_id}: {was}")
    return kept


def _find(tx: Tx, rejection_id: str, *, lock: bool = False) -> Kept | None:
    found = select(rejections).where(rejections.c.id == rejection_id)
    row = tx.execute(found.with_for_update() if lock else found).first()
    if row is None:
        return None
    fields = {name: row._mapping[name] for name in _LISTED}
    return Kept(**{**fields, "problems": problems_of(row)}, body=tx.sealer.open(row.body_sealed))


def discard(tx: Tx, rejection_id: str, *, actor: str, reason: str) -> None:
    """Give a body up; raise NotOpen."""
    lock_open(tx, rejection_id)
    resolve(tx, rejection_id, "discarded", actor=actor, reason=reason)


def resolve(
    tx: Tx, rejection_id: str, state: str, *, actor: str, reason: str, message_id: str | None = None, **detail: Any
) -> None:
    """Close a locked rejection, with the message that came of it; write down who did it and why."""
    closed = update(rejections).where(rejections.c.id == rejection_id, rejections.c.state == _OPEN)
    tx.execute(closed.values(state=state, message_id=message_id, resolved_at=db_now()))
    audit.write(tx, actor=actor, action=f"intake.{state}", subject=rejection_id, reason=reason, **detail)
