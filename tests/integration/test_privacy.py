"""What is held about one person: told to him whole, and erased everywhere, while the work goes on."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import LargeBinary, select, text

from contracts.commands import LinkSent
from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.messages import InvoiceCreated, ProviderEventReceived
from db import audit_chain, customer_pages, invoices, link_views, links, message_store, privacy
from db.database import Database
from db.prove import prove
from db.schema import metadata
from db.sealing import SealBroken, Sealer, new_key
from gateways.providers.base import ProviderEvent
from runtime.checkout import press_pay
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from runtime.settings import CrmSettings
from tests.commands import run, use_settings
from tests.shop import Shop, due_now, open_shop, work
from tests.support import DATA_KEY, put

NAME, EMAIL, PHONE = "Անի Պետրոսյան", "ani.petrosyan@example.am", "+374 10 123456"
DIGITS = "37410123456"
ANI = {"name": NAME, "email": EMAIL, "phone": PHONE, "locale": "hy"}
KAREN = {"name": "Karen Sargsyan", "email": "karen@example.am", "phone": "+37499654321", "locale": "ru"}
WHY = ("--reason", "she asked for it by letter", "--actor", "dpo")


class Bank(Shop):
    """A provider whose events name an order of ours, and the payer."""

    def parse_event(self, *, body: bytes, **_: Any) -> ProviderEvent:
        return ProviderEvent("e", "order.paid", json.loads(body)["reference"], None)


@dataclass
class World:
    """An installation that knows Ani by two invoices, and Karen by two."""

    deps: Deps
    database: Database

    def invoice(self, number: str) -> Any:
        with self.database.read() as tx:
            return invoices.find(tx, "office", number)

    def link(self, number: str) -> Any:
        with self.database.read() as tx:
            return links.newest(tx, self.invoice(number).id)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.read() as tx:
            return [tuple(row) for row in tx.execute(text(statement))]


def wanted(number: str, customer: dict[str, Any], version: int = 1, **more: Any) -> InvoiceCreated:
    data = {"crm": "office", "invoice_id": number, "version": version, "amount_minor": 10_000, "currency": "AMD"}
    return InvoiceCreated.parse(data | {"purpose": "Contract 17", "customer": customer} | more)


def event(data: dict[str, Any], id_: str) -> bytes:
    body = {"specversion": "1.0", "id": id_, "source": "/crm", "type": "invoice.created.v1", "data": data}
    return json.dumps(body, ensure_ascii=False).encode()


@pytest.fixture
def world(clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    account = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "the-key-of-the-account"}
    use_settings(monkeypatch, tmp_path, {"database_url": clean_url, "accounts": {"shop": account}, **keys})
    crm = CrmSettings(adapter="sandbox", base_url="http://127.0.0.1:1", token=SecretStr("t"))
    with open_shop(clean_url, crms={"office": crm}) as deps:
        deps.providers["shop"] = Bank()  # type: ignore[index]  # a dictionary
        yield furnish(World(deps, deps.database))


def furnish(world: World) -> World:
    deps = world.deps
    other = {**ANI, "name": "A. P.", "email": EMAIL.upper(), "phone": "0037410123456"}
    put(deps.database, wanted("I-1", ANI), wanted("I-2", other), wanted("I-3", KAREN), wanted("I-4", ANI))
    work(deps, "link-creation", rounds=1, hurry=False)
    put(deps.database, wanted("I-4", KAREN, version=2))
    for number in ("I-1", "I-3"):
        command = {"crm": "office", "invoice_id": number, "actor": "17", "wish": number}
        put(deps.database, LinkSent(**command, channel="email", recipient=EMAIL if number == "I-1" else "k@example.am"))
    # The same version with other content, and two bodies that cannot be read.
    again = wanted("I-1", ANI, purpose="Contract 18").model_dump(mode="json", exclude={"wish", "policy", "manager"})
    broken = event({"crm": "office", "amount": 1, "customer": ANI}, "bad-1")
    bodies = [event(again, "e-9"), broken, event({"crm": "office", "customer": KAREN}, "bad-2")]
    take(deps, [Incoming(body=body, channel="amqp", routing_key="invoice.created") for body in bodies])
    work(deps, rounds=3)
    pay(world, "I-1")
    with deps.database.begin() as tx:
        link_views.add(tx, [(world.link(number).id, datetime(2026, 1, 1, tzinfo=UTC)) for number in ("I-1", "I-3")])
    audit_chain.seal(deps.database)
    return world


def pay(world: World, number: str) -> None:
    """Press Pay, pay at the provider, and have its event tell of the payer."""
    deps = world.deps
    press_pay(deps, world.link(number).id)
    work(deps, "checkout", rounds=1, hurry=False)
    with deps.database.read() as tx:
        reference = tx.execute(text("SELECT reference FROM attempts")).scalar_one()
    bank: Any = deps.providers["shop"]
    bank.orders[reference] = OrderState.PAID
    captured = {"kind": TransactionKind.CAPTURE, "amount_minor": 10_000, "currency": "AMD"}
    moved = ProviderTransaction(provider_transaction_id="t-1", occurred_at=datetime.now(UTC), **captured)
    bank.money[reference] = (moved,)
    token = deps.tokens.url(world.link(number).id, 1, "k1")
    said = {"reference": reference, "payer": NAME, "back": f"{token}/return", "key": "the-key-of-the-account"}
    body = base64.b64encode(json.dumps(said, ensure_ascii=False).encode()).decode()
    put(
        deps.database,
        ProviderEventReceived(
            account="shop",
            receipt="evt-1",
            received_at=datetime.now(UTC),
            headers={"x-signature": "sig"},
            query=f"email={EMAIL}",
            body_base64=body,
        ),
    )
    for _ in range(3):
        work(deps, rounds=2, hurry=False)
        due_now(deps)


# --- looking --------------------------------------------------------------------------------------------------------


def everything(database: Database) -> dict[str, str]:
    """Every table as text, each seal opened, each body decoded."""
    found = {}
    with database.read() as tx:
        for table in metadata.sorted_tables:
            cells = [cell for row in tx.execute(select(table)) for cell in row]
            found[table.name] = "\n".join(_plain(database.sealer, cell) for cell in cells)
    return found


def _plain(sealer: Sealer, cell: Any) -> str:
    if not isinstance(cell, bytes | memoryview):
        return str(cell)
    try:
        opened = sealer.open(bytes(cell))
    except SealBroken:
        return bytes(cell).hex()
    try:
        fields = json.loads(opened)
        decoded = base64.b64decode(fields["body_base64"]).decode()
        return f"{json.dumps(fields, ensure_ascii=False)} {decoded}"
    except (ValueError, KeyError, TypeError):
        return opened.decode()


def where(database: Database, *needles: str) -> set[str]:
    return {
        name
        for name, said in everything(database).items()
        for needle in needles
        if needle.casefold() in said.casefold()
    }


HERS = (EMAIL, DIGITS, PHONE, NAME)
KEPT = "SELECT external_id, amount_minor, status, paid_minor, locale, revision, crm_revision FROM invoices ORDER BY 1"
MONEY = "SELECT provider_transaction_id, amount_minor, invoice_id FROM transactions"
WORK = (
    "SELECT (SELECT count(*) FROM message_keys), (SELECT count(*) FROM message_history), (SELECT count(*) FROM links)"
)


# --- erasing --------------------------------------------------------------------------------------------------------


def test_what_was_planted_is_found_before_and_nowhere_after(world: World) -> None:
    assert where(world.database, EMAIL) == {"invoices", "message_history", "message_conflicts", "rejections"}
    assert where(world.database, NAME) >= {"invoices", "message_history", "rejections"}
    kept = [world.rows(statement) for statement in (KEPT, MONEY, WORK)]
    karens = {name: said.count("karen@example.am") for name, said in everything(world.database).items()}
    assert kept[0][0][2] == "paid"

    done = run("privacy", "erase", EMAIL, "--yes", *WHY)

    assert done.exit_code == 0, done.output
    assert where(world.database, *HERS) == set()
    assert [world.rows(statement) for statement in (KEPT, MONEY, WORK)] == kept
    assert {name: said.count("karen@example.am") for name, said in everything(world.database).items()} == karens
    assert "2 invoices" in done.stdout
    assert "1 views" in done.stdout
    assert "the CRM's own record" in done.stdout
    assert "a later version of the invoice" in done.stdout
    assert EMAIL not in done.stdout
    assert world.rows("SELECT link_id FROM link_views") == [(world.link("I-3").id,)]


def test_promises_and_chain_hold_before_and_after(world: World) -> None:
    assert broken(world) == []
    assert run("privacy", "erase", EMAIL, "--yes", *WHY).exit_code == 0
    audit_chain.seal(world.database)
    assert broken(world) == []
    assert run("audit", "verify").exit_code == 0
    assert run("prove").exit_code == 0


def broken(world: World) -> list[Any]:
    return [breach for report in prove(world.database).values() for breach in report.breaches]


def test_it_is_written_down_with_who_and_why_and_nothing_personal(world: World) -> None:
    run("privacy", "erase", EMAIL, "--yes", *WHY)

    deeds = world.rows("SELECT subject, actor, reason, detail FROM audit WHERE action = 'privacy.erased'")
    subjects = {subject for subject, *_ in deeds}
    assert {world.invoice("I-1").id, world.invoice("I-2").id} <= subjects
    assert world.invoice("I-3").id not in subjects
    assert {(actor, reason) for _, actor, reason, _ in deeds} == {("dpo", "she asked for it by letter")}
    assert json.loads(deeds[0][3])["invoices"] == 2
    discarded = world.rows("SELECT subject FROM audit WHERE action = 'intake.discarded'")
    assert discarded == world.rows("SELECT id FROM rejections WHERE state = 'discarded'")
    shown = run("invoice", "show", "I-1")
    assert "privacy.erased by dpo: she asked for it by letter" in shown.stdout


def test_a_second_time_there_is_nothing(world: World) -> None:
    assert run("privacy", "erase", EMAIL, "--yes", *WHY).exit_code == 0
    deeds = world.rows("SELECT count(*) FROM audit")

    again = run("privacy", "erase", EMAIL, "--yes", *WHY)
    assert (again.exit_code, again.stderr.strip()) == (1, f"nothing is held about {EMAIL}")
    by_invoice = run("privacy", "erase", "I-1", "--yes", *WHY)
    assert (by_invoice.exit_code, by_invoice.stderr.strip()) == (1, "nothing personal of I-1 is left")
    assert world.rows("SELECT count(*) FROM audit") == deeds, "nothing was done"


def test_an_event_that_nobody_led_to_the_invoice_is_found_by_its_order(world: World) -> None:
    ((reference,),) = world.rows("SELECT reference FROM attempts")
    body = base64.b64encode(f'{{"order": "{reference}", "payer": "{NAME}"'.encode()).decode()
    forged = ProviderEventReceived(account="gone", receipt="f", received_at=datetime.now(UTC), body_base64=body)
    put(world.database, forged)
    refused = run("privacy", "erase", EMAIL, "--yes", *WHY)
    assert (refused.exit_code, "provider.event.v1" in refused.stderr) == (1, True)
    work(world.deps, "webhook-verification", rounds=1)
    assert world.rows("SELECT outcome FROM message_history WHERE subject = 'gone'") == [("refused",)]

    assert run("privacy", "erase", EMAIL, "--yes", *WHY).exit_code == 0

    assert where(world.database, *HERS) == set()


@pytest.mark.parametrize("name", [EMAIL.upper(), "+374 (10) 12-34-56", "37410123456", "I-1", "office/I-1"])
def test_a_person_is_meant_by_address_number_or_invoice(world: World, name: str) -> None:
    assert run("privacy", "erase", name, "--yes", *WHY).exit_code == 0
    assert where(world.database, EMAIL, DIGITS, NAME) == set()


def test_the_pipeline_and_the_pages_go_on(world: World) -> None:
    run("privacy", "erase", EMAIL, "--yes", *WHY)

    with world.database.read() as tx:
        view = customer_pages.by_token_hash(tx, bytes(world.link("I-2").token_hash))
    assert view is not None
    assert view.locale == "hy"
    assert press_pay(world.deps, world.link("I-2").id).action == "new"
    work(world.deps)
    # The CRM repeats what it sent: known. It sends a new version: accepted, and with it comes its customer.
    (known,) = put(
        world.database, wanted("I-2", {**ANI, "name": "A. P.", "email": EMAIL.upper(), "phone": "0037410123456"})
    )
    assert isinstance(known, message_store.Duplicate)
    put(world.database, wanted("I-2", ANI, version=2))
    work(world.deps)
    assert where(world.database, EMAIL) == {"invoices", "message_history"}
    assert run("privacy", "erase", EMAIL, "--yes", *WHY).exit_code == 0
    assert where(world.database, *HERS) == set()


@pytest.mark.parametrize("state", ["ready", "running", "dead"])
def test_work_in_flight_is_not_broken(world: World, state: str) -> None:
    (added,) = put(world.database, wanted("I-5", ANI))
    with world.database.begin() as tx:
        tx.execute(text("UPDATE messages SET state = :state WHERE id = :id"), {"state": state, "id": added.message_id})
    before = everything(world.database)

    refused = run("privacy", "erase", EMAIL, "--yes", *WHY)

    assert refused.exit_code == 1
    assert f"invoice.created.v1 {added.message_id} is {state}" in refused.stderr
    assert ("paylinks dead discard" in refused.stderr) is (state == "dead")
    assert everything(world.database) == before, "all or nothing"
    if state == "dead":
        assert run("dead", "discard", added.message_id, "--reason", "she is to be forgotten").exit_code == 0
    else:
        with world.database.begin() as tx:
            tx.execute(text("UPDATE messages SET state = 'ready' WHERE id = :id"), {"id": added.message_id})
        work(world.deps)
    assert run("privacy", "erase", EMAIL, "--yes", *WHY).exit_code == 0
    assert where(world.database, *HERS) == set()


def test_what_comes_between_finding_and_erasing_is_not_lost(world: World) -> None:
    held = privacy.find(world.database, EMAIL)
    put(world.database, wanted("I-1", KAREN, version=2))
    with pytest.raises(privacy.InFlight):
        privacy.erase(world.database, held, actor="dpo", reason="she asked")
    put(world.database, wanted("I-2", KAREN, version=2))
    work(world.deps)

    erased = privacy.erase(world.database, held, actor="dpo", reason="she asked")

    assert (held.counts()["invoices"], erased["invoices"]) == (2, 1), "the first was paid: a version changes nothing"
    with world.database.read() as tx:
        kept = tx.sealer.open_json(bytes(invoices.get(tx, world.invoice("I-2").id).customer_sealed))
    assert kept == KAREN, "the next customer is not erased with the last one"


def test_it_asks_first(world: World) -> None:
    before = everything(world.database)
    refused = run("privacy", "erase", EMAIL, *WHY, input_="n\n")
    assert refused.exit_code == 1
    assert "nothing was erased" in refused.stderr
    assert "office:invoice:I-1" in refused.stderr
    assert "discarded with this" in refused.stderr
    assert everything(world.database) == before
    assert run("privacy", "erase", EMAIL, *WHY, input_="").exit_code == 1, "nobody is there to answer"
    assert run("privacy", "erase", EMAIL, *WHY, input_="y\n").exit_code == 0


def test_small_portions_find_the_same(world: World) -> None:
    one, all_ = privacy.find(world.database, EMAIL, portion=1), privacy.find(world.database, EMAIL)
    assert one.counts() == all_.counts()
    assert one.counts()["messages"] >= 6


# --- telling --------------------------------------------------------------------------------------------------------


def test_an_export_holds_everything_and_no_secret(world: World) -> None:
    done = run("privacy", "export", EMAIL, *WHY)

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    first, second = told["invoices"]
    assert (first["external_id"], first["status"], first["customer"]) == ("I-1", "paid", ANI)
    assert (first["amount_minor"], first["paid_minor"]) == (10_000, 10_000)
    assert second["customer"]["phone"] == "0037410123456"
    assert [one["version"] for one in first["versions"]] == [1]
    assert first["links"][0]["state"] == "settled"
    assert first["attempts"][0]["state"] == "paid"
    assert first["transactions"][0]["provider_transaction_id"] == "t-1"
    assert first["sends"][0]["recipient"] == "a***@e***.am"
    assert len(first["opened"]) == 1
    kinds = {one["type"] for one in first["messages"]}
    assert kinds == {"invoice.created.v1", "link.sent.v1", "provider.event.v1"}
    (body,) = (one["body"] for one in first["messages"] if "body" in one)
    assert NAME in body
    assert [one["about"] for one in told["other_messages"]] == ["office:invoice:I-4"], (
        "a customer before the present one"
    )
    assert [NAME in one["body"] for one in told["rejected_bodies"]] == [True]
    assert any("CRM" in one for one in told["not_held_here"])

    token = world.deps.tokens.token(world.link("I-1").id, 1, "k1")
    for secret in (token, "127.0.0.1/pay", "the-key-of-the-account", "token_hash", "sig", "karen", "Karen"):
        assert secret not in done.stdout, secret
    deeds = world.rows("SELECT subject, actor, reason FROM audit WHERE action = 'privacy.exported'")
    assert (world.invoice("I-1").id, "dpo", "she asked for it by letter") in deeds
    assert broken(world) == []


def test_an_erased_invoice_still_tells_of_its_money(world: World) -> None:
    run("privacy", "erase", EMAIL, "--yes", *WHY)
    assert run("privacy", "export", EMAIL, *WHY).exit_code == 1
    (invoice,) = json.loads(run("privacy", "export", "I-1", *WHY).stdout)["invoices"]
    assert (invoice["customer"], invoice["paid_minor"]) == (None, 10_000)


# --- wrong commands -------------------------------------------------------------------------------------------------


UNKNOWN = [
    ("nobody@example.am", "nothing is held about"),
    ("%@example.am", "nothing is held about"),
    ("_ni.petrosyan@example.am", "nothing is held about"),
    (".*@example.am", "nothing is held about"),
    ("+374 10 999999", "nothing is held about"),
    ("37410999999", "nothing is held about"),
    ("I-%", "is no e-mail address, no telephone number, and no invoice"),
    ("I-77' OR 1=1 --", "is no e-mail address"),
    ("I-1\x00", "holds characters that no name has"),
    ("ani\udcff@example.am", "holds characters that no name has"),
    (" ", "holds characters that no name has"),
]


def test_who_is_unknown_is_told_clearly(world: World) -> None:
    before = everything(world.database)
    for name, said in UNKNOWN:
        for command in (["export"], ["erase", "--yes"]):
            done = run("privacy", *command, name, *WHY)
            assert (done.exit_code, said in done.stderr) == (1, True), (name, done.output)
    assert everything(world.database) == before


def test_a_reason_is_needed_and_names_nobody(world: World) -> None:
    assert run("privacy", "erase", EMAIL, "--yes").exit_code == 2
    assert run("privacy", "export", EMAIL, "--reason", " ").exit_code == 2
    named = run("privacy", "erase", EMAIL, "--yes", "--reason", f"a letter from {EMAIL}")
    assert named.exit_code == 2
    assert where(world.database, EMAIL) != set()


def test_a_name_of_several_invoices_is_refused(world: World) -> None:
    same = "SELECT request_id FROM invoices WHERE external_id = 'I-1'"
    with world.database.begin() as tx:
        tx.execute(text(f"UPDATE invoices SET request_id = ({same})"))
    ((request,),) = world.rows(same)
    done = run("privacy", "erase", request, "--yes", *WHY)
    assert done.exit_code == 1
    assert "write it as crm/ID" in done.stderr


def test_seals_that_no_key_opens_are_told(world: World) -> None:
    stranger = Sealer([new_key()]).seal_json({"customer": ANI})
    ended = metadata.tables["message_history"]
    with world.database.begin() as tx:
        one = select(ended.c.id).where(ended.c.subject == "office:invoice:I-3").limit(1).scalar_subquery()
        tx.execute(ended.update().where(ended.c.id == one).values(sealed=stranger))
    done = run("privacy", "erase", EMAIL, "--yes", *WHY)
    assert done.exit_code == 5
    assert "1 sealed parts open with no configured key" in done.stderr
    assert isinstance(ended.c.sealed.type, LargeBinary)
