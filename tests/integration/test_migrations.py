"""The migrated schema is the one that the program was written against, and two runs at once do no harm."""

import re
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db import audit, migrate
from db.database import Database
from db.schema import metadata
from db.sealing import Sealer, new_key


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request, tmp_path):
    """Opens empty databases, or the same one again by its URL."""
    opened = []

    def open_(url=None):
        if url is None and request.param == "sqlite":
            url = f"sqlite:///{tmp_path}/{len(opened)}.db"
        elif url is None:
            url = request.getfixturevalue("make_database")()
        opened.append(Database(url, Sealer([new_key()])))
        return opened[-1]

    yield open_
    for database in opened:
        database.dispose()


@pytest.fixture
def migrated(open_database):
    database = open_database()
    migrate.upgrade(database)
    return database


def test_the_migrated_schema_is_the_one_that_the_program_knows(migrated):
    with migrated.read() as tx:
        assert compare_metadata(MigrationContext.configure(tx.connection), metadata) == []


def test_it_is_the_same_to_the_last_predicate_collation_and_storage_parameter(migrated, open_database):
    # Alembic's comparison does not see these.
    wanted = open_database()
    metadata.create_all(wanted.engine)

    assert described(migrated) == described(wanted)


def described(database):
    """Everything that the database itself says about its tables."""
    with database.read() as tx:
        if database.is_sqlite:
            rows = tx.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type != 'trigger'"))
        else:
            rows = tx.execute(text(_CATALOG))
        found = [row for row in rows if not str(row[0]).startswith("alembic_version") and row[2] != "alembic_version"]
    # The order of constraints within a statement says nothing; the order of columns is PostgreSQL's to tell. SQLite
    # quotes the name of a table that was built anew.
    return {(*row[:3], *sorted(_parts(str(row[3]).replace(f'TABLE "{row[1]}"', f"TABLE {row[1]}")))) for row in found}


def _parts(sql):
    """The columns and constraints of a statement: what commas outside parentheses part."""
    return [part.strip(" \t\n") for part in re.split(r",\s+(?![^()]*\))|\n", sql)]


_CATALOG = """
SELECT table_name::text, column_name::text, ordinal_position::text,
       concat_ws('|', data_type, collation_name, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT tablename::text, indexname::text, 'index', indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT conrelid::regclass::text, conname::text, contype::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT relname::text, 'storage', relkind::text, array_to_string(reloptions, ',')
FROM pg_class WHERE relnamespace = 'public'::regnamespace
"""


def test_a_migrated_database_is_at_the_head_and_there_is_nothing_left_to_do(open_database):
    database = open_database()
    assert migrate.current(database) is None

    applied = migrate.upgrade(database)

    assert applied[-1] == migrate.head() == migrate.current(database)
    assert migrate.upgrade(database) == []


def test_runs_at_the_same_moment_apply_each_migration_once(open_database):
    url = open_database().url
    databases = [open_database(url) for _ in range(4)]
    start, applied, failed = threading.Barrier(4), [], []

    def run(database):
        start.wait()
        try:
            applied.append(migrate.upgrade(database))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert migrate.current(databases[0]) == migrate.head()


def test_a_run_that_finds_another_one_at_work_waits_and_says_so_in_the_end(make_database):
    database = Database(make_database(), Sealer([new_key()]))
    with database.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:id)"), {"id": migrate.LOCK_ID})
        began = time.monotonic()
        with pytest.raises(migrate.MigrationError, match="another migration"):
            migrate.upgrade(database, wait_seconds=1)
        assert time.monotonic() - began >= 1
    database.dispose()


def test_a_database_of_a_newer_program_is_refused(migrated):
    with migrated.begin() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migrate.MigrationError, match="newer program"):
        migrate.upgrade(migrated)


def test_tables_that_no_migration_made_are_refused(open_database):
    database = open_database()
    metadata.create_all(database.engine)
    with pytest.raises(migrate.MigrationError, match="no revision"):
        migrate.upgrade(database)


def test_there_is_no_way_back_but_a_backup():
    scripts = ScriptDirectory.from_config(migrate.config())
    revisions = list(scripts.walk_revisions())
    assert revisions
    assert not any(hasattr(script.module, "downgrade") for script in revisions)
    assert not hasattr(migrate, "downgrade")


def test_revisions_are_numbered_in_their_order():
    names = [script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()]
    assert names[::-1] == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert all(re.fullmatch(r"\d{4}", name) for name in names)


# --- the audit trail ------------------------------------------------------------------------------------------------

CHANGES = {
    "update": "UPDATE audit SET reason = 'another'",
    "delete": "DELETE FROM audit",
    "delete_nothing_much": "DELETE FROM audit WHERE action = 'link.created'",
}


@pytest.fixture
def audited(migrated):
    with migrated.begin() as tx:
        audit.write(tx, actor="ani", action="link.created", subject="i1", reason="the first one")
    return migrated


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
def test_the_database_refuses_to_change_the_audit_trail(audited, statement):
    with pytest.raises(DBAPIError, match="audit is append-only"), audited.begin() as tx:
        tx.execute(text(statement))
    assert reasons(audited) == ["the first one"]


def test_postgresql_refuses_to_empty_the_audit_trail(make_database):
    database = Database(make_database(), Sealer([new_key()]))
    migrate.upgrade(database)
    for statement in ("TRUNCATE audit", "TRUNCATE audit, invoices CASCADE"):
        with pytest.raises(DBAPIError, match="audit is append-only"), database.begin() as tx:
            tx.execute(text(statement))
    database.dispose()


def test_postgresql_refuses_also_a_session_that_passes_triggers_by(make_database):
    database = Database(make_database(), Sealer([new_key()]))
    migrate.upgrade(database)
    with pytest.raises(DBAPIError, match="audit is append-only"), database.begin() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        tx.execute(text("DELETE FROM audit"))
    database.dispose()


def test_sqlite_refuses_to_replace_a_row_of_the_audit_trail(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.db", Sealer([new_key()]))
    migrate.upgrade(database)
    with database.begin() as tx:
        audit.write(tx, actor="ani", action="link.created", subject="i1", reason="the first one")
    with pytest.raises(DBAPIError, match="audit is append-only"), database.begin() as tx:
        tx.execute(
            text(
                "INSERT OR REPLACE INTO audit (id, actor, action, subject, reason, request_id) "
                "SELECT id, actor, action, subject, 'another', request_id FROM audit"
            )
        )
    assert reasons(database) == ["the first one"]
    database.dispose()


def reasons(database):
    with database.read() as tx:
        return list(tx.execute(text("SELECT reason FROM audit")).scalars())
