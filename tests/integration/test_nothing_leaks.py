"""Planted names, addresses, numbers and cards, sent by everybody who can send something, are nowhere to be read.

For each provider: an invoice is declined, paid and given back, events are forged, altered and spoiled, calls are
answered with errors full of personal data, the customer's browser and the CRM send what they should not. Then the log,
every column of every table, what the CRM and the outbound exchange were told, what commands print and every page and
answer of ours are searched for each planted value, as it is and as JSON, URLs and base64 write it.

Left out: what is shown by design. The purpose of an invoice, the manager's name, reasons that people type, and the ids
that a sender gives to events, invoices and orders are no places for personal data (docs/explanation/security.md).
"""

import base64
import io
import itertools
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import httpx
import pytest
from sqlalchemy import select

from contracts.commands import LinkSent, PaymentRefund, PaymentVerify
from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from db import attempts, invoices, links, message_store
from db.schema import metadata
from gateways.crms.sandbox import SandboxCrm
from gateways.providers.base import ProviderOrder
from runtime import logs
from runtime.checkout import note_return, press_pay
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from runtime.settings import AccountSettings, CrmSettings
from sandbox.launch import CrmProcess
from tests.commands import run, use_settings
from tests.conformance.desk import Desk
from tests.conformance.every import DESKS, Case
from tests.conformance.receiver import Received
from tests.conformance.ways import SPOILS, Spoiling
from tests.customer import path_of, served
from tests.shop import open_shop, work
from tests.support import DATA_KEY, put

CARD, SPACED, CVV = "5555555555554444", "5555 5555 5555 4444", "cvv-PLANTED-739"
NAME, EMAIL, PHONE = "PLANTA QWERTYAN", "planta.qwertyan@leak.example", "+37477123987"
ADDRESS, IP = "13 Plantedstreet, Yerevan", "198.51.100.213"
OURS = (CARD, SPACED, CVV, NAME, EMAIL, PHONE, ADDRESS, IP)
CARD_FIELDS = {
    "pan": CARD,
    "cardNumber": SPACED,
    "cvv": CVV,
    "cardholderName": NAME,
    "email": EMAIL,
    "phone": PHONE,
    "address": ADDRESS,
    "ip": IP,
}
CUSTOMER = {"name": NAME, "email": EMAIL, "phone": PHONE, "locale": "hy"}
HEADERS = {
    "x-forwarded-for": IP,
    "x-real-ip": IP,
    "x-cardholder": NAME,
    "x-pan": CARD,
    "cookie": f"card={CARD}",
    "user-agent": f"Mozilla/5.0 {EMAIL}",
    "referer": f"https://bank.example/?{urlencode(CARD_FIELDS)}",
}
AMOUNT = 1_000_000


class Telling(httpx.BaseTransport):
    """Answers every call with an error that says one value in every usual field, the codes too, flat or nested."""

    _FIELDS = (
        *("error", "errorCode", "error_code", "errorMessage", "code", "message", "Message", "detail", "title", "type"),
        *("ResponseCode", "ResponseMessage", "Description", "opaque", "reason", "status", "decline_code", "param"),
    )

    def __init__(self, status: int, value: str, *, nested: bool = False) -> None:
        told: dict[str, Any] = dict.fromkeys(self._FIELDS, value) | CARD_FIELDS
        self._content = json.dumps(told | {"error": told} if nested else told).encode()
        self._headers = {"content-type": "application/json", "x-request-id": CARD, "x-payer": NAME}
        self._status = status

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self._status, headers=self._headers, content=self._content)


class Stumbling:
    """An adapter, or a CRM's, with a fault: its errors quote what it was given."""

    def __init__(self, real: Any) -> None:
        self.name, self.capabilities = "stumbles", getattr(real, "capabilities", None)

    def __getattr__(self, name: str) -> Any:
        def stumble(*args: Any, **options: Any) -> None:
            raise ValueError(f"{CARD} {NAME} {EMAIL}: {args} {options}")

        return stumble


