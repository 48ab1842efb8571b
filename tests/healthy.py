"""An installation that did its work: invoices in every state, each brought there by the real stages and the sandbox."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from contracts.catalog import Queue
from contracts.messages import ProviderEventReceived
from db import api_keys, attempts, audit_chain, links, message_store, rejections
from db import invoices as invoice_rows
from db.schema import links as link_rows
from db.schema import messages
from db.types import db_after
from runtime.build import build, close
from runtime.checkout import press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import replay, take
from runtime.settings import Settings
from sandbox.launch import CrmProcess, FiscalProcess, ProviderProcess
from tests.support import DATA_KEY, open_database
from workers import registry
from workers.executor import Executor

CRM = "acme"
LINK_KEYS = [{"id": "k1", "secret": "s" * 32}]


@dataclass
class Healthy:
    """The installation, its outside, and the ids of its invoices by what became of them."""

    url: str
    raw_settings: dict[str, Any]
    provider: ProviderProcess
    crm: CrmProcess
    ids: dict[str, str] = field(default_factory=dict)

    def settings(self, **other: Any) -> Settings:
        """The installation's settings, some of them others."""
        return Settings(**{**self.raw_settings, **other})


@contextmanager
def healthy(url: str) -> Iterator[Healthy]:
    """Bring an empty database into a healthy state; the sandbox stays up until the end of the block."""
    open_database(url).dispose()
    with ProviderProcess(family="unique") as provider, CrmProcess(crm=CRM) as crm, FiscalProcess() as fiscal:
        provider.control.configure("intl", api_key=provider.api_key, family="idempotent", webhook_secret="w" * 16)
        world = Healthy(url, settings_for(url, provider, crm, fiscal), provider, crm)
        deps = build(world.settings())
        registry.load_all()
        _Builder(world, deps).build()
        close(deps)
        yield world


def settings_for(url: str, provider: ProviderProcess, crm: CrmProcess, fiscal: FiscalProcess) -> dict[str, Any]:
    return {
        "database_url": url,
        "data_keys": [DATA_KEY],
        "link_keys": LINK_KEYS,
        "accounts": {
            "main": _account(provider, "main", {"family": "unique", "opens": "at_pay", "settle": "PT0S"}),
            "intl": _account(provider, "intl", {"family": "idempotent", "opens": "early"}),
        },
        "crms": {CRM: {"adapter": "sandbox", "base_url": crm.base_url, "token": crm.token}},
        "routing": {"AMD": "main", "*": "intl"},
        "fiscal": {"till": {"adapter": "sandbox", "base_url": fiscal.device_url(), "api_key": fiscal.password}},
        "fiscal_device": "till",
        "refunds": {"second_person_above": {"AMD": 80_000}},
    }


def _account(provider: ProviderProcess, name: str, options: dict[str, str]) -> dict[str, Any]:
    return {
        "adapter": "sandbox",
        "base_url": provider.account_url(name),
        "api_key": provider.api_key,
        "webhook_secrets": [provider.webhook_secret],
        "options": options,
    }


