"""`paylinks prove` finds nothing in a healthy installation, and names promise and row for whatever is broken."""

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from cli.outside import Books
from cli.prove import check
from db import invoices
from db.database import Database
from db.prove import TITLES, prove
from db.sealing import Sealer
from runtime.build import build, close
from tests.commands import run, use_settings
from tests.healthy import CRM, Healthy, healthy
from tests.services import fresh_database
from tests.services.postgres import conninfo
from tests.support import DATA_KEY

OLD = "2020-01-01 00:00:00.000000"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healthy]:
    """A healthy installation that each test gets a copy of."""
    if request.param == "sqlite":
        with healthy(f"sqlite:///{tmp_path_factory.mktemp('healthy')}/a.db") as made:
            yield made
    else:
        with fresh_database(request.getfixturevalue("postgres_server")) as url, healthy(url) as made:
            yield made


@pytest.fixture(scope="module")
def again(template: Healthy, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes the copy anew. It keeps its address, so that statements are compiled once for the whole module."""
    with contextlib.ExitStack() as stack:
        if template.url.startswith("sqlite"):
            folder = tmp_path_factory.mktemp("copy")
            url, renew = (
                f"sqlite:///{folder}/a.db",
                partial(_copy_file, Path(template.url.removeprefix("sqlite:///")), folder),
            )
        else:
            server = request.getfixturevalue("postgres_server")
            url = stack.enter_context(fresh_database(server))
            renew = partial(_copy_database, server, template.url, url)
        database = Database(url, Sealer([DATA_KEY]))

        def again() -> Database:
            database.dispose()
            renew()
            return database

        yield again
        database.dispose()


def _copy_file(template: Path, folder: Path) -> None:
    for old in folder.iterdir():
        old.unlink()
    for path in template.parent.glob(f"{template.name}*"):
        shutil.copyfile(path, folder / path.name)


def _copy_database(server: str, template: str, copy: str) -> None:
    names = [sql.Identifier(urlsplit(url).path.removeprefix("/")) for url in (copy, template)]
    with psycopg.connect(conninfo(server), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))


@pytest.fixture
def copy(again: Any) -> Database:
    """A copy of the healthy database, to be broken."""
    copied: Database = again()
    return copied


# --- breaking -------------------------------------------------------------------------------------------------------


class Breaker:
    """Changes rows past every guard: no foreign keys, and no trigger but those that never sleep."""

    def __init__(self, database: Database) -> None:
        self.is_sqlite = database.is_sqlite
        if self.is_sqlite:
            self._connection: Any = sqlite3.connect(str(database.url.database), isolation_level=None)
            self._connection.execute("PRAGMA foreign_keys = OFF")
        else:
            url = conninfo(database.url.render_as_string(hide_password=False))
            self._connection = psycopg.connect(url, autocommit=True)
            self._connection.execute("SET session_replication_role = replica")

    def one(self, statement: str) -> Any:
        """Return the first column of the first row, or the whole row when it has more."""
        row = self._connection.execute(statement).fetchone()
        assert row is not None, statement
        return row[0] if len(row) == 1 else row

    def do(self, statement: str) -> None:
        if statement.startswith("DROP INDEX"):
            self._connection.execute(statement)
            return
        changed = self._connection.execute(statement).rowcount
        assert changed != 0, f"nothing to break: {statement}"

    def without_protection_of_audit(self) -> None:
        names = ("audit_refuses_update", "audit_refuses_delete", "audit_refuses_replace")
        if self.is_sqlite:
            for name in names:
                self._connection.execute(f"DROP TRIGGER {name}")
        else:
            self._connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_append_only")

    def without_unique_money(self) -> None:
        """SQLite cannot drop a constraint: the table is made anew without any."""
        if self.is_sqlite:
            self._connection.execute("CREATE TABLE bare AS SELECT * FROM transactions")
            self._connection.execute("DROP TABLE transactions")
            self._connection.execute("ALTER TABLE bare RENAME TO transactions")
        else:
            name = "uq_transactions_account_kind_provider_transaction_id"
            self._connection.execute(f"ALTER TABLE transactions DROP CONSTRAINT {name}")

    def without_unique_receipts(self) -> None:
        if self.is_sqlite:
            self._connection.execute("CREATE TABLE bare AS SELECT * FROM fiscal_receipts")
            self._connection.execute("DROP TABLE fiscal_receipts")
            self._connection.execute("ALTER TABLE bare RENAME TO fiscal_receipts")
        else:
            for columns in ("transaction_id_kind", "device_seq"):
                name = f"uq_fiscal_receipts_{columns}"
                self._connection.execute(f"ALTER TABLE fiscal_receipts DROP CONSTRAINT {name}")

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Case:
    """One broken row: `pick` finds it, `breaks` breaks it ({0}: what was picked), `row` is what must be named."""

    promise: int
    name: str
    pick: str
    breaks: tuple[str, ...]
    row: str
    unguarded: str = ""  # a guard of Breaker that goes first

    def __str__(self) -> str:
        return f"{self.promise}-{self.name}"


def invoice(name: str) -> str:
    return f"SELECT id FROM invoices WHERE external_id = 'INV-{name}'"


def of(table: str, name: str, more: str = "") -> str:
    return f"SELECT id FROM {table} WHERE invoice_id = ({invoice(name)}) {more} ORDER BY id LIMIT 1"


LIVE = "SELECT id FROM messages WHERE state = 'ready' ORDER BY id LIMIT 1"
ENDED = "SELECT id FROM message_history WHERE type = 'crm.update.v1' ORDER BY id LIMIT 1"
ATTEMPTS = "SELECT id FROM attempts ORDER BY id LIMIT 1"
COPY_EXCEPTION = (
    "INSERT INTO exceptions (id, invoice_id, reason, episode, state, detail, request_id) "
    "SELECT 'another', invoice_id, reason, 2, 'open', detail, request_id FROM exceptions WHERE id = '{0}'"
)
COPY_MONEY = (
    "INSERT INTO transactions (id, account, provider_transaction_id, kind, amount_minor, currency, occurred_at, "
    "invoice_id, attempt_id, created_at) SELECT 'another', account, provider_transaction_id, kind, amount_minor, "
    "currency, occurred_at, invoice_id, attempt_id, created_at FROM transactions WHERE id = '{0}'"
)
COPY_RECEIPT = (
    "INSERT INTO fiscal_receipts (id, device, kind, state, invoice_id, transaction_id, amount_minor, currency, "
    "purpose, request_id, created_at) SELECT 'another', device, kind, 'waived', invoice_id, transaction_id, "
    "amount_minor, currency, purpose, request_id, created_at FROM fiscal_receipts WHERE id = '{0}'"
)

CASES = [
    # 1 nothing accepted is lost
    Case(1, "message_gone", LIVE, ("DELETE FROM messages WHERE id = '{0}'",), "message {0} was accepted"),
    Case(1, "history_gone", ENDED, ("DELETE FROM message_history WHERE id = '{0}'",), "message {0} was accepted"),
    Case(1, "payload_broken", LIVE, ("UPDATE messages SET payload = '[' WHERE id = '{0}'",), "messages {0}"),
    Case(1, "field_gone", LIVE, ("UPDATE messages SET payload = '{{}}' WHERE id = '{0}'",), "messages {0}"),
    Case(
        1,
        "invoice_gone",
        "SELECT id FROM message_history WHERE type = 'invoice.created.v1' AND payload LIKE '%INV-paid%' LIMIT 1",
        ("DELETE FROM invoices WHERE external_id = 'INV-paid'",),
        "message_history {0}",
    ),
    Case(
        1, "version_gone", invoice("open"), ("DELETE FROM invoice_versions WHERE invoice_id = '{0}'",), "invoices {0}"
    ),
    Case(
        1,
        "message_of_version_gone",
        invoice("open"),
        ("UPDATE invoice_versions SET message_id = 'gone' WHERE invoice_id = '{0}'",),
        "invoice_versions {0} 1",
    ),
    Case(
        1,
        "rejection_without_message",
        "SELECT id FROM rejections WHERE state = 'replayed'",
        ("UPDATE rejections SET message_id = NULL WHERE id = '{0}'",),
        "rejections {0}",
    ),
    Case(
        1,
        "rejection_in_silence",
        "SELECT subject, id FROM message_history WHERE type = 'intake.rejected.v1' ORDER BY id LIMIT 1",
        ("DELETE FROM message_keys WHERE message_id = '{1}'",),
        "rejections {0}",
    ),
    # 2 one live link
    Case(
        2,
        "two_active_links",
        of("links", "superseded", "AND state = 'superseded'"),
        ("DROP INDEX uq_links_one_active", "UPDATE links SET state = 'active' WHERE id = '{0}'"),
        "links {0}",
    ),
    Case(
        2,
        "two_open_attempts",
        f"SELECT a.id, b.link_id FROM attempts a, attempts b WHERE a.invoice_id = ({invoice('failed')}) "
        f"AND b.invoice_id = ({invoice('open')})",
        (
            "DROP INDEX uq_attempts_one_open",
            "UPDATE attempts SET state = 'open', number = 99, link_id = '{1}' WHERE id = '{0}'",
        ),
        "attempts {0}",
    ),
    Case(
        2,
        "another_invoices_link",
        f"SELECT a.id, b.link_id FROM attempts a, attempts b WHERE a.invoice_id = ({invoice('failed')}) "
        f"AND b.invoice_id = ({invoice('paid')})",
        ("UPDATE attempts SET number = 99, link_id = '{1}' WHERE id = '{0}'",),
        "attempts {0}",
    ),
    # 3 one effect
    Case(
        3,
        "done_beside_its_key",
        ENDED,
        ("UPDATE message_keys SET message_id = 'another' WHERE message_id = '{0}'",),
        "message_history {0}",
    ),
    Case(3, "key_gone", LIVE, ("DELETE FROM message_keys WHERE message_id = '{0}'",), "messages {0}"),
    Case(
        3,
        "concluded_twice",
        ENDED,
        ("INSERT INTO message_attempts (message_id, number, outcome) VALUES ('{0}', 99, 'done')",),
        "message_history {0}",
    ),
    Case(
        3,
        "concluded_and_live",
        LIVE,
        ("INSERT INTO message_attempts (message_id, number, outcome) VALUES ('{0}', 99, 'done')",),
        "messages {0}",
    ),
    Case(
        3,
        "shared_order",
        f"SELECT a.id, b.provider_order_id FROM attempts a, attempts b WHERE a.invoice_id = ({invoice('open')}) "
        f"AND b.invoice_id = ({invoice('paid')})",
        ("DROP INDEX uq_attempts_order", "UPDATE attempts SET provider_order_id = '{1}' WHERE id = '{0}'"),
        "attempts {0}",
    ),
    Case(
        3,
        "order_intent_undecided",
        f"SELECT i.id, a.id FROM intents i JOIN attempts a ON a.reference = i.reference "
        f"WHERE a.invoice_id = ({invoice('open')})",
        (
            f"UPDATE intents SET result = NULL, deadline = '{OLD}' WHERE id = '{{0}}'",
            "UPDATE attempts SET state = 'unknown' WHERE id = '{1}'",
        ),
        "intents {0}",
    ),
    Case(
        3,
        "task_intent_undecided",
        "SELECT i.id, e.id FROM intents i JOIN exceptions e ON e.id = i.reference ORDER BY i.id LIMIT 1",
        (
            f"UPDATE intents SET result = NULL, deadline = '{OLD}' WHERE id = '{{0}}'",
            "UPDATE exceptions SET task_state = 'none' WHERE id = '{1}'",
        ),
        "intents {0}",
    ),
    Case(
        3,
        "two_open_exceptions",
        of("exceptions", "partial"),
        ("DROP INDEX uq_exceptions_one_open", COPY_EXCEPTION),
        "exceptions {0}",
    ),
    # 4 paid means proven
    Case(
        4,
        "paid_without_money",
        invoice("open"),
        ("UPDATE invoices SET status = 'paid' WHERE id = '{0}'",),
        "invoices {0}",
    ),
    Case(4, "no_verdict", invoice("paid"), ("DELETE FROM verdicts WHERE invoice_id = '{0}'",), "invoices {0}"),
    Case(
        4,
        "attempt_not_verified",
        of("transactions", "paid"),
        (f"UPDATE attempts SET state = 'failed' WHERE invoice_id = ({invoice('paid')})",),
        "transactions {0}",
    ),
    Case(
        4,
        "verdict_without_question",
        of("verdicts", "paid"),
        ("UPDATE verdicts SET message_id = NULL WHERE id = '{0}'",),
        "verdicts {0}",
    ),
    Case(
        4,
        "verdict_without_rule",
        of("verdicts", "paid"),
        ("UPDATE verdicts SET rule_id = '' WHERE id = '{0}'",),
        "verdicts {0}",
    ),
    # 5 money in equals money explained
    Case(
        5,
        "unmatched_in_silence",
        "SELECT id FROM transactions WHERE invoice_id IS NULL",
        ("DELETE FROM audit WHERE action = 'money.unmatched'",),
        "transactions {0}",
        unguarded="without_protection_of_audit",
    ),
    Case(
        5,
        "unmatched_in_no_inbox",
        "SELECT id FROM transactions WHERE invoice_id IS NULL",
        ("UPDATE transactions SET unmatched_id = NULL WHERE id = '{0}'",),
        "transactions {0}",
    ),
    Case(
        5,
        "inbox_closed_too_early",
        "SELECT id FROM unmatched WHERE state = 'open'",
        ("UPDATE unmatched SET state = 'assigned' WHERE id = '{0}'",),
        "unmatched {0}",
    ),
    Case(
        5,
        "booked_elsewhere",
        of("transactions", "paid"),
        (f"UPDATE transactions SET invoice_id = ({invoice('open')}) WHERE id = '{{0}}'",),
        "transactions {0}",
    ),
    Case(
        5,
        "booked_twice",
        of("transactions", "paid"),
        (COPY_MONEY,),
        "transactions {0}",
        unguarded="without_unique_money",
    ),
    Case(
        5,
        "more_back_than_came",
        invoice("refunded"),
        ("UPDATE transactions SET amount_minor = amount_minor + 1 WHERE kind = 'refund' AND invoice_id = '{0}'",),
        "invoices {0}",
    ),
    Case(5, "wrong_sum", invoice("paid"), ("UPDATE invoices SET paid_minor = 1 WHERE id = '{0}'",), "invoices {0}"),
    # 6 the lock holds
    Case(
        6, "link_asks_more", of("links", "open"), ("UPDATE links SET amount_minor = 1 WHERE id = '{0}'",), "links {0}"
    ),
    Case(
        6, "other_currency", of("links", "open"), ("UPDATE links SET currency = 'USD' WHERE id = '{0}'",), "links {0}"
    ),
    Case(6, "attempt_asks_more", ATTEMPTS, ("UPDATE attempts SET amount_minor = 1 WHERE id = '{0}'",), "attempts {0}"),
    Case(
        6,
        "invoice_wants_more",
        invoice("open"),
        ("UPDATE invoices SET amount_minor = 1 WHERE id = '{0}'",),
        "invoices {0}",
    ),
    # 7 the CRM agrees
    Case(7, "crm_behind", invoice("paid"), ("UPDATE invoices SET crm_revision = 1 WHERE id = '{0}'",), "invoices {0}"),
    Case(7, "crm_ahead", invoice("paid"), ("UPDATE invoices SET crm_revision = 99 WHERE id = '{0}'",), "invoices {0}"),
    # 8 who did what
    *(
        Case(
            8,
            name,
            pick,
            (f"DELETE FROM audit WHERE action = '{action}' AND (subject = '{{0}}' OR detail LIKE '%{{0}}%')",),
            row,
            unguarded="without_protection_of_audit",
        )
        for name, action, pick, row in (
            ("link_made_by_nobody", "link.created", of("links", "open"), "links {0}"),
            ("expired_by_nobody", "link.expired", of("links", "expired"), "links {0}"),
            (
                "discarded_by_nobody",
                "message.discarded",
                "SELECT id FROM message_history WHERE outcome = 'discarded'",
                "message_history {0}",
            ),
            (
                "body_discarded_by_nobody",
                "intake.discarded",
                "SELECT id FROM rejections WHERE state = 'discarded'",
                "rejections {0}",
            ),
            ("key_made_by_nobody", "api_key.created", "SELECT id FROM api_keys", "api_keys {0}"),
            ("key_revoked_by_nobody", "api_key.revoked", "SELECT id FROM api_keys", "api_keys {0}"),
        )
    ),
    Case(
        8,
        "cancelled_by_nobody",
        of("links", "cancelled"),
        (f"DELETE FROM audit WHERE action = 'link.cancelled' AND subject = ({invoice('cancelled')})",),
        "links {0}",
        unguarded="without_protection_of_audit",
    ),
    Case(
        8,
        "no_reason",
        "SELECT id FROM audit WHERE action = 'message.discarded'",
        ("UPDATE audit SET reason = ' ' WHERE id = '{0}'",),
        "audit {0}",
        unguarded="without_protection_of_audit",
    ),
    Case(8, "trail_unprotected", "SELECT 'table audit'", (), "{0}", unguarded="without_protection_of_audit"),
    # 9 settled is closed
    Case(9, "active_link", of("links", "paid"), ("UPDATE links SET state = 'active' WHERE id = '{0}'",), "links {0}"),
    Case(
        9,
        "open_attempt",
        of("attempts", "paid"),
        ("UPDATE attempts SET state = 'open' WHERE id = '{0}'",),
        "attempts {0}",
    ),
    # 10 verdicts are monotone
    Case(
        10,
        "paid_then_expired",
        invoice("paid"),
        ("UPDATE invoices SET status = 'expired' WHERE id = '{0}'",),
        "invoices {0}",
    ),
    Case(
        10,
        "status_of_its_own",
        invoice("open"),
        ("UPDATE invoices SET status = 'failed' WHERE id = '{0}'",),
        "invoices {0}",
    ),
    Case(10, "flags_gone", invoice("partial"), ("UPDATE invoices SET flags = '[]' WHERE id = '{0}'",), "invoices {0}"),
    Case(
        10,
        "odd_money_without_exception",
        invoice("partial"),
        ("UPDATE exceptions SET state = 'closed' WHERE invoice_id = '{0}' AND reason = 'partial_payment'",),
        "invoices {0}",
    ),
    Case(
        10,
        "exception_without_odd_money",
        invoice("partial"),
        ("UPDATE exceptions SET reason = 'overpaid' WHERE invoice_id = '{0}'",),
        "invoices {0}",
    ),
    # 11 nothing waits for ever
    Case(11, "due_for_long", LIVE, (f"UPDATE messages SET available_at = '{OLD}' WHERE id = '{{0}}'",), "messages {0}"),
    Case(
        11,
        "lapsed_for_long",
        LIVE,
        (f"UPDATE messages SET state = 'running', lease_expires_at = '{OLD}' WHERE id = '{{0}}'",),
        "messages {0}",
    ),
    Case(
        11,
        "attempt_forgotten",
        of("attempts", "open"),
        (
            "DELETE FROM messages WHERE type = 'attempt.check.v1' AND payload LIKE '%{0}%'",
            f"UPDATE attempts SET created_at = '{OLD}' WHERE id = '{{0}}'",
        ),
        "attempts {0}",
    ),
    Case(
        11,
        "unknown_without_exception",
        of("attempts", "open"),
        (
            "DELETE FROM messages WHERE type = 'attempt.check.v1' AND payload LIKE '%{0}%'",
            f"UPDATE attempts SET created_at = '{OLD}', state = 'unknown' WHERE id = '{{0}}'",
        ),
        "attempts {0}",
    ),
    Case(
        11,
        "link_lives_on",
        of("links", "open"),
        (
            "DELETE FROM messages WHERE type = 'link.expire.v1' AND payload LIKE '%{0}%'",
            f"UPDATE links SET expires_at = '{OLD}' WHERE id = '{{0}}'",
        ),
        "links {0}",
    ),
    Case(
        5,
        "more_goes_back_than_came",
        of("refunds", "returned", "AND state = 'waiting'"),
        ("UPDATE refunds SET amount_minor = 150000 WHERE id = '{0}'",),
        "refunds {0}",
    ),
    Case(
        3,
        "refunds_share_a_transaction",
        of("refunds", "returned", "AND state = 'waiting'"),
        (
            "UPDATE refunds SET state = 'done', provider_transaction_id = "
            "(SELECT provider_transaction_id FROM refunds WHERE state = 'done') WHERE id = '{0}'",
        ),
        "refunds {0}",
    ),
    Case(
        8,
        "refund_of_nobody",
        of("refunds", "returned", "AND state = 'waiting'"),
        ("DELETE FROM audit WHERE action = 'refund.asked'",),
        "refunds {0}",
        unguarded="without_protection_of_audit",
    ),
    Case(
        11,
        "refund_waits_in_silence",
        of("refunds", "returned", "AND state = 'waiting'"),
        ("UPDATE exceptions SET state = 'closed' WHERE reason = 'refund_waits_for_approval'",),
        "refunds {0}",
    ),
    Case(
        11,
        "refund_forgotten",
        of("refunds", "returned", "AND state = 'waiting'"),
        (f"UPDATE refunds SET state = 'pending', created_at = '{OLD}' WHERE id = '{{0}}'",),
        "refunds {0}",
    ),
    Case(
        3,
        "two_receipts_for_one_payment",
        of("fiscal_receipts", "paid"),
        (COPY_RECEIPT,),
        "fiscal_receipts {0}",
        unguarded="without_unique_receipts",
    ),
    Case(
        3,
        "two_receipts_of_one_number",
        of("fiscal_receipts", "paid"),
        (
            "UPDATE fiscal_receipts SET seq = (SELECT seq FROM fiscal_receipts WHERE id = '{0}') "
            "WHERE seq = (SELECT max(seq) FROM fiscal_receipts) AND id != '{0}'",
        ),
        "fiscal_receipts {0}",
        unguarded="without_unique_receipts",
    ),
    Case(
        3,
        "number_without_receipt",
        of("fiscal_receipts", "paid"),
        ("DELETE FROM fiscal_receipts WHERE id = '{0}'",),
        "fiscal_devices till",
    ),
    Case(
        5,
        "receipt_says_other_money",
        of("fiscal_receipts", "paid"),
        ("UPDATE fiscal_receipts SET amount_minor = 1 WHERE id = '{0}'",),
        "fiscal_receipts {0}",
    ),
    Case(
        11,
        "receipt_forgotten",
        of("fiscal_receipts", "paid"),
        (f"UPDATE fiscal_receipts SET state = 'wanted', seq = NULL, created_at = '{OLD}' WHERE id = '{{0}}'",),
        "fiscal_receipts {0}",
    ),
    Case(
        11,
        "receipt_failed_in_silence",
        of("fiscal_receipts", "paid"),
        ("UPDATE fiscal_receipts SET state = 'failed', seq = NULL WHERE id = '{0}'",),
        "fiscal_receipts {0}",
    ),
    Case(
        11,
        "exception_without_task",
        of("exceptions", "partial"),
        (f"UPDATE exceptions SET task_state = 'none', created_at = '{OLD}' WHERE id = '{{0}}'",),
        "exceptions {0}",
    ),
    Case(
        11,
        "task_never_closed",
        of("exceptions", "partial"),
        (f"UPDATE exceptions SET state = 'closed', closed_at = '{OLD}' WHERE id = '{{0}}'",),
        "exceptions {0}",
    ),
    Case(
        11,
        "dead_letter_in_silence",
        "SELECT id, subject FROM messages WHERE state = 'dead'",
        (
            f"UPDATE messages SET available_at = '{OLD}' WHERE id = '{{0}}'",
            "UPDATE exceptions SET state = 'closed' WHERE invoice_id = '{1}'",
        ),
        "messages {0}",
    ),
]


def break_(database: Database, case: Case) -> str:
    """Break the case's row, and return what must be named."""
    breaker = Breaker(database)
    try:
        if case.unguarded:
            getattr(breaker, case.unguarded)()
        picked = breaker.one(case.pick)
        picked = picked if isinstance(picked, tuple) else (picked,)
        for statement in case.breaks:
            breaker.do(statement.format(*picked))
        return case.row.format(*picked)
    finally:
        breaker.close()


# --- facts ----------------------------------------------------------------------------------------------------------


def test_a_healthy_installation_keeps_every_promise(copy: Database) -> None:
    reports = prove(copy)
    assert {number: report.breaches for number, report in reports.items()} == {number: [] for number in TITLES}
    assert all(count > 0 for report in reports.values() for count in report.counts.values())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_row_is_named_with_its_promise(copy: Database, case: Case) -> None:
    row = break_(copy, case)

    reports = prove(copy)

    lines = [f"{breach.row}: {breach.what}" for breach in reports[case.promise].breaches]
    assert any(row in line for line in lines), lines


def test_every_promise_has_a_case() -> None:
    assert {case.promise for case in CASES} == set(TITLES)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("message_gone", "paid_without_money")], ids=str
)
def test_portions_hide_nothing(copy: Database, case: Case) -> None:
    row = break_(copy, case)
    lines = [f"{one.row}: {one.what}" for one in prove(copy, portion=3)[case.promise].breaches]
    assert any(row in line for line in lines), lines


