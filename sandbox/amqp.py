"""The CRM's line to the broker: one thread that owns the connection, publishes, and hears what was accepted."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    NackError,
    UnroutableError,
)

_IDLE_SECONDS = 0.02
_LISTEN_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0
_QUEUE_LIFE_MS = 86_400_000
_CONTENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Report:
    """What the thread tells: an event's fate (`event_id`), or an acceptance (`invoice_id`)."""

    event_id: str | None = None
    outcome: str = ""  # of the event: confirmed, failed or rejected
    crm: str | None = None
    invoice_id: str | None = None
    version: int | None = None


class AmqpLine:
    """Publishes what stands in `waiting`: (event id, routing key, body)."""

    def __init__(self, url: str, *, intake_exchange: str, events_exchange: str, queue_name: str) -> None:
        """Exchanges belong to the other side and are never declared here; the queue for acceptances is ours."""
        self._url = url
        self._intake_exchange = intake_exchange
        self._events_exchange = events_exchange
        self._queue_name = queue_name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._report: Callable[[Report], None] = lambda report: None
        self.waiting: queue.SimpleQueue[tuple[str, str, bytes]] = queue.SimpleQueue()

    def start(self, report: Callable[[Report], None]) -> None:
        """Run the thread; it calls `report`."""
        self._report = report
        self._thread = threading.Thread(target=self._run, name="amqp-line", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        pause = 0.2
        while not self._stopping.is_set():
            try:
                self._session()
                pause = 0.2
            except (AMQPError, AMQPConnectorException, OSError):
                self._give_up_waiting()
                self._stopping.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _give_up_waiting(self) -> None:
        """Report what cannot be sent now as failed: its pause belongs to the outbox."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._report(Report(event_id=self.waiting.get_nowait()[0], outcome="failed"))

    def _session(self) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 10
        connection = pika.BlockingConnection(parameters)
        try:
            publisher = connection.channel()
            publisher.confirm_delivery()
            listening = False
            idle_rounds = 0
            while not self._stopping.is_set():
                if not listening and idle_rounds % round(_LISTEN_AGAIN_SECONDS / _IDLE_SECONDS) == 0:
                    listening = self._listen(connection.channel())
                idle_rounds += 1
                self._publish_waiting(publisher)
                connection.process_data_events(time_limit=0)
        finally:
            if connection.is_open:
                connection.close()

    def _listen(self, channel: BlockingChannel) -> bool:
        """Bind our own queue to the acceptances; False while the exchange does not exist yet."""
        try:
            channel.exchange_declare(self._events_exchange, passive=True)
        except ChannelClosedByBroker:
            return False
        channel.queue_declare(self._queue_name, durable=True, arguments={"x-expires": _QUEUE_LIFE_MS})
        channel.queue_bind(self._queue_name, self._events_exchange, "invoice.accepted")
        channel.queue_bind(self._queue_name, self._events_exchange, "intake.rejected")
        channel.basic_consume(self._queue_name, self._heard)
        return True

    def _heard(self, channel: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
        report = _read(body)
        if report is not None:
            self._report(report)
        channel.basic_ack(method.delivery_tag)

    def _publish_waiting(self, channel: BlockingChannel) -> None:
        """Wait a moment for something to publish, then publish all that stands there."""
        with contextlib.suppress(queue.Empty):
            self._publish(channel, *self.waiting.get(timeout=_IDLE_SECONDS))
            while True:
                self._publish(channel, *self.waiting.get_nowait())

    def _publish(self, channel: BlockingChannel, event_id: str, routing_key: str, body: bytes) -> None:
        properties = pika.BasicProperties(content_type=_CONTENT_TYPE, delivery_mode=2, message_id=event_id)
        outcome = "failed"
        try:
            channel.basic_publish(self._intake_exchange, routing_key, body, properties, mandatory=True)
            outcome = "confirmed"
        except (UnroutableError, NackError):
            # Nobody is bound yet, or the queue is full: the connection stays good.
            pass
        finally:
            self._report(Report(event_id=event_id, outcome=outcome))


def _read(body: bytes) -> Report | None:
    """Read invoice.accepted.v1 or intake.rejected.v1 as a tolerant reader; None for anything else."""
    try:
        event = json.loads(body)
        data = event["data"]
        if str(event["type"]).startswith("intake.rejected"):
            return Report(event_id=data["event_id"], outcome="rejected")
        version = data.get("sent_version") or data.get("version")
        return Report(crm=data["crm"], invoice_id=data["invoice_id"], version=version)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
