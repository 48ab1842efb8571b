"""The message store: the row is the truth, the broker only carries hints.

    add ──> ready ──claim──> running ──finish──> history
              ^                 │
              ├── fail, wait, give_back, lapse ──┤
              └── retry ── dead <────────────────┘ ──discard──> history

Every statement that moves a claimed row names id and claim_no: who lost his claim moves nothing and must roll back.
Times are the database's. `failures` counts recorded failures, `lapses` leases that ended without an outcome,
`waits` not-yets; a give-back counts in none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.base import Message
from contracts.catalog import TYPES
from contracts.delivery import Delivery
from contracts.ids import new_id
from db import fused
from db.hot import Compiled, Hot
from db.schema import (
    message_attempts,
    message_conflicts,
    message_duplicates,
    message_history,
    message_keys,
    messages,
)
from db.tx import NewMessage, Tx, prepare
from db.types import constant, db_after, db_now

# A message whose worker died this often runs with no neighbours, and at the second number it is dead.
ALONE_AFTER_LAPSES = 2
DEAD_AFTER_LAPSES = 5

CARRIED = (
    *("id", "queue", "type", "payload", "sealed", "dedup_key", "subject", "correlation", "causation", "request_id"),
    *("traceparent", "failures", "lapses", "waits", "claim_no"),
)


_READY, _RUNNING, _DEAD = constant("ready"), constant("running"), constant("dead")

# What is said once for PostgreSQL in db.fused, for SQLite.
_ADD_KEY = Compiled(
    sqlite_insert(message_keys)
    .values({name: bindparam(f"n_{name}") for name in ("queue", "digest", "fingerprint", "message_id")})
    .on_conflict_do_nothing()
    .returning(message_keys.c.message_id)
)
_CARRIED_NEW = tuple(name for name in CARRIED if name in NewMessage._fields)
_ADD_MESSAGE = Compiled(
    insert(messages).values(
        {name: bindparam(f"n_{name}") for name in _CARRIED_NEW} | {"available_at": db_after(bindparam("n_delay"))}
    )
)
_is_held = and_(
    messages.c.id == bindparam("held_id"),
    messages.c.claim_no == bindparam("held_no"),
    messages.c.state == _RUNNING,
)
_is_dead = and_(messages.c.id == bindparam("held_id"), messages.c.state == _DEAD)


def _into_history(which: ColumnElement[bool]) -> Hot:
    """Copy a live row to history."""
    copied = [
        func.coalesce(bindparam("other_subject"), messages.c.subject) if name == "subject" else messages.c[name]
        for name in (*CARRIED, "created_at")
    ]
    ended = [bindparam("outcome", type_=Text), bindparam("detail", type_=Text)]
    return Hot(
        insert(message_history)
        .from_select([*CARRIED, "created_at", "outcome", "detail"], select(*copied, *ended).where(which))
        .returning(message_history.c.id)
    )


_HELD_INTO_HISTORY, _DEAD_INTO_HISTORY = _into_history(_is_held), _into_history(_is_dead)
_TAKE_OUT = Hot(delete(messages).where(messages.c.id == bindparam("held_id")).returning(messages.c.id))
_WRITE_ATTEMPT = Hot(
    insert(message_attempts)
    .values(
        {
            name: bindparam(f"a_{name}")
            for name in ("message_id", "number", "started_at", "outcome", "error_class", "error", "worker")
        }
        | {"provider_request_id": bindparam("a_request")}
    )
    .returning(message_attempts.c.message_id)
)
_IS_WAITING = Hot(select(messages.c.id).where(messages.c.id == bindparam("message_id"), messages.c.state == _READY))
_is_due = (messages.c.state == _READY) & (messages.c.available_at <= db_now())
_IS_AT_HAND = Hot(
    select(messages.c.id).where(messages.c.id == bindparam("message_id"), or_(_is_due, messages.c.state == _RUNNING))
)


class ClaimLost(Exception):
    """The lease lapsed and somebody else may have the message: roll back everything."""


@dataclass(frozen=True, slots=True)
class Added:
    """The wish is new."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same wish was added before. `first_state`: ready, running, dead, or the outcome it ended with."""

    message_id: str
    first_state: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The same key was used before with other content; the second content is kept beside it."""

    message_id: str


AddResult = Added | Duplicate | Conflict


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this worker holds until its lease ends."""

    id: str
    queue: str
    type: str
    payload: str
    sealed: bytes | None
    dedup_key: str
    subject: str
    correlation: str
    causation: str | None
    request_id: str
    traceparent: str | None
    failures: int
    lapses: int
    waits: int
    claim_no: int
    created_at: datetime
    started_at: datetime
    worker: str

    def message(self, tx_sealer: Any) -> Message:
        """Give the typed message; `tx_sealer` opens its personal fields."""
        fields = json.loads(self.payload)
        if self.sealed is not None:
            fields |= tx_sealer.open_json(self.sealed)
        return TYPES[self.type].model_validate(fields)


