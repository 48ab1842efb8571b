"""The way to one account: places, breaker and pace, by a clock of the test."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateways.errors import GatewayError, LoginRefused, Postponed, Refused, Unavailable, Unknown
from runtime.breaker import FAILURES, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, TRIAL_SECONDS
from runtime.gates import OUTAGE_SECONDS, Gate, share_of_checks
from runtime.pace import LocalTurns, Rate
from runtime.settings import Settings
from tests.support import DATA_KEY
from tests.unit.test_pace import Clock

DOWN = Unavailable("no connection", code="no_connection")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return make(clock)


def make(clock: Clock, rate: Rate = Rate(1e6, burst=1000)) -> Gate:  # noqa: B008 - frozen
    def sleep(seconds: float) -> None:
        clock.now += seconds

    return Gate("bank", rate, LocalTurns(clock), clock=clock, sleep=sleep)


def fails(error: Exception) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def fall(gate: Gate, times: int = FAILURES, error: GatewayError = DOWN) -> None:
    """Fail so often; whoever finds that the way is closed by then is put off, for nothing happened there."""
    for _ in range(times):
        with pytest.raises((type(error), Postponed)) as failed:
            gate.call(fails(error))
        assert isinstance(failed.value, Postponed) or failed.value is error


def test_who_finds_that_it_is_down_has_used_up_no_try(gate: Gate) -> None:
    fall(gate, FAILURES - 1)
    with pytest.raises(Postponed) as postponed:
        gate.call(fails(DOWN))
    assert postponed.value.code == "down"


def test_an_unknown_outcome_is_told_as_it_is(gate: Gate) -> None:
    lost = Unknown("x", code="no_answer")
    for _ in range(FAILURES):
        with pytest.raises(Unknown) as told:
            gate.call(fails(lost))
        assert told.value is lost


def test_what_goes_well_passes(gate: Gate) -> None:
    assert gate.call(lambda: 7) == 7


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        Unknown("x", code="no_answer"),
        Unknown("x", code="http_502"),
        Unavailable("x", code="http_503"),
        LoginRefused("x"),
    ],
)
def test_after_failures_in_a_row_nobody_calls_until_the_pause_is_over(
    gate: Gate, clock: Clock, error: GatewayError
) -> None:
    with capture_logs() as lines:
        fall(gate, error=error)
        with pytest.raises(Postponed) as postponed:
            gate.call(fails(AssertionError("it was called")))
    assert [line["event"] for line in lines] == ["provider.down"]
    assert postponed.value.code == "down"
    assert postponed.value.retry_after_seconds is not None
    assert FIRST_PAUSE_SECONDS <= postponed.value.retry_after_seconds <= 2 * FIRST_PAUSE_SECONDS
    clock.now += FIRST_PAUSE_SECONDS + 0.01
    with capture_logs() as lines:
        assert gate.call(lambda: 7) == 7
    assert [line["event"] for line in lines] == ["provider.up"]
    assert gate.call(lambda: 8) == 8


@pytest.mark.parametrize("error", [Refused("no"), Unknown("a duplicate", code="duplicate_reference")])
def test_an_answer_of_any_kind_is_a_sign_of_life(gate: Gate, error: GatewayError) -> None:
    fall(gate, FAILURES - 1)
    fall(gate, 1, error)
    fall(gate, FAILURES - 1)
    assert gate.call(lambda: 7) == 7


def test_one_tries_again_and_the_others_wait_for_what_becomes_of_it(gate: Gate, clock: Clock) -> None:
    fall(gate)
    clock.now += FIRST_PAUSE_SECONDS + 0.01

    def trial() -> str:
        with pytest.raises(Postponed):
            gate.call(fails(AssertionError("a second one went")))
        return "well"

    assert gate.call(trial) == "well"


def test_a_trial_that_never_ends_does_not_close_the_way_for_ever(gate: Gate, clock: Clock) -> None:
    fall(gate)
    clock.now += FIRST_PAUSE_SECONDS + 0.01

    def lost() -> str:
        clock.now += TRIAL_SECONDS + 0.01
        return str(gate.call(lambda: "another"))

    assert gate.call(lost) == "another"


def test_pauses_grow_to_a_minute_and_no_longer(gate: Gate, clock: Clock) -> None:
    fall(gate)
    pause = FIRST_PAUSE_SECONDS
    for _ in range(8):
        clock.now += pause + 0.01
        fall(gate, 1)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        with pytest.raises(Postponed):
            gate.call(lambda: 7)
    clock.now += LONGEST_PAUSE_SECONDS + 0.01
    assert gate.call(lambda: 7) == 7


def test_a_pause_that_the_other_side_asks_for_is_kept_at_once(gate: Gate, clock: Clock) -> None:
    fall(gate, 1, Unavailable("429", code="http_429", retry_after_seconds=20))  # whoever was told so is put off
    clock.now += 19
    with pytest.raises(Postponed):
        gate.call(lambda: 7)
    clock.now += 1.1
    assert gate.call(lambda: 7) == 7


def test_an_outage_of_hours_counts_as_failures_again(gate: Gate, clock: Clock) -> None:
    fall(gate)
    clock.now += OUTAGE_SECONDS + 1
    with pytest.raises(Unavailable):
        gate.call(fails(DOWN))
    with pytest.raises(Unavailable) as unavailable:
        gate.call(lambda: 7)
    assert not isinstance(unavailable.value, Postponed)
    assert unavailable.value.code == "down_for_long"


def test_a_short_wait_for_the_pace_is_waited_and_a_long_one_given_back(clock: Clock) -> None:
    gate = make(clock, Rate(4, burst=1))
    began = clock.now
    assert [gate.call(lambda: 7) for _ in range(3)] == [7, 7, 7]
    assert clock.now - began == pytest.approx(0.5)
    slow = make(clock, Rate(0.5, burst=1))
    slow.call(lambda: 7)
    with pytest.raises(Postponed) as postponed:
        slow.call(lambda: 7)
    assert (postponed.value.code, postponed.value.retry_after_seconds) == ("rate", pytest.approx(2.0))


def test_checks_that_nobody_waits_for_leave_half_of_the_rate(clock: Clock) -> None:
    gate = make(clock, Rate(10, burst=1))
    waits = []
    for key in range(10):
        try:
            gate.wait_for_turn(str(key))
            waits.append(0.0)
        except Postponed as error:
            waits.append(error.retry_after_seconds or 0.0)
    assert waits == pytest.approx([key / 5 for key in range(10)])


def test_turns_are_given_to_many_at_once_and_each_keeps_his(clock: Clock) -> None:
    gate = make(clock, Rate(10, burst=1))
    assert gate.turns_of(["a", "b", "c"]) == pytest.approx({"b": 0.2, "c": 0.4})
    gate.wait_for_turn("a")
    with pytest.raises(Postponed):
        gate.wait_for_turn("c")
    clock.now += 0.4
    gate.wait_for_turn("c")


def test_a_provider_that_hangs_takes_no_more_than_its_places(clock: Clock) -> None:
    gate = make(clock)
    gate.limit_places(2)
    entered, release = threading.Barrier(3), threading.Event()

    def hang() -> None:
        entered.wait()
        release.wait(20)

    threads = [threading.Thread(target=gate.call, args=(hang,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    entered.wait()
    with pytest.raises(Postponed) as postponed:
        gate.call(fails(AssertionError("a third one went")))
    release.set()
    for thread in threads:
        thread.join()
    assert postponed.value.code == "no_place"
    assert gate.call(lambda: 7) == 7


@pytest.mark.parametrize(("url", "turns"), [("postgresql://localhost/x", 10), ("sqlite:///x.db", 5)])
def test_scheduled_checks_leave_most_of_the_pace_to_whoever_waits(url: str, turns: int) -> None:
    """In two seconds, of ten calls a second: half of them, and on SQLite a quarter."""
    settings = Settings(database_url=url, data_keys=[DATA_KEY], link_keys=[{"id": "k1", "secret": "s" * 32}])
    share = share_of_checks(settings)
    clock = Clock()
    gate = Gate("bank", Rate(10, burst=10), LocalTurns(clock), share_of_checks=share, clock=clock)
    waits = gate.turns_of([f"check-{number}" for number in range(30)])
    assert sum(seconds <= 2.0 for seconds in waits.values()) == turns
