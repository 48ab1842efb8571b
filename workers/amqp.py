"""RabbitMQ where it meets others: our exchanges and the intake queue, bounds on waiting, and outbound events.

    publishers ──> paylinks.intake (topic) ──#──> paylinks.intake (quorum) ──> workers.intake
                                                        └── by an administrator's policy alone ──> paylinks.intake.dead
    workers ─────> paylinks.events (topic) ──> ERP, website, the CRM's publisher

"paylinks." is the setting queue_prefix. Deliveries between our own stages are another matter: workers.broker.
"""

import functools
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pika
import pika.data
import structlog
from pika.adapters.select_connection import IOLoop

from gateways.errors import Unavailable
from runtime.settings import Settings, SettingsError

HEARTBEAT_SECONDS = 30
BLOCKED_SECONDS = 10
CONNECT_SECONDS = 5

# A message comes back each time we, the database or the network go away, which says nothing about the message. -1 would
# mean "no limit" on RabbitMQ 4 but "dead-letter at the first return" on 3.10; without a limit, 4 takes 20.
NO_DELIVERY_LIMIT = 2_000_000_000

CONFIRM_SECONDS = 4.0
# A line whose broker is frozen is left behind; it finds out by itself after this and five seconds more.
LINE_HEARTBEAT_SECONDS = 10
EVENT_CONTENT_TYPE = "application/cloudevents+json"

log = structlog.get_logger()


# --- names, bounds, topology ----------------------------------------------------------------------------------------


def intake_exchange(settings: Settings) -> str:
    """Return the exchange that publishers send to."""
    return f"{settings.queue_prefix}intake"


def intake_queue(settings: Settings) -> str:
    """Return the queue behind it."""
    return f"{settings.queue_prefix}intake"


def events_exchange(settings: Settings) -> str:
    """Return the exchange that we publish to."""
    return f"{settings.queue_prefix}events"


def parameters(settings: Settings, name: str, *, heartbeat_seconds: int = HEARTBEAT_SECONDS) -> pika.URLParameters:
    """Return connection parameters with a bound on every wait; `name` is what an administrator sees."""
    if settings.amqp_url is None:
        raise SettingsError("amqp_url: not set; give the address of the RabbitMQ that publishers and ERP use")
    bounded = pika.URLParameters(settings.amqp_url)
    bounded.heartbeat = heartbeat_seconds
    bounded.blocked_connection_timeout = BLOCKED_SECONDS
    bounded.socket_timeout = CONNECT_SECONDS
    bounded.stack_timeout = CONNECT_SECONDS
    bounded.connection_attempts = 1
    bounded.client_properties = {"connection_name": f"paylinks {name}"}
    return bounded


