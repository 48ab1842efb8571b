"""First aid by commands, on an installation that did its work: dead letters, the story of an invoice, intake, keys."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from contracts.messages import Customer, InvoiceCreated
from db import audit, exceptions, ledger, links, message_store
from db.database import Database
from db.prove import prove
from db.sealing import Sealer
from rules.verdict_table import every_rule
from tests.commands import run, use_settings
from tests.healthy import CRM, Healthy, healthy
from tests.services import fresh_database
from tests.support import DATA_KEY


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healthy]:
    if request.param == "sqlite":
        with healthy(f"sqlite:///{tmp_path_factory.mktemp('world')}/a.db") as made:
            yield made
    else:
        with fresh_database(request.getfixturevalue("postgres_server")) as url, healthy(url) as made:
            yield made


@pytest.fixture
def database(world: Healthy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    """The installation's database, which the commands use too. Tests leave each other's rows alone."""
    use_settings(monkeypatch, tmp_path, world.raw_settings)
    opened = Database(world.url, Sealer([DATA_KEY]))
    yield opened
    opened.dispose()


def told(*arguments: str) -> Any:
    """What a command says to a program."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def dead_letter(database: Database, world: Healthy) -> str:
    """The update that gave up because the CRM has no such record."""
    with database.read() as tx:
        (found,) = (row.id for row in message_store.dead(tx) if row.subject == world.ids["unknown_to_crm"])
    return str(found)


def die(database: Database, message_id: str) -> None:
    with database.begin() as tx:
        tx.execute(text("UPDATE messages SET state = 'dead' WHERE id = :id"), {"id": message_id})


def tell_manager(database: Database, invoice: str) -> None:
    with database.begin() as tx:
        exceptions.raise_(tx, invoice, "dead_letter", "gave up")


# --- dead letters ---------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_with_their_cause(dead_letter: str, world: Healthy) -> None:
    (row,) = told("dead", "list")
    assert row["id"] == dead_letter
    assert row["subject"] == world.ids["unknown_to_crm"]
    assert row["error_class"] == "Refused"
    assert "payload" not in row
    assert told("dead", "list", "--queue", "checkout") == []
    assert [one["id"] for one in told("dead", "list", "--group", row["error_group"])] == [dead_letter]
    listed = run("dead", "list").stdout
    assert dead_letter in listed
    assert row["error_group"] in listed


def test_a_dead_letter_is_shown_with_every_try(dead_letter: str) -> None:
    shown = told("dead", "show", dead_letter)
    assert [one["outcome"] for one in shown["tries"]] == ["dead"]
    assert shown["tries"][0]["worker"]
    assert shown["payload"]["revision"] >= 1
    assert dead_letter in run("dead", "show", dead_letter).stdout


def test_personal_fields_stay_sealed_unless_somebody_says_why(database: Database) -> None:
    wish = InvoiceCreated(
        crm=CRM,
        invoice_id="INV-sealed",
        version=1,
        amount_minor=1,
        currency="AMD",
        purpose="x",
        customer=Customer(email="ani@example.am"),
    )
    with database.begin() as tx:
        id_ = message_store.add(tx, wish, delay_seconds=3600).message_id

    assert told("dead", "show", id_)["payload"]["customer"] == "[sealed]"
    assert "ani@example.am" not in run("dead", "show", id_).output
    assert run("dead", "show", id_, "--reveal").exit_code == 2
    shown = told("dead", "show", id_, "--reveal", "--reason", "the customer called", "--actor", "karen")
    assert shown["payload"]["customer"]["email"] == "ani@example.am"
    with database.read() as tx:
        (row,) = (one for one in audit.of_subject(tx, wish.subject()) if one.action == "message.revealed")
    assert (row.actor, row.reason, json.loads(row.detail)) == ("karen", "the customer called", {"message": id_})
    with database.begin() as tx:
        tx.execute(text("DELETE FROM messages WHERE id = :id"), {"id": id_})
        tx.execute(text("DELETE FROM message_keys WHERE message_id = :id"), {"id": id_})


