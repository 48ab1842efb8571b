"""The store's hot statements on PostgreSQL, each one round trip, written by hand.

What SQLAlchemy costs per statement is what would hold the store back, so these bypass its compiler. They say exactly
what the portable statements in db.message_store say for SQLite; one conformance suite runs against both.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from db.hot import send
from db.tx import NewMessage, Tx

if TYPE_CHECKING:
    from db.message_store import Claimed

_CARRIED = (
    "id, queue, type, payload, sealed, dedup_key, subject, correlation, causation, request_id, traceparent, "
    "failures, lapses, waits, claim_no"
)

# New messages as parallel arrays: one statement text for any number of rows.
_NEW_ROWS = """
    unnest(%(n_id)s::text[], %(n_queue)s::text[], %(n_type)s::text[], %(n_payload)s::text[], %(n_sealed)s::bytea[],
           %(n_dedup_key)s::text[], %(n_digest)s::bytea[], %(n_fingerprint)s::bytea[], %(n_subject)s::text[],
           %(n_correlation)s::text[], %(n_causation)s::text[], %(n_request_id)s::text[], %(n_traceparent)s::text[],
           %(n_delay_seconds)s::float8[])
        AS u(id, queue, type, payload, sealed, dedup_key, digest, fingerprint, subject, correlation, causation,
             request_id, traceparent, delay_seconds)
"""
_NEW_FIELDS = (
    *("id", "queue", "type", "payload", "sealed", "dedup_key", "digest", "fingerprint", "subject", "correlation"),
    *("causation", "request_id", "traceparent", "delay_seconds"),
)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
_INSERT_KEYS = """
    INSERT INTO message_keys (queue, digest, fingerprint, message_id)
    SELECT u.queue, u.digest, u.fingerprint, u.id FROM {source}
    ON CONFLICT DO NOTHING RETURNING message_id
"""
_INSERT_NEW = f"""
    INSERT INTO messages (id, queue, type, payload, sealed, dedup_key, subject, correlation, causation, request_id,
                          traceparent, available_at)
    SELECT u.id, u.queue, u.type, u.payload, u.sealed, u.dedup_key, u.subject, u.correlation, u.causation,
           u.request_id, u.traceparent, clock_timestamp() + make_interval(secs => u.delay_seconds)
    FROM {_NEW_ROWS} JOIN k ON k.message_id = u.id
"""  # noqa: S608 - constants

_ADD = f"""
WITH k AS ({_INSERT_KEYS.format(source=_NEW_ROWS)}), n AS ({_INSERT_NEW})
SELECT message_id FROM k
"""  # noqa: S608 - constants

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
_CLAIM_NAMED = _CLAIM.format(chosen=f"SELECT id FROM messages WHERE id = %(named)s AND {_DUE}")  # noqa: S608 - constants
_CLAIM_OLDEST = _CLAIM.format(
    chosen=f"SELECT id FROM messages WHERE {_DUE} ORDER BY available_at LIMIT %(limit)s"  # noqa: S608 - constants
)

_FINISH = f"""
WITH gone AS (
    DELETE FROM messages WHERE id = %(id)s AND claim_no = %(claim_no)s AND state = 'running'
    RETURNING {_CARRIED}, created_at, started_at, claimed_by
), h AS (
    INSERT INTO message_history ({_CARRIED}, created_at, outcome, detail, finished_at)
    SELECT {_CARRIED.replace("subject", "coalesce(%(subject)s, subject)")}, created_at, %(outcome)s, %(detail)s,
           clock_timestamp()
    FROM gone
), a AS (
    INSERT INTO message_attempts (message_id, number, started_at, ended_at, outcome, worker, provider_request_id)
    SELECT id, claim_no, started_at, clock_timestamp(), %(outcome)s, claimed_by, %(provider_request_id)s FROM gone
)"""  # noqa: S608 - constants
_FINISH_ALONE = _FINISH + " SELECT id, NULL FROM gone"  # noqa: S608 - constants
_FINISH_THEN = f"""{_FINISH}, k AS ({_INSERT_KEYS.format(source=f"gone, {_NEW_ROWS}")}), n AS ({_INSERT_NEW})
SELECT gone.id, k.message_id FROM gone LEFT JOIN k ON true
"""  # noqa: S608 - constants


def insert_messages(tx: Tx, rows: Sequence[NewMessage]) -> set[str]:
    """Insert keys and messages; return the ids whose key was new."""
    return {row[0] for row in send(tx, _ADD, _arrays(rows)).fetchall()}


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
        "types": list(types),
        "alone": alone,
        "limit": limit,
        "worker": worker,
        "lease": lease_seconds,
    }
    rows: list[Any] = send(tx, _CLAIM_NAMED, parameters | {"named": named}).fetchall() if named else []
    if len(rows) < limit:
        rows += send(tx, _CLAIM_OLDEST, parameters | {"limit": limit - len(rows)}).fetchall()
    return rows


def finish(
    tx: Tx,
    claimed: "Claimed",
    outcome: str,
    detail: str | None,
    provider_request_id: str | None,
    subject: str | None,
    new: Sequence[NewMessage],
) -> set[str] | None:
    """End a message and add its follow-ups; return the ids whose key was new, or None when the claim was lost."""
    parameters: dict[str, Any] = {
        "id": claimed.id,
        "claim_no": claimed.claim_no,
        "outcome": outcome,
        "detail": detail,
        "provider_request_id": provider_request_id,
        "subject": subject,
    }
    if new:
        parameters |= _arrays(new)
    rows = send(tx, _FINISH_THEN if new else _FINISH_ALONE, parameters).fetchall()
    return {row[1] for row in rows if row[1] is not None} if rows else None


def _arrays(rows: Sequence[NewMessage]) -> dict[str, str]:
    """Write the columns as array literals: the driver's own way from lists takes most of an insert's time."""
    return {f"n_{name}": _array(getattr(row, name) for row in rows) for name in _NEW_FIELDS}


def _array(values: Iterable[str | bytes | float | None]) -> str:
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: str | bytes | float | None) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return _bytes_element(value)
    return "NULL" if value is None else str(value)


def _bytes_element(value: bytes) -> str:
    """Sealed bytes are base64 and may stand as they are; hexadecimal would double what is sent and parsed."""
    if not value.translate(None, _BASE64):
        return f'"{value.decode()}"'
    return '"\\\\x' + value.hex() + '"'
