"""Writes down what the receiver counts, so that the numbers outlive the process and operators see them.

    receiver ──+1──> its own counter ──once a second, what is new──> one small transaction

The receiver's path is as long as before. What the database does not take waits in the counter; a process that is killed
takes the last second along.
"""

import asyncio
import threading
from collections import Counter

import structlog

from db import event_counts
from db.database import Database

PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class EventTally:
    """The thread that writes."""

    def __init__(
        self, database: Database, counts: Counter[tuple[str, str]], *, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        """`counts` is (account, what became of it) -> how often; it only grows, and only its owner changes it."""
        self._database = database
        self._counts = counts
        self._pause = pause_seconds
        self._written: dict[tuple[str, str], int] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer."""
        self._thread = threading.Thread(target=self._write_on, name="event-tally", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write what is new, if that works at once, and stop."""
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 1.0)
            self._thread = None

    def _write_on(self) -> None:
        while not self._stopped.wait(self._pause):
            self._write()
        self._write()

    def _write(self) -> None:
        seen = dict(self._counts)  # one step of the interpreter: the event loop goes on counting
        new = {key: count - self._written.get(key, 0) for key, count in seen.items()}
        new = {key: more for key, more in new.items() if more}
        if not new:
            return
        try:
            with self._database.begin() as tx:
                event_counts.add(tx, new)
        except Exception as error:
            log.warning("counts.unwritten", error=type(error).__name__)
            return
        self._written = seen