@dataclass
class Outbound:
    """The outbound exchange, which keeps what it was told."""

    bodies: list[bytes] = field(default_factory=list)

    def publish(self, routing_key: str, body: bytes, *, message_id: str) -> None:
        self.bodies.append(routing_key.encode() + body)


@dataclass
class World:
    """An installation with one account at a desk, a CRM, and everything that was said to anybody."""

    deps: Deps
    desk: Desk
    crm: CrmProcess
    log: io.StringIO
    outbound: Outbound
    answers: list[httpx.Response] = field(default_factory=list)
    forwarded: int = 0
    address: str = ""

    # --- what happens -----------------------------------------------------------------------------------------------

    def accept(self, number: str) -> None:
        """Let the CRM send an invoice, with more than it should."""
        data = {
            "crm": "office",
            "invoice_id": number,
            "version": 1,
            "deal_id": f"D-{number}",
            "amount_minor": AMOUNT,
            "currency": self.desk.order().currency,
            "purpose": "Contract 17",
            "customer": {**CUSTOMER, **CARD_FIELDS},
            "manager": {"id": "17"},
            "card": CARD_FIELDS,
        }
        self.crm.control.create([data | {"customer": CUSTOMER, "card": {}}])
        assert self.send_in("invoice.created.v1", data) == "accepted"
        work(self.deps, "link-creation", "crm-update", rounds=2, hurry=False)

    def send_in(self, type_: str, data: dict[str, Any], channel: Any = "amqp") -> str:
        event = {"specversion": "1.0", "id": new_id(), "source": "/crm", "type": type_, "data": data}
        (taken,) = take(self.deps, [Incoming(body=json.dumps(event).encode(), channel=channel)])
        return taken.outcome

    def open(self, number: str, deps: Deps | None = None) -> ProviderOrder | None:
        """Press Pay; return the order, if there is one now."""
        press_pay(self.deps, self.link(number).id)
        work(deps or self.deps, "checkout", rounds=1, hurry=False)
        return self.order(number)

    def order(self, number: str) -> ProviderOrder | None:
        with self.deps.database.read() as tx:
            row = attempts.of_invoice(tx, self.invoice(number).id)[-1]
            url, fields = attempts.pay_url(tx, row), attempts.pay_fields(tx, row)
        if row.provider_order_id is None:
            return None
        return ProviderOrder(row.reference, row.provider_order_id, url, None, pay_fields=fields)

    def invoice(self, number: str) -> Any:
        with self.deps.database.read() as tx:
            return invoices.find(tx, "office", number)

    def link(self, number: str) -> Any:
        with self.deps.database.read() as tx:
            return links.newest(tx, self.invoice(number).id)

    def give(self, model: Any, number: str, **more: Any) -> None:
        command = model(crm="office", invoice_id=number, actor="17", reason="asked", wish=new_id(), **more)
        put(self.deps.database, command)
        work(self.deps, "commands", rounds=1, hurry=False)

    def events_come(self) -> None:
        """Hand the provider's new events to our door, each true, altered, and with what it should not hold."""
        if not self.desk.provider.capabilities.push:
            return
        new = self.desk.events(self.forwarded)[self.forwarded :]
        self.forwarded += len(new)
        for received in new:
            for event in (self.desk.event_of(received), *self.desk.altered(received), *_spoiled(self.desk, received)):
                self.knock(event)
                self.forward(event)
        work(self.deps, rounds=2)

    def knock(self, event: dict[str, Any], account: str = "shop") -> None:
        """Send an event to our door."""
        url = f"{self.address}/webhooks/{account}" + (f"?{event['query']}" if event["query"] else "")
        skipped = {"content-length", "host", "connection", "transfer-encoding"}
        headers = {name: value for name, value in event["headers"].items() if name not in skipped}
        self.ask(event["method"], url, content=event["body"], headers=headers | HEADERS)

    def forward(self, event: dict[str, Any], account: str = "shop") -> None:
        """Send an event in as if it came by AMQP, past the door's look at its signature."""
        data = {
            "account": account,
            "method": event["method"],
            "query": event["query"],
            "headers": event["headers"] | HEADERS,
            "body_base64": base64.b64encode(event["body"]).decode(),
        }
        self.send_in("provider.event.v1", data)

    def ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Ask our own doors, and keep what they say."""
        answer = httpx.request(method, url if "//" in url else self.address + url, trust_env=False, **options)
        self.answers.append(answer)
        return answer

    def spoiled(self, transport: httpx.BaseTransport | None) -> Deps:
        """Return the installation with a provider and a CRM whose answers come by this way; None: both stumble."""
        if transport is None:
            crm: Any = Stumbling(None)
            return replace(self.deps, providers={"shop": Stumbling(self.desk.provider)}, crms={"office": crm})  # type: ignore[dict-item]
        crm = SandboxCrm("office", self.crm.base_url, self.crm.token, transport=transport)
        return replace(self.deps, providers={"shop": self.desk.adapter(transport=transport)}, crms={"office": crm})

    # --- what may be read afterwards ----------------------------------------------------------------------------------

    def places(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Give everything that was written or told anywhere, place by place."""
        yield "log", self.log.getvalue().encode()
        with self.deps.database.read() as tx:
            dead = [row.id for row in message_store.dead(tx, limit=1000)]
            for table in metadata.sorted_tables:
                for row in tx.execute(select(table)).mappings():
                    for name, value in row.items():
                        yield f"{table.name}.{name}", value if isinstance(value, bytes) else str(value).encode()
        for record in self.crm.control.records():
            yield "the CRM's record", json.dumps(record["payment"], ensure_ascii=False).encode()
        for task in self.crm.control.tasks():
            yield "a task in the CRM", json.dumps(task, ensure_ascii=False).encode()
        for body in self.outbound.bodies:
            yield "outbound event", body
        for answer in self.answers:
            yield f"answer of {answer.url.path[:12]}", repr(answer.headers.raw).encode() + answer.content
        keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
        use_settings(monkeypatch, folder, {"database_url": self.deps.settings.database_url, **keys})
        commands = [("dead", "list"), ("intake", "rejected", "list"), ("events",), ("audit", "verify"), ("doctor",)]
        commands += [("invoice", "show", number) for number in ("I-1", "I-2", "I-3")]
        commands += [("dead", "show", id_) for id_ in dead]
        for command in commands:
            yield f"paylinks {' '.join(command[:2])}", run(*command).output.encode()


