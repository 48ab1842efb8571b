"""Statements that bypass SQLAlchemy and cursors: what they must not lose by it."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import text

from contracts.messages import CrmUpdate
from db import attempts, audit, customer_pages, exceptions, fused, intents, invoices, ledger, links, message_store
from db.database import Database, Trouble, trouble_of
from db.hot import Compiled, Hot, Prepared
from db.sealing import Sealer
from db.tx import Tx
from tests.services.postgres import conninfo
from tests.support import DATA_KEY, claim, finish, open_database, put, update

MODULES = (attempts, audit, customer_pages, exceptions, fused, intents, invoices, ledger, links, message_store)


@pytest.fixture
def database(clean_postgres: str) -> Iterator[Database]:
    opened = Database(clean_postgres, Sealer([DATA_KEY]), pool_size=1)
    yield opened
    opened.dispose()


def prepared(tx: Tx) -> set[str]:
    """The statements of ours that the server knows on this connection."""
    names = tx.execute(text("SELECT name FROM pg_prepared_statements WHERE name LIKE 'paylinks%'"))
    return set(names.scalars())


def test_a_transaction_that_is_rolled_back_keeps_the_prepared_statements(database: Database) -> None:
    put(database, update(1))
    with database.begin() as tx:
        before = prepared(tx)

    with pytest.raises(RuntimeError), database.begin() as tx:
        tx.then(update(2))
        assert prepared(tx) == before
        raise RuntimeError("undone")
    with pytest.raises(LookupError), database.begin() as tx:
        invoices.lock(tx, "nobody")

    put(database, update(3))
    with database.begin() as tx:
        assert prepared(tx) > before
    assert [one.dedup_key for one in claim(database)] == [update(1).key(), update(3).key()]


def test_a_transaction_that_the_server_refused_is_over_on_its_connection(database: Database) -> None:
    with pytest.raises(Exception, match="nonsense"), database.begin() as tx:
        tx.execute(text("SELECT nonsense"))

    put(database, update(1))

    (claimed,) = claim(database)
    finish(database, claimed)


def test_statements_that_somebody_deallocated_are_prepared_again(database: Database) -> None:
    put(database, update(1))
    with database.begin() as tx:
        tx.execute(text("DEALLOCATE ALL"))

    with pytest.raises(Exception, match="does not exist") as caught:
        put(database, update(2))

    assert trouble_of(caught.value) is Trouble.BUSY, "whoever holds a message gives it back, and nothing is counted"
    put(database, update(2))
    assert len(claim(database)) == 2


def test_after_one_broken_connection_no_other_of_its_age_is_used(clean_postgres: str) -> None:
    """Else a short outage would cost as many runs as there are connections; and none is left to the collector."""
    database = open_database(clean_postgres)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(database.at_once())
    put(database, update(1))
    with psycopg.connect(conninfo(clean_postgres), autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    with pytest.raises(Exception, match=r"connection|terminat") as caught:
        claim(database)
    assert trouble_of(caught.value) is Trouble.OUTAGE

    (claimed,) = claim(database)
    finish(database, claimed)
    with ExitStack() as held:
        for revision in range(2, 6):
            held.enter_context(database.at_once())
            put(database, update(revision))
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        database.dispose()
        gc.collect()
    assert [str(one.message) for one in left_open if "psycopg" in str(one.message)] == []


def test_every_hot_statement_finds_its_rows_by_an_index(clean_postgres: str) -> None:
    """Planned once, on tables that are still empty: what is planned then must serve when they are full."""
    database = open_database(clean_postgres)
    with database.begin() as tx:
        for statement in hot_statements():
            tx.session.prepare(statement._name, statement._sql)
        known = tx.execute(text("SELECT name, statement, cardinality(parameter_types) FROM pg_prepared_statements"))
        plans = {row[1]: _plan(tx, row[0], row[2] or 0) for row in known.all() if row[0].startswith("paylinks")}
    database.dispose()

    assert len(plans) > 30
    assert [statement for statement, plan in plans.items() if "Seq Scan" in plan] == []


def hot_statements() -> list[Prepared]:
    """Every statement of ours that is prepared."""
    found = [value for module in MODULES for value in vars(module).values() if isinstance(value, Prepared | Hot)]
    return [one if isinstance(one, Prepared) else one.prepared() for one in found]


def test_every_hot_statement_finds_its_rows_by_an_index_on_sqlite(clean_sqlite: str) -> None:
    """A scan of the queue would hold the one writer for longer, the more messages wait."""
    found = [value for module in MODULES for value in vars(module).values() if isinstance(value, Compiled | Hot)]
    statements = [one if isinstance(one, Compiled) else one.compiled() for one in found]
    types = (CrmUpdate.TYPE, "another.type")
    statements += [message_store._looking(types, alone) for alone in (False, True)]
    statements += [
        message_store._claiming(types, alone, is_named=named) for alone in (False, True) for named in (False, True)
    ]
    database = open_database(clean_sqlite)
    with database.read() as tx:
        plans = {one.sql: _plan_on_sqlite(tx, one) for one in statements}
    database.dispose()

    assert len(plans) > 40
    assert [(sql, plan) for sql, plan in plans.items() if "SCAN" in plan and "CONSTANT ROW" not in plan] == []


@pytest.mark.parametrize("kind", ["clean_postgres", "clean_sqlite"])
def test_a_forgotten_parameter_is_an_error_and_never_null(kind: str, request: pytest.FixtureRequest) -> None:
    database = open_database(request.getfixturevalue(kind))
    with database.read() as tx, pytest.raises(KeyError, match="attempt_id"):
        attempts._GET.rows(tx)
    database.dispose()


def _plan_on_sqlite(tx: Tx, statement: Compiled) -> str:
    given = dict.fromkeys(statement.parameters)
    rows = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", given)
    return "\n".join(row.detail for row in rows)


def _plan(tx: Tx, name: str, parameters: int) -> str:
    given = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
    return "\n".join(tx.execute(text(f"EXPLAIN EXECUTE {name}{given}")).scalars())


def test_rows_have_attributes_and_a_mapping(database: Database) -> None:
    put(database, update(7))
    (claimed,) = claim(database, CrmUpdate)

    with database.begin() as tx:
        row = Hot(text("SELECT 'a' AS first, 2 AS second, NULL AS third")).first(tx)

    assert (row.first, row.second, row.third) == ("a", 2, None)
    assert dict(row._mapping) == {"first": "a", "second": 2, "third": None}
    assert claimed.message(database.sealer) == update(7)
