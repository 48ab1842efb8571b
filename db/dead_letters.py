"""Dead letters for a person: which there are, and one of them whole."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, exists, select

from contracts.catalog import TYPES
from contracts.messages import ProviderEventReceived
from db.schema import message_history, messages
from db.tx import Tx
from db.types import constant

SEALED = "[sealed]"
ERASED = "[erased]"

_LISTED = (
    *("id", "queue", "type", "subject", "request_id", "failures", "lapses", "error_class", "error", "error_group"),
    "created_at",
)


def listed(
    tx: Tx, *, ids: Sequence[str] = (), queue: str | None = None, group: str | None = None, limit: int = 100
) -> list[Row[Any]]:
    """List dead letters, oldest first, without payloads: those of these ids, of a queue, of one cause."""
    found = select(*(messages.c[name] for name in _LISTED)).where(messages.c.state == constant("dead"))
    if ids:
        found = found.where(messages.c.id.in_(ids))
    if queue is not None:
        found = found.where(messages.c.queue == queue)
    if group is not None:
        found = found.where(messages.c.error_group == group)
    return list(tx.execute(found.order_by(messages.c.created_at, messages.c.id).limit(limit)).all())


def find(tx: Tx, message_id: str) -> Row[Any] | None:
    """Return a message, live or ended, or None."""
    for table in (messages, message_history):
        row = tx.execute(select(table).where(table.c.id == message_id)).first()
        if row is not None:
            return row
    return None


def is_last_of(tx: Tx, subject: str, message_id: str) -> bool:
    """Tell whether no other dead letter is about the same subject."""
    other = exists().where(
        messages.c.subject == subject, messages.c.state == constant("dead"), messages.c.id != message_id
    )
    return not tx.execute(select(other)).scalar()


def is_erased(message: Row[Any]) -> bool:
    """Tell whether a raw event of a provider is gone: its retention was over, or a person's data were erased."""
    return message.type == ProviderEventReceived.TYPE and message.sealed is None


def payload(tx: Tx, message: Row[Any], *, reveal: bool) -> dict[str, Any]:
    """Return what a message says; sealed fields are named, and opened only for `reveal`."""
    fields: dict[str, Any] = json.loads(message.payload)
    if message.sealed is None:
        return fields | (dict.fromkeys(sorted(ProviderEventReceived.SEALED), ERASED) if is_erased(message) else {})
    if reveal:
        return fields | tx.sealer.open_json(message.sealed)
    model = TYPES.get(message.type)
    return fields | dict.fromkeys(sorted(model.SEALED) if model else ["sealed"], SEALED)
