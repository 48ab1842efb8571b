"""Minutes of random misfortune: whatever dies, and in whatever order, every invoice reaches its right end."""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from contracts.catalog import Queue
from contracts.messages import InvoiceCreated
from db import message_store
from db.tx import Cause, prepare
from tests.faults.conftest import Production
from tests.faults.flow import flow
from tests.faults.points import POINTS, points_of
from tests.faults.test_servers_fail import delete_delivery_queues
from tests.kit import PAYS, Bill, Town

pytestmark = [pytest.mark.storm, pytest.mark.timeout(1500)]

STORM_SECONDS = 300.0
INVOICES = 150
WAVE = 10
PATIENCE_SECONDS = 400.0
QUEUED = 10_000


# --- storms ---------------------------------------------------------------------------------------------------------


def test_five_minutes_of_misfortune_in_production(production: Production) -> None:
    town = production.town

    def kill(chance: random.Random) -> None:
        town.stack.kill(chance.choice(sorted(town.stack.processes)))

    def stop_at_a_point(chance: random.Random) -> None:
        queue = chance.choice(sorted(POINTS))
        town.arm(queue, [chance.choice(points_of(queue))])

    def restart_broker(chance: random.Random) -> None:
        production.rabbit.kill9() if chance.random() < 0.5 else production.rabbit.stop()
        time.sleep(chance.uniform(0, 5))
        production.rabbit.start()

    def freeze_broker(chance: random.Random) -> None:
        production.rabbit.freeze()
        time.sleep(chance.uniform(1, 15))
        production.rabbit.thaw()

    def restart_database(chance: random.Random) -> None:
        production.postgres.kill9() if chance.random() < 0.5 else production.postgres.stop()
        time.sleep(chance.uniform(0, 5))
        production.postgres.start()

    def lose_commits(chance: random.Random) -> None:
        production.to_postgres.lose_commit_replies(chance.randint(1, 8), every=chance.randint(1, 9))

    misfortunes: list[Misfortune] = [
        *(kill, kill, kill, stop_at_a_point, stop_at_a_point, lose_commits, lose_commits),
        *(restart_broker, freeze_broker, restart_database),
        lambda _: _ignore(production.to_rabbit.cut()),
        lambda _: _ignore(production.to_postgres.cut()),
        lambda _: delete_delivery_queues(production),
    ]
    _storm(town, misfortunes)


def test_five_minutes_of_misfortune_in_one_process(embedded: Town) -> None:
    def kill(chance: random.Random) -> None:
        embedded.stack.kill("up")

    def stop_at_a_point(chance: random.Random) -> None:
        embedded.arm("up", [chance.choice([point for queue in POINTS for point in points_of(queue)])])

    _storm(embedded, [kill, stop_at_a_point, stop_at_a_point])


Misfortune = Callable[[random.Random], None]


def _ignore(_: object) -> None:
    """Take a result that nobody needs."""


def _storm(town: Town, misfortunes: Sequence[Misfortune]) -> None:
    seed = secrets.randbits(32)
    print(f"the storm's seed is {seed}")
    chance = random.Random(seed)
    bills: list[Bill] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < STORM_SECONDS:
        if len(bills) < INVOICES * passed / STORM_SECONDS:
            bills += _wave(town)
        chance.choice(misfortunes)(chance)
        time.sleep(chance.uniform(1, 8))
    for process in town.stack.processes.values():
        process.halts = []
    town.stack.wait_ready()

    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    town.check_books()


def _wave(town: Town) -> list[Bill]:
    return flow(town, WAVE, patience_seconds=PATIENCE_SECONDS)


# --- single blows, whole --------------------------------------------------------------------------------------------


def test_the_all_in_one_process_killed_at_every_point(embedded: Town) -> None:
    points = [point for queue in POINTS for point in points_of(queue)]
    markers = embedded.arm("up", points)
    bills: list[Bill] = []

    def are_reached() -> bool:
        if all(embedded.has_gone(bill) for bill in bills):
            bills.extend(_wave(embedded))
        return all(marker.exists() for marker in markers)

    embedded.eventually(are_reached, f"every point is reached {_names(markers)}", seconds=PATIENCE_SECONDS)
    embedded.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    embedded.check_books()


def _names(markers: Sequence[Path]) -> str:
    return ", ".join(marker.name for marker in markers)


def test_the_broker_is_stopped_for_a_minute(production: Production) -> None:
    town = production.town
    bills = _wave(town)
    production.rabbit.stop()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        bills += _wave(town)
        time.sleep(15)
    production.rabbit.start()

    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    town.check_books()


def test_a_waiting_customer_overtakes_ten_thousand_invoices(production: Production) -> None:
    """Pay reaches the provider's page in 2 s beside the provider's own time; here 10 s are allowed, and printed."""
    town = production.town
    bills = town.publish(1, [PAYS], ["bank"])
    customer = town.customer(bills[0])
    town.eventually(lambda: bool(town.invoice(bills[0]).crm_revision), "the link is in the CRM")
    sender = town.deps.database.sealer
    crm = town.plan.crms[0]
    template = {"crm": crm, "version": 1, "currency": "AMD", "amount_minor": 5000, "purpose": "one of many"}
    queued = [InvoiceCreated.parse(template | {"invoice_id": f"MANY-{number}"}) for number in range(QUEUED)]
    for start in range(0, QUEUED, 500):
        with town.deps.database.begin(Cause.new()) as tx:
            message_store.add_all(tx, [prepare(message, tx.cause, sender) for message in queued[start : start + 500]])

    waiting = _due(town)
    began = time.monotonic()
    customer.press_pay()
    seconds = time.monotonic() - began
    print(f"Pay led to the provider's page after {seconds:.2f} s, with {waiting} invoices waiting")

    assert waiting > QUEUED / 4, "too few waited: nothing was shown"
    assert seconds < 10
    customer.at_provider("pay")
    customer.close()


def _due(town: Town) -> int:
    rows = town.rows(f"SELECT count(*) FROM messages WHERE queue = '{Queue.LINK_CREATION}' AND state = 'ready'")
    return int(rows[0][0])
