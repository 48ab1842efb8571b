"""Publishes deliveries after commits: best effort, on a thread of its own, never in the way of work.

No confirms and no memory of what was sent. Where many messages of one queue come at once, only some deliveries leave:
a worker that gets one empties the queue's due messages, so the rest would only find nothing.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import dramatiq
import structlog

from contracts.delivery import Delivery
from runtime.deps import Deps
from runtime.settings import Settings
from workers.broker import MemoryBroker, delivery_message, make_broker

# A burst of deliveries per kind of message leaves at once, then so many per second. Each wakes a worker that drains
# what is due, and costs a real broker more than the stage that it wakes for; inside one process it costs little. What
# exceeds this is owed, and leaves as one delivery a moment later.
BURST, PER_SECOND = 4.0, 20.0
BURST_IN_PROCESS, PER_SECOND_IN_PROCESS = 16.0, 200.0
OWED_SECONDS = 0.02
# Commits whose deliveries wait for the thread: of more the relay tells.
WAITING_LIMIT = 1_000
PAUSE_AFTER_ERROR_SECONDS = 1.0

log = structlog.get_logger()


class Publisher:
    """Hands deliveries to a broker."""

    def __init__(
        self, broker: dramatiq.Broker, settings: Settings, *, pause_seconds: float = PAUSE_AFTER_ERROR_SECONDS
    ) -> None:
        """Publish to this broker; `start` starts. After a broker that took nothing comes a pause."""
        self._pause_seconds = pause_seconds
        self._broker = broker
        self._settings = settings
        self._waiting: queue.Queue[Sequence[tuple[str, Delivery]] | None] = queue.Queue(WAITING_LIMIT)
        self._allowances: dict[tuple[str, str], _Allowance] = {}
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        is_here = isinstance(broker, MemoryBroker)
        self._rate = (BURST_IN_PROCESS, PER_SECOND_IN_PROCESS) if is_here else (BURST, PER_SECOND)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def publish(self, due: Sequence[tuple[str, Delivery]]) -> None:
        """Take deliveries and return at once; what does not fit is dropped."""
        if due:
            with suppress(queue.Full):
                self._waiting.put_nowait(due)

    def stop(self) -> None:
        """Send what waits, for a second at most."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._waiting.put_nowait(None)
                self._thread.join(timeout=1)

    def _run(self) -> None:
        """Send what is allowed now; of the rest remember one delivery per kind, and send it when it is."""
        owed: dict[tuple[str, str], Delivery] = {}
        while True:
            try:
                due = self._waiting.get(timeout=OWED_SECONDS if owed else None)
            except queue.Empty:
                self._send_allowed(owed)
                continue
            if due is None:
                return
            for name, delivery in due:
                owed[name, delivery.type] = delivery
                if not self._send_allowed(owed):
                    break  # the rest would meet the same broker

    def _send_allowed(self, owed: dict[tuple[str, str], Delivery]) -> bool:
        """Send what is allowed now; False: the broker did not take it."""
        allowed = [one for one in owed if self._allowances.setdefault(one, _Allowance(*self._rate)).take()]
        return all(self._try(kind[0], owed.pop(kind)) for kind in allowed)

    def _try(self, name: str, delivery: Delivery) -> bool:
        try:
            self._send(name, delivery)
        except Exception as error:
            # pika and dramatiq raise from two hierarchies here; the relay repeats what this loses.
            log.warning("delivery.not_published", error=type(error).__name__, waiting=self._waiting.qsize())
            time.sleep(self._pause_seconds)
            return False
        return True

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
    """A bucket of `burst` tokens that fills with `per_second`."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._tokens = burst
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
