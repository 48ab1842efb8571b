"""One open transaction, what caused it, and the messages that it will add.

`tx.then(message)` is how the next step is asked for: the message is written with the change that caused it, or not at
all. Rows are added together at the end, in the order of their keys, so that two transactions cannot lock each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import Connection, CursorResult, Row
from sqlalchemy.sql import Executable

from contracts.base import Message, key_digest
from contracts.catalog import QUEUES
from contracts.delivery import Delivery
from contracts.ids import new_id
from db.hot import Session, session_of
from db.sealing import Sealer

# A row whose columns are attributes: what the aggregates give to code that knows no SQL.
Record = Row[Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is written: support follows these from the CRM's event to the last task."""

    request_id: str
    correlation: str | None = None  # the first message of the whole story
    causation: str | None = None  # the message right before this one
    traceparent: str | None = None

    @classmethod
    def new(cls, request_id: str | None = None, traceparent: str | None = None) -> "Cause":
        """Begin a story; a request id is made when the caller has none."""
        return cls(request_id or new_id(), traceparent=traceparent)


class NewMessage(NamedTuple):
    """A message as it will be stored."""

    id: str
    queue: str
    type: str
    payload: str
    sealed: bytes | None
    dedup_key: str
    digest: bytes
    fingerprint: bytes
    subject: str
    correlation: str
    causation: str | None
    request_id: str
    traceparent: str | None
    delay_seconds: float
    home: str  # the catalog's queue: keys are told apart by it, wherever the message waits

    def delivery(self) -> Delivery:
        """Name it for the broker."""
        return Delivery.model_construct(
            id=self.id,
            type=self.type,
            key=self.dedup_key,
            subject=self.subject,
            request_id=self.request_id,
            traceparent=self.traceparent,
        )


def prepare(message: Message, cause: Cause, sealer: Sealer, delay_seconds: float = 0.0) -> NewMessage:
    """Turn a message into its row; personal fields go into the sealed part."""
    fields = message.model_dump(mode="json", exclude_defaults=True)
    fingerprint = message.fingerprint_of(fields)
    personal = {name: fields.pop(name) for name in message.SEALED if name in fields}
    message_id = new_id()
    key = message.key()
    home = QUEUES[type(message)].value
    return NewMessage(
        id=message_id,
        queue=home,
        type=message.TYPE,
        payload=to_json(fields).decode(),
        sealed=sealer.seal_json(personal) if personal else None,
        dedup_key=key,
        digest=key_digest(key),
        fingerprint=fingerprint,
        subject=message.subject(),
        correlation=cause.correlation or message_id,
        causation=cause.causation,
        request_id=cause.request_id,
        traceparent=cause.traceparent,
        delay_seconds=float(delay_seconds),
        home=home,
    )


@dataclass(slots=True)
class Tx:
    """One open transaction."""

    raw: Connection
    sealer: Sealer
    cause: Cause
    is_postgres: bool
    # On PostgreSQL we send BEGIN before the first statement; on SQLite, and for one statement alone, there is none.
    begun: bool = True
    begin_with: bytes = b"BEGIN"
    pending: list[NewMessage] = field(default_factory=list)
    # (queue, what makes its delivery) of messages that are due at once: published after the commit.
    due: list[tuple[str, Callable[[], Delivery]]] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        """SQLAlchemy's connection, inside the transaction."""
        self.ensure_begun()
        return self.raw

    def ensure_begun(self) -> None:
        """Send BEGIN before the first statement."""
        if not self.begun:
            self.begun = True
            session_of(self.raw).send(self.begin_with)

    @property
    def session(self) -> Session:
        """PostgreSQL's connection inside the transaction, for statements that bypass SQLAlchemy."""
        self.ensure_begun()
        return session_of(self.raw)

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement."""
        return self.connection.execute(statement, parameters)

    def then(self, message: Message, *, delay_seconds: float = 0.0, queue: str | None = None) -> str:
        """Add a message with this transaction; return the id that it gets unless its key is known already.

        `queue` is another one than the catalog's, where its stage is served too.
        """
        new = prepare(message, self.cause, self.sealer, delay_seconds)
        if queue is not None:
            new = new._replace(queue=queue)
        self.pending.append(new)
        return new.id
