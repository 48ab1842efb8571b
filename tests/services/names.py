"""Room of one's own on a shared server."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.services.postgres import conninfo


def unique_prefix() -> str:
    """A short name nobody else has, for queues, exchanges and keys."""
    return f"t{os.getpid():x}{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def fresh_database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """An empty database on a server, or a copy of `template`; dropped at the end with whoever still uses it."""
    name = f"paylinks_{unique_prefix()}"
    create = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    _execute(server_url, create)
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        _execute(server_url, drop)


def _execute(url: str, statement: sql.Composed) -> None:
    # A database is created and dropped outside transactions.
    with psycopg.connect(conninfo(url), autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement)
