"""Outbound events on a real broker: confirmed, or Unavailable within seconds, whatever the broker does."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pika
import pytest

from gateways.errors import Unavailable
from runtime.settings import Settings, SettingsError
from tests.doors import make_settings
from tests.services import PrivateRabbit
from tests.services.processes import wait_until
from workers.amqp import AmqpEvents, declare_events, events_exchange


@contextmanager
def channel_of(settings: Settings) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(settings.amqp_url or ""))) as connection:
        yield connection.channel()


@pytest.fixture
def settings(amqp_url: str, prefix: str) -> Iterator[Settings]:
    made = make_settings(amqp_url=amqp_url, queue_prefix=f"{prefix}.")
    yield made
    with channel_of(made) as channel:
        channel.exchange_delete(events_exchange(made))
        channel.queue_delete(prefix)


@pytest.fixture
def private(private_rabbit: PrivateRabbit, prefix: str) -> Settings:
    return make_settings(amqp_url=private_rabbit.url, queue_prefix=f"{prefix}.")


@contextmanager
def publishing(settings: Settings) -> Iterator[AmqpEvents]:
    with closing(AmqpEvents(settings)) as events:
        yield events


def publishes(events: AmqpEvents) -> bool:
    try:
        events.publish("invoice.accepted", b"{}", message_id="m")
    except Unavailable:
        return False
    return True


def refused_after(events: AmqpEvents) -> float:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        events.publish("invoice.accepted", b"{}", message_id="m")
    return time.monotonic() - began


def test_an_event_arrives_as_a_persistent_cloudevent(settings: Settings, prefix: str) -> None:
    with channel_of(settings) as channel:
        declare_events(channel, settings)
        channel.queue_declare(prefix)
        channel.queue_bind(prefix, events_exchange(settings), "invoice.*")
        with publishing(settings) as events:
            events.publish("invoice.accepted", b'{"id": "1"}', message_id="m-1")
            events.publish("payment.status_changed", b"nobody listens", message_id="m-2")
        method, properties, body = channel.basic_get(prefix, auto_ack=True)
        assert channel.basic_get(prefix) == (None, None, None)
    assert (method.routing_key, body, properties.message_id) == ("invoice.accepted", b'{"id": "1"}', "m-1")
    assert (properties.content_type, properties.delivery_mode) == ("application/cloudevents+json", 2)


def test_many_threads_share_one_connection(settings: Settings, prefix: str) -> None:
    with channel_of(settings) as channel, publishing(settings) as events:
        declare_events(channel, settings)
        channel.queue_declare(prefix, arguments={"x-queue-type": "quorum"}, durable=True)
        channel.queue_bind(prefix, events_exchange(settings), "#")
        with ThreadPoolExecutor(16) as pool:
            for number in range(400):
                pool.submit(events.publish, "invoice.accepted", b"%d" % number, message_id=str(number))
        got = {body for _ in range(400) if (body := channel.basic_get(prefix, auto_ack=True)[2])}
    assert len(got) == 400


def test_a_queue_that_refuses_makes_the_event_unavailable(settings: Settings, prefix: str) -> None:
    with channel_of(settings) as channel, publishing(settings) as events:
        declare_events(channel, settings)
        channel.queue_declare(prefix, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        channel.queue_bind(prefix, events_exchange(settings), "#")
        assert refused_after(events) < 3
        channel.queue_unbind(prefix, events_exchange(settings), "#")
        assert publishes(events)


def test_an_exchange_that_was_deleted_comes_back(settings: Settings) -> None:
    with channel_of(settings) as channel, publishing(settings) as events:
        assert publishes(events)
        channel.exchange_delete(events_exchange(settings))
        assert refused_after(events) < 3
        assert wait_until(lambda: publishes(events), timeout_seconds=5)


def test_a_broker_that_is_not_there_is_told_at_once() -> None:
    with publishing(make_settings(amqp_url="amqp://guest:guest@127.0.0.1:1/%2F")) as events:
        assert refused_after(events) < 3
        assert refused_after(events) < 3


def test_a_broker_that_freezes_stops_and_returns(private_rabbit: PrivateRabbit, private: Settings) -> None:
    with publishing(private) as events:
        assert publishes(events)

        private_rabbit.freeze()
        with ThreadPoolExecutor(4) as pool:
            waits = list(pool.map(lambda _: refused_after(events), range(4)))
        assert max(waits) < 6
        assert refused_after(events) < 6
        private_rabbit.thaw()
        assert wait_until(lambda: publishes(events), timeout_seconds=10)

        private_rabbit.kill9()
        assert refused_after(events) < 6
        private_rabbit.start()
        assert wait_until(lambda: publishes(events), timeout_seconds=20)


def test_after_close_nothing_is_published(settings: Settings) -> None:
    events = AmqpEvents(settings)
    assert publishes(events)
    events.close()
    with pytest.raises(Unavailable, match="stopping"):
        events.publish("invoice.accepted", b"{}", message_id="m")


def test_without_an_address_it_says_what_is_missing() -> None:
    with pytest.raises(SettingsError, match="amqp_url"):
        AmqpEvents(make_settings())