def test_a_retry_needs_a_reason_and_names_its_actor(database: Database, world: Healthy, dead_letter: str) -> None:
    invoice = world.ids["unknown_to_crm"]
    tell_manager(database, invoice)
    assert run("dead", "retry", dead_letter).exit_code == 2
    assert run("dead", "retry", dead_letter, "--reason", "  ").exit_code == 2

    assert told("dead", "retry", dead_letter, "--reason", "the record is back", "--actor", "ani") == {
        "retried": [dead_letter],
        "not_dead": [],
    }

    with database.read() as tx:
        message = message_store.find(tx, dead_letter)
        (row,) = (one for one in audit.of_subject(tx, invoice) if one.action == "message.retried")
        open_now = exceptions.open_reasons(tx, invoice)
    assert message is not None
    assert (message.state, message.failures) == ("ready", 0)
    assert (row.actor, row.reason, row.request_id) == ("ani", "the record is back", message.request_id)
    assert json.loads(row.detail)["message"] == dead_letter
    assert "dead_letter" not in open_now
    die(database, dead_letter)


def test_what_is_not_dead_is_named_and_left_alone(database: Database, world: Healthy) -> None:
    with database.read() as tx:
        live = tx.execute(text("SELECT id FROM messages WHERE state = 'ready' LIMIT 1")).scalar_one()
    for id_ in (live, "nothing"):
        result = run("dead", "discard", id_, "--reason", "x")
        assert result.exit_code == 1
    with database.read() as tx:
        assert message_store.state_of(tx, live) == "ready"


def test_the_exception_stays_while_another_dead_letter_of_the_invoice_waits(
    database: Database, world: Healthy, dead_letter: str
) -> None:
    invoice = world.ids["unknown_to_crm"]
    with database.read() as tx:
        other = tx.execute(
            text("SELECT id FROM messages WHERE subject = :id AND state = 'ready' LIMIT 1"), {"id": invoice}
        ).scalar_one()
    die(database, other)
    tell_manager(database, invoice)

    told("dead", "retry", other, "--reason", "one of two")

    with database.read() as tx:
        assert "dead_letter" in exceptions.open_reasons(tx, invoice)


def test_a_whole_group_is_discarded_at_once(database: Database, world: Healthy) -> None:
    with database.read() as tx:
        ends = "SELECT id FROM messages WHERE type = 'link.expire.v1' AND state = 'ready'"
        checks = list(tx.execute(text(ends)).scalars())
    for id_ in checks[:2]:
        die(database, id_)
    with database.begin() as tx:
        of_one_cause = "UPDATE messages SET error_group = 'one-cause' WHERE id IN (:first, :second)"
        tx.execute(text(of_one_cause), {"first": checks[0], "second": checks[1]})

    done = told("dead", "discard", "--group", "one-cause", "--reason", "made by hand in a test")

    assert sorted(done["discarded"]) == sorted(checks[:2])
    with database.read() as tx:
        assert [message_store.state_of(tx, id_) for id_ in checks[:2]] == ["discarded", "discarded"]
    assert prove(database)[8].is_kept


# --- the story of an invoice ----------------------------------------------------------------------------------------


def test_an_invoice_tells_its_whole_story_in_the_order_of_time(database: Database, world: Healthy) -> None:
    (story,) = told("invoice", "show", "INV-paid")
    entries = story["entries"]
    assert story["invoice"]["status"] == "paid"
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    kinds = {entry["what"] for entry in entries}
    assert {
        "invoice",
        "version",
        "link",
        "attempt",
        "message",
        "try",
        "duplicate",
        "money",
        "verdict",
        "audit",
    } <= kinds
    all_ = "\n".join(entry["text"] for entry in entries)
    for words in (
        "version 1: 1,500.00 AMD",
        "try 1 of invoice.created.v1 version 1: done",
        "repeat of invoice.created.v1 version 1 ignored",
        "attempt 1 opened: the provider's order is ord_",
        "create_order under",
        "capture 1,500.00 AMD (txn_",
        "rule amount.exact",
        "crm.update.v1 revision",
        "link.created by crm:acme",
    ):
        assert words in all_, words
    tries = [entry["facts"] for entry in entries if entry["what"] == "try"]
    assert any(str(one["provider_request_id"]).startswith("req_") for one in tries)
    assert all(one["started_at"] and one["ended_at"] and one["worker"] for one in tries)


def test_exceptions_conflicts_and_tasks_are_part_of_the_story(database: Database) -> None:
    conflict = "\n".join(entry["text"] for entry in told("invoice", "show", "INV-open")[0]["entries"])
    assert "came again with other content" in conflict
    assert "version_conflict (episode 1)" in conflict
    partial = "\n".join(entry["text"] for entry in told("invoice", "show", "INV-partial")[0]["entries"])
    assert re.search(r"partial_payment \(episode 1\): .*; task task_\w+ open", partial)
    given_up = "\n".join(entry["text"] for entry in told("invoice", "show", "INV-given_up")[0]["entries"])
    assert "message.discarded by ani: its record was deleted in the CRM" in given_up


