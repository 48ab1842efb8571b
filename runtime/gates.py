"""What stands between our threads and one account: how many at once, how often, and whether it is down at all.

    call ──> a place ──> the breaker ──> the pace ──> the provider
               │            │               │
               └────────────┴───────────────┴──> Postponed: the message is given back, and no try is counted

A provider that hangs may take half of a process's threads, never all, and only until the breaker knows. While it is
down, messages wait without using up their tries; only when that lasts for hours do tries count again, so that people
hear of each message that waits.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import structlog

from gateways.errors import GatewayError, Postponed, Unavailable, Unknown
from gateways.providers.base import Provider
from runtime.breaker import Breaker
from runtime.pace import LocalTurns, Rate, SharedTurns, Turns
from runtime.settings import Settings

# So long a thread waits for its turn; then it gives the message back.
PATIENCE_SECONDS = 0.5
PLACE_SECONDS = 0.05
NO_PLACE_PAUSE_SECONDS = 0.5
# What scheduled checks may use of an account's rate: the rest is always left for whoever waits.
SHARE_OF_CHECKS = 0.5
# And where everything shares one process and one writer: there each check also takes time from whoever waits.
SHARE_OF_CHECKS_ON_SQLITE = 0.25
# After so long an outage counts as failures again.
OUTAGE_SECONDS = 6 * 3600.0

_T = TypeVar("_T")

log = structlog.get_logger()


class Gate:
    """The way to one account. Safe to share between threads."""

    def __init__(
        self,
        account: str,
        rate: Rate,
        turns: Turns,
        *,
        share_of_checks: float = SHARE_OF_CHECKS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`turns` are shared by whoever shares the account; scheduled checks get their share of the rate."""
        self.account = account
        self._rate = rate
        self._of_checks = Rate(max(rate.per_second * share_of_checks, 1e-3))
        self._turns = turns
        self._breaker = Breaker(clock)
        self._places: threading.BoundedSemaphore | None = None
        self._sleep = sleep
        self.putting_off = threading.Lock()  # one thread puts off what is due; the others find nothing left to do

    def close(self) -> None:
        """Release connections."""
        self._turns.close()

    def limit_places(self, count: int) -> None:
        """Let no more than so many threads of this process be inside at once."""
        self._places = threading.BoundedSemaphore(count)

    def wait_for_turn(self, key: str) -> None:
        """Let one of many go that nobody waits for. Raises Postponed until it is this key's turn."""
        seconds = self._turns.reserve(f"{self.account}.checks", self._of_checks, key)
        if seconds > 0:
            text = f"{self.account}: other checks come first"
            raise Postponed(text, code="not_its_turn", retry_after_seconds=seconds)

    def turns_of(self, keys: Iterable[str]) -> dict[str, float]:
        """Give each of these its turn; return those that must wait, and the seconds. The others may come at once."""
        waits = {key: self._turns.reserve(f"{self.account}.checks", self._of_checks, key, take=False) for key in keys}
        return {key: seconds for key, seconds in waits.items() if seconds > 0}

    def call(self, work: Callable[[], _T]) -> _T:
        """Make one call. Raises what it raises, and Postponed when it was not made."""
        with self._place():
            self._admit()
            self._keep_pace()
            try:
                result = work()
            except Unavailable as error:
                self._learn(error)
                self._put_off(error)
                raise
            except GatewayError as error:
                self._learn(error)
                raise
            if self._breaker.went_well():
                log.info("provider.up", account=self.account)
            return result

    @contextmanager
    def _place(self) -> Iterator[None]:
        places = self._places
        if places is None:
            yield
            return
        if not places.acquire(timeout=PLACE_SECONDS):
            pause = NO_PLACE_PAUSE_SECONDS * (1 + random.random())  # noqa: S311 - spreads those who come back
            raise Postponed(f"{self.account}: too many calls at once", code="no_place", retry_after_seconds=pause)
        try:
            yield
        finally:
            places.release()

    def _admit(self) -> None:
        seconds = self._breaker.admit()
        if seconds > 0:
            raise self._down(seconds)

    def _put_off(self, error: Unavailable) -> None:
        """Count no try of whoever found that it is down, or still down: nothing happened there."""
        seconds = self._breaker.pause_seconds
        if seconds > 0:
            raise self._down(seconds) from error

    def _down(self, seconds: float) -> Unavailable:
        text = f"{self.account} is down: it is tried again in a while"
        if self._breaker.down_seconds > OUTAGE_SECONDS:
            return Unavailable(text, code="down_for_long")
        pause = seconds * (1 + random.random())  # noqa: S311 - spreads those who come back
        return Postponed(text, code="down", retry_after_seconds=pause)

    def _keep_pace(self) -> None:
        patience = PATIENCE_SECONDS
        while (seconds := self._turns.spend(self.account, self._rate)) > 0:
            if seconds > patience:
                text = f"{self.account}: its rate is used up"
                raise Postponed(text, code="rate", retry_after_seconds=seconds)
            self._sleep(seconds)
            patience -= seconds

    def _learn(self, error: GatewayError) -> None:
        """Take an answer of any kind as a sign of life, and what shows that nobody is there as none."""
        if not _is_down(error):
            self._breaker.went_well()
            return
        pause = error.retry_after_seconds if isinstance(error, Unavailable) else None
        if self._breaker.failed(pause_seconds=pause or 0.0):
            log.warning("provider.down", account=self.account, code=error.code)


def _is_down(error: GatewayError) -> bool:
    if isinstance(error, Unknown):  # one that it told us itself was an answer
        return error.code == "no_answer" or error.code.startswith("http_5")
    return isinstance(error, Unavailable)


def make_gates(settings: Settings, providers: Mapping[str, Provider]) -> dict[str, Gate]:
    """Make a gate for each account, by its provider's rate or the account's own."""
    turns = SharedTurns(settings.redis_url, settings.queue_prefix) if settings.redis_url else LocalTurns()
    share = share_of_checks(settings)
    return {
        name: Gate(name, _rate(settings, name, provider), turns, share_of_checks=share)
        for name, provider in providers.items()
    }


def share_of_checks(settings: Settings) -> float:
    """Return what scheduled checks may use of an account's rate in this installation."""
    return SHARE_OF_CHECKS_ON_SQLITE if settings.database_url.startswith("sqlite") else SHARE_OF_CHECKS


def _rate(settings: Settings, name: str, provider: Provider) -> Rate:
    own = settings.accounts[name].calls_per_second
    declared = provider.capabilities
    return Rate(own or declared.calls_per_second, max(1, declared.burst if own is None else int(own)))
