"""What every transport owes: a delivery wakes a worker that would otherwise be silent, and no delivery can do harm.

RabbitMQ, Redis and the queue inside one process. The workers' own questions to the store are an hour away in the first
tests, so that only deliveries can have woken them; in the last ones nothing that a broker does may hold work up.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pika
import pytest
import redis
from pydantic import SecretStr

from contracts.catalog import Queue
from contracts.delivery import Delivery
from contracts.messages import CrmUpdate
from db import message_store
from runtime.build import build
from runtime.deps import Deps
from runtime.settings import LinkKey, Settings
from tests.services.names import unique_prefix
from tests.services.processes import wait_until
from tests.support import DATA_KEY, put, update
from workers import registry
from workers import stage as stages
from workers.broker import MAX_DELIVERIES, DeliveryRabbitmqBroker, delivery_message, make_broker
from workers.relay import Relay
from workers.service import Service
from workers.stage import DONE, Outcome, Schedule, stage

QUEUE = Queue.CRM_UPDATE.value
NEVER = timedelta(hours=1)
SOON = timedelta(milliseconds=200)
PATIENCE_SECONDS = 20.0
THREADS = 2
STRANGE = b"no delivery of ours \x00\xff"


@dataclass
class Transport:
    """A broker of one kind, queues of its own in it, and how a stranger would write into them."""

    url: str
    prefix: str
    write_strange: Callable[[], None]


@pytest.fixture(params=["memory", "rabbit", "redis"])
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    prefix = f"{unique_prefix()}."
    if request.param == "memory":
        yield Transport("memory://", prefix, lambda: None)
    elif request.param == "rabbit":
        yield from _rabbit(request.getfixturevalue("amqp_url"), prefix)
    else:
        yield from _redis(request.getfixturevalue("redis_url"), prefix)


def _rabbit(url: str, prefix: str) -> Iterator[Transport]:
    def write_strange() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            connection.channel().basic_publish("", prefix + QUEUE, STRANGE)

    # While a quorum queue is being declared for the first time, RabbitMQ answers a second declaration before the queue
    # has a leader, and drops what comes in that moment. The relay repeats it; here it is an hour away.
    broker = DeliveryRabbitmqBroker(url=url, middleware=[], queue_type="quorum")
    for queue in Queue:
        broker.declare_queue(prefix + queue, ensure=True)
    broker.close()
    yield Transport(url, prefix, write_strange)
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for queue in Queue:
            channel.queue_delete(prefix + queue)


def _redis(url: str, prefix: str) -> Iterator[Transport]:
    client = redis.Redis.from_url(url)

    def write_strange() -> None:
        # As dramatiq keeps a message: its body under an id, and the id in the queue's list.
        name = f"{prefix}dramatiq:{prefix}{QUEUE}"
        client.hset(f"{name}.msgs", "strange", STRANGE)
        client.rpush(name, "strange")

    yield Transport(url, prefix, write_strange)
    for key in client.scan_iter(match=f"{prefix}*"):
        client.delete(key)
    client.close()


@pytest.fixture
def runs() -> Iterator[list[str]]:
    """Register a stage that only notes that it ran."""
    registry.load_all()
    kept = dict(stages._registry)
    ran: list[str] = []

    def note(message: CrmUpdate, deps: Deps) -> Outcome:
        ran.append(message.key())
        return DONE

    stage(CrmUpdate, schedule=Schedule(()), time_limit=timedelta(seconds=1))(note)
    yield ran
    stages._registry.clear()
    stages._registry.update(kept)


@pytest.fixture
def deps(clean_sqlite: str, transport: Transport) -> Iterator[Deps]:
    built = build(_settings(clean_sqlite, transport))
    yield built
    built.database.dispose()


def _settings(url: str, transport: Transport, **more: Any) -> Settings:
    given = {"poll_interval": NEVER, "relay_interval": NEVER, **more}
    return Settings(
        database_url=url,
        broker_url=transport.url,
        queue_prefix=transport.prefix,
        data_keys=(SecretStr(DATA_KEY),),
        link_keys=(LinkKey(id="k1", secret=SecretStr("s" * 32)),),
        **given,
    )


@contextmanager
def working(deps: Deps) -> Iterator[Service]:
    """A process of workers, inside this one."""
    service = Service(deps)
    service.start(THREADS)
    try:
        yield service
    finally:
        service.stop(2000)


def _delivery(deps: Deps, message_id: str) -> Delivery:
    with deps.database.read() as tx:
        row = message_store.find(tx, message_id)
    assert row is not None
    return Delivery(
        id=row.id, type=row.type, key=row.dedup_key, subject=row.subject, request_id=row.request_id, traceparent=None
    )


def test_a_delivery_wakes_a_silent_worker(deps: Deps, runs: list[str]) -> None:
    with working(deps):
        put(deps.database, update(1))

        assert wait_until(lambda: len(runs) == 1, timeout_seconds=PATIENCE_SECONDS)


def test_the_same_delivery_many_times_is_one_run(deps: Deps, runs: list[str]) -> None:
    (added,) = put(deps.database, update(1))
    delivery = _delivery(deps, added.message_id)
    with working(deps) as service:
        for _ in range(20):
            service.broker.enqueue(delivery_message(deps.settings, QUEUE, delivery))
        put(deps.database, update(2))

        assert wait_until(lambda: len(runs) >= 2, timeout_seconds=PATIENCE_SECONDS)
        time.sleep(0.3)  # what else was delivered finds nothing to do

    assert sorted(runs) == [update(1).key(), update(2).key()]


def test_one_delivery_is_enough_for_all_that_is_due(deps: Deps, runs: list[str]) -> None:
    added = put(deps.database, *(update(revision) for revision in range(1, 51)))  # nobody hears of these
    with working(deps) as service:
        service.broker.enqueue(delivery_message(deps.settings, QUEUE, _delivery(deps, added[-1].message_id)))

        assert wait_until(lambda: len(runs) == 50, timeout_seconds=PATIENCE_SECONDS), len(runs)


def test_deliveries_of_what_is_over_or_never_was_do_nothing(deps: Deps, runs: list[str]) -> None:
    (added,) = put(deps.database, update(1))
    over = _delivery(deps, added.message_id)
    with working(deps) as service:
        service.broker.enqueue(delivery_message(deps.settings, QUEUE, over))
        assert wait_until(lambda: len(runs) == 1, timeout_seconds=PATIENCE_SECONDS)
        for stale in (over, over.model_copy(update={"id": "01never", "type": "no.such.type.v9"})):
            service.broker.enqueue(delivery_message(deps.settings, QUEUE, stale))
        put(deps.database, update(2))

        assert wait_until(lambda: len(runs) == 2, timeout_seconds=PATIENCE_SECONDS)


def test_deliveries_that_wait_for_a_worker_reach_it_and_their_number_is_bounded(
    deps: Deps, transport: Transport, runs: list[str]
) -> None:
    if transport.url != "memory://":  # what waits in a process ends with it
        added = put(deps.database, *(update(revision) for revision in range(1, 4)))
        broker = make_broker(deps.settings)
        Service(deps)  # declares the queues
        delivery = _delivery(deps, added[0].message_id)
        broker.declare_queue(f"{transport.prefix}{QUEUE}")
        for _ in range(MAX_DELIVERIES + 50):
            broker.enqueue(delivery_message(deps.settings, QUEUE, delivery))
        if transport.url.startswith("amqp"):
            assert _waiting(transport) <= MAX_DELIVERIES
        broker.close()
    else:
        added = []
    with working(deps):
        if not added:
            put(deps.database, *(update(revision) for revision in range(1, 4)))

        assert wait_until(lambda: len(runs) == 3, timeout_seconds=PATIENCE_SECONDS), runs


def _waiting(transport: Transport) -> int:
    with pika.BlockingConnection(pika.URLParameters(transport.url)) as connection:
        declared = connection.channel().queue_declare(transport.prefix + QUEUE, passive=True)
        return int(declared.method.message_count)


def test_what_is_no_delivery_kills_no_worker_and_loses_no_neighbour(
    clean_sqlite: str, transport: Transport, runs: list[str]
) -> None:
    """Some brokers lose their consumer over it for a while; then the store is asked."""
    deps = build(_settings(clean_sqlite, transport, poll_interval=SOON, relay_interval=SOON))
    with working(deps) as service:
        put(deps.database, update(1))
        assert wait_until(lambda: len(runs) == 1, timeout_seconds=PATIENCE_SECONDS)
        relay = Relay(deps, service.publisher)
        relay.start()
        for revision in range(2, 6):
            transport.write_strange()
            put(deps.database, update(revision))

        assert wait_until(lambda: len(runs) == 5, timeout_seconds=PATIENCE_SECONDS), runs
        relay.stop()
    deps.database.dispose()


def test_two_relays_publish_twice_and_nothing_runs_twice(
    clean_sqlite: str, transport: Transport, runs: list[str]
) -> None:
    deps = build(_settings(clean_sqlite, transport, relay_interval=timedelta(milliseconds=20)))
    with working(deps) as service:
        relays = [Relay(deps, service.publisher), Relay(deps, service.publisher)]
        for relay in relays:
            relay.start()
        put(deps.database, *(update(revision) for revision in range(1, 101)))

        assert wait_until(lambda: len(runs) >= 100, timeout_seconds=PATIENCE_SECONDS), len(runs)
        for relay in relays:
            relay.stop()
    deps.database.dispose()

    assert len(runs) == len(set(runs)) == 100