def test_an_invoice_is_found_by_each_of_its_names(database: Database, world: Healthy) -> None:
    invoice = world.ids["paid"]
    with database.read() as tx:
        link = links.newest(tx, invoice)
        attempt = tx.execute(
            text("SELECT id, provider_order_id FROM attempts WHERE invoice_id = :id"), {"id": invoice}
        ).one()
        messages = tx.execute(
            text("SELECT id, request_id FROM message_history WHERE subject = :id ORDER BY id LIMIT 1"), {"id": invoice}
        ).one()
        first = tx.execute(
            text("SELECT id FROM message_history WHERE subject = :s AND type = 'invoice.created.v1'"),
            {"s": f"{CRM}:invoice:INV-paid"},
        ).scalar_one()
        money = tx.execute(
            text("SELECT provider_transaction_id FROM transactions WHERE invoice_id = :id"), {"id": invoice}
        ).scalar_one()
    assert link is not None
    names = [invoice, "INV-paid", f"{CRM}/INV-paid", f"{CRM}/invoice/INV-paid", link.id, attempt.id]
    names += [attempt.provider_order_id, messages.id, messages.request_id, first, money]
    for name in names:
        assert [story["invoice"]["id"] for story in told("invoice", "show", name)] == [invoice], name


def test_a_name_that_nothing_has_is_an_error(database: Database) -> None:
    assert run("invoice", "show", "nothing").exit_code == 1


def test_the_story_shows_no_token_and_nothing_personal(database: Database, world: Healthy) -> None:
    from runtime.build import build, close

    deps = build(world.settings())
    with database.read() as tx:
        link = links.newest(tx, world.ids["paid"])
    assert link is not None
    token = deps.tokens.token(link.id, link.generation, link.key_id)
    close(deps)
    for shown in (run("invoice", "show", "INV-paid"), run("invoice", "show", "INV-paid", "--json")):
        assert token not in shown.output
        assert "ani@example.am" not in shown.output
        assert "Անի" not in shown.output
        assert "customer [sealed]" in shown.output or '"customer": "[sealed]"' in shown.output


def test_rules_by_which_nothing_was_decided_yet_are_named(database: Database) -> None:
    with database.read() as tx:
        seen = ledger.rules_seen(tx)
    result = run("verdicts", "--unreached")
    assert result.stdout.splitlines() == sorted(every_rule() - seen)
    assert (result.exit_code, "amount.exact" in seen, "hold.open" in seen) == (5, True, False)


# --- sending in -----------------------------------------------------------------------------------------------------


def invoice(number: str, **fields: Any) -> dict[str, Any]:
    return {
        "crm": CRM,
        "invoice_id": number,
        "version": 1,
        "amount_minor": 100,
        "currency": "AMD",
        "purpose": "By hand",
        **fields,
    }


def event(number: str, type_: str = "invoice.created.v1", **fields: Any) -> dict[str, Any]:
    data = invoice(number, **fields)
    return {"specversion": "1.0", "id": f"e-{number}", "source": "/tests", "type": type_, "data": data}


def test_bare_data_and_whole_events_are_taken_from_lines_and_lists(database: Database, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(json.dumps(one) for one in (invoice("H-1"), event("H-2"))) + "\n\n")
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps([invoice("H-3"), event("H-4")], indent=1))
    one = tmp_path / "one.json"
    one.write_text(json.dumps(invoice("H-5"), indent=1))

    for file, expected in ((lines, ["H-1", "H-2"]), (whole, ["H-3", "H-4"]), (one, ["H-5"])):
        taken = told("invoice", "submit", str(file))
        assert [(each["outcome"], each["subject"].rpartition(":")[2]) for each in taken] == [
            ("accepted", number) for number in expected
        ]
    assert [each["outcome"] for each in told("invoice", "submit", str(lines))] == ["duplicate", "duplicate"]


def test_stdin_is_read_too(database: Database) -> None:
    result = run("invoice", "submit", "-", "--json", input_=json.dumps(invoice("H-6")))
    assert (result.exit_code, json.loads(result.stdout)[0]["outcome"]) == (0, "accepted")


