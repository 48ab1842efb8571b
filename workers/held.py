"""What this process holds: every claimed message, its lease, and how long its run may still take.

One keeper thread renews leases, interrupts runs that exceed their time limit, and tells the executor what was lost.
A message that killed its worker twice runs with no neighbours in the process, so that a third death is its own.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from dramatiq.middleware.threading import raise_thread_exception

from db import message_store
from db.database import Database
from db.message_store import Claimed

KEEPER_TICK_SECONDS = 0.5

log = structlog.get_logger()


class TimeLimitExceeded(BaseException):
    """Raised inside a run that took longer than its stage allows. No `except Exception` may swallow it."""


@dataclass(slots=True)
class _Hold:
    claimed: Claimed
    lease_seconds: float
    renew_at: float
    thread_id: int | None = None
    deadline: float | None = None


class Held:
    """The claims of one process."""

    def __init__(self, database: Database) -> None:
        """Keep claims of this database."""
        self._database = database
        self._lock = threading.Lock()
        self._holds: dict[tuple[str, int], _Hold] = {}
        self._company = _Company()

    def take(self, claimed: list[Claimed], lease_seconds: float) -> None:
        """Begin to keep the leases of what was just claimed."""
        renew_at = time.monotonic() + lease_seconds / 3
        with self._lock:
            for one in claimed:
                self._holds[one.id, one.claim_no] = _Hold(one, lease_seconds, renew_at)

    def release(self, claimed: Claimed) -> None:
        """Stop keeping a lease."""
        with self._lock:
            self._holds.pop((claimed.id, claimed.claim_no), None)

    def all(self) -> list[Claimed]:
        """Return everything that is held."""
        with self._lock:
            return [hold.claimed for hold in self._holds.values()]

    @contextmanager
    def running(self, claimed: Claimed, *, limit_seconds: float) -> Iterator[None]:
        """Bound the time of one run; alone in the process if the message killed its worker before."""
        alone = claimed.lapses >= message_store.ALONE_AFTER_LAPSES
        with self._company.alone() if alone else self._company.shared():
            with self._lock:
                hold = self._holds[claimed.id, claimed.claim_no]
                hold.thread_id, hold.deadline = threading.get_ident(), time.monotonic() + limit_seconds
            try:
                yield
            finally:
                # Under the lock the keeper cannot be about to interrupt; afterwards it will not.
                with self._lock:
                    hold.deadline = None

    def tick(self) -> None:
        """Do the keeper's duties once: interrupt overdue runs, renew leases that are a third over."""
        now = time.monotonic()
        with self._lock:
            for hold in self._holds.values():
                if hold.deadline is not None and now > hold.deadline and hold.thread_id is not None:
                    hold.deadline = None
                    raise_thread_exception(hold.thread_id, TimeLimitExceeded)
            stale = [hold for hold in self._holds.values() if now >= hold.renew_at]
        for lease_seconds in {hold.lease_seconds for hold in stale}:
            self._renew([hold for hold in stale if hold.lease_seconds == lease_seconds], lease_seconds)

    def _renew(self, stale: list[_Hold], lease_seconds: float) -> None:
        pairs = [(hold.claimed.id, hold.claimed.claim_no) for hold in stale]
        with self._database.at_once() as tx:
            kept = message_store.renew(tx, pairs, lease_seconds=lease_seconds)
        for hold in stale:
            hold.renew_at = time.monotonic() + lease_seconds / 3
            if hold.claimed.id not in kept:
                # Its run goes on, and will find at its end that it may not conclude.
                log.warning("lease.lost", message_id=hold.claimed.id, queue=hold.claimed.queue)
                self.release(hold.claimed)


class Keeper(threading.Thread):
    """Calls a duty again and again until stopped; a duty that fails is logged and tried again."""

    def __init__(self, name: str, duty: Callable[[], None], every_seconds: float) -> None:
        """Prepare the thread; `start` starts it."""
        super().__init__(name=name, daemon=True)
        self._duty = duty
        self._every = every_seconds
        self._stopped = threading.Event()

    def run(self) -> None:
        """Tick until stopped."""
        while not self._stopped.wait(self._every):
            try:
                self._duty()
            except Exception as error:
                log.warning("duty.failed", duty=self.name, error=type(error).__name__)

    def stop(self) -> None:
        """Ask the thread to end and wait a moment for it."""
        self._stopped.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=2)


class _Company:
    """Many may share, or one may be alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._shared = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._shared += 1
        try:
            yield
        finally:
            with self._condition:
                self._shared -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: self._shared == 0)
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