def test_the_command_prints_promise_and_row_and_ends_with_1(
    copy: Database, template: Healthy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_settings(monkeypatch, tmp_path, {**template.raw_settings, "database_url": url_of(copy)})
    assert run("prove").exit_code == 0
    case = next(case for case in CASES if case.name == "paid_without_money")
    row = break_(copy, case)

    found = run("prove")

    assert found.exit_code == 1
    assert "BROKEN  4 Paid means proven" in found.stdout
    assert row in found.stdout
    assert "kept    2 One live link" in found.stdout


def url_of(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def test_work_that_goes_on_meanwhile_is_no_breach(copy: Database, template: Healthy) -> None:
    """Given a row that looks wrong, when its writer still holds the invoice's lock, then the second look decides."""
    invoice_id = template.ids["open"]
    with copy.begin() as tx:
        tx.execute(text("UPDATE invoices SET paid_minor = 1 WHERE id = :id"), {"id": invoice_id})
    reports: list[Any] = []
    with copy.begin() as tx:
        invoices.lock(tx, invoice_id)
        tx.execute(text("UPDATE invoices SET paid_minor = 0 WHERE id = :id"), {"id": invoice_id})
        proving = threading.Thread(target=lambda: reports.append(prove(copy)))
        proving.start()
        time.sleep(1.0)
        assert reports == [], "it did not wait for the lock"
    proving.join()
    assert [number for number, report in reports[0].items() if not report.is_kept] == []


# --- the other side's books -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(copy: Database, template: Healthy) -> Iterator[Any]:
    """Proves with the providers and CRMs asked: by their adapters, or by the sandbox's own books."""
    deps = build(template.settings(database_url=url_of(copy)))

    def ask(*, exactly: bool = False) -> dict[int, list[str]]:
        books = Books(template.provider.control, {CRM: template.crm.control}) if exactly else Books()
        reports = check(deps, books=books)
        return {
            report.promise: [f"{breach.row}: {breach.what}" for breach in report.breaches]
            for report in reports
            if report.breaches
        }

    yield ask
    close(deps)


@pytest.mark.parametrize("exactly", [False, True], ids=["adapters", "books"])
def test_the_other_side_agrees_with_a_healthy_installation(asked: Any, exactly: bool) -> None:
    assert asked(exactly=exactly) == {}


@pytest.mark.parametrize("exactly", [False, True], ids=["adapters", "books"])
def test_money_that_we_do_not_know_is_found(asked: Any, copy: Database, exactly: bool) -> None:
    breaker = Breaker(copy)
    id_, reference = breaker.one(
        "SELECT t.provider_transaction_id, a.reference FROM transactions t JOIN attempts a ON a.id = t.attempt_id "
        "JOIN invoices i ON i.id = t.invoice_id WHERE i.external_id = 'INV-paid'"
    )
    breaker.do(f"DELETE FROM transactions WHERE provider_transaction_id = '{id_}'")
    breaker.close()
    assert any(reference in line and id_ in line for line in asked(exactly=exactly)[5])


@pytest.mark.parametrize("exactly", [False, True], ids=["adapters", "books"])
def test_money_that_the_provider_does_not_know_is_found(asked: Any, copy: Database, exactly: bool) -> None:
    breaker = Breaker(copy)
    id_ = breaker.one(of("transactions", "paid"))
    breaker.do(f"UPDATE transactions SET provider_transaction_id = 'made-up' WHERE id = '{id_}'")
    breaker.close()
    assert any(f"transactions {id_}" in line for line in asked(exactly=exactly)[5])


def test_an_order_that_can_be_paid_although_its_invoice_is_settled_is_found(asked: Any, copy: Database) -> None:
    breaker = Breaker(copy)
    attempt = breaker.one(of("attempts", "open"))
    breaker.do(f"UPDATE invoices SET status = 'paid' WHERE id = ({invoice('open')})")
    breaker.do(f"DELETE FROM messages WHERE payload LIKE '%{attempt}%'")
    breaker.close()
    assert any(f"attempts {attempt}" in line and "at provider main" in line for line in asked()[9])


def test_an_order_that_we_forgot_is_found(asked: Any, copy: Database) -> None:
    breaker = Breaker(copy)
    attempt = breaker.one(of("attempts", "open"))
    breaker.do(f"UPDATE attempts SET provider_order_id = NULL, state = 'closed' WHERE id = '{attempt}'")
    breaker.do(f"DELETE FROM messages WHERE payload LIKE '%{attempt}%'")
    breaker.close()
    assert any(f"attempts {attempt}" in line and "we do not know it" in line for line in asked()[3])


def test_a_record_that_was_changed_in_the_crm_is_found(asked: Any, template: Healthy) -> None:
    record = next(one for one in template.crm.control.records() if one["id"] == "INV-paid")
    template.crm.control.edit("INV-paid", {**record["payment"], "status": "pending"})
    try:
        lines = asked()[7]
    finally:
        template.crm.control.edit("INV-paid", record["payment"])
    assert any(f"invoices {template.ids['paid']}" in line and "status" in line for line in lines)


def test_a_task_that_is_not_ours_is_found(asked: Any, copy: Database) -> None:
    breaker = Breaker(copy)
    exception = breaker.one(of("exceptions", "partial"))
    breaker.do(f"UPDATE exceptions SET task_id = 'made-up' WHERE id = '{exception}'")
    breaker.close()
    assert any(f"exceptions {exception}" in line for line in asked()[3])


def test_who_does_not_answer_is_named_and_no_breach(copy: Database, template: Healthy) -> None:
    nobody = "http://127.0.0.1:1"
    deps = build(
        template.settings(
            database_url=url_of(copy),
            accounts={"main": {**template.raw_settings["accounts"]["main"], "base_url": nobody}},
            crms={CRM: {**template.raw_settings["crms"][CRM], "base_url": nobody}},
            routing={},
        )
    )
    reports = {report.promise: report for report in check(deps)}
    close(deps)
    assert [number for number, report in reports.items() if not report.is_kept] == []
    assert "provider main gives no answer" in reports[5].unchecked
    assert f"CRM {CRM} gives no answer" in reports[7].unchecked
