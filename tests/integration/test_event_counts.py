"""Forged, stale, replayed and altered events change nothing, and are counted where operators see it."""

import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.messages import ProviderEventReceived
from contracts.statuses import InvoiceStatus
from db import event_counts
from gateways.providers.sandbox import SandboxProvider
from rules.events import kind_of_refusal
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from runtime.settings import AccountSettings
from tests.commands import run, use_settings
from tests.customer import eventually, rows, served
from tests.office_desk import open_order
from tests.shop import accept, open_shop, the_attempt, the_invoice, work
from tests.support import DATA_KEY, put
from web.event_tally import EventTally

SECRET = "whsec-of-the-tests"
STATE = "SELECT status, revision, paid_minor FROM invoices"
MONEY = "SELECT count(*) FROM transactions"


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    """An installation with an open order, and a second account that hears the sandbox's signed events."""
    account = AccountSettings(adapter="sandbox", base_url="http://127.0.0.1:1", api_key="k", verification="ask")
    with open_shop(clean_url, accounts={"shop": account, "bank": account}) as made:
        accept(made)
        open_order(made)
        bank = SandboxProvider("bank", "http://127.0.0.1:1/main", "k", (SECRET,))
        yield replace(made, providers={**made.providers, "bank": bank})


def body(reference: str, number: int = 1) -> bytes:
    order = {"id": f"o-{reference}", "reference": reference, "status": "paid", "transactions": []}
    return json.dumps({"id": f"evt-{number}", "type": "payment.captured", "data": {"order": order}}).encode()


def signed(raw: bytes, *, secret: str = SECRET, age: timedelta = timedelta()) -> dict[str, str]:
    at = str(int((datetime.now(UTC) - age).timestamp()))
    signature = hmac.new(secret.encode(), at.encode() + b"." + raw, hashlib.sha256).hexdigest()
    return {"sandbox-signature": f"t={at},v1={signature}"}


def counted(deps: Deps) -> dict[tuple[str, str], int]:
    with deps.database.read() as tx:
        return {(row.account, row.kind): row.count for row in event_counts.since(tx, datetime.now(UTC).date())}


def test_what_the_door_refuses_changes_nothing_and_its_numbers_outlive_the_process(deps: Deps) -> None:
    event = body(the_attempt(deps).reference)
    before = rows(deps, STATE)
    for _ in range(2):
        with served(deps) as address:
            door = f"{address}/webhooks/bank"
            answers = [
                httpx.post(door, content=event, headers=signed(event, secret="a-guess"), trust_env=False),
                httpx.post(door, content=event, trust_env=False),
                httpx.post(door, content=event + b" ", headers=signed(event), trust_env=False),
                httpx.post(door, content=event, headers=signed(event, age=timedelta(hours=2)), trust_env=False),
                httpx.post(door, content=event, headers=signed(event), trust_env=False),
                httpx.post(door, content=event, headers=signed(event), trust_env=False),
                httpx.post(f"{address}/webhooks/nobody", content=event, trust_env=False),
            ]
            assert [answer.status_code for answer in answers] == [400, 400, 400, 400, 200, 200, 404]
    work(deps, "webhook-verification", rounds=1, hurry=False)

    # The sandbox answers nobody, so that nothing but the event itself could have changed anything.
    assert (rows(deps, STATE), rows(deps, MONEY)) == (before, [(0,)])
    assert counted(deps) == {
        ("bank", "forged"): 6,
        ("bank", "stale"): 2,
        ("bank", "accepted"): 1,
        ("bank", "duplicate"): 3,
        ("?", "unknown_account"): 2,
    }


def test_what_comes_by_amqp_is_refused_by_the_worker_and_counted_once(deps: Deps) -> None:
    before = rows(deps, STATE)
    raw = body(the_attempt(deps).reference)
    for headers in (signed(raw, secret="a-guess"), signed(raw, age=timedelta(hours=2)), signed(b"{")):
        data = {"account": "bank", "headers": headers, "body_base64": base64.b64encode(raw).decode()}
        told = {"specversion": "1.0", "id": "1", "source": "/bank", "type": "provider.event.v1", "data": data}
        taken = take(deps, [Incoming(body=json.dumps(told).encode(), channel="amqp") for _ in range(2)])
        assert [one.outcome for one in taken] == ["accepted", "duplicate"]
    work(deps, "webhook-verification", rounds=2)
    assert (rows(deps, STATE), rows(deps, MONEY)) == (before, [(0,)])
    assert counted(deps) == {("bank", "forged"): 2, ("bank", "stale"): 1}


def test_an_event_about_no_order_of_ours_is_counted_as_unmatched(deps: Deps) -> None:
    event = ProviderEventReceived(
        account="shop",
        receipt="e-1",
        received_at=datetime.now(UTC),
        body_base64=base64.b64encode(b"an-order-of-somebody-else").decode(),
    )
    put(deps.database, event)
    work(deps, "webhook-verification", rounds=30)
    assert counted(deps) == {("shop", "unmatched"): 1}
    assert the_invoice(deps).status == InvoiceStatus.PENDING


def test_numbers_wait_while_the_database_is_away(deps: Deps) -> None:
    class Away:
        def __init__(self) -> None:
            self.is_away = True

        def begin(self) -> Any:
            if self.is_away:
                raise ConnectionError("away")
            return deps.database.begin()

    away, counts = Away(), Counter({("bank", "forged"): 2})
    tally = EventTally(away, counts, pause_seconds=0.01)  # type: ignore[arg-type]  # one method of it is used
    tally.start()
    counts["bank", "forged"] += 1
    away.is_away = False
    eventually(lambda: counted(deps) == {("bank", "forged"): 3})


def test_two_processes_add_up(deps: Deps) -> None:
    def add() -> None:
        for _ in range(20):
            with deps.database.begin() as tx:
                event_counts.add(tx, {("bank", "forged"): 1, ("bank", "accepted"): 2})

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(deps) == {("bank", "accepted"): 80, ("bank", "forged"): 40}


def test_operators_see_the_numbers(deps: Deps, clean_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, {"database_url": clean_url, **keys})
    with deps.database.begin() as tx:
        event_counts.add(tx, {("bank", "forged"): 3, ("bank", "accepted"): 5, ("bank", "slow"): 1})
    today = datetime.now(UTC).date().isoformat()
    assert json.loads(run("events", "--json").stdout) == [
        {"account": "bank", "day": today, "kind": kind, "count": count}
        for kind, count in (("accepted", 5), ("forged", 3), ("slow", 1))
    ]
    heading, line = run("events", "--days", "1").stdout.splitlines()
    assert " ".join(heading.split()) == "DAY ACCOUNT ACCEPTED DUPLICATE FORGED STALE REFUSED UNMATCHED OTHER"
    assert line.split() == [today, "bank", "5", "0", "3", "0", "0", "0", "slow", "1"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("signature_missing", "forged"),
        ("signature_mismatch", "forged"),
        ("signature_malformed", "forged"),
        ("timestamp_outside_tolerance", "stale"),
        ("body_invalid", "refused"),
        ("", "refused"),
    ],
)
def test_refusals_are_sorted_by_their_code(code: str, kind: str) -> None:
    assert kind_of_refusal(code) == kind
