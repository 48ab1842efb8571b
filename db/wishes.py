"""Find what became of a wish by its key alone: for whoever asked earlier and comes back."""

from dataclasses import dataclass

from sqlalchemy import select

from contracts.base import Message, key_digest
from contracts.catalog import QUEUES
from db import message_store
from db.schema import message_keys
from db.tx import Tx


@dataclass(frozen=True, slots=True)
class Wish:
    """The message that a wish became. `state`: ready, running, dead, or the outcome it ended with."""

    message_id: str
    state: str


def find(tx: Tx, message: Message) -> Wish | None:
    """Return what became of this wish; None: it was never made."""
    named = select(message_keys.c.message_id).where(
        message_keys.c.queue == QUEUES[type(message)].value, message_keys.c.digest == key_digest(message.key())
    )
    message_id = tx.execute(named).scalar()
    return None if message_id is None else Wish(message_id, message_store.state_of(tx, message_id))
