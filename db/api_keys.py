"""API keys: who may send invoices by HTTP, and for which CRMs.

A key is shown once, when it is made. Kept is only its SHA-256: 256 random bits need no slow hash, and looking a hash up
tells an attacker nothing by its time.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from contracts.ids import new_id
from db import audit
from db.schema import api_keys
from db.tx import Tx
from db.types import db_now

PREFIX = "plk_live_"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    id: str
    name: str
    crms: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


def create(tx: Tx, name: str, crms: Iterable[str], *, actor: str, reason: str = "") -> tuple[str, str]:
    """Make a key that speaks for some CRMs; return its id and the key itself, which nobody can show again."""
    bound = sorted(set(crms))
    if not bound:
        raise ValueError("an API key is bound to at least one CRM")
    key_id, key = new_id(), PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    tx.execute(insert(api_keys).values(id=key_id, name=name, secret_hash=_hash(key), crms=json.dumps(bound)))
    audit.write(tx, actor=actor, action="api_key.created", subject=key_id, reason=reason, crms=bound)
    return key_id, key


def authenticate(tx: Tx, key: str) -> ApiKey | None:
    """Return the key's bearer, or None: unknown or revoked."""
    live = select(api_keys).where(api_keys.c.secret_hash == _hash(key), api_keys.c.revoked_at.is_(None))
    row = tx.execute(live).first()
    return _read(row) if row is not None else None


def listed(tx: Tx) -> list[ApiKey]:
    """Return every key, oldest first, the revoked ones too."""
    return [_read(row) for row in tx.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))]


def revoke(tx: Tx, key_id: str, *, actor: str, reason: str) -> bool:
    """End a key at once; False: there is no such key, or it was revoked before."""
    revoked = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    if not tx.execute(revoked.values(revoked_at=db_now())).rowcount:
        return False
    audit.write(tx, actor=actor, action="api_key.revoked", subject=key_id, reason=reason)
    return True


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read(row: Row[Any]) -> ApiKey:
    return ApiKey(row.id, row.name, frozenset(json.loads(row.crms)), row.created_at, row.revoked_at)
