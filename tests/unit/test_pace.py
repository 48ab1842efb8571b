"""How often a provider is called: by a clock of the test, and in a real Redis that two processes share."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from runtime.pace import FORGOTTEN_SECONDS, LocalTurns, Rate, SharedTurns

TEN = Rate(10, burst=3)
ONE = Rate(10)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> LocalTurns:
    return LocalTurns(clock)


def test_a_burst_goes_at_once_and_then_one_in_each_interval(turns: LocalTurns, clock: Clock) -> None:
    assert [turns.spend("a", TEN) for _ in range(3)] == [0, 0, 0]
    assert turns.spend("a", TEN) == pytest.approx(0.1)
    assert turns.spend("b", TEN) == 0, "another account"
    clock.now += 0.1001
    assert turns.spend("a", TEN) == 0
    assert turns.spend("a", TEN) > 0
    clock.now += 60
    assert [turns.spend("a", TEN) > 0 for _ in range(4)] == [False, False, False, True], "a pause saves no more"


def test_who_is_put_off_has_taken_nothing(turns: LocalTurns, clock: Clock) -> None:
    for _ in range(3):
        turns.spend("a", TEN)
    for _ in range(50):
        assert turns.spend("a", TEN) == pytest.approx(0.1)
    clock.now += 0.1001
    assert turns.spend("a", TEN) == 0


def test_a_thousand_that_come_at_once_get_a_turn_each_and_keep_it(turns: LocalTurns, clock: Clock) -> None:
    began = clock.now
    waits = {key: turns.reserve("a", ONE, str(key)) for key in range(1000)}
    assert sorted(waits.values()) == pytest.approx([key / 10 for key in range(1000)])
    # Whoever comes too early, or again, keeps the turn that he has.
    assert turns.reserve("a", ONE, "999") == pytest.approx(99.9)
    for key, wait in waits.items():
        if wait > 0:
            clock.now = began + wait + 0.0001
            assert turns.reserve("a", ONE, str(key)) == 0
    # A turn is used up by taking it.
    assert turns.reserve("a", ONE, "5") > 0


def test_a_turn_that_was_only_asked_for_is_kept_until_it_is_taken(turns: LocalTurns, clock: Clock) -> None:
    assert [turns.reserve("a", ONE, key, take=False) for key in ("x", "y")] == [0, pytest.approx(0.1)]
    clock.now += 0.2
    assert [turns.reserve("a", ONE, key, take=False) for key in ("x", "y")] == [0, 0], "both have come"
    assert [turns.reserve("a", ONE, key) for key in ("x", "y")] == [0, 0]
    assert turns.reserve("a", ONE, "x") == 0, "a new one"
    assert turns.reserve("a", ONE, "y") > 0


def test_turns_that_nobody_takes_are_forgotten(turns: LocalTurns, clock: Clock) -> None:
    for key in range(100):
        turns.reserve("a", ONE, str(key))
    clock.now += FORGOTTEN_SECONDS + 60
    for key in range(100, 200):
        turns.reserve("a", ONE, str(key))
    assert len(turns._turns) <= 100


@pytest.fixture
def shared(redis_url: str, prefix: str) -> Iterator[tuple[SharedTurns, SharedTurns]]:
    with closing(SharedTurns(redis_url, prefix)) as one, closing(SharedTurns(redis_url, prefix)) as other:
        yield one, other


def test_in_redis_all_processes_share_the_rate(shared: tuple[SharedTurns, SharedTurns]) -> None:
    one, other = shared
    slow = Rate(0.2, burst=3)
    assert [one.spend("a", slow), other.spend("a", slow), one.spend("a", slow)] == [0, 0, 0]
    assert 4 < other.spend("a", slow) <= 5
    assert 4 < one.spend("a", slow) <= 5, "nothing was taken"


def test_in_redis_turns_are_given_as_in_one_process(shared: tuple[SharedTurns, SharedTurns]) -> None:
    one, other = shared
    slow = Rate(0.2)
    assert one.reserve("a", slow, "x") == 0
    first, second = other.reserve("a", slow, "y"), one.reserve("a", slow, "z")
    assert 4 < first <= 5
    assert 9 < second <= 10
    assert other.reserve("a", slow, "z") <= second, "the other process knows z's turn"
    quick = Rate(20)
    assert [other.reserve("b", quick, "x", take=False), one.reserve("b", quick, "x")] == [0, 0], "kept, then taken"
    wait = one.reserve("b", quick, "y")
    assert 0 < wait <= 0.05
    time.sleep(wait + 0.01)
    assert other.reserve("b", quick, "y") == 0


def test_without_redis_each_process_keeps_its_own_pace() -> None:
    with closing(SharedTurns("redis://127.0.0.1:1/0", "test.")) as turns, capture_logs() as lines:
        assert [turns.spend("a", Rate(0.2, burst=2)) > 0 for _ in range(3)] == [False, False, True]
        assert turns.reserve("b", Rate(0.2), "x") == 0
        assert turns.reserve("b", Rate(0.2), "y") > 0
    assert [line["event"] for line in lines] == ["pace.own"], "it is not asked each time"
