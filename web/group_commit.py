"""Many small writes, few commits: requests wait in a bounded list, and a few threads write them together.

    submit ──> waiting ──> batch: prepared, added and committed together ──> every future told
                              ├── busy, deadlock, connection lost ──> the whole batch again
                              ├── a row that the database refuses ──> row by row, so that it fails alone
                              └── database away ──> Unwritten for all: nothing was promised, the sender repeats

A future has a result only after the commit. Writing a batch twice is harmless: rows keep their ids and keys, so a
commit whose answer was lost is found again as a duplicate.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from db import message_store
from db.database import Database, Trouble, trouble_of
from db.message_store import AddResult
from db.tx import NewMessage

BATCH = 200
# While one thread waits for its commit, the other prepares and writes the next batch.
WRITERS = 2
WORTH_ANOTHER = 32
DELIVERIES = 4
# Three tries at 0, 50 and 150 ms; lock and statement time-outs bound each.
PAUSES_SECONDS = (0.05, 0.1)
# Providers give up on an answer after 5 to 30 s; who waits longer than this is told to come again.
LATE_SECONDS = 8.0

log = structlog.get_logger()

Prepare = Callable[[], NewMessage]


class Full(Exception):
    """The waiting list is full: the sender must come again."""


class Unwritten(Exception):
    """The row was not written, or nobody knows: the sender must repeat it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    prepare: Prepare
    future: asyncio.Future[AddResult]
    since: float


_Told = list[tuple[_Waiting, AddResult | Exception]]


class GroupCommit:
    """The waiting list and its writers. `submit` is for the event loop that `start` was called in."""

    def __init__(self, database: Database, *, limit: int, writers: int = WRITERS, batch: int = BATCH) -> None:
        """Let at most `limit` rows wait; `batch` is the most that one transaction takes."""
        self._database = database
        self._limit = limit
        self._batch = batch
        # On SQLite there is one writer per process anyway.
        self._idle = 1 if database.is_sqlite else writers
        self._threads: list[threading.Thread] = []
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Touched by the event loop alone.
        self._waiting: deque[_Waiting] = deque()
        self._in_hand: set[_Waiting] = set()
        self._handing_over = False
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the writers; call inside the event loop."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._write_on, name=f"group-commit-{number}", daemon=True)
            for number in range(self._idle)
        ]
        for thread in self._threads:
            thread.start()
        self._sweep = self._loop.call_later(1.0, self._tell_the_late)

    async def stop(self) -> None:
        """Write what waits, for a while, then stop the writers."""
        if self._sweep is not None:
            self._sweep.cancel()
        rest = [one.future for one in (*self._waiting, *self._in_hand)]
        if rest:
            await asyncio.wait(rest, timeout=LATE_SECONDS)
        for _ in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, 1.0)
        self._threads = []

    @property
    def waiting(self) -> int:
        """How many rows wait or are being written."""
        return len(self._waiting) + len(self._in_hand)

    def submit(self, prepare: Prepare) -> asyncio.Future[AddResult]:
        """Put a row on the list; the future ends after its commit, with what `prepare` raised, or as Unwritten.

        `prepare` runs in a writer's thread. Full: the list has no room.
        """
        if self.waiting >= self._limit:
            raise Full
        if self._loop is None or not self._threads:
            raise Unwritten("the writers are not running")
        one = _Waiting(prepare, self._loop.create_future(), self._loop.time())
        self._waiting.append(one)
        if self._idle and not self._handing_over:
            # Soon, not now: what else arrived in this turn of the loop goes into the same batch.
            self._handing_over = True
            self._loop.call_soon(self._hand_over)
        return one.future

    # --- in the event loop --------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Give what waits to an idle writer; to a second one only what is worth a commit of its own."""
        self._handing_over = False
        while self._idle and len(self._waiting) >= (1 if self._idle == len(self._threads) else WORTH_ANOTHER):
            batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._in_hand.update(batch)
            self._idle -= 1
            self._batches.put(batch)

    def _end(self, told: _Told) -> None:
        """Tell everybody of a batch, and give its writer the next one."""
        self._idle += 1
        for one, result in told:
            self._in_hand.discard(one)
            if one.future.done():  # the client left, or was told that it is late
                continue
            if isinstance(result, Exception):
                one.future.set_exception(result)
            else:
                one.future.set_result(result)
        self._hand_over()

    def _tell_the_late(self) -> None:
        """Answer whoever waits too long. His place stays taken until a writer has dealt with the row."""
        assert self._loop is not None  # noqa: S101 - set by start
        late = self._loop.time() - LATE_SECONDS
        for one in (*self._waiting, *self._in_hand):
            if one.since < late and not one.future.done():
                one.future.set_exception(Unwritten("late"))
        self._sweep = self._loop.call_later(1.0, self._tell_the_late)

    # --- in a writer's thread -----------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                told = self._settle(batch)
            except Exception as error:
                log.warning("group_commit.broken", error=type(error).__name__, rows=len(batch))
                told = [(one, Unwritten(type(error).__name__)) for one in batch]
            self._tell(told)

    def _settle(self, batch: list[_Waiting]) -> _Told:
        told: _Told = []
        ready: list[_Waiting] = []
        rows: list[NewMessage] = []
        for one in batch:
            try:
                rows.append(one.prepare())
                ready.append(one)
            except Exception as error:
                told.append((one, error))
        told.extend(zip(ready, self._write(rows), strict=True))
        return told

    def _write(self, rows: Sequence[NewMessage]) -> Sequence[AddResult | Exception]:
        if not rows:
            return []
        try:
            return self._add_patiently(rows)
        except Exception as error:
            trouble = trouble_of(error)
            log.warning("group_commit.failed", trouble=trouble, error=type(error).__name__, rows=len(rows))
            if trouble in (Trouble.OUTAGE, Trouble.BUSY) or len(rows) == 1:
                return [Unwritten(type(error).__name__)] * len(rows)
        return [self._write([row])[0] for row in rows]

    def _add_patiently(self, rows: Sequence[NewMessage]) -> list[AddResult]:
        """Add in one transaction; what passes by itself is tried again."""
        for pause in PAUSES_SECONDS:
            try:
                return self._add(rows)
            except Exception as error:
                if trouble_of(error) not in (Trouble.OUTAGE, Trouble.BUSY):
                    raise
            time.sleep(pause)
        return self._add(rows)

    def _add(self, rows: Sequence[NewMessage]) -> list[AddResult]:
        """Add all; keys and rows are one statement, which on PostgreSQL needs no BEGIN and COMMIT of its own."""
        with self._database.at_once() as tx:
            results = message_store.add_all(tx, rows)
            # Whoever gets one delivery takes what else is due: a few wake enough workers.
            del tx.due[DELIVERIES:]
        return results

    def _tell(self, told: _Told) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(self._end, told)
        except RuntimeError:
            # The loop closed in this very moment: nobody is left to be told.
            return
