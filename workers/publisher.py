"""Publishes deliveries after commits: best effort, on a thread of its own, never in the way of work.

No confirms and no memory of what was sent. Where many messages of one queue come at once, only some deliveries leave:
a worker that gets one empties the queue's due messages, so the rest would only find nothing.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dramatiq
import structlog

from contracts.delivery import Delivery
from runtime.deps import Deps
from runtime.settings import Settings
from workers.broker import MemoryBroker, delivery_message, make_broker

# A burst of deliveries per queue leaves at once, then so many per second: each wakes a worker that drains the queue.
BURST = 16
PER_SECOND = 50.0
WAITING_LIMIT = 10_000
PAUSE_AFTER_ERROR_SECONDS = 1.0

log = structlog.get_logger()


class Publisher:
    """Hands deliveries to a broker."""

    def __init__(self, broker: dramatiq.Broker, settings: Settings) -> None:
        """Publish to this broker; call `start` first, except for the broker in this process."""
        self._broker = broker
        self._settings = settings
        self._waiting: queue.Queue[tuple[str, Delivery] | None] = queue.Queue(WAITING_LIMIT)
        self._allowances: dict[str, _Allowance] = {}
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._direct = isinstance(broker, MemoryBroker)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the thread."""
        if not self._direct:
            self._thread.start()

    def publish(self, due: Sequence[tuple[str, Delivery]]) -> None:
        """Take deliveries and return at once; what does not fit is dropped."""
        for name, delivery in due:
            if not self._allowed(name):
                continue
            if self._direct:
                self._send(name, delivery)
                continue
            try:
                self._waiting.put_nowait((name, delivery))
            except queue.Full:
                return

    def stop(self) -> None:
        """Send what waits, for a second at most."""
        if self._thread.is_alive():
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return
            self._thread.join(timeout=1)

    def _allowed(self, name: str) -> bool:
        with self._lock:
            return self._allowances.setdefault(name, _Allowance()).take()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._send(*item)
            except Exception as error:
                # pika and dramatiq raise from two hierarchies here; the relay repeats what this loses.
                log.warning("delivery.not_published", error=type(error).__name__, waiting=self._waiting.qsize())
                time.sleep(PAUSE_AFTER_ERROR_SECONDS)

    def _send(self, name: str, delivery: Delivery) -> None:
        self._broker.enqueue(delivery_message(self._settings, name, delivery))


@contextmanager
def announcing(deps: Deps) -> Iterator[Publisher]:
    """Announce what this process commits, for processes that serve no queue; else it waits for the relay's round."""
    broker = make_broker(deps.settings)
    publisher = Publisher(broker, deps.settings)
    if not isinstance(broker, MemoryBroker):  # there nobody outside this process could hear it
        deps.database.after_commit = publisher.publish
        publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


class _Allowance:
    """A bucket of BURST tokens that fills with PER_SECOND."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(float(BURST), self._tokens + (now - self._at) * PER_SECOND)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
