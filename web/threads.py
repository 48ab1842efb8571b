"""Threads for the database, so that no kind of request takes all connections from the others.

A look at a page never waits behind a press of Pay, which may wait for an invoice's lock, nor behind the CRM's requests.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

import anyio.to_thread

_T = TypeVar("_T")


class Threads:
    """A few threads for each kind of work."""

    def __init__(self, pool_size: int) -> None:
        """Share a pool of connections: of ten, three look, two press, three serve the CRM's requests."""
        self._api = max(2, pool_size // 3)
        self._views = ThreadPoolExecutor(max(2, pool_size // 3), "view")
        self._presses = ThreadPoolExecutor(max(1, pool_size // 5), "press")
        self._probe = ThreadPoolExecutor(1, "probe")

    def bound_the_rest(self) -> None:
        """Bound whatever else leaves this event loop for a thread."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = self._api

    def close(self) -> None:
        """Let the threads end."""
        for threads in (self._views, self._presses, self._probe):
            threads.shutdown(wait=False, cancel_futures=True)

    async def view(self, work: Callable[[], _T]) -> _T:
        """Look something up."""
        return await _run(self._views, work)

    async def press(self, work: Callable[[], _T]) -> _T:
        """Change something for a customer."""
        return await _run(self._presses, work)

    async def probe(self, work: Callable[[], _T]) -> _T:
        """Look whether the database is there at all."""
        return await _run(self._probe, work)


async def _run(threads: Executor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)
