"""Customers who pressed Pay and wait until somebody has opened their attempt.

However many wait, one query every few milliseconds looks for all of them, in a thread, and no connection is held
between two looks.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from db import customer_pages
from db.database import Database
from rules.pages import AttemptFacts, Opening
from web.threads import Threads

PAUSE_SECONDS = 0.03
PAUSE_AFTER_TROUBLE_SECONDS = 0.5
MAX_WAITERS = 256

log = structlog.get_logger()


class OpeningWatch:
    """Tells waiters when their link's newest attempt is no longer on its way."""

    def __init__(self, database: Database, threads: Threads) -> None:
        """Look into the database by these threads."""
        self._database = database
        self._threads = threads
        self._waiting: dict[str, set[asyncio.Future[AttemptFacts]]] = {}
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def wait(self, link_id: str, seconds: float) -> AttemptFacts | None:
        """Return the newest attempt as soon as it is open or over; None when time or room is out."""
        if self._count >= MAX_WAITERS or seconds <= 0:
            return None
        future: asyncio.Future[AttemptFacts] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(link_id, set()).add(future)
        self._count += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return None
        finally:
            self._leave(link_id, future)

    def _leave(self, link_id: str, future: asyncio.Future[AttemptFacts]) -> None:
        self._count -= 1
        group = self._waiting.get(link_id, set())
        group.discard(future)
        if not group:
            self._waiting.pop(link_id, None)

    async def _watch(self) -> None:
        pause = PAUSE_SECONDS
        while self._waiting:
            await asyncio.sleep(pause)
            try:
                seen = await self._threads.view(partial(self._look, tuple(self._waiting)))
                pause = PAUSE_SECONDS
            except Exception as error:
                # The database may be back before the customers' patience ends.
                log.warning("checkout.watch_failed", error=type(error).__name__)
                pause = PAUSE_AFTER_TROUBLE_SECONDS
                continue
            for link_id, attempt in seen.items():
                for future in self._waiting.get(link_id, ()):
                    if not future.done():
                        future.set_result(attempt)

    def _look(self, link_ids: Sequence[str]) -> dict[str, AttemptFacts]:
        """Return the attempts that are on their way no more."""
        with self._database.read() as tx:
            now, newest = customer_pages.newest_attempts(tx, link_ids)
        return {link_id: attempt for link_id, attempt in newest.items() if attempt.opening(now) is not Opening.COMING}
