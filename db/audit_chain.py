"""The chain over the audit trail: one sealer digests new rows in batches, and each seal holds the one before.

    audit rows ──> audit_sealed (row, its place, its digest) ──> audit_seals (number, the seal before, digest)

Nobody who writes an audit row waits for the chain: rows are sealed seconds later. The newest seal, the head, goes into
the log, where whoever can change this database cannot reach it: against it a trail that was cut off is found.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json
from sqlalchemy import exists, func, insert, literal, select, text

from db.database import Database
from db.schema import audit, audit_sealed, audit_seals
from db.tx import Tx
from db.types import db_after

BATCH = 1000
# No transaction lives so long that its rows, dated at their writing, could appear after this.
OVERLAP = timedelta(minutes=10)
NOTHING_BEFORE = bytes(32)
PORTION = 200
_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('paylinks.audit_chain', 0))")

_is_sealed = exists(literal(1)).where(audit_sealed.c.audit_id == audit.c.id)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest seal; as text "12:ab03...", which `paylinks audit verify --head` takes."""

    number: int
    digest: bytes

    def __str__(self) -> str:
        """Write it for logs and people."""
        return f"{self.number}:{self.digest.hex()}"

    @classmethod
    def parse(cls, written: str) -> "Head":
        """Read it again; ValueError for anything else."""
        number, _, digest = written.strip().partition(":")
        if not number.isascii() or not number.isdigit() or len(digest) != 64:
            raise ValueError("use NUMBER:DIGEST as the log and `paylinks audit head` write it")
        return cls(int(number), bytes.fromhex(digest))


@dataclass(frozen=True, slots=True)
class Tampering:
    """One thing that is wrong with the trail."""

    row: str
    what: str


def head(tx: Tx) -> Head | None:
    """Return the newest seal, or None when nothing was sealed yet."""
    row = tx.execute(select(audit_seals).order_by(audit_seals.c.number.desc()).limit(1)).first()
    return None if row is None else Head(row.number, bytes(row.digest))


def seal(database: Database, *, batch: int = BATCH) -> Head | None:
    """Seal up to `batch` new rows; None: there were none, or somebody else seals."""
    with database.begin() as tx:
        if tx.is_postgres and not tx.execute(_LOCK).scalar_one():
            return None
        last = tx.execute(select(audit_seals).order_by(audit_seals.c.number.desc()).limit(1)).first()
        rows = tx.execute(_unsealed(last.newest_at - OVERLAP if last else None).limit(batch)).all()
        if not rows:
            return None
        previous = bytes(last.digest) if last else NOTHING_BEFORE
        digests = [row_digest(row) for row in rows]
        new = Head(last.number + 1 if last else 1, seal_digest(previous, [row.id for row in rows], digests))
        newest = max(row.created_at for row in rows)
        tx.execute(
            insert(audit_seals).values(
                number=new.number,
                previous=previous,
                digest=new.digest,
                row_count=len(rows),
                newest_at=max(newest, last.newest_at) if last else newest,
            )
        )
        tx.execute(
            insert(audit_sealed),
            [
                {"audit_id": row.id, "seal_number": new.number, "place": place, "row_digest": digest}
                for place, (row, digest) in enumerate(zip(rows, digests, strict=True))
            ],
        )
    return new


def _unsealed(since: datetime | None) -> Any:
    found = select(audit).where(~_is_sealed).order_by(audit.c.created_at, audit.c.id)
    return found if since is None else found.where(audit.c.created_at >= since)


def row_digest(row: Any) -> bytes:
    """Digest everything that a row says."""
    at = row.created_at.astimezone(UTC).isoformat(timespec="microseconds")
    said = [row.id, row.actor, row.action, row.subject, row.reason, row.request_id, row.detail, at]
    return hashlib.sha256(to_json(said)).digest()


def seal_digest(previous: bytes, ids: Sequence[str], digests: Sequence[bytes]) -> bytes:
    """Digest a batch of rows in their order, and the seal before."""
    made = hashlib.sha256(previous)
    for id_, digest in zip(ids, digests, strict=True):
        made.update(id_.encode() + b"\x00" + digest)
    return made.digest()


# --- verifying ------------------------------------------------------------------------------------------------------


def verify(database: Database, known: Head | None = None) -> Iterator[Tampering]:
    """Yield whatever was changed, removed, inserted or cut off. `known`: a head from a log, an older one too."""
    number, previous = 0, NOTHING_BEFORE
    found_known = known is None
    while True:
        with database.read() as tx:
            seals = tx.execute(
                select(audit_seals).where(audit_seals.c.number > number).order_by(audit_seals.c.number).limit(PORTION)
            ).all()
        if not seals:
            break
        for one in seals:
            if one.number != number + 1:
                yield Tampering(f"seals {number + 1} to {one.number - 1}", "are missing")
            elif bytes(one.previous) != previous:
                yield Tampering(f"seal {one.number}", "does not follow the one before")
            yield from _verify_seal(database, one)
            number, previous = one.number, bytes(one.digest)
            found_known |= known == Head(number, previous)
    if not found_known:
        yield Tampering(f"seal {known.number if known else 0}", "the head that was written down is not in this trail")
    yield from _inserted(database)


def _verify_seal(database: Database, one: Any) -> Iterator[Tampering]:
    """Compare the rows of one seal with what was sealed; a seal holds a bounded number of them."""
    joined = audit_sealed.outerjoin(audit, audit.c.id == audit_sealed.c.audit_id)
    with database.read() as tx:
        rows = tx.execute(
            select(audit_sealed.c.audit_id, audit_sealed.c.row_digest, audit)
            .select_from(joined)
            .where(audit_sealed.c.seal_number == one.number)
            .order_by(audit_sealed.c.place)
        ).all()
    ids, digests = [row.audit_id for row in rows], [bytes(row.row_digest) for row in rows]
    if seal_digest(bytes(one.previous), ids, digests) != bytes(one.digest):
        yield Tampering(f"seal {one.number}", "its list of rows was changed")
    for row, digest in zip(rows, digests, strict=True):
        if row.id is None:
            yield Tampering(f"audit {row.audit_id}", f"was sealed in {one.number}, and is missing")
        elif row_digest(row) != digest:
            yield Tampering(f"audit {row.audit_id}", f"was changed after it was sealed in {one.number}")


def _inserted(database: Database) -> Iterator[Tampering]:
    """Find rows that stand before the newest seal and were never sealed."""
    with database.read() as tx:
        newest = tx.execute(select(func.max(audit_seals.c.newest_at))).scalar()
    after: str | None = ""
    while newest is not None and after is not None:
        portion = select(audit.c.id, audit.c.created_at, _is_sealed.label("is_sealed")).where(audit.c.id > after)
        with database.read() as tx:
            rows = tx.execute(portion.order_by(audit.c.id).limit(BATCH)).all()
        for row in rows:
            if not row.is_sealed and row.created_at < newest - OVERLAP:
                yield Tampering(f"audit {row.id}", "stands among sealed rows, and was never sealed")
        after = rows[-1].id if rows else None


def waiting(tx: Tx, *, seconds: float) -> int:
    """Count rows that nobody sealed for so long: no relay runs, or there was none."""
    last = select(func.coalesce(func.max(audit_seals.c.newest_at), db_after(-10 * 365 * 86_400))).scalar_subquery()
    found = select(func.count()).where(~_is_sealed, audit.c.created_at >= last, audit.c.created_at < db_after(-seconds))
    return int(tx.execute(found.select_from(audit)).scalar_one())
