"""Things that are due at a time, handed out when that time has come."""

import asyncio
import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    """A queue by due time, in the event loop's own seconds. One task waits on it."""

    def __init__(self) -> None:
        """Begin empty."""
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def add(self, delay_seconds: float, item: T) -> None:
        """Hand the item out after the delay. Equal times keep their order."""
        when = asyncio.get_running_loop().time() + max(delay_seconds, 0.0)
        heapq.heappush(self._heap, (when, next(self._numbers), item))
        self._changed.set()

    async def next(self) -> T:
        """Wait for the next item that is due."""
        while True:
            wait = self._wait_seconds()
            if wait is not None and wait <= 0:
                return heapq.heappop(self._heap)[2]
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _wait_seconds(self) -> float | None:
        if not self._heap:
            return None
        return self._heap[0][0] - asyncio.get_running_loop().time()
