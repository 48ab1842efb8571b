"""A run that outlives its connection must not acknowledge the delivery that has its old number on the new one.

Delivery tags begin at 1 on every channel. With the transport's own acknowledgement the third message of this test is
gone from the broker, although nobody worked on it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import dramatiq
import pika
from pydantic import SecretStr

from contracts.catalog import Queue
from contracts.delivery import Delivery
from runtime.settings import LinkKey, Settings
from tests.proxy import Proxy
from tests.services import PrivateRabbit
from tests.services.processes import wait_until
from tests.support import DATA_KEY
from workers.broker import declare_actors, delivery_message, make_broker

QUEUE = Queue.CRM_UPDATE.value


class Room:
    """A worker with one thread, whose second run goes on until it is told to end."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.second_may_end = threading.Event()
        self.others_may_end = threading.Event()

    def serve(self, queue: str, delivery: Delivery) -> None:
        self.began.append(delivery.id)
        if len(self.began) == 2:
            self.second_may_end.wait(30)
        elif len(self.began) > 2:
            self.others_may_end.wait(30)


def test_a_stale_acknowledgement_loses_no_neighbour(private_rabbit: PrivateRabbit, prefix: str) -> None:
    port = urlsplit(private_rabbit.url).port
    assert port is not None
    with Proxy(port) as proxy:
        settings = _settings(proxy.through(private_rabbit.url), prefix)
        room = Room()
        broker = make_broker(settings)
        declare_actors(broker, settings, room.serve)
        for name in "ABCD":
            broker.enqueue(delivery_message(settings, QUEUE, _delivery(name)))
        broker.close()

        with _worker(broker, settings):
            assert wait_until(lambda: room.began == ["A", "B"], timeout_seconds=15), room.began
            lines = proxy.accepted
            proxy.cut()
            name = f"{prefix}{QUEUE}"
            # B is delivered again, with C behind it: on the new channel C has the number that B had on the old one.
            assert wait_until(lambda: proxy.accepted > lines, timeout_seconds=30)
            assert wait_until(lambda: _at_broker(private_rabbit, name) == (1, 1), timeout_seconds=30)
            room.second_may_end.set()
            assert wait_until(lambda: len(room.began) >= 3, timeout_seconds=15), room.began
            # Nobody has ended B's second run, C or D: whatever the worker dropped now is lost for ever.
            proxy.cut(refusing=True)
            left = _take_all(private_rabbit, name, 3)
            room.others_may_end.set()

    assert sorted(left) == ["B", "C", "D"], f"began {room.began}, left {left}"


def _settings(broker_url: str, prefix: str) -> Settings:
    return Settings(
        database_url="sqlite://",
        broker_url=broker_url,
        data_keys=(SecretStr(DATA_KEY),),
        link_keys=(LinkKey(id="k1", secret=SecretStr("k" * 40)),),
        queue_prefix=prefix,
    )


def _delivery(name: str) -> Delivery:
    return Delivery(id=name, type="crm.update.v1", key=name, subject=name, request_id=name)


@contextmanager
def _worker(broker: dramatiq.Broker, settings: Settings) -> Iterator[None]:
    worker = dramatiq.Worker(broker, queues={f"{settings.queue_prefix}{QUEUE}"}, worker_threads=1)
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        broker.close()


def _at_broker(rabbit: PrivateRabbit, name: str) -> tuple[int, int]:
    """How many deliveries wait, and how many consumers."""
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        declared = connection.channel().queue_declare(name, passive=True).method
        return declared.message_count, declared.consumer_count


def _take_all(rabbit: PrivateRabbit, name: str, count: int) -> list[str]:
    """Take what is left."""
    taken: list[str] = []
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        channel = connection.channel()

        def take() -> bool:
            method, _, body = channel.basic_get(name, auto_ack=True)
            if method is not None:
                taken.append(json.loads(body)["args"][0]["id"])
            return len(taken) >= count

        wait_until(take, timeout_seconds=5)
    return taken
