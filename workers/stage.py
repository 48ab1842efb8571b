"""What a stage is: one function for one kind of message, its retry schedule, its limits. Data only; nothing runs here.

@stage(CrmUpdate, schedule=Schedule.growing(12, first=5, longest=3600))
def update_crm(message: CrmUpdate, deps: Deps) -> Outcome: ...
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from contracts.base import Message
from contracts.catalog import QUEUES, Queue
from rules.verdicts import Reason
from runtime.deps import Deps

MAX_CLAIM = 16
# A stage with a shorter limit works on our own database alone.
QUICK = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, as a value. `after_seconds` only for a not-yet."""

    name: str
    detail: str | None = None
    after_seconds: float | None = None


DONE = Outcome("done")
ALREADY_DONE = Outcome("already_done")
SUPERSEDED = Outcome("superseded")


def NOT_YET(after_seconds: float, reason: str) -> Outcome:  # noqa: N802 - reads as one of the outcomes
    """Come back later; counts in a budget of its own, never as a failure."""
    return Outcome("not_yet", reason, after_seconds)


def REFUSED(reason: str) -> Outcome:  # noqa: N802 - reads as one of the outcomes
    """End for good: what was asked for is not allowed or not believed."""
    return Outcome("refused", reason)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Pauses in seconds before the second, third, ... try; after the last one the message is a dead letter."""

    pauses: tuple[float, ...]

    @classmethod
    def growing(cls, tries: int, *, first: float, longest: float, factor: float = 2.0) -> "Schedule":
        """Make `tries - 1` pauses that grow by `factor` from `first` and never exceed `longest` seconds."""
        return cls(tuple(min(first * factor**step, longest) for step in range(tries - 1)))

    def pause_after(self, failures: int) -> float | None:
        """Return the pause after so many failures; None: give up."""
        return self.pauses[failures - 1] if failures <= len(self.pauses) else None

    @property
    def total(self) -> timedelta:
        """How long a message is tried before it is dead, the runs themselves not counted."""
        return timedelta(seconds=sum(self.pauses))


@dataclass(frozen=True, slots=True)
class Stage:
    """A registered stage."""

    model: type[Message]
    function: Callable[..., Outcome]
    queues: frozenset[Queue]
    schedule: Schedule
    time_limit: timedelta
    max_waits: int
    waits_end_in: Reason

    def lease(self, cap: timedelta) -> timedelta:
        """Return how long a claim holds without renewal: always longer than the time limit."""
        return max(min(timedelta(seconds=60), cap), self.time_limit * 1.25)

    def claim_size(self, cap: timedelta) -> int:
        """Return how many messages one worker may hold at once: one where a run waits for somebody outside."""
        if self.time_limit > QUICK:
            return 1
        return max(1, min(MAX_CLAIM, int(self.lease(cap) / (2 * self.time_limit))))


_registry: dict[str, Stage] = {}
_M = TypeVar("_M", bound=Message)


def stage(
    model: type[_M],
    *,
    schedule: Schedule,
    time_limit: timedelta,
    max_waits: int = 60,
    also_on: Queue | None = None,
    waits_end_in: Reason = Reason.OUTCOME_UNKNOWN,
) -> Callable[[Callable[[_M, Deps], Outcome]], Callable[[_M, Deps], Outcome]]:
    """Register the function as the stage of a message type; its queue stands in the catalog, a second one here."""
    queues = frozenset({QUEUES[model], also_on or QUEUES[model]})

    def register(function: Callable[[_M, Deps], Outcome]) -> Callable[[_M, Deps], Outcome]:
        _registry[model.TYPE] = Stage(model, function, queues, schedule, time_limit, max_waits, waits_end_in)
        return function

    return register


def stages_of(queue: str) -> dict[str, Stage]:
    """Return the registered stages of one queue by message type."""
    return {name: found for name, found in _registry.items() if queue in found.queues}
