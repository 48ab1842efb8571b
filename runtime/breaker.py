"""A circuit breaker: a provider that is down is not called until a while has passed, and then by one caller first.

closed ── failures in a row ──> open ── its pause is over ──> one trial ── well ──> closed
                                 ^                               │
                                 └────── the pause doubles ──────┘ failed, or no word within its time

Each process has its own: it needs no word of others to find out, and nobody else's mistake closes the way for it.
"""

import threading
import time
from collections.abc import Callable

FAILURES = 5
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
# A trial that said nothing for so long is lost: another one goes.
TRIAL_SECONDS = 30.0


class Breaker:
    """Counts failures in a row. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = 0.0
        self._again_at = 0.0
        self._down_since: float | None = None

    def admit(self) -> float:
        """Return 0 when a call may be made; else the seconds until somebody may try again."""
        with self._lock:
            now = self._clock()
            if self._down_since is None:
                return 0.0
            if now < self._again_at:
                return self._again_at - now
            self._again_at = now + TRIAL_SECONDS  # this caller tries; the others wait for what becomes of it
            return 0.0

    def went_well(self) -> bool:
        """Note that the other side answered; return whether it was down before."""
        with self._lock:
            was_down = self._down_since is not None
            self._failures, self._pause, self._again_at, self._down_since = 0, 0.0, 0.0, None
            return was_down

    def failed(self, *, pause_seconds: float = 0.0) -> bool:
        """Note that it did not, and the pause that it asked for; return whether the way closed just now."""
        with self._lock:
            now = self._clock()
            self._failures += 1
            if self._failures < FAILURES and not pause_seconds:
                return False
            was_down = self._down_since is not None
            self._down_since = now if self._down_since is None else self._down_since
            self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            self._again_at = now + max(self._pause, min(pause_seconds, LONGEST_PAUSE_SECONDS))
            return not was_down

    @property
    def pause_seconds(self) -> float:
        """For how long nobody may call from now on; 0: the way is open."""
        with self._lock:
            return 0.0 if self._down_since is None else max(self._again_at - self._clock(), 0.0)

    @property
    def down_seconds(self) -> float:
        """For how long the other side has been down; 0: it is not."""
        with self._lock:
            return 0.0 if self._down_since is None else self._clock() - self._down_since
