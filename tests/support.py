"""Small things that many tests need: databases of both kinds, and rows without ceremony."""

from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from contracts.base import Message
from contracts.catalog import QUEUES
from contracts.messages import CrmUpdate
from db import message_store
from db.database import Database
from db.message_store import Claimed
from db.migrate import upgrade
from db.schema import metadata
from db.sealing import Sealer, new_key
from db.tx import Cause
from tests.services.postgres import conninfo

DATA_KEY = new_key()
APPEND_ONLY = ("audit", "audit_seals", "audit_sealed")


def open_database(url: str) -> Database:
    """Migrate an empty database and open it."""
    database = Database(url, Sealer([DATA_KEY]))
    upgrade(database)
    return database


def empty(postgres_url: str) -> None:
    """Delete every row, of the append-only tables too, as only the tables' owner can."""
    with psycopg.connect(conninfo(postgres_url)) as connection:
        set_guards(connection, "DISABLE")
        for table in reversed(metadata.sorted_tables):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        set_guards(connection, "ENABLE")


def set_guards(connection: psycopg.Connection, to: LiteralString) -> None:
    """DISABLE or ENABLE what refuses changes of the append-only tables."""
    for table in APPEND_ONLY:
        statement = sql.SQL("ALTER TABLE {} " + to + " TRIGGER USER")
        connection.execute(statement.format(sql.Identifier(table)))


def update(revision: int, invoice: str = "invoice-1") -> CrmUpdate:
    """Make a message that nothing but its key matters of."""
    return CrmUpdate(invoice=invoice, revision=revision)


def put(database: Database, *messages: Message, delay_seconds: float = 0.0) -> list[message_store.AddResult]:
    """Add messages, each in a transaction of its own."""
    results = []
    for message in messages:
        with database.begin(Cause.new()) as tx:
            results.append(message_store.add(tx, message, delay_seconds=delay_seconds))
    return results


def claim(
    database: Database,
    model: type[Message] = CrmUpdate,
    *,
    limit: int = 16,
    lease_seconds: float = 30.0,
    worker: str = "worker",
    named: str | None = None,
    alone: bool = False,
    types: Sequence[str] | None = None,
) -> list[Claimed]:
    """Claim what is due in the queue of a model."""
    with database.begin() as tx:
        return message_store.claim(
            tx,
            QUEUES[model].value,
            [model.TYPE] if types is None else types,
            worker=worker,
            limit=limit,
            lease_seconds=lease_seconds,
            named=named,
            alone=alone,
        )


def finish(database: Database, claimed: Claimed, *then: Message, outcome: str = "done") -> None:
    """Finish a claimed message with follow-ups."""
    with database.begin(Cause(claimed.request_id, claimed.correlation, claimed.id)) as tx:
        for message in then:
            tx.then(message)
        message_store.finish(tx, message_store.Ending(claimed, outcome))