def test_what_cannot_be_taken_names_field_and_remedy_and_the_rest_is_taken(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join([json.dumps(invoice("H-7", amount_minor=-1)), "{broken", json.dumps(invoice("H-8"))]))

    result = run("invoice", "submit", str(file), "--json")

    assert result.exit_code == 1
    taken = json.loads(result.stdout)
    assert [one["outcome"] for one in taken] == ["rejected", "rejected", "accepted"]
    assert taken[0]["problems"][0]["field"] == "data.amount_minor"
    assert taken[1]["problems"][0]["field"] == "body"


def test_a_file_that_is_not_there_is_an_error(database: Database) -> None:
    assert run("invoice", "submit", "nowhere.json").exit_code == 1


# --- what intake rejected -------------------------------------------------------------------------------------------


def test_a_rejected_body_is_listed_shown_mended_and_sent_in(database: Database, tmp_path: Path, world: Healthy) -> None:
    (row,) = told("intake", "rejected", "list")
    assert row["state"] == "open"
    assert any("data." in problem for problem in row["problems"])
    assert run("intake", "rejected", "show", row["id"]).exit_code == 2, "bodies are personal: a reason is needed"
    shown = told("intake", "rejected", "show", row["id"], "--reason", "looking for the sender")
    assert json.loads(shown["body"])["data"]["n"] == 2
    assert run("intake", "rejected", "replay", row["id"], "--reason", "again").exit_code == 1, "it is still wrong"

    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(event("H-9")))
    sent = told("intake", "rejected", "replay", row["id"], "--body", str(mended), "--reason", "mended by hand")

    assert sent["outcome"] == "accepted"
    assert told("intake", "rejected", "list") == []
    assert row["id"] in {one["id"] for one in told("intake", "rejected", "list", "--state", "replayed")}
    assert run("intake", "rejected", "discard", row["id"], "--reason", "twice").exit_code == 1


# --- keys and contracts ---------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_listed_without_itself_and_ended(database: Database) -> None:
    made = told("keys", "create", "the shop", "--crm", CRM)
    listed = run("keys", "list", "--json")
    assert made["key"] not in listed.stdout
    assert {one["id"]: one["crms"] for one in json.loads(listed.stdout)}[made["id"]] == [CRM]
    assert run("keys", "revoke", made["id"]).exit_code == 2
    assert run("keys", "revoke", made["id"], "--reason", "lost").exit_code == 0
    assert run("keys", "revoke", made["id"], "--reason", "lost").exit_code == 1
    assert prove(database)[8].is_kept


def test_contracts_are_written_checked_and_events_held_against_them(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    assert run("contracts", "export", "--check", "--out", str(folder)).exit_code == 5
    assert run("contracts", "export", "--out", str(folder)).exit_code == 0
    assert run("contracts", "export", "--check", "--out", str(folder)).exit_code == 0
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(event("V-1")))
    bad.write_text(json.dumps(event("V-2", amount_minor="1")))
    assert run("contracts", "validate", str(good)).exit_code == 0
    refused = run("contracts", "validate", str(bad))
    assert refused.exit_code == 5
    assert "data.amount_minor" in refused.stdout


# --- money that is nobody's -----------------------------------------------------------------------------------------


def test_money_of_nobody_is_listed_and_shown_and_the_doctor_names_it(database: Database) -> None:
    (entry,) = told("money", "list")
    assert (entry["account"], entry["state"], entry["money"][0]["amount_minor"]) == ("main", "open", 5_000)
    listed = run("money", "list").stdout
    assert entry["id"] in listed
    assert "capture 50.00 AMD" in listed
    shown = told("money", "show", entry["id"])
    assert (shown["candidates"], shown["provider_order_id"]) == ([], entry["provider_order_id"])
    assert "no invoice here asks for this amount" in run("money", "show", entry["id"]).stdout
    assert "paylinks money list" in run("doctor").stdout


def test_a_deed_about_money_of_nobody_says_why_not(database: Database) -> None:
    (entry,) = told("money", "list")
    assert run("money", "refund", entry["id"]).exit_code == 2, "without a reason"
    for arguments, why in (
        (("money", "show", "nothing"), "paylinks money list"),
        (("money", "refund", "nothing", "--reason", "r"), "paylinks money list"),
        (("money", "assign", entry["id"], "no-such-invoice", "--reason", "r"), "nothing here is called"),
        (("money", "approve", "nothing", "--reason", "r"), "no refund of the inbox"),
        (("money", "reject", "nothing", "--reason", "r"), "no refund of the inbox"),
    ):
        result = run(*arguments)
        assert (result.exit_code, why in result.output) == (1, True), result.output
    assert [one["id"] for one in told("money", "list")] == [entry["id"]]
