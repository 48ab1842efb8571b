"""One database, two kinds of transaction, and what happens right after a commit.

    begin()  writes: on SQLite one at a time per process (BEGIN IMMEDIATE), on PostgreSQL as many as the pool has
    read()   looks: never waits for a writer on either

After a commit the deliveries of the messages that were added go to `after_commit`, best effort: a lost one costs time,
never a message.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from enum import StrEnum

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from contracts.delivery import Delivery
from db import message_store
from db.hot import session_of
from db.sealing import Sealer
from db.tx import Cause, Tx

# Server-side bounds on every connection, in milliseconds: no statement, lock or forgotten transaction holds others up.
STATEMENT_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_MS = 2_000
SHARED_LOCK_TIMEOUT_MS = 100
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000
SQLITE_BUSY_TIMEOUT_SECONDS = 15.0

AfterCommit = Callable[[Sequence[tuple[str, Delivery]]], None]


class Database:
    """An engine, its sealer, and the hook after a commit."""

    def __init__(self, url: str, sealer: Sealer, *, pool_size: int = 10) -> None:
        """Prepare an engine; nothing connects before first use."""
        self.url = make_url(url)
        self.sealer = sealer
        self.after_commit: AfterCommit | None = None
        self.engine = _sqlite(self.url, pool_size) if self.is_sqlite else _postgres(self.url, pool_size)
        self._outages = _Outages(self.engine)
        self._turns = _Turns()

    @property
    def is_sqlite(self) -> bool:
        """Tell which of the two databases this is."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def begin(self, cause: Cause | None = None, *, is_shared: bool = False) -> Iterator[Tx]:
        """Open a write transaction: commit at the end of the block, roll back on any exception.

        One that several messages share waits for locks only for a moment: it holds those of its first ones meanwhile.
        """
        with self._turns.take() if self.is_sqlite else nullcontext(), self._connected() as connection:
            tx = self._tx(connection, cause)
            tx.begun = self.is_sqlite
            if is_shared:
                tx.begin_with = b"BEGIN; SET LOCAL lock_timeout = %d" % SHARED_LOCK_TIMEOUT_MS
            yield tx
            message_store.flush(tx)
        self.announce(tx)

    @contextmanager
    def at_once(self) -> Iterator[Tx]:
        """Open a transaction of one statement: on PostgreSQL it commits by itself."""
        if self.is_sqlite:
            with self.begin() as tx:
                yield tx
            return
        with self._connected() as connection:
            tx = self._tx(connection, None)
            yield tx
        self.announce(tx)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Give a connection whose work commits at the end."""
        with self.engine.begin() as connection, self._cleaned(connection):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """Open a transaction that only looks."""
        with self.engine.connect() as connection, self._cleaned(connection):
            yield self._tx(connection.execution_options(paylinks_read=True), None)

    @contextmanager
    def _cleaned(self, connection: Connection) -> Iterator[None]:
        """Roll back what failed, and give no connection back that broke."""
        try:
            yield
        except BaseException as error:
            if not self.is_sqlite and not connection.invalidated:
                session_of(connection).roll_back()
                if isinstance(error, psycopg.Error) and trouble_of(error) is Trouble.OUTAGE:
                    self._outages.forsake(connection)
            raise

    def announce(self, tx: Tx) -> None:
        """Tell the broker, best effort, what a committed transaction added."""
        if tx.due and self.after_commit is not None:
            self.after_commit([(queue, delivery()) for queue, delivery in tx.due])

    def _tx(self, connection: Connection, cause: Cause | None) -> Tx:
        return Tx(connection, self.sealer, cause or Cause.new(), is_postgres=not self.is_sqlite)

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


class _Outages:
    """Counts outages, so that no connection from before one is used after it: the pool closes it, and connects anew."""

    def __init__(self, engine: Engine) -> None:
        self._number = 0
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "checkout", self._checked_out)

    def _connected(self, connection: object, record: ConnectionPoolEntry) -> None:
        record.info["outages"] = self._number

    def _checked_out(self, connection: object, record: ConnectionPoolEntry, proxy: object) -> None:
        if record.info["outages"] != self._number:
            raise DisconnectionError

    def forsake(self, connection: Connection) -> None:
        """Close a connection that broke; those that are as old as it will be, before anybody uses them."""
        if connection.info["outages"] == self._number:
            self._number += 1
        connection.invalidate()


class _Turns:
    """SQLite's one writer at a time. Who waits first writes next: no busy thread overtakes him again and again."""

    def __init__(self) -> None:
        # A lock that knows its owner: whoever is interrupted while he waits gives back what he has, and nothing else.
        self._next = threading.RLock()
        self._writing = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Write alone for the length of the block. A run over its time limit may be interrupted on any line of this."""
        try:
            self._next.acquire()
            with self._writing:
                self._next.release()
                yield
        finally:
            with suppress(RuntimeError):  # it is not ours any more
                self._next.release()


def _postgres(url: URL, pool_size: int) -> Engine:
    options = (
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} -c timezone=UTC "
        # Our prepared statements find rows by key: one plan serves every value, and planning again costs more. It is
        # often made while a table is still empty, and must serve when it is full: so indexes go before scans, whose
        # price (a scan without an index stays possible) would only wake the JIT compiler.
        "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
    )
    return create_engine(
        url,
        # We send BEGIN ourselves, and none where one statement is the whole transaction.
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # errors are logged, and parameters may be personal
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args={"options": options, "connect_timeout": 5, "application_name": "paylinks"},
    )


def _sqlite(url: URL, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=20,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        # FULL: a commit that was answered survives a power cut, not only a crash of ours.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads before it writes would fail as "locked" half-way when it began deferred.
        reads = connection.get_execution_options().get("paylinks_read")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


class Trouble(StrEnum):
    """What a database error means to somebody who holds a message."""

    OUTAGE = "outage"  # the database is not there: nothing is known to be wrong with the message
    BUSY = "busy"  # a lock was not had in time: the same will work in a moment
    ERROR = "error"


_OUTAGE_STATES = ("08", "57P", "53300", "25P03")
# A lock not had, a deadlock, a serialization failure, a prepared statement that somebody deallocated.
_BUSY_STATES = ("55P03", "40P01", "40001", "26000")


def trouble_of(error: BaseException) -> Trouble | None:
    """Classify a database error; None for any other exception."""
    if isinstance(error, PoolTimeout):
        return Trouble.BUSY
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, psycopg.Error | sqlite3.Error):
        return None
    state = getattr(origin, "sqlstate", None) or ""
    if state.startswith(_BUSY_STATES) or "database is locked" in str(origin):
        return Trouble.BUSY
    # psycopg gives no state when the connection itself is gone.
    lost = isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError) and not state
    return Trouble.OUTAGE if lost or state.startswith(_OUTAGE_STATES) else Trouble.ERROR
