"""The store's hot statements on PostgreSQL, each one round trip, written by hand.

What SQLAlchemy costs per statement is what would hold the store back, so these bypass its compiler. They say exactly
what the portable statements in db.message_store say for SQLite; one conformance suite runs against both.
"""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from db.hot import Prepared
from db.tx import NewMessage, Tx

if TYPE_CHECKING:
    from db.message_store import Ending

_CARRIED = (
    "id, queue, type, payload, sealed, dedup_key, subject, correlation, causation, request_id, traceparent, "
    "failures, lapses, waits, claim_no"
)

# New messages as parallel arrays: one statement text for any number of rows.
_NEW_ROWS = """
    unnest(%(n_id)s::text[], %(n_queue)s::text[], %(n_type)s::text[], %(n_payload)s::text[], %(n_sealed)s::bytea[],
           %(n_dedup_key)s::text[], %(n_digest)s::bytea[], %(n_fingerprint)s::bytea[], %(n_subject)s::text[],
           %(n_correlation)s::text[], %(n_causation)s::text[], %(n_request_id)s::text[], %(n_traceparent)s::text[],
           %(n_delay_seconds)s::float8[], %(n_home)s::text[])
        AS u(id, queue, type, payload, sealed, dedup_key, digest, fingerprint, subject, correlation, causation,
             request_id, traceparent, delay_seconds, home)
"""
_ENDING_FIELDS = ("outcome", "detail", "provider_request_id", "subject")
# array_recv: dimensions, whether NULLs may follow, the elements' type, length and first index; then each element.
_ARRAY_HEAD, _LENGTH, _NULL, _BYTEA = struct.Struct("!iiIii"), struct.Struct("!i"), b"\xff\xff\xff\xff", 17
_INSERT_KEYS = """
    INSERT INTO message_keys (queue, digest, fingerprint, message_id)
    SELECT u.home, u.digest, u.fingerprint, u.id FROM {source}
    ON CONFLICT DO NOTHING RETURNING message_id
"""
_INSERT_NEW = f"""
    INSERT INTO messages (id, queue, type, payload, sealed, dedup_key, subject, correlation, causation, request_id,
                          traceparent, available_at)
    SELECT u.id, u.queue, u.type, u.payload, u.sealed, u.dedup_key, u.subject, u.correlation, u.causation,
           u.request_id, u.traceparent, clock_timestamp() + make_interval(secs => u.delay_seconds)
    FROM {_NEW_ROWS} JOIN k ON k.message_id = u.id
"""  # noqa: S608 - constants

_ADD = Prepared(
    f"""
WITH k AS ({_INSERT_KEYS.format(source=_NEW_ROWS)}), n AS ({_INSERT_NEW})
SELECT message_id FROM k
"""  # noqa: S608 - constants
)

_DUE = """
    queue = %(queue)s AND state = 'ready' AND available_at <= clock_timestamp()
    AND type = ANY(%(types)s) AND (lapses >= 2) = %(alone)s
"""
_CLAIM = f"""
WITH chosen AS ({{chosen}} FOR UPDATE SKIP LOCKED)
UPDATE messages m
SET state = 'running', claim_no = claim_no + 1, claimed_by = %(worker)s, started_at = clock_timestamp(),
    lease_expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
FROM chosen WHERE m.id = chosen.id
RETURNING {", ".join("m." + name for name in _CARRIED.split(", "))}, m.created_at, m.started_at
"""  # noqa: S608 - constants
_CLAIM_NAMED = Prepared(
    _CLAIM.format(chosen=f"SELECT id FROM messages WHERE id = %(named)s AND {_DUE}")  # noqa: S608 - constants
)
_CLAIM_OLDEST = Prepared(
    _CLAIM.format(
        chosen=f"SELECT id FROM messages WHERE {_DUE} ORDER BY available_at LIMIT %(limit)s"  # noqa: S608 - constants
    )
)

