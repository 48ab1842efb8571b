"""Who asks for links that do not exist too often is told to wait; the clock is the test's own."""

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from web.guesses import MAX_ADDRESSES, Guesses, network_of

T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.now = 60_000_000.0  # a minute begins

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def guesses(clock: Clock, limit: int = 30, redis_url: str | None = None) -> Guesses:
    return Guesses(limit, redis_url, prefix="test.", clock=clock)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def misses(of: Guesses, count: int, address: str = "192.0.2.1") -> list[int | None]:
    return [await of.missed(address, "r-1") for _ in range(count)]


def test_the_next_after_thirty_must_wait_for_the_rest_of_the_minute(clock: Clock) -> None:
    counted = guesses(clock)
    clock.now += 20
    with capture_logs() as lines:
        assert run(misses(counted, 33)) == [None] * 30 + [40] * 3
    assert lines == [{"event": "page.guessing", "log_level": "warning", "request_id": "r-1", "misses": 31}]
    assert run(misses(counted, 1, "192.0.2.2")) == [None], "somebody else"
    clock.now += 40
    assert run(misses(counted, 30)) == [None] * 30, "another minute"


def test_there_may_be_no_limit(clock: Clock) -> None:
    assert run(misses(guesses(clock, 0), 100)) == [None] * 100
    assert run(guesses(clock, 1).missed(None, "r-1")) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "the rest"),
        ("", "the rest"),
    ],
)
def test_a_customer_of_ipv6_has_a_whole_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_memory_is_bounded(clock: Clock) -> None:
    async def flood() -> list[int | None]:
        counted = guesses(clock)
        for number in range(MAX_ADDRESSES):
            await counted.missed(f"2001:db8:0:{number:x}::1", "r-1")
        return await misses(counted, 31, "198.51.100.1")

    assert run(flood())[-1] == 60, "whoever comes later shares one count"


def test_without_redis_each_process_counts_for_itself(clock: Clock) -> None:
    async def go() -> list[int | None]:
        counted = guesses(clock, redis_url="redis://127.0.0.1:1/0")
        try:
            return await misses(counted, 31)
        finally:
            await counted.close()

    with capture_logs() as lines:
        assert run(go()) == [None] * 30 + [60]
    assert [line["event"] for line in lines] == ["page.guesses_uncounted", "page.guessing"], "it is not asked each time"


def test_a_frozen_redis_holds_a_miss_up_once(clock: Clock) -> None:
    async def go(port: int) -> tuple[list[int | None], float]:
        counted = guesses(clock, 2, f"redis://127.0.0.1:{port}/0")
        began = time.monotonic()
        try:
            return await misses(counted, 3), time.monotonic() - began
        finally:
            await counted.close()

    with socket.create_server(("127.0.0.1", 0)) as silent, capture_logs():
        answers, seconds = run(go(silent.getsockname()[1]))
    assert answers == [None, None, 60]
    assert seconds < 2


def test_with_redis_all_processes_share_the_count(clock: Clock, redis_url: str, prefix: str) -> None:
    async def go() -> list[int | None]:
        one, other = (Guesses(30, redis_url, prefix=prefix, clock=clock) for _ in range(2))
        try:
            await misses(one, 20)
            return await misses(other, 11)
        finally:
            await one.close()
            await other.close()

    assert run(go()) == [None] * 10 + [60]
