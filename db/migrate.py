"""Bring a database to the schema of this program. Forward only: a backup is the way back.

Each migration works with the program before it, so that copies of the program may be replaced one by one. Two runs at
the same time do no harm: on PostgreSQL an advisory lock lets one through, on SQLite the write lock does.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text

from db.database import Database, Trouble, trouble_of

# Which advisory lock is ours: the first eight bytes of SHA-256("paylinks.migrate"), as a signed number.
LOCK_ID = -3_299_662_123_031_897_472
WAIT_SECONDS = 600.0
PAUSE_SECONDS = 0.5
# A statement that waits for a table's lock makes everybody behind it wait too: give up soon, and try again.
LOCK_TIMEOUT_MS = 3_000


class MigrationError(Exception):
    """The database cannot be brought to this program's schema; the text says why and what to do."""


def upgrade(database: Database, *, wait_seconds: float = WAIT_SECONDS) -> list[str]:
    """Apply what is missing and return the applied revisions, oldest first; empty: there was nothing to do.

    Waits for another run and for locks of a busy program. Raises MigrationError after `wait_seconds`.
    """
    until = time.monotonic() + wait_seconds
    while True:
        try:
            return _upgrade_once(database, until)
        except Exception as error:
            if trouble_of(error) is not Trouble.BUSY or time.monotonic() > until:
                raise
            time.sleep(PAUSE_SECONDS)


def current(database: Database) -> str | None:
    """Return the database's revision; None: it was never migrated."""
    with database.read() as tx:
        return MigrationContext.configure(tx.connection).get_current_revision()


def head() -> str:
    """Return the revision that this program needs."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise MigrationError("this installation holds no migrations: install the package again")
    return revision


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; the scripts travel inside the package."""
    made = Config()
    made.set_main_option("script_location", "db:migrations")
    made.attributes["connection"] = connection
    return made


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(config())


def _known_revision(database: Database) -> str | None:
    # Tables first: another run writes them and the revision together, and must not look like a stranger.
    with database.read() as tx:
        has_tables = inspect(tx.connection).has_table("messages")
    revision = current(database)
    if revision is None and has_tables:
        raise MigrationError("there are tables of ours but no revision: `paylinks migrate` did not make them")
    if revision is not None and revision not in {script.revision for script in _scripts().walk_revisions()}:
        raise MigrationError(
            f"the database is at revision {revision}, which this program does not know: a newer program migrated it"
        )
    return revision


def _upgrade_once(database: Database, until: float) -> list[str]:
    before = _known_revision(database)
    if database.is_sqlite:
        with database.engine.begin() as connection:
            command.upgrade(config(connection), "head")
    else:
        engine = _patient_engine(database)
        with _alone(engine, until), engine.connect() as connection:
            command.upgrade(config(connection), "head")
    return _between(before, current(database))


def _patient_engine(database: Database) -> Engine:
    """Make connections whose statements may take hours: the program's own are stopped after seconds."""
    options = f"-c statement_timeout=0 -c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC"
    arguments = {"options": options, "connect_timeout": 5, "application_name": "paylinks-migrate"}
    return create_engine(database.url, poolclass=NullPool, connect_args=arguments)


@contextmanager
def _alone(engine: Engine, until: float) -> Iterator[None]:
    """Hold the advisory lock; the server lets it go when this connection ends, however that comes."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(text("SELECT pg_try_advisory_lock(:id)"), {"id": LOCK_ID}).scalar():
            if time.monotonic() > until:
                raise MigrationError("another migration has been running all the time: see what it waits for")
            time.sleep(PAUSE_SECONDS)
        yield


def _between(before: str | None, after: str | None) -> list[str]:
    if after is None or after == before:
        return []
    steps = _scripts().iterate_revisions(after, before or "base")
    return [script.revision for script in steps][::-1]
