"""The transports: RabbitMQ, Redis, or a queue in this process. They carry deliveries, hints that something is due.

One actor per queue; what it gets is a delivery, what it does is wake the executor. Nothing here decides: a delivery
that is lost, doubled or late costs time, never a message. So: no retries, no delays, no dead letters, no results.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
from dramatiq import Message, MessageProxy
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker, _StubConsumer

from contracts.catalog import Queue
from contracts.delivery import Delivery
from runtime.settings import Settings, SettingsError

# Deliveries that may lie in a broker's queue: each wakes a worker that then empties the queue's due messages.
MAX_DELIVERIES = 256

# A waiting customer first: the number orders what one process has fetched, lower runs earlier.
_PRIORITIES = {Queue.CHECKOUT: 0, Queue.WEBHOOK_VERIFICATION: 10, Queue.CRM_UPDATE: 20, Queue.STATUS_CHECKS: 40}
_PRIORITY_OF_THE_REST = 30

# Without these, a broker that is frozen or out of memory would hold a publisher for ever (pika's own defaults).
_AMQP_BOUNDS = {"heartbeat": "30", "blocked_connection_timeout": "10", "socket_timeout": "5", "stack_timeout": "10"}

Serve = Callable[[str, Delivery], None]


def make_broker(settings: Settings) -> dramatiq.Broker:
    """Make the transport that the settings name; nothing connects yet."""
    scheme = urlsplit(settings.broker_url).scheme
    if scheme in ("amqp", "amqps"):
        return DeliveryRabbitmqBroker(
            url=amqp_url(settings.broker_url), middleware=[], queue_type=settings.delivery_queue_type
        )
    if scheme in ("redis", "rediss"):
        # Fetched deliveries of a dead process come back after its heartbeat; the store does not wait for them.
        return RedisBroker(url=settings.broker_url, middleware=[], namespace=f"{settings.queue_prefix}dramatiq")
    if scheme == "memory":
        return MemoryBroker(middleware=[])
    raise SettingsError("broker_url: use memory://, amqp:// or redis://")


def amqp_url(url: str) -> str:
    """Return the URL with our bounds on waiting, where it sets none of its own."""
    parts = urlsplit(url)
    query = urlencode(_AMQP_BOUNDS | dict(parse_qsl(parts.query)))
    return urlunsplit(parts._replace(query=query))


def declare_actors(broker: dramatiq.Broker, settings: Settings, serve: Serve) -> None:
    """Declare one actor per queue; each hands its delivery to `serve`."""
    for queue in Queue:
        declare = dramatiq.actor(
            actor_name=_actor_name(queue.value),
            queue_name=f"{settings.queue_prefix}{queue}",
            priority=_PRIORITIES.get(queue, _PRIORITY_OF_THE_REST),
            broker=broker,
        )
        declare(_actor(queue.value, serve))


def _actor(queue: str, serve: Serve) -> Callable[[dict[str, Any]], None]:
    def deliver(delivery: dict[str, Any]) -> None:
        serve(queue, Delivery.model_validate(delivery))

    return deliver


def _actor_name(queue: str) -> str:
    return f"deliver.{queue}"


def delivery_message(settings: Settings, queue: str, delivery: Delivery) -> Message[Any]:
    """Put a delivery into dramatiq's own envelope."""
    return Message(
        queue_name=f"{settings.queue_prefix}{queue}",
        actor_name=_actor_name(queue),
        args=(delivery.model_dump(mode="json", exclude_none=True),),
        kwargs={},
        options={},
    )


class MemoryBroker(StubBroker):
    """Deliveries inside one process; they end with it, and the store tells the next one what is due."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> "_MemoryConsumer":
        """Give a consumer that forgets what failed: the parent keeps tracebacks for ever."""
        return _MemoryConsumer(self.queues[queue_name], [], prefetch, timeout)  # type: ignore[no-untyped-call]


class _MemoryConsumer(_StubConsumer):
    def nack(self, message: MessageProxy) -> None:
        self.ack(message)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped


class DeliveryRabbitmqBroker(RabbitmqBroker):
    """Dramatiq's RabbitMQ broker without delay and dead-letter queues, with small queues that drop their oldest."""

    def __init__(self, *, queue_type: str, **options: Any) -> None:
        """Take RabbitmqBroker's options and the type of queue to declare."""
        super().__init__(**options)
        self._queue_type = queue_type

    @property
    def consumer_class(self) -> type["_DeliveryConsumer"]:
        """Use the consumer that never acknowledges for another connection."""
        return _DeliveryConsumer

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare the queue alone: nothing here is ever delayed."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {"x-queue-type": self._queue_type, "x-max-length": MAX_DELIVERIES, "x-overflow": "drop-head"}

    def _declare_dq_queue(self, queue_name: str) -> None:
        return None

    def _declare_xq_queue(self, queue_name: str) -> None:
        return None


class _DeliveryConsumer(_RabbitmqConsumer):
    """Acknowledges only what its own channel delivered.

    Delivery tags start at 1 again on every channel, so a run that outlived a reconnect would acknowledge, and so lose,
    whatever new delivery carries its old number.
    """

    def __next__(self) -> MessageProxy | None:
        message: Any = super().__next__()  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        if message is not None:
            message.consumer = self
        return message  # type: ignore[no-any-return]  # see above

    def ack(self, message: Any) -> None:
        if message.consumer is self:
            self._quietly(super().ack, message)

    def nack(self, message: Any) -> None:
        if message.consumer is self:
            self._quietly(super().nack, message)

    def _quietly(self, end: Callable[[Any], None], message: Any) -> None:
        """A delivery that cannot be acknowledged comes again, which does no harm; a worker must not wait for it."""
        try:
            end(message)
        except dramatiq.errors.ConnectionError:
            self.logger.info("A delivery was not acknowledged: its connection is gone.")