def declare_intake(channel: Any, settings: Settings) -> None:
    """Declare the intake exchange, its queue and the queue's dead letters, all of which outlive the broker."""
    exchange, queue = intake_exchange(settings), intake_queue(settings)
    dead = f"{queue}.dead"
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_declare(dead, durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare(
        queue,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": NO_DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
            # Together: what is dead-lettered arrives there, or stays here.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    # Every key: what nobody knows is kept for review too.
    channel.queue_bind(queue, exchange, "#")


def declare_events(channel: Any, settings: Settings) -> None:
    """Declare the outbound exchange."""
    channel.exchange_declare(events_exchange(settings), "topic", durable=True)


def survive_odd_headers() -> None:
    """Read a header table that pika cannot hold as an empty one; call it before consuming what others publish.

    pika gives up the whole connection over a single value: a time beyond the year 9999 (milliseconds where AMQP counts
    seconds, a common mistake), a number that is none, tables nested without end. The message would come again and do
    the same for ever, and everything would wait behind it.
    """
    if not isinstance(pika.data.decode_table, functools.partial):
        pika.data.decode_table = functools.partial(_decode_table, pika.data.decode_table)


def _decode_table(decode: Any, encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    try:
        table: tuple[dict[str, Any], int] = decode(encoded, offset)
    except Exception:
        # Its length stands before it.
        return {}, offset + 4 + int.from_bytes(encoded[offset : offset + 4], "big")
    return table


# --- outbound events ------------------------------------------------------------------------------------------------


class AmqpEvents:
    """Publishes events, each confirmed by the broker. Any number of threads share one connection.

    A frozen broker holds a caller for CONFIRM_SECONDS, a refusing one not at all. An event that was not confirmed in
    time may have arrived all the same: consumers drop ids that they know.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect at the first event."""
        parameters(settings, "events")
        self._settings = settings
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    def publish(self, routing_key: str, body: bytes, *, message_id: str) -> None:
        """Return when the broker has confirmed the event; raise Unavailable when it is not there or does not."""
        line = self._current_line()
        event = _Event(routing_key, body, message_id)
        line.send(event)
        try:
            event.confirmed.result(timeout=CONFIRM_SECONDS)
        except TimeoutError:
            line.retire()
            raise Unavailable("the broker did not confirm the event in time", code="unconfirmed") from None

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.retire()
            line.join(timeout=CONNECT_SECONDS)

    def _current_line(self) -> "_Line":
        with self._lock:
            if self._closed:
                raise Unavailable("this process is stopping", code="closed")
            # A line that ended, was given up, or belongs to the process that we were forked from.
            if self._line is None or not self._line.is_usable():
                self._line = _Line(self._settings)
                self._line.start()
            return self._line


@dataclass(eq=False, slots=True)
class _Event:
    routing_key: str
    body: bytes
    message_id: str
    confirmed: "Future[None]" = field(default_factory=Future)


class _Line(threading.Thread):
    """One connection and the thread that owns it, from the first event to the first trouble; then a new one is made."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="amqp-events", daemon=True)
        self._settings = settings
        self._exchange = events_exchange(settings)
        self._loop = IOLoop()
        self._lock = threading.Lock()
        self._outstanding: set[_Event] = set()
        self._retired = False
        self._reason = "the connection to the broker was closed"
        # Below: the thread's own.
        self._connection: Any = None
        self._channel: Any = None
        self._waiting: deque[_Event] = deque()
        # Numbered as the broker numbers its confirms: from 1, per channel.
        self._published: dict[int, _Event] = {}
        self._last_number = 0

    def is_usable(self) -> bool:
        """Tell whether events may be sent this way."""
        return self.is_alive() and not self._retired

    def send(self, event: _Event) -> None:
        """Hand an event to the thread."""
        with self._lock:
            if self._retired:
                event.confirmed.set_exception(_unavailable(self._reason))
                return
            self._outstanding.add(event)
        self._loop.add_callback_threadsafe(functools.partial(self._take, event))

    def retire(self) -> None:
        """Take no more events; end when the broker says good-bye, or is found to be gone."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
        self._loop.add_callback_threadsafe(self._hang_up)

    def run(self) -> None:
        """Connect, publish, and fail what is left over at the end."""
        try:
            self._connection = pika.SelectConnection(
                parameters(self._settings, "events", heartbeat_seconds=LINE_HEARTBEAT_SECONDS),
                on_open_callback=self._opened,
                on_open_error_callback=self._ended,
                on_close_callback=self._ended,
                custom_ioloop=self._loop,
            )
            self._loop.start()
        except Exception as error:
            self._reason = f"the line to the broker broke ({type(error).__name__})"
            log.warning("events.line_broke", error=type(error).__name__)
        finally:
            self._fail_the_rest()
            self._loop.close()

    def _fail_the_rest(self) -> None:
        with self._lock:
            self._retired = True
            left, self._outstanding = self._outstanding, set()
        for event in left:
            event.confirmed.set_exception(_unavailable(self._reason))

    # What follows runs in the thread.

    def _opened(self, connection: Any) -> None:
        if self._retired:
            self._hang_up()
        else:
            connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        channel.confirm_delivery(self._confirmed)
        channel.exchange_declare(
            self._exchange, "topic", durable=True, callback=functools.partial(self._ready, channel)
        )

    def _ready(self, channel: Any, frame: Any) -> None:
        self._channel = channel
        while self._waiting:
            self._publish(self._waiting.popleft())

    def _take(self, event: _Event) -> None:
        if self._channel is None:
            self._waiting.append(event)
        else:
            self._publish(event)

    def _publish(self, event: _Event) -> None:
        if not self._channel.is_open:
            return  # _ended comes next, and fails it
        properties = pika.BasicProperties(
            content_type=EVENT_CONTENT_TYPE, delivery_mode=2, message_id=event.message_id, app_id="paylinks"
        )
        self._channel.basic_publish(self._exchange, event.routing_key, event.body, properties)
        self._last_number += 1
        self._published[self._last_number] = event

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        numbers = [method.delivery_tag]
        if method.multiple:
            numbers = [number for number in self._published if number <= method.delivery_tag]
        for number in numbers:
            self._settle(self._published.pop(number), is_taken=isinstance(method, pika.spec.Basic.Ack))

    def _settle(self, event: _Event, *, is_taken: bool) -> None:
        with self._lock:
            self._outstanding.discard(event)
        if is_taken:
            event.confirmed.set_result(None)
        else:
            event.confirmed.set_exception(_unavailable("the broker refused the event"))

    def _channel_closed(self, channel: Any, reason: Any) -> None:
        self._reason = f"the broker closed the channel ({_named(reason)})"
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _ended(self, connection: Any, reason: Any) -> None:
        self._reason = f"no connection to the broker ({_named(reason)})"
        self._loop.stop()


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(reason, code="broker")


def _named(reason: Any) -> str:
    """Name an error of pika's without its text, which may hold an address."""
    return type(reason).__name__
