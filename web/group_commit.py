"""Many small writes, few commits: rows wait in a bounded list, and a thread writes all that wait together.

    submit ──> arrived ──prepare──> waiting ──> batch: one statement, one commit ──> every future told
                                                  ├── busy, deadlock, connection lost ──> the whole batch again
                                                  ├── a row that the database refuses ──> row by row: it fails alone
                                                  └── database away ──> Unwritten for all: nothing was promised

A future has a result only after the commit. Writing a batch twice is harmless: rows keep their ids and keys, so a
commit whose answer was lost is found again as a duplicate.

Rows are prepared in the event loop, a few per turn: a thread would only fight it for the interpreter (measured: a sixth
slower). The writer's thread waits for the database, and needs the interpreter for little else; a second one gained
nothing in any measurement.
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
# So many are prepared before the event loop does something else: about two milliseconds.
TURN = 64
# Whoever gets one delivery takes what else is due: a few per batch wake enough workers.
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


_Batch = list[tuple[_Waiting, NewMessage]]
_Told = list[tuple[_Waiting, AddResult | Exception]]


class GroupCommit:
    """The waiting list and its writer. `submit` is for the event loop that `start` was called in."""

    def __init__(self, database: Database, *, limit: int, batch: int = BATCH) -> None:
        """Let at most `limit` rows wait; `batch` is the most that one transaction takes."""
        self._database = database
        self._limit = limit
        self._batch = batch
        self._thread: threading.Thread | None = None
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Touched by the event loop alone.
        self._arrived: deque[_Waiting] = deque()
        self._ready: deque[tuple[_Waiting, NewMessage]] = deque()
        self._in_hand: list[_Waiting] = []
        self._has_turn = False
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the writer; call inside the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_on, name="group-commit", daemon=True)
        self._thread.start()
        self._sweep = self._loop.call_later(1.0, self._tell_the_late)

    async def stop(self) -> None:
        """Write what waits, for a while, then stop the writer."""
        if self._sweep is not None:
            self._sweep.cancel()
        rest = [one.future for one in self._all()]
        if rest:
            await asyncio.wait(rest, timeout=LATE_SECONDS)
        if self._thread is not None:
            self._batches.put(None)
            await asyncio.to_thread(self._thread.join, 1.0)
            self._thread = None

    @property
    def waiting(self) -> int:
        """How many rows wait or are being written."""
        return len(self._arrived) + len(self._ready) + len(self._in_hand)

    def submit(self, prepare: Prepare) -> asyncio.Future[AddResult]:
        """Put a row on the list; the future ends after its commit, with what `prepare` raised, or as Unwritten.

        `prepare` runs soon, in the event loop. Full: the list has no room.
        """
        if self.waiting >= self._limit:
            raise Full
        if self._loop is None or self._thread is None:
            raise Unwritten("the writer is not running")
        one = _Waiting(prepare, self._loop.create_future(), self._loop.time())
        self._arrived.append(one)
        self._take_a_turn()
        return one.future

    # --- in the event loop --------------------------------------------------------------------------------------------

    def _take_a_turn(self) -> None:
        """Prepare soon, not now: what else arrives in this turn of the loop is prepared in one go, and faster."""
        if not self._has_turn and self._loop is not None:
            self._has_turn = True
            self._loop.call_soon(self._prepare_some)

    def _prepare_some(self) -> None:
        self._has_turn = False
        for _ in range(min(TURN, len(self._arrived))):
            one = self._arrived.popleft()
            try:
                self._ready.append((one, one.prepare()))
            except Exception as error:
                if not one.future.done():
                    one.future.set_exception(error)
        if self._arrived:
            self._take_a_turn()
        self._hand_over()

    def _hand_over(self) -> None:
        """Give what is ready to the writer, if it is idle."""
        if self._ready and not self._in_hand:
            batch = [self._ready.popleft() for _ in range(min(self._batch, len(self._ready)))]
            self._in_hand = [one for one, _ in batch]
            self._batches.put(batch)

    def _end(self, told: _Told) -> None:
        """Tell everybody of a batch, and give the writer the next one."""
        self._in_hand = []
        self._hand_over()
        for one, result in told:
            if one.future.done():  # the client left, or was told that it is late
                continue
            if isinstance(result, Exception):
                one.future.set_exception(result)
            else:
                one.future.set_result(result)

    def _tell_the_late(self) -> None:
        """Answer whoever waits too long. His place stays taken until the writer has dealt with the row."""
        assert self._loop is not None  # noqa: S101 - set by start
        late = self._loop.time() - LATE_SECONDS
        for one in self._all():
            if one.since < late and not one.future.done():
                one.future.set_exception(Unwritten("late"))
        self._sweep = self._loop.call_later(1.0, self._tell_the_late)

    def _all(self) -> list[_Waiting]:
        return [*self._arrived, *(one for one, _ in self._ready), *self._in_hand]

    # --- in the writer's thread ---------------------------------------------------------------------------------------

    def _write_on(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                results = self._write([row for _, row in batch])
            except Exception as error:
                log.warning("group_commit.broken", error=type(error).__name__, rows=len(batch))
                results = [Unwritten(type(error).__name__)] * len(batch)
            self._tell([(one, result) for (one, _), result in zip(batch, results, strict=True)])

    def _write(self, rows: Sequence[NewMessage]) -> Sequence[AddResult | Exception]:
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