# --- adding ---------------------------------------------------------------------------------------------------------


def add(tx: Tx, message: Message, *, delay_seconds: float = 0.0) -> AddResult:
    """Add one message now and tell what became of it."""
    return add_all(tx, [prepare(message, tx.cause, tx.sealer, delay_seconds)])[0]


def flush(tx: Tx) -> None:
    """Add what the transaction asked for with `tx.then`."""
    if tx.pending:
        pending, tx.pending = tx.pending, []
        add_all(tx, pending)


def add_all(tx: Tx, new: Sequence[NewMessage]) -> list[AddResult]:
    """Add prepared messages in the order of their keys; results in the order given."""
    ordered = sorted(new, key=lambda row: (row.home, row.digest))
    inserted = fused.insert_messages(tx, ordered) if tx.is_postgres else _insert_messages(tx, ordered)
    return settle_added(tx, new, inserted)


def settle_added(tx: Tx, new: Sequence[NewMessage], inserted: set[str]) -> list[AddResult]:
    """Note deliveries of what was inserted, record the rest as duplicates or conflicts."""
    tx.due.extend((row.queue, row.delivery) for row in new if row.id in inserted and row.delay_seconds <= 0)
    if len(inserted) == len(new):
        return [Added(row.id) for row in new]
    return [Added(row.id) if row.id in inserted else _record_known(tx, row) for row in new]


def _insert_messages(tx: Tx, rows: Sequence[NewMessage]) -> set[str]:
    inserted = set()
    for row in rows:
        key = {"n_queue": row.home, "n_digest": row.digest, "n_fingerprint": row.fingerprint, "n_message_id": row.id}
        if _ADD_KEY.rows(tx, key):
            new = {f"n_{name}": getattr(row, name) for name in _CARRIED_NEW}
            _ADD_MESSAGE.rows(tx, new | {"n_delay": row.delay_seconds})
            inserted.add(row.id)
    return inserted


def _record_known(tx: Tx, row: NewMessage) -> Duplicate | Conflict:
    known = tx.execute(
        select(message_keys.c.message_id, message_keys.c.fingerprint).where(
            message_keys.c.queue == row.home, message_keys.c.digest == row.digest
        )
    ).one()
    if known.fingerprint == row.fingerprint:
        state = state_of(tx, known.message_id)
        tx.execute(
            insert(message_duplicates).values(
                id=new_id(), message_id=known.message_id, first_state=state, request_id=row.request_id
            )
        )
        return Duplicate(known.message_id, state)
    _keep_conflict(tx, row, known.message_id)
    return Conflict(known.message_id)


