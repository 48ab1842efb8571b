"""A poisonous message, and deliveries by Redis: forgotten, restarted, and never missed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from cli.first_aid import Deed, do
from cli.stack import Plan
from db import exceptions, message_store
from rules.verdicts import Reason
from tests.faults.poisoned import POISON
from tests.kit import PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY, Town
from tests.services import PrivateRedis, fresh_database

pytestmark = pytest.mark.timeout(300)

ACCOUNTS = ("bank", "intl", "vpos")
QUEUE = "crm-update"


@dataclass(frozen=True)
class ByRedis:
    """Workers whose deliveries come by Redis; those of crm-update are poisoned, and have short leases."""

    town: Town
    server: PrivateRedis


@pytest.fixture(scope="module")
def by_redis(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[ByRedis]:
    with PrivateRedis() as server, fresh_database(postgres_server) as url:
        plan = Plan(
            folder=tmp_path_factory.mktemp("redis"),
            profile="production",
            database_url=url,
            broker_url=server.url,
            redis_url=server.url,
            time_scale=0.1,
            lease_seconds=4.0,
            settle="PT1S",
        )
        poisoned = ["-m", "dramatiq", "tests.faults.poisoned:set_up", "--queues", f"{plan.queue_prefix}{QUEUE}"]
        plan.programs = {QUEUE: [*poisoned, "--processes", "1", "--threads", "4"]}
        # Without AMQP the CRMs send their invoices by HTTP, and nobody listens at the intake.
        with Town(plan) as town:
            yield ByRedis(town, server)


def test_redis_is_flushed_and_restarted_in_mid_run(by_redis: ByRedis) -> None:
    town = by_redis.town
    bills = town.publish(12, [PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY], ACCOUNTS)
    town.send_customers(bills)
    with redis.Redis.from_url(by_redis.server.url) as client:
        for _ in range(4):
            client.flushall()
            time.sleep(0.5)
    by_redis.server.restart()
    by_redis.server.kill9()
    by_redis.server.start()

    town.wait_for_ends(bills)
    town.check_books()


def test_a_poisonous_message_takes_nobody_along(by_redis: ByRedis) -> None:
    """It kills its worker five times, while its neighbours wait in the same claims; then a manager has the case."""
    town = by_redis.town
    poison = town.bill(STAYS_AWAY, "bank", invoice_id=f"{POISON}-1")
    poison.is_poisonous = True
    neighbours = [town.bill(PAYS, account) for account in ACCOUNTS * 2]
    town.create([*neighbours[:3], poison, *neighbours[3:]])
    town.send_customers(neighbours)

    town.wait_for_ends(neighbours, seconds=180)
    town.eventually(lambda: len(town.look(message_store.dead)) == 1, "the poisonous message is dead", seconds=180)

    (letter,) = town.look(message_store.dead)
    assert (letter.type, letter.lapses) == ("crm.update.v1", message_store.DEAD_AFTER_LAPSES)
    invoice = town.invoice(poison)
    assert letter.subject == invoice.id

    def has_task() -> bool:
        cases = town.look(lambda tx: exceptions.of_invoice(tx, invoice.id))
        return [(case.reason, case.task_state) for case in cases] == [(Reason.DEAD_LETTER, "open")]

    town.eventually(has_task, "the manager has one task")
    town.check_books(dead_letters=1)

    # A person who knows that it cannot be helped ends it, and the manager's task with it.
    assert do(town.deps, letter.id, Deed.DISCARDED, actor="tests", reason="it kills")
    tasks = town.stack.crms[poison.crm].control
    town.eventually(lambda: not tasks.stats()["tasks"]["open_per_key"].get(_case_of(town, invoice.id)), "it is closed")


def _case_of(town: Town, invoice_id: str) -> str:
    (case,) = town.look(lambda tx: exceptions.of_invoice(tx, invoice_id))
    return str(case.id)
