"""The chain over the audit trail: whoever changes, removes, inserts or cuts off a row is found out."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, text

from db import audit, audit_chain
from db.audit_chain import Head
from db.database import Database
from db.prove import prove
from db.schema import audit as audit_rows
from db.types import db_after
from tests.commands import run, use_settings
from tests.support import APPEND_ONLY, DATA_KEY, open_database


@pytest.fixture
def database(clean_url: str) -> Iterator[Database]:
    opened = open_database(clean_url)
    yield opened
    opened.dispose()


def write(database: Database, *actions: str) -> None:
    for action in actions:
        with database.begin() as tx:
            audit.write(tx, actor="operator:ani", action=action, subject="i-1", reason="because", link="l-1")


def sealed(database: Database, count: int = 9, *, batch: int = 4) -> Head:
    """Write rows, seal them in several batches, and return the head."""
    write(database, *(f"deed.{number}" for number in range(count)))
    heads = []
    while (head := audit_chain.seal(database, batch=batch)) is not None:
        heads.append(head)
    return heads[-1]


def tamper(database: Database, *statements: str) -> None:
    """Do what only an administrator of the database can: switch its guards off first."""
    with database.begin() as tx:
        if tx.is_postgres:
            for table in APPEND_ONLY:
                tx.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        else:
            named = tx.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            for name in named:
                tx.execute(text(f"DROP TRIGGER {name}"))
    with database.begin() as tx:
        for statement in statements:
            assert tx.execute(text(statement)).rowcount, statement


def found(database: Database, known: Head | None = None) -> list[str]:
    return [f"{one.row}: {one.what}" for one in audit_chain.verify(database, known)]


def id_of(database: Database, action: str) -> str:
    with database.read() as tx:
        return str(tx.execute(text("SELECT id FROM audit WHERE action = :action"), {"action": action}).scalar_one())


def seal_of(database: Database, row: str) -> int:
    """Rows of one millisecond have no order among themselves, so which seal took a row is looked up."""
    with database.read() as tx:
        found = text("SELECT seal_number FROM audit_sealed WHERE audit_id = :row")
        return int(tx.execute(found, {"row": row}).scalar_one())


def test_a_trail_that_nobody_touched_is_whole(database: Database) -> None:
    head = sealed(database)
    assert head.number == 3
    assert found(database, head) == []
    assert audit_chain.seal(database) is None, "nothing new"
    write(database, "deed.later")
    assert found(database, head) == [], "what is not sealed yet is no breach"
    newest = audit_chain.seal(database)
    assert newest is not None
    assert newest.number == 4
    assert found(database, newest) == found(database, head) == []


@pytest.mark.parametrize("column", ["actor", "action", "subject", "reason", "request_id", "detail", "created_at"])
def test_a_changed_row_is_found(database: Database, column: str) -> None:
    sealed(database)
    changed = id_of(database, "deed.5")
    other = "'2026-01-01 00:00:00.000000'" if column == "created_at" else "'x'"
    seal = seal_of(database, changed)
    tamper(database, f"UPDATE audit SET {column} = {other} WHERE id = '{changed}'")
    assert found(database) == [f"audit {changed}: was changed after it was sealed in {seal}"]


def test_a_missing_row_is_found(database: Database) -> None:
    sealed(database)
    gone = id_of(database, "deed.5")
    seal = seal_of(database, gone)
    tamper(database, f"DELETE FROM audit WHERE id = '{gone}'")
    assert found(database) == [f"audit {gone}: was sealed in {seal}, and is missing"]


def test_an_inserted_row_is_found(database: Database) -> None:
    sealed(database)
    with database.begin() as tx:
        said = {"actor": "ani", "action": "deed", "subject": "i-1", "reason": "r", "request_id": "q"}
        tx.execute(insert(audit_rows).values(id="zz", created_at=db_after(-86_400), **said))
    assert audit_chain.seal(database) is None, "it is older than what was sealed: no seal makes it true"
    assert found(database) == ["audit zz: stands among sealed rows, and was never sealed"]


_LIST = "seal 2: its list of rows was changed"
_OTHER = "SELECT previous FROM audit_seals WHERE number = 1"


@pytest.mark.parametrize(
    ("statements", "what"),
    [
        (["DELETE FROM audit_seals WHERE number = 2"], "seals 2 to 2: are missing"),
        (["DELETE FROM audit_sealed WHERE seal_number = 2 AND place = 1"], _LIST),
        (
            [f"UPDATE audit_sealed SET row_digest = ({_OTHER}) WHERE seal_number = 2"],
            _LIST,
        ),
        (["UPDATE audit_seals SET previous = digest WHERE number = 2"], "seal 2: does not follow the one before"),
    ],
)
def test_a_changed_chain_is_found(database: Database, statements: list[str], what: str) -> None:
    sealed(database)
    tamper(database, *statements)
    assert any(one.startswith(what) for one in found(database)), found(database)


def test_a_trail_that_was_cut_off_is_found_by_a_head_from_the_log(database: Database) -> None:
    head = sealed(database)
    tamper(
        database,
        "DELETE FROM audit WHERE id IN (SELECT audit_id FROM audit_sealed WHERE seal_number = 3)",
        "DELETE FROM audit_sealed WHERE seal_number = 3",
        "DELETE FROM audit_seals WHERE number = 3",
    )
    assert found(database) == [], "the chain alone cannot know"
    assert found(database, head) == ["seal 3: the head that was written down is not in this trail"]


def test_a_whole_chain_that_was_made_anew_is_found_by_a_head_from_the_log(database: Database) -> None:
    head = sealed(database)
    tamper(
        database,
        "UPDATE audit SET reason = 'other' WHERE action = 'deed.5'",
        "DELETE FROM audit_sealed",
        "DELETE FROM audit_seals",
    )
    sealed(database, 0)
    assert found(database) == []
    assert found(database, head) == ["seal 3: the head that was written down is not in this trail"]


@pytest.mark.parametrize("statement", ["UPDATE {} SET created_at = created_at", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["audit", "audit_seals"])
def test_the_database_refuses_changes(database: Database, table: str, statement: str) -> None:
    sealed(database)
    with pytest.raises(Exception, match="append-only"), database.begin() as tx:
        tx.execute(text(statement.format(table)))


def test_several_sealers_make_one_chain(database: Database) -> None:
    write(database, *(f"deed.{number}" for number in range(60)))
    threads = [threading.Thread(target=lambda: [audit_chain.seal(database, batch=7) for _ in range(12)]) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    while audit_chain.seal(database, batch=7):
        pass
    assert found(database) == []
    with database.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM audit_sealed")).scalar_one() == 60


def test_rows_that_nobody_seals_are_told(database: Database) -> None:
    report = prove(database)[8]
    assert "none is sealed yet" in " ".join(report.unchecked)
    sealed(database)
    assert prove(database)[8].unchecked == []


def test_prove_names_a_changed_row(database: Database) -> None:
    sealed(database)
    changed = id_of(database, "deed.2")
    tamper(database, f"UPDATE audit SET actor = 'nobody' WHERE id = '{changed}'")
    named = {breach.row: breach.what for breach in prove(database)[8].breaches}
    assert named[f"audit {changed}"] == f"was changed after it was sealed in {seal_of(database, changed)}"


def test_by_the_command_line(
    database: Database, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, {"database_url": clean_url, **keys})
    head = sealed(database)

    assert run("audit", "head").stdout.strip() == str(head)
    assert run("audit", "verify", "--head", str(head)).exit_code == 0
    tamper(database, "UPDATE audit SET actor = 'nobody' WHERE action = 'deed.1'")
    wrong = run("audit", "verify", "--head", str(head))
    assert (wrong.exit_code, "was changed" in wrong.stdout) == (5, True)
    assert run("audit", "verify", "--head", "soon").exit_code == 2
    assert re.search("NUMBER:DIGEST", run("audit", "verify", "--head", "1:zz").output)