def _keep_conflict(tx: Tx, row: NewMessage, first_id: str) -> None:
    kept = select(message_conflicts.c.id).where(
        message_conflicts.c.message_id == first_id, message_conflicts.c.fingerprint == row.fingerprint
    )
    if tx.execute(kept).first() is None:
        tx.execute(
            insert(message_conflicts).values(
                id=row.id,
                message_id=first_id,
                queue=row.queue,
                type=row.type,
                dedup_key=row.dedup_key,
                subject=row.subject,
                payload=row.payload,
                sealed=row.sealed,
                fingerprint=row.fingerprint,
                request_id=row.request_id,
            )
        )


def is_waiting(tx: Tx, message_id: str | None) -> bool:
    """Tell whether a message is live and nobody began it; also one that this transaction is about to add."""
    if message_id is None:
        return False
    flush(tx)
    return _IS_WAITING.first(tx, message_id=message_id) is not None


def is_at_hand(tx: Tx, message_id: str | None) -> bool:
    """Tell whether a message is due or being worked on: not over, and not put off until later."""
    if message_id is None:
        return False
    flush(tx)
    return _IS_AT_HAND.first(tx, message_id=message_id) is not None


def state_of(tx: Tx, message_id: str) -> str:
    """Return ready, running, dead, or the outcome that the message ended with."""
    live = tx.execute(select(messages.c.state).where(messages.c.id == message_id)).scalar()
    if live is not None:
        return str(live)
    ended = tx.execute(select(message_history.c.outcome).where(message_history.c.id == message_id)).scalar()
    return str(ended) if ended is not None else "archived"


# --- claiming -------------------------------------------------------------------------------------------------------


def claim(
    tx: Tx,
    queue: str,
    types: Sequence[str],
    *,
    worker: str,
    limit: int,
    lease_seconds: float,
    named: str | None = None,
    alone: bool = False,
) -> list[Claimed]:
    """Claim the named message and the oldest due ones, up to `limit`; `alone` takes only those that run alone."""
    if tx.is_postgres:
        rows = fused.claim(
            tx, queue, types, worker=worker, limit=limit, lease_seconds=lease_seconds, named=named, alone=alone
        )
    else:
        rows = _claim(
            tx, queue, types, worker=worker, limit=limit, lease_seconds=lease_seconds, named=named, alone=alone
        )
    claimed = [_claimed(row, worker) for row in rows]
    return sorted(claimed, key=lambda one: (one.id != named, one.id))


def is_any_due(tx: Tx, queue: str, types: Sequence[str], *, alone: bool) -> bool:
    """Tell whether a claim would find anything. SQLite alone."""
    return bool(_looking(tuple(types), alone).rows(tx, {"of_queue": queue}))


def _claimed(row: Any, worker: str) -> Claimed:
    return Claimed(*(*row, worker))


def _claim(
    tx: Tx,
    queue: str,
    types: Sequence[str],
    *,
    worker: str,
    limit: int,
    lease_seconds: float,
    named: str | None,
    alone: bool,
) -> Sequence[Row[Any]]:
    given = {"of_queue": queue, "worker": worker, "lease": lease_seconds}
    rows = []
    if named is not None:
        rows = _claiming(tuple(types), alone, is_named=True).rows(tx, given | {"named": named, "most": 1})
    if len(rows) < limit:
        rows += _claiming(tuple(types), alone).rows(tx, given | {"most": limit - len(rows)})
    return rows


@cache
def _looking(types: tuple[str, ...], alone: bool) -> Compiled:
    return Compiled(_claimable(types, alone=alone).limit(constant("1")))


@cache
def _claiming(types: tuple[str, ...], alone: bool, *, is_named: bool = False) -> Compiled:
    chosen = _claimable(types, alone=alone).order_by(messages.c.available_at, messages.c.id).limit(bindparam("most"))
    if is_named:
        chosen = chosen.where(messages.c.id == bindparam("named"))
    return Compiled(
        update(messages)
        .where(messages.c.id.in_(chosen.scalar_subquery()))
        .values(
            state=_RUNNING,
            claim_no=messages.c.claim_no + 1,
            claimed_by=bindparam("worker"),
            started_at=db_now(),
            lease_expires_at=db_after(bindparam("lease")),
        )
        .returning(*(messages.c[name] for name in CARRIED), messages.c.created_at, messages.c.started_at)
    )


