"""Broker and database go away, come back, forget, freeze, and break lines in the middle of a sentence."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
import pytest

from contracts.catalog import Queue
from tests.faults.conftest import Production
from tests.kit import PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY, Bill

pytestmark = pytest.mark.timeout(300)

ACCOUNTS = ("bank", "intl", "vpos", "wallet")
ASKABLE = ("bank", "intl", "vpos")
SHUTDOWN_SECONDS = 25.0


@contextmanager
def in_mid_run(production: Production, accounts: tuple[str, ...] = ACCOUNTS) -> Iterator[list[Bill]]:
    """Do something while invoices and customers are on their way, then ask for the right ends and the books."""
    town = production.town
    bills = town.publish(12, [PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY], accounts)
    for bill in bills:
        bill.may_be_left_to_a_person = bill.account == "wallet"
    town.send_customers(bills)
    asked = {bill.account: town.stack.provider.control.stats(bill.account)["create_calls"] for bill in bills}

    def is_going() -> bool:
        return any(town.stack.provider.control.stats(name)["create_calls"] > count for name, count in asked.items())

    town.eventually(is_going, "the first orders are made")
    yield bills
    # What happens while it goes on, and what comes afterwards.
    later = town.publish(4, [PAYS], accounts)
    town.send_customers(later)
    town.wait_for_ends([*bills, *later])
    assert not any(bill.was_left_to_a_person for bill in later)
    town.check_books()


# --- the broker -----------------------------------------------------------------------------------------------------


def test_connections_to_the_broker_dropped_while_stages_run(production: Production) -> None:
    for account in ASKABLE:
        production.town.stack.provider.control.fault("slow", account=account, operation="create", times=2, seconds=2.0)
    with in_mid_run(production):
        for _ in range(3):
            assert production.to_rabbit.cut() > 0
            time.sleep(1.0)


def test_all_delivery_queues_deleted(production: Production) -> None:
    town = production.town
    with in_mid_run(production):
        delete_delivery_queues(production)

    def are_back() -> bool:
        return all(_consumers(production, queue.value) for queue in Queue)

    town.eventually(are_back, "the workers consume from queues that exist again")


def test_the_broker_is_stopped_for_a_while(production: Production) -> None:
    with in_mid_run(production) as bills:
        production.rabbit.stop()
        try:
            # What is in the store needs no broker: customers, events and the CRM get their answers meanwhile.
            production.town.wait_for_ends([bill for bill in bills if _is_known(production, bill)])
        finally:
            production.rabbit.start()


def test_the_broker_is_frozen_for_a_while(production: Production) -> None:
    with in_mid_run(production):
        production.rabbit.freeze()
        try:
            time.sleep(8.0)
        finally:
            production.rabbit.thaw()


# --- the database ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["restarted", "killed"])
def test_the_database_is_gone_in_mid_run(production: Production, end: str) -> None:
    with in_mid_run(production):
        if end == "restarted":
            production.postgres.restart()
        else:
            production.postgres.kill9()
            time.sleep(3.0)
            production.postgres.start()


def test_replies_to_commits_are_lost(production: Production) -> None:
    """The server committed, and the line broke before it could say so."""
    lost = production.to_postgres.commits_lost
    with in_mid_run(production):
        production.to_postgres.lose_commit_replies(12, every=7)
        production.town.eventually(lambda: production.to_postgres.commits_lost == lost + 12, "12 replies are lost")


# --- a gentle end ---------------------------------------------------------------------------------------------------


def test_workers_that_are_asked_to_end_give_back_what_they_hold(production: Production) -> None:
    town = production.town
    for account in ASKABLE:
        town.stack.provider.control.fault("slow", account=account, operation="create", times=2, seconds=4.0)
    before = _outcomes(production)
    with in_mid_run(production):
        for queue in Queue:
            seconds = _ask_to_end(production, queue.value)
            assert seconds < SHUTDOWN_SECONDS, f"{queue} took {seconds:.1f} s"
    after = _outcomes(production)
    assert {name: after.get(name, 0) for name in ("lapsed", "failed")} == {
        name: before.get(name, 0) for name in ("lapsed", "failed")
    }


def _ask_to_end(production: Production, name: str) -> float:
    process = production.town.stack.processes[name]
    starts, began = process.starts, time.monotonic()
    process.terminate()
    production.town.eventually(lambda: process.starts > starts, f"{name} ends, and runs again", seconds=60)
    return time.monotonic() - began


def _outcomes(production: Production) -> dict[str, int]:
    return dict(production.town.rows("SELECT outcome, count(*) FROM message_attempts GROUP BY outcome"))


# --- looking at the broker ------------------------------------------------------------------------------------------


def _on_a_channel(production: Production, do: Callable[[object], object]) -> object:
    with pika.BlockingConnection(pika.URLParameters(production.rabbit.url)) as connection:
        return do(connection.channel())


def delete_delivery_queues(production: Production) -> None:
    for queue in Queue:
        name = f"{production.town.plan.queue_prefix}{queue}"
        _on_a_channel(production, lambda channel, name=name: channel.queue_delete(name))  # type: ignore[attr-defined,misc]


def _consumers(production: Production, queue: str) -> int:
    name = f"{production.town.plan.queue_prefix}{queue}"
    try:
        declared = _on_a_channel(production, lambda channel: channel.queue_declare(name, passive=True))  # type: ignore[attr-defined]
    except pika.exceptions.ChannelClosedByBroker:
        return 0
    return int(declared.method.consumer_count)  # type: ignore[attr-defined]


def _is_known(production: Production, bill: Bill) -> bool:
    town = production.town
    return bool(town.rows(f"SELECT 1 FROM invoices WHERE external_id = '{bill.id}' AND crm = '{bill.crm}'"))