_ENDINGS = """
    unnest(%(e_id)s::text[], %(e_claim_no)s::int[], %(e_outcome)s::text[], %(e_detail)s::text[],
           %(e_provider_request_id)s::text[], %(e_subject)s::text[])
        AS e(id, claim_no, outcome, detail, provider_request_id, subject)
"""
# Several claims end in one statement. Who calls compares the count: one claim that was lost undoes all.
_FINISH = f"""
WITH gone AS (
    DELETE FROM messages m USING {_ENDINGS}
    WHERE m.id = e.id AND m.claim_no = e.claim_no AND m.state = 'running'
    RETURNING {", ".join("m." + name for name in _CARRIED.split(", ") if name != "subject")},
              coalesce(e.subject, m.subject) AS subject, m.created_at, m.started_at, m.claimed_by,
              e.outcome, e.detail, e.provider_request_id
), h AS (
    INSERT INTO message_history ({_CARRIED}, created_at, outcome, detail, finished_at)
    SELECT {_CARRIED}, created_at, outcome, detail, clock_timestamp() FROM gone
), a AS (
    INSERT INTO message_attempts (message_id, number, started_at, ended_at, outcome, worker, provider_request_id)
    SELECT id, claim_no, started_at, clock_timestamp(), outcome, claimed_by, provider_request_id FROM gone
)"""  # noqa: S608 - constants
_FINISH_ALONE = Prepared(_FINISH + " SELECT count(*), NULL FROM gone")  # noqa: S608 - constants
_FINISH_THEN = Prepared(
    f"""{_FINISH}, k AS ({_INSERT_KEYS.format(source=_NEW_ROWS)}), n AS ({_INSERT_NEW})
SELECT count(*), ARRAY(SELECT message_id FROM k) FROM gone
"""  # noqa: S608 - constants
)


def insert_messages(tx: Tx, rows: Sequence[NewMessage]) -> set[str]:
    """Insert keys and messages; return the ids whose key was new."""
    return {row[0] for row in _ADD.rows(tx, _arrays(rows))}


def claim(
    tx: Tx,
    queue: str,
    types: Sequence[str],
    *,
    worker: str,
    limit: int,
    lease_seconds: float,
    named: str | None,
    alone: bool,
) -> Sequence[Any]:
    """Claim due messages; see db.message_store.claim."""
    parameters = {
        "queue": queue,
        "types": _array(types),
        "alone": alone,
        "limit": limit,
        "worker": worker,
        "lease": lease_seconds,
    }
    rows = _CLAIM_NAMED.rows(tx, parameters | {"named": named}) if named else []
    if len(rows) < limit:
        rows += _CLAIM_OLDEST.rows(tx, parameters | {"limit": limit - len(rows)})
    return rows


def finish(tx: Tx, endings: Sequence["Ending"], new: Sequence[NewMessage]) -> tuple[int, set[str]]:
    """End claims and add follow-ups; return how many claims were still held, and the ids whose key was new."""
    parameters = {
        "e_id": _array([ending.claimed.id for ending in endings]),
        "e_claim_no": _array([ending.claimed.claim_no for ending in endings]),
        **{f"e_{name}": _array([getattr(ending, name) for ending in endings]) for name in _ENDING_FIELDS},
    }
    if new:
        parameters |= _arrays(new)
    ((held, added),) = (_FINISH_THEN if new else _FINISH_ALONE).rows(tx, parameters)
    return held, set(added or ())


def _arrays(rows: Sequence[NewMessage]) -> dict[str, str | bytes]:
    """Write the columns as array literals: the driver's own way from lists takes most of an insert's time."""
    return {
        f"n_{name}": _array(column) for name, column in zip(NewMessage._fields, zip(*rows, strict=True), strict=True)
    }


def _array(values: Sequence[str | bytes | float | None]) -> str | bytes:
    """Write one column: mostly text that needs no escaping, which is seen fastest when it is one."""
    try:
        joined = '","'.join(values)  # type: ignore[arg-type]  # what is no text is told by the TypeError
    except TypeError:
        if any(isinstance(value, bytes) for value in values):
            return _bytes_array(values)  # type: ignore[arg-type]  # a column has one type
        return "{" + ",".join([_element(value) for value in values]) + "}"
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        return "{" + ",".join([_element(value) for value in values]) + "}"
    return '{"' + joined + '"}'


def _element(value: str | bytes | float | None) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "NULL" if value is None else str(value)


def _bytes_array(values: Sequence[bytes | None]) -> bytes:
    """Write a bytea[] in PostgreSQL's binary format: to parse hexadecimal takes the server longer than the insert."""
    pieces = [_ARRAY_HEAD.pack(1, 1, _BYTEA, len(values), 1)]
    for value in values:
        pieces += (_NULL,) if value is None else (_LENGTH.pack(len(value)), value)
    return b"".join(pieces)