def _claimable(types: tuple[str, ...], *, alone: bool) -> Select[Any]:
    return select(messages.c.id).where(
        messages.c.queue == bindparam("of_queue"),
        messages.c.state == _READY,
        messages.c.available_at <= db_now(),
        messages.c.type.in_([constant(name) for name in types]),
        messages.c.lapses >= ALONE_AFTER_LAPSES if alone else messages.c.lapses < ALONE_AFTER_LAPSES,
    )


def renew(tx: Tx, held: Iterable[tuple[str, int]], *, lease_seconds: float) -> set[str]:
    """Extend leases; return the ids that are still held."""
    pairs = list(held)
    extended = (
        update(messages)
        .where(messages.c.state == _RUNNING, tuple_(messages.c.id, messages.c.claim_no).in_(pairs))
        .values(lease_expires_at=db_after(lease_seconds))
        .returning(messages.c.id)
    )
    return set(tx.execute(extended).scalars())


# --- ending a claim -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How a claim ends well. `subject` replaces the message's own, once it is known whom it was about."""

    claimed: Claimed
    outcome: str
    detail: str | None = None
    provider_request_id: str | None = None
    subject: str | None = None


def finish(tx: Tx, *endings: Ending) -> None:
    """End messages: history, attempts and the follow-ups of `tx`, all or nothing.

    Raise ClaimLost if one of them is not ours any more.
    """
    if tx.is_postgres:
        new = sorted(tx.pending, key=lambda row: (row.home, row.digest))
        held, inserted = fused.finish(tx, endings, new)
        if held < len(endings):
            raise ClaimLost(*(ending.claimed.id for ending in endings))
        tx.pending = []
        settle_added(tx, new, inserted)
        return
    flush(tx)
    for ending in endings:
        how = {"outcome": ending.outcome, "detail": ending.detail, "other_subject": ending.subject}
        if not _HELD_INTO_HISTORY.rows(tx, **_held(ending.claimed), **how):
            raise ClaimLost(ending.claimed.id)
        _TAKE_OUT.rows(tx, held_id=ending.claimed.id)
        _write_attempt(tx, ending.claimed, ending.outcome, provider_request_id=ending.provider_request_id)


