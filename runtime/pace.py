"""How often a provider may be called: one rate for each account, shared between all workers.

By the generic cell rate algorithm: one number for each account, the time at which the next call would be due if all
came evenly. It lies in Redis where there is one, by the clock of Redis; else, and while that is away, in this process.

    spend     a call that somebody waits for: now, or after so many seconds
    reserve   one of many that nobody waits for: it gets a turn of its own and keeps it, so that a thousand that were
              put off do not all come back at the same moment

Own code: the libraries for rate limits that we know of answer yes or no, and give no turns (docs/decisions/0018).
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

REDIS_SECONDS = 0.25
# After a failure Redis is left alone for so long.
REDIS_PAUSE_SECONDS = 10.0
# A turn that nobody took is forgotten so long after it came.
FORGOTTEN_SECONDS = 300.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls a second in the long run, and so many at once after a pause."""

    per_second: float
    burst: int = 1

    @property
    def interval(self) -> int:
        """Microseconds between calls that come evenly."""
        return round(1_000_000 / self.per_second)

    @property
    def slack(self) -> int:
        """How far calls may run ahead of the even pace, in microseconds."""
        return (self.burst - 1) * self.interval


class Turns(Protocol):
    """Who may call, and when."""

    def spend(self, name: str, rate: Rate) -> float:
        """Take a call and return 0; or take nothing, and return the seconds until one is to be had."""

    def reserve(self, name: str, rate: Rate, key: str, *, take: bool = True) -> float:
        """Return 0 when it is this key's turn, which is used up by that if we `take` it; else the seconds until it is.

        A turn that is not taken is kept: it is still this key's when it comes, or has come.
        """

    def close(self) -> None:
        """Release connections."""


class LocalTurns:
    """Turns of this process alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # All in microseconds.
        self._next: dict[str, int] = {}
        self._turns: dict[tuple[str, str], int] = {}

    def spend(self, name: str, rate: Rate) -> float:
        """Take a call, or tell when."""
        with self._lock:
            now = self._now()
            due = max(self._next.get(name, now), now)
            if due - now > rate.slack:
                return (due - now - rate.slack) / 1_000_000
            self._next[name] = due + rate.interval
            return 0.0

    def reserve(self, name: str, rate: Rate, key: str, *, take: bool = True) -> float:
        """Take the key's turn, or tell when it comes."""
        with self._lock:
            now = self._now()
            turn = self._turns.pop((name, key), None)
            if turn is None:
                turn = max(self._next.get(name, now), now)
                self._next[name] = turn + rate.interval
                self._forget(now)
            if turn > now or not take:
                self._turns[name, key] = turn
            return max(turn - now, 0) / 1_000_000

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)

    def close(self) -> None:
        """Nothing is held."""

    def _forget(self, now: int) -> None:
        """Drop the oldest turns that nobody came for: they stand first."""
        for held, turn in list(self._turns.items())[:2]:
            if turn < now - FORGOTTEN_SECONDS * 1_000_000:
                del self._turns[held]


# KEYS: the account's next due time. ARGV: interval and slack in microseconds.
_SPEND = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if due - now > tonumber(ARGV[2]) then return due - now - tonumber(ARGV[2]) end
local next = due + tonumber(ARGV[1])
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1000)
return 0
"""
# KEYS: the account's next due time, this key's turn.
# ARGV: interval (microseconds), how long a turn is kept (ms), whether it is taken.
_RESERVE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local turn = tonumber(redis.call('GET', KEYS[2]))
if not turn then
  turn = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
  local next = turn + tonumber(ARGV[1])
  redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1000)
end
local wait = math.max(turn - now, 0)
if wait > 0 or ARGV[3] == '0' then
  redis.call('SET', KEYS[2], string.format('%.0f', turn), 'PX', math.ceil(wait / 1000) + tonumber(ARGV[2]))
else
  redis.call('DEL', KEYS[2])
end
return wait
"""


class SharedTurns:
    """Turns of all workers, in Redis; while it is away, each process keeps its own."""

    def __init__(self, url: str, prefix: str) -> None:
        """Nothing connects before the first call."""
        self._redis: Redis = Redis.from_url(
            url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = prefix
        self._spend = self._redis.register_script(_SPEND)
        self._reserve = self._redis.register_script(_RESERVE)
        self._own = LocalTurns()
        self._again_at = 0.0

    def spend(self, name: str, rate: Rate) -> float:
        """Take a call, or tell when."""
        arguments = (rate.interval, rate.slack)
        waited = self._asked(lambda: self._spend(keys=[self._key(name)], args=arguments))
        return self._own.spend(name, rate) if waited is None else waited

    def reserve(self, name: str, rate: Rate, key: str, *, take: bool = True) -> float:
        """Take the key's turn, or tell when it comes."""
        keys = [self._key(name), self._key(f"{name}.{key}")]
        arguments = (rate.interval, int(FORGOTTEN_SECONDS * 1000), int(take))
        waited = self._asked(lambda: self._reserve(keys=keys, args=arguments))
        return self._own.reserve(name, rate, key, take=take) if waited is None else waited

    def close(self) -> None:
        """Release connections."""
        self._redis.close()

    def _key(self, name: str) -> str:
        return f"{self._prefix}pace.{name}"

    def _asked(self, ask: Callable[[], int]) -> float | None:
        if time.monotonic() < self._again_at:
            return None
        try:
            return int(ask()) / 1_000_000
        except (RedisError, OSError) as error:
            self._again_at = time.monotonic() + REDIS_PAUSE_SECONDS
            log.warning("pace.own", error=type(error).__name__)
            return None
