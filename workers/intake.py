"""The AMQP door: takes what publishers send to paylinks.intake, a batch at a time.

    gather ──> runtime.intake.take (one transaction) ──> acknowledge
                  └── the database is away: give everything back, stop consuming, come again when it answers

Nothing is acknowledged before it is committed, and nothing is ever rejected towards the broker: what cannot be read is
kept for review, and acknowledged. A process that dies in between leaves its batch to the next one, to which what was
committed is a duplicate. Any number of processes may run.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import pika
import structlog
from pika.exceptions import AMQPError

from contracts.envelope import MAX_BODY_BYTES
from db import rejections
from db.database import trouble_of
from runtime import points
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import Taken, take
from workers.amqp import declare_events, declare_intake, intake_queue, parameters, survive_odd_headers

PREFETCH = 200
BATCH_SIZE = 100
LINGER_SECONDS = 0.02
# How soon a silent consumer notices that it should stop.
IDLE_SECONDS = 0.5
# What stop() waits for a batch that the database does not answer; it comes again.
LAST_BATCH_SECONDS = 10.0
CLOSE_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0

# A rehearsal may stop the process dead here: `intake.committed`, before the acknowledgement.
COMMITTED = "intake.committed"

log = structlog.get_logger()

_T = TypeVar("_T")


def run_intake(deps: Deps, stop: threading.Event) -> None:
    """Consume until told to stop, through every absence of broker and database.

    Raises SettingsError without amqp_url.
    """
    parameters(deps.settings, "intake")
    survive_odd_headers()
    pause = FIRST_PAUSE_SECONDS
    while not stop.is_set():
        consumer = _Consumer(deps, stop)
        try:
            with deps.database.read() as tx:
                waiting = rejections.open_count(tx)
            log.info("intake.consuming", queue=intake_queue(deps.settings), waiting_for_review=waiting)
            consumer.consume()
        except Exception as error:
            # Whatever it is, the messages are in the broker: look again later, and more rarely as it goes on.
            pause = FIRST_PAUSE_SECONDS if consumer.acknowledged else min(pause * 2, LONGEST_PAUSE_SECONDS)
            log.warning("intake.interrupted", by=_culprit(error), error=type(error).__name__, pause_seconds=pause)
            stop.wait(pause)
    log.info("intake.stopped")


def _culprit(error: Exception) -> str:
    if trouble_of(error) is not None:
        return "database"
    return "broker" if isinstance(error, AMQPError | OSError) else "ourselves"


class _Interrupted(Exception):
    """The broker ended the consumer, or the last batch took too long."""


class _Consumer:
    """One connection, from its start to the first trouble."""

    def __init__(self, deps: Deps, stop: threading.Event) -> None:
        self._deps = deps
        self._stop = stop
        self._waiting: deque[tuple[int, Incoming]] = deque()
        self._cancelled = False
        self._connection: Any = None
        self.acknowledged = 0

    def consume(self) -> None:
        """Take batches until told to stop. What is not acknowledged goes back to the queue with the connection."""
        self._connection, channel = self._opened()
        try:
            while not self._stop.is_set():
                self._gather()
                if self._waiting:
                    self._take_batch(channel)
        finally:
            # A frozen broker says no good-bye; the end of the process or of the heartbeats closes what this leaves.
            with contextlib.suppress(TimeoutError):
                _in_background(lambda: _close(self._connection)).result(timeout=CLOSE_SECONDS)

    def _opened(self) -> tuple[Any, Any]:
        """Connect and begin to consume. A frozen broker answers none of this until heartbeats fail."""
        opening = _in_background(self._open)
        while not opening.done():
            if self._stop.is_set():
                opening.add_done_callback(_close_opened)
                raise _Interrupted("the broker did not answer before the end")
            wait([opening], timeout=IDLE_SECONDS)
        return opening.result()

    def _open(self) -> tuple[Any, Any]:
        connection = pika.BlockingConnection(parameters(self._deps.settings, "intake"))
        try:
            channel = connection.channel()
            declare_intake(channel, self._deps.settings)
            # A publisher binds his queue for our answers before he sends anything, hence before we ever answered.
            declare_events(channel, self._deps.settings)
            channel.basic_qos(prefetch_count=PREFETCH)
            channel.add_on_cancel_callback(self._broker_cancelled)
            channel.basic_consume(intake_queue(self._deps.settings), self._arrived)
        except BaseException:
            _close(connection)
            raise
        return connection, channel

    def _arrived(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._waiting.append((method.delivery_tag, _incoming(method, properties, body)))

    def _broker_cancelled(self, frame: Any) -> None:
        self._cancelled = True

    def _gather(self) -> None:
        """Wait for a first message, then a moment for its neighbours."""
        if not self._waiting:
            self._pump(IDLE_SECONDS)
        until = time.monotonic() + LINGER_SECONDS
        while self._waiting and len(self._waiting) < BATCH_SIZE and (left := until - time.monotonic()) > 0:
            self._pump(left)

    def _pump(self, seconds: float) -> None:
        """Let the connection live: heartbeats go out, messages come in."""
        self._connection.process_data_events(time_limit=seconds)
        if self._cancelled:
            raise _Interrupted("the queue was deleted, or moved to another node")

    def _take_batch(self, channel: Any) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_SIZE, len(self._waiting)))]
        self._await(_in_background(lambda: take(self._deps, [incoming for _, incoming in batch])))
        points.reach(COMMITTED)
        # Everything up to this tag is committed: batches before this one were acknowledged, or we would not be here.
        channel.basic_ack(batch[-1][0], multiple=True)
        self.acknowledged += len(batch)

    def _await(self, work: "Future[list[Taken]]") -> list[Taken]:
        """Wait for a commit while the connection lives on; a database that hangs stops no heartbeat and no shutdown."""
        work.add_done_callback(self._wake)
        last_moment = None
        while not work.done():
            self._pump(IDLE_SECONDS)
            if self._stop.is_set():
                last_moment = last_moment or time.monotonic() + LAST_BATCH_SECONDS
                if time.monotonic() > last_moment:
                    raise _Interrupted("the database did not answer before the end")
        return work.result()

    def _wake(self, work: "Future[list[Taken]]") -> None:
        with contextlib.suppress(AMQPError):
            self._connection.add_callback_threadsafe(_do_nothing)


def _close(connection: Any) -> None:
    with contextlib.suppress(AMQPError, OSError):
        connection.close()


def _close_opened(opening: "Future[tuple[Any, Any]]") -> None:
    """Close what was opened too late."""
    if opening.exception() is None:
        _close(opening.result()[0])


def _do_nothing() -> None:
    """Be the event that ends a wait."""


def _in_background(function: Callable[[], _T]) -> "Future[_T]":
    """Run in a thread that no shutdown waits for."""
    work: Future[_T] = Future()

    def run() -> None:
        try:
            work.set_result(function())
        except BaseException as error:
            work.set_exception(error)

    threading.Thread(target=run, name="intake", daemon=True).start()
    return work


def _incoming(method: Any, properties: Any, body: bytes) -> Incoming:
    headers = properties.headers or {}
    return Incoming(
        # One byte over the limit is as wrong as ten megabytes, and two hundred of these fit into memory.
        body=body[: MAX_BODY_BYTES + 1],
        body_bytes=len(body),
        channel="amqp",
        routing_key=_text(method.routing_key) or "",
        sender=_text(properties.user_id),
        content_type=_text(properties.content_type),
        request_id=_text(headers.get("x-request-id")) or _text(properties.correlation_id),
        traceparent=_text(headers.get("traceparent")),
        message_id=_text(properties.message_id),
    )


def _text(value: object) -> str | None:
    """Read a property; one that is no UTF-8 comes as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else None