def _held(claimed: Claimed) -> dict[str, Any]:
    return {"held_id": claimed.id, "held_no": claimed.claim_no}


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, for support: a class, a safe text, and a fingerprint that groups equal causes."""

    error_class: str
    error: str
    group: str
    provider_request_id: str | None = None


def fail(tx: Tx, claimed: Claimed, failure: Failure, *, retry_in_seconds: float | None) -> None:
    """Record a failure; the message is due again in `retry_in_seconds`, or dead when that is None."""
    _release(
        tx,
        claimed,
        state="dead" if retry_in_seconds is None else "ready",
        available_at=db_after(retry_in_seconds or 0.0),
        failures=messages.c.failures + 1,
        error_class=failure.error_class,
        error=failure.error,
        error_group=failure.group,
    )
    outcome = "dead" if retry_in_seconds is None else "failed"
    _write_attempt(tx, claimed, outcome, failure, provider_request_id=failure.provider_request_id)


def wait(tx: Tx, claimed: Claimed, *, seconds: float, reason: str) -> None:
    """Record a not-yet: due again in `seconds`, counted in `waits` alone."""
    _release(tx, claimed, state="ready", available_at=db_after(seconds), waits=messages.c.waits + 1)
    _write_attempt(tx, claimed, "not_yet", Failure("NotYet", reason, ""))


def give_back(tx: Tx, claimed: Claimed, *, seconds: float = 0.0) -> None:
    """Hand an unfinished message back: due again, nothing counted."""
    _release(tx, claimed, state="ready", available_at=db_after(seconds))
    _write_attempt(tx, claimed, "given_back")


def put_off(tx: Tx, queue: str, waits: Mapping[str, float]) -> None:
    """Make unclaimed messages of a queue due only after so many seconds, each its own; nothing is counted."""
    moved = (
        update(messages)
        .where(messages.c.id == bindparam("named"), messages.c.queue == queue, messages.c.state == _READY)
        .values(available_at=db_after(bindparam("seconds", type_=Float)))
    )
    tx.execute(moved, [{"named": message_id, "seconds": seconds} for message_id, seconds in waits.items()])


def _release(tx: Tx, claimed: Claimed, **values: Any) -> None:
    moved = tx.execute(update(messages).where(_is_held).values(lease_expires_at=None, **values), _held(claimed))
    if not moved.rowcount:
        raise ClaimLost(claimed.id)


def _write_attempt(
    tx: Tx,
    claimed: Claimed,
    outcome: str,
    failure: Failure | None = None,
    *,
    provider_request_id: str | None = None,
) -> None:
    _WRITE_ATTEMPT.rows(
        tx,
        a_message_id=claimed.id,
        a_number=claimed.claim_no,
        a_started_at=claimed.started_at,
        a_outcome=outcome,
        a_error_class=failure and failure.error_class,
        a_error=failure and failure.error,
        a_worker=claimed.worker,
        a_request=provider_request_id,
    )


# --- looking after --------------------------------------------------------------------------------------------------


_LAPSED = and_(messages.c.state == _RUNNING, messages.c.lease_expires_at < db_now())
_DIES = messages.c.lapses + 1 >= DEAD_AFTER_LAPSES


def dying(tx: Tx, *, limit: int = 200) -> list[Row[Any]]:
    """Return id, queue, type and subject of lapsed messages that will be dead when they are taken back."""
    found = select(messages.c.id, messages.c.queue, messages.c.type, messages.c.subject)
    return list(tx.execute(found.where(_LAPSED, _DIES).limit(limit)).all())


def sweep_lapsed(
    tx: Tx, *, limit: int = 200, named: str | None = None, sparing_dying: bool = False
) -> list[tuple[str, str, bool]]:
    """Take back messages whose lease ended without an outcome, or the named one; return (id, queue, is now dead)."""
    lapsed = select(messages.c.id).where(_LAPSED).limit(limit).with_for_update(skip_locked=True)
    if named is not None:
        lapsed = lapsed.where(messages.c.id == named)
    if sparing_dying:
        lapsed = lapsed.where(~_DIES)
    swept = tx.execute(
        update(messages)
        .where(messages.c.id.in_(lapsed.scalar_subquery()), messages.c.state == _RUNNING)
        .values(
            lapses=messages.c.lapses + 1,
            state=case((_DIES, "dead"), else_="ready"),
            available_at=db_now(),
            lease_expires_at=null(),
            error_class="WorkerDied",
            error="the worker ended without an outcome",
            error_group=func.coalesce(messages.c.error_group, "worker-died"),
        )
        .returning(
            messages.c.id,
            messages.c.queue,
            messages.c.claim_no,
            messages.c.started_at,
            messages.c.claimed_by,
            messages.c.state,
        )
    ).all()
    for row in swept:
        tx.execute(
            insert(message_attempts).values(
                message_id=row.id,
                number=row.claim_no,
                started_at=row.started_at,
                outcome="lapsed",
                worker=row.claimed_by,
            )
        )
    return [(row.id, row.queue, row.state == "dead") for row in swept]


def due(tx: Tx, queue: str, *, limit: int) -> list[Row[Any]]:
    """Return the oldest due, unclaimed messages of a queue, as the fields of a delivery."""
    found = (
        select(
            messages.c.id,
            messages.c.type,
            messages.c.dedup_key.label("key"),
            messages.c.subject,
            messages.c.request_id,
            messages.c.traceparent,
        )
        .where(messages.c.queue == queue, messages.c.state == _READY, messages.c.available_at <= db_now())
        .order_by(messages.c.available_at)
        .limit(limit)
    )
    return list(tx.execute(found).all())


def hasten(tx: Tx, message_id: str, *, queue: str | None = None) -> bool:
    """Make an unclaimed message due now, on another queue if one is named; False when it is claimed, ended or dead."""
    flush(tx)
    moved = tx.execute(
        update(messages)
        .where(messages.c.id == message_id, messages.c.state == _READY)
        .values(
            available_at=case((messages.c.available_at > db_now(), db_now()), else_=messages.c.available_at),
            queue=queue or messages.c.queue,
        )
        .returning(
            *(messages.c[name] for name in ("queue", "type", "dedup_key", "subject", "request_id", "traceparent"))
        )
    ).first()
    if moved is None:
        return False
    delivery = partial(
        Delivery,
        id=message_id,
        type=moved.type,
        key=moved.dedup_key,
        subject=moved.subject,
        request_id=moved.request_id,
        traceparent=moved.traceparent,
    )
    tx.due.append((moved.queue, delivery))
    return True


# --- support --------------------------------------------------------------------------------------------------------


def dead(tx: Tx, *, queue: str | None = None, limit: int = 100) -> list[Row[Any]]:
    """List dead letters, oldest first, without payloads."""
    columns = (
        *("id", "queue", "type", "subject", "request_id", "failures", "lapses", "error_class", "error", "error_group"),
        "created_at",
    )
    found = select(*(messages.c[name] for name in columns)).where(messages.c.state == _DEAD)
    if queue is not None:
        found = found.where(messages.c.queue == queue)
    return list(tx.execute(found.order_by(messages.c.created_at).limit(limit)).all())


def find(tx: Tx, message_id: str) -> Row[Any] | None:
    """Return a live message with all its columns, or None."""
    return tx.execute(select(messages).where(messages.c.id == message_id)).first()


def attempts_of(tx: Tx, message_id: str) -> list[Row[Any]]:
    """Return the retry history of a message, oldest first."""
    found = select(message_attempts).where(message_attempts.c.message_id == message_id)
    return list(tx.execute(found.order_by(message_attempts.c.number)).all())


def duplicates_of(tx: Tx, message_id: str) -> list[Row[Any]]:
    """Return the repeats of a message that were ignored."""
    found = select(message_duplicates).where(message_duplicates.c.message_id == message_id)
    return list(tx.execute(found.order_by(message_duplicates.c.created_at)).all())


def duplicates_about(tx: Tx, *subjects: str) -> int:
    """Count the repeats that were ignored of every message about these subjects."""
    known = union_all(
        select(messages.c.id).where(messages.c.subject.in_(subjects)),
        select(message_history.c.id).where(message_history.c.subject.in_(subjects)),
    )
    counted = select(func.count()).select_from(message_duplicates)
    return int(tx.execute(counted.where(message_duplicates.c.message_id.in_(known.scalar_subquery()))).scalar_one())


def retry(tx: Tx, message_id: str) -> bool:
    """Give a dead letter its whole schedule again; False when it is not dead."""
    moved = tx.execute(
        update(messages)
        .where(messages.c.id == message_id, messages.c.state == _DEAD)
        .values(state="ready", failures=0, lapses=0, waits=0, available_at=db_now())
    )
    return bool(moved.rowcount) and hasten(tx, message_id)


def discard(tx: Tx, message_id: str, reason: str) -> bool:
    """End a dead letter without doing its work; False when it is not dead."""
    kept = _DEAD_INTO_HISTORY.rows(tx, held_id=message_id, outcome="discarded", detail=reason, other_subject=None)
    return bool(kept and _TAKE_OUT.rows(tx, held_id=message_id))