def _spoiled(desk: Desk, received: Received) -> Iterator[dict[str, Any]]:
    """Give events that hold more than they should, in every part; most of them are forged by that."""
    event = desk.event_of(received)
    query = urlencode(CARD_FIELDS)
    yield {**event, "query": f"{event['query']}&{query}" if event["query"] else query}
    yield {**event, "body": json.dumps(CARD_FIELDS).encode()}
    yield {**event, "body": query.encode()}
    yield {**event, "body": f"{CARD} {NAME}".encode(), "headers": {}}
    yield {**event, "headers": dict.fromkeys(event["headers"], f"{CARD} {EMAIL}")}


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Set logs up as every process of ours does, and keep them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log = io.StringIO()
    root.handlers = []
    try:
        with redirect_stderr(log):
            logs.set_up("DEBUG")
            yield log
    finally:
        root.handlers = handlers
        root.setLevel(level)


@pytest.fixture(scope="module")
def crm() -> Iterator[CrmProcess]:
    with CrmProcess(crm="office") as process:
        yield process


# Each provider on one of the databases, by turns: what may leak is the same on both.
PLACES = list(zip(DESKS, itertools.cycle(("clean_postgres", "clean_sqlite")), strict=False))


@pytest.fixture(params=PLACES, ids="-".join)
def world(crm: CrmProcess, request: pytest.FixtureRequest) -> Iterator[World]:
    name, database = request.param
    clean_url: str = request.getfixturevalue(database)
    with ExitStack() as room:
        desk = room.enter_context(Case(name).open())
        log = room.enter_context(logged())
        account = AccountSettings(adapter=name, base_url="http://127.0.0.1:1", api_key="k")
        office = CrmSettings(adapter="sandbox", base_url=crm.base_url, token=crm.token)
        made = room.enter_context(
            open_shop(clean_url, accounts={"shop": account, "stumbles": account}, crms={"office": office})
        )
        outbound = Outbound()
        at_crm = SandboxCrm("office", crm.base_url, crm.token)
        room.callback(at_crm.close)
        providers: Any = {"shop": desk.provider, "stumbles": Stumbling(desk.provider)}
        deps = replace(made, providers=providers, crms={"office": at_crm}, events=outbound)
        opened = World(deps, desk, crm, log, outbound)
        opened.address = room.enter_context(served(deps))
        yield opened