class _Builder:
    def __init__(self, world: Healthy, deps: Deps) -> None:
        self.world = world
        self.deps = deps
        self.executor = Executor(deps, [queue.value for queue in Queue])

    def build(self) -> None:
        """Bring each invoice to its end, one kind after the other."""
        for name in ("paid", "open", "partial", "refunded", "cancelled", "expired", "superseded", "failed", "returned"):
            self.submit(name)
        self.submit("early", currency="USD")
        self.submit("part", policy={"partial": "accept"})
        self.submit("twice")
        self.submit("late")
        self.submit("unknown_to_crm", in_crm=False)
        self.submit("given_up", in_crm=False)
        self.submit("paid")  # a repeat
        self.submit("open", purpose="other content")  # a conflict
        self.drain()
        self._customers_act()
        self._time_passes()
        self._crm_changes_its_mind()
        self._people_act()
        self._money_goes_back()
        self._strangers_pay()
        self.drain()
        audit_chain.seal(self.deps.database)

    def submit(self, name: str, *, in_crm: bool = True, **fields: Any) -> None:
        data = {
            "crm": CRM,
            "invoice_id": f"INV-{name}",
            "version": 1,
            "deal_id": f"D-{name}",
            "amount_minor": 150_000,
            "currency": "AMD",
            "purpose": "Prepayment",
            "customer": {"name": "Անի", "email": "ani@example.am", "locale": "hy"},
            "manager": {"id": "17"},
            **fields,
        }
        if in_crm:
            self.world.crm.control.create([data])
        self.take("invoice.created.v1", data)

    def take(self, type_: str, data: dict[str, Any], channel: str = "operator") -> Any:
        event = {"specversion": "1.0", "id": secrets.token_hex(8), "source": "/tests", "type": type_, "data": data}
        (taken,) = take(self.deps, [Incoming(body=json.dumps(event).encode(), channel=channel)])
        return taken

    def drain(self) -> None:
        """Work until nothing is due."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for queue in Queue:
                self.executor.serve(queue.value)
            with self.deps.database.read() as tx:
                if not any(message_store.due(tx, queue.value, limit=1) for queue in Queue):
                    return
            time.sleep(0.05)
        raise AssertionError("there is always something due")

    def _customers_act(self) -> None:
        for name in ("paid", "open", "partial", "refunded", "failed", "part", "twice", "returned"):
            self.world.ids[name] = self.find(name)
            press_pay(self.deps, self.link(name).id)
        self.drain()
        self.at_provider("paid", "pay")
        self.at_provider("partial", "pay", amount_minor=70_000)
        self.at_provider("refunded", "pay")
        self.at_provider("failed", "expire")
        self.at_provider("part", "pay", amount_minor=70_000)
        self.at_provider("twice", "pay")
        self.at_provider("returned", "pay")
        self.drain()
        self.at_provider("twice", "pay", force=True)
        self.at_provider("refunded", "refund", amount_minor=150_000)
        self.drain()
        for name in ("cancelled", "expired", "late", "superseded", "early", "unknown_to_crm", "given_up"):
            self.world.ids[name] = self.find(name)

    def _time_passes(self) -> None:
        for name in ("expired", "late"):
            press_pay(self.deps, self.link(name).id)
        self.drain()
        for name in ("expired", "late"):
            with self.deps.database.begin() as tx:
                over = link_rows.update().where(link_rows.c.invoice_id == self.world.ids[name])
                tx.execute(over.values(expires_at=db_after(-1)))
            for _ in ("the last question", "the end"):
                with self.deps.database.begin() as tx:
                    about = messages.c.subject == self.world.ids[name]
                    ends = tx.execute(messages.select().where(about, messages.c.type == "link.expire.v1")).one()
                    message_store.hasten(tx, ends.id)
                self.drain()
        self.at_provider("late", "pay", force=True)
        self.drain()

    def _crm_changes_its_mind(self) -> None:
        press_pay(self.deps, self.link("superseded").id)
        self.drain()
        self.submit("superseded", version=2, amount_minor=200_000)
        self.take("invoice.cancelled.v1", {"crm": CRM, "invoice_id": "INV-cancelled", "version": 1})
        self.drain()

    def _people_act(self) -> None:
        from cli.first_aid import Deed, do

        with self.deps.database.read() as tx:
            (dead,) = (row for row in message_store.dead(tx) if row.subject == self.world.ids["given_up"])
        do(self.deps, dead.id, Deed.DISCARDED, actor="ani", reason="its record was deleted in the CRM")
        bad = [self.take("invoice.created.v1", {"crm": CRM, "n": n}, channel="amqp").rejection_id for n in range(3)]
        mended = {"crm": CRM, "invoice_id": "INV-mended", "version": 1, "amount_minor": 1}
        mended |= {"currency": "AMD", "purpose": "Mended"}
        self.world.crm.control.create([mended])
        event = {"specversion": "1.0", "id": "m1", "source": "/tests", "type": "invoice.created.v1", "data": mended}
        replay(self.deps, bad[0], actor="ani", reason="mended by hand", body=json.dumps(event).encode())
        with self.deps.database.begin() as tx:
            rejections.discard(tx, bad[1], actor="ani", reason="nobody knows what it was")
        with self.deps.database.begin() as tx:
            made = api_keys.create(tx, "shop", [CRM], actor="ani", reason="the shop's own")
        with self.deps.database.begin() as tx:
            api_keys.revoke(tx, made[0], actor="ani", reason="lost")

    def _money_goes_back(self) -> None:
        """One refund is made; another waits for a second person."""
        who = {"crm": CRM, "invoice_id": "INV-returned", "actor": "17", "reason": "returned goods"}
        self.take("payment.refund.v1", {**who, "amount_minor": 50_000, "currency": "AMD"})
        self.drain()
        self.take("payment.refund.v1", {**who, "amount_minor": 90_000, "currency": "AMD"})
        self.drain()

    def _strangers_pay(self) -> None:
        """An order that we did not make is paid, and its event reaches us."""
        control, reference = self.world.provider.control, f"stranger-{secrets.token_hex(4)}"
        order = {"reference": reference, "amount_minor": 5_000, "currency": "AMD", "description": "x"}
        order |= {"return_url": "http://127.0.0.1/", "expires_in_seconds": 600, "locale": "en"}
        control.create(order, api_key=self.world.provider.api_key)
        control.act(reference, "pay")
        event = self._event(reference)
        with self.deps.database.begin() as tx:
            added = message_store.add(tx, event)
            # Its two minutes of patience are over.
            tx.execute(messages.update().where(messages.c.id == added.message_id).values(waits=24))

    def _event(self, reference: str) -> ProviderEventReceived:
        body = json.dumps({"id": "evt-1", "type": "order.paid", "data": {"order": {"reference": reference}}}).encode()
        at = str(int(time.time()))
        secret = self.world.provider.webhook_secret.encode()
        signature = hmac.new(secret, at.encode() + b"." + body, hashlib.sha256).hexdigest()
        return ProviderEventReceived(
            account="main",
            receipt="evt-1",
            received_at=datetime.now(UTC),
            headers={"sandbox-signature": f"t={at},v1={signature}"},
            body_base64=base64.b64encode(body).decode(),
        )

    def find(self, name: str) -> str:
        with self.deps.database.read() as tx:
            found = invoice_rows.find(tx, CRM, f"INV-{name}")
        assert found is not None, name
        return str(found.id)

    def link(self, name: str) -> Any:
        with self.deps.database.read() as tx:
            return links.newest(tx, self.find(name))

    def at_provider(self, name: str, action: str, **options: Any) -> None:
        """Act as the customer does, and have the provider asked."""
        with self.deps.database.begin() as tx:
            attempt = attempts.of_invoice(tx, self.find(name))[-1]
            self.world.provider.control.act(attempt.reference, action, account=attempt.account, **options)
            request_check(tx, attempt)