# --- the test -------------------------------------------------------------------------------------------------------


def test_what_was_planted_everywhere_is_nowhere_to_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pays_and_is_given_back(world, "I-1")
    calls_fail(world, "I-2", "I-3")
    strangers_knock(world)

    planted = {*OURS, *(value for value in world.desk.planted() if len(value) >= 8)}
    written = [(place, text.lower()) for place, text in world.places(monkeypatch, tmp_path)]
    ways = {(value, way) for value in planted for way in _ways(value)}
    leaks = {f"{value} in {place}" for place, text in written for value, way in ways if way in text}
    assert not leaks, "\n".join(sorted(leaks))
    # It was searched where something is: the story happened, and left its traces.
    places = {place for place, _ in written}
    assert {"log", "messages.payload", "message_attempts.error", "audit.detail", "verdicts.rule_id"} <= places
    assert {"transactions.id", "rejections.problems", "event_counts.kind", "outbound event"} <= places
    assert {"the CRM's record", "message_history.sealed", "invoices.customer_sealed"} <= places
    assert len(world.log.getvalue().splitlines()) > 20


def pays_and_is_given_back(world: World, number: str) -> None:
    world.accept(number)
    world.give(LinkSent, number, channel="email", recipient=EMAIL)
    path = path_of(world.deps, world.link(number))
    planted = urlencode(CARD_FIELDS)
    for way in (path, f"{path}?{planted}", f"{path}/status?{planted}", f"/l/{CARD}?{planted}"):
        world.ask("GET", way, headers=HEADERS)
    order = world.open(number)
    assert order is not None
    world.desk.decline(order)
    world.events_come()
    order = world.open(number) or order
    world.desk.pay(order)
    for received in world.desk.prechecks():
        world.knock(world.desk.event_of(received))
    if world.desk.provider.capabilities.push:
        world.desk.events(world.forwarded + 1)
    world.events_come()
    for method in ("GET", "POST"):
        world.ask(method, f"{path}/return?{planted}", data=CARD_FIELDS if method == "POST" else None, headers=HEADERS)
        world.ask(method, f"/back/shop?{planted}", data=CARD_FIELDS if method == "POST" else None, headers=HEADERS)
    note_return(world.deps, world.link(number).id)
    work(world.deps, rounds=3)
    assert world.invoice(number).paid_minor == AMOUNT, "the story goes on only when it was paid"
    world.give(PaymentRefund, number, amount_minor=AMOUNT // 4, currency=world.desk.order().currency)
    work(world.deps, rounds=3)
    world.events_come()
    world.ask("GET", path, headers=HEADERS)
    world.ask("POST", f"{path}/pay?{planted}", data=CARD_FIELDS, headers=HEADERS | {"sec-fetch-site": "same-origin"})
    world.ask("GET", f"/v1/invoices/office/{number}?{planted}", headers=HEADERS | {"authorization": f"Bearer {CARD}"})


def calls_fail(world: World, creating: str, asking: str) -> None:
    """Let every kind of call be answered with errors and nonsense that are full of personal data."""
    ways: list[httpx.BaseTransport | None] = [
        None,
        Telling(400, CARD),
        Telling(200, CARD),
        Telling(402, PHONE[1:], nested=True),
        Telling(422, IP, nested=True),
        Telling(500, CARD, nested=True),
        *(Spoiling(how, OURS) for how in SPOILS),
    ]
    world.accept(creating)
    world.accept(asking)
    order = world.open(asking)
    if order is not None:
        world.desk.pay(order)
    for way in ways:
        deps = world.spoiled(way)
        world.open(creating, deps)
        world.give(PaymentVerify, asking)
        work(deps, "webhook-verification", "status-checks", "checkout", "crm-update", "manager-tasks", rounds=1)
    world.give(PaymentVerify, asking)
    work(world.deps, rounds=2)
    for way in ways[:4]:
        world.give(PaymentRefund, asking)
        work(world.spoiled(way), rounds=1)


def strangers_knock(world: World) -> None:
    """Let bodies come that are wrong in every place where a value could be repeated in a complaint."""
    for place in ("amount_minor", "currency", "version", "customer", "type", "kind", "policy", "invoice_id", CARD):
        data = {
            "crm": "office",
            "invoice_id": "I-9",
            "version": 1,
            "amount_minor": 1,
            "currency": "AMD",
            "purpose": "p",
        }
        for value in (CARD_FIELDS, [CARD, NAME], f"{CARD} {NAME} " * 20):
            world.send_in("invoice.created.v1", data | {place: value})
            body = json.dumps(data | {place: value})
            world.ask("POST", "/v1/invoices", content=body, headers=HEADERS | {"authorization": f"Bearer {CARD}"})
    take(world.deps, [Incoming(body=f"{CARD} {NAME} {EMAIL}".encode(), channel="amqp")])
    event = {"method": "POST", "query": f"pan={CARD}", "headers": dict(HEADERS), "body": f"{CARD} {NAME}".encode()}
    world.knock(event, "stumbles")
    world.forward(event, "stumbles")
    world.ask("POST", f"/webhooks/{quote(NAME)}?pan={CARD}", content=CARD, headers=HEADERS)
    world.ask("PUT", f"/webhooks/shop?pan={CARD}", content=CARD, headers=HEADERS)
    world.ask("GET", f"/{CARD}/{quote(EMAIL)}", headers=HEADERS)
    unread = ProviderEventReceived(
        account="shop", receipt=new_id(), received_at=datetime.now(UTC), query=f"pan={CARD}", headers=HEADERS
    )
    put(world.deps.database, unread)
    work(world.deps, rounds=2)


def test_a_value_is_found_however_it_was_written_down() -> None:
    for value in (CARD, NAME, EMAIL, "Անահիտ Թեստյան"):
        raw = value.encode()
        texts = [raw, f"x{value}y".encode(), json.dumps({"a": value}).encode(), urlencode({"a": value}).encode()]
        texts += [base64.b64encode(b"{" * before + raw + b"}" * 5) for before in range(6)]
        assert [text for text in texts if not any(way in text.lower() for way in _ways(value))] == []


def _ways(value: str) -> Iterator[bytes]:
    """Give a value as texts, JSON, URLs and base64 hold it, in lower case."""
    yield value.encode().lower()
    yield json.dumps(value)[1:-1].lower().encode()
    yield quote(value, safe="").lower().encode()
    yield quote_plus(value).lower().encode()
    raw = value.encode()
    for shift in range(3):
        # What the neighbours do not touch of it: six bits of the first and the last byte may be theirs.
        coded = base64.b64encode(b"\0" * shift + raw)
        yield coded[(shift * 8 + 5) // 6 : len(coded) - 4].lower()
