"""A chain of four stages: how many chains per second pass, beside bare dramatiq, Celery, procrastinate and DBOS."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from bench import teams
from bench.effort import Effort
from bench.ends import hearing
from bench.processes import held_still
from bench.report import Line, Target, say
from bench.room import Room
from bench.teams import Team

THREADS = 8
WARM_CHAINS = 100
WARM_SECONDS = 60
ROUND_SECONDS = 120


@dataclass(frozen=True)
class Size:
    """How long to measure."""

    rounds: int
    chains: int


@dataclass(frozen=True)
class Run:
    """What one round gave."""

    per_second: float
    cpu_ms: float

    def __str__(self) -> str:
        return f"{self.per_second:.0f}/s, {self.cpu_ms:.1f} ms of processor time each"


FULL = Size(rounds=5, chains=1500)
QUICK = Size(rounds=2, chains=300)

Launch = Callable[[Room, str, int], AbstractContextManager[Team]]


def contestants(size: Size) -> dict[str, Launch]:
    """Everybody who takes part, in the order of each round."""
    invoices = max(size.chains, WARM_CHAINS)
    return {
        "paylinks": partial(teams.paylinks, invoices=invoices),
        "dramatiq": teams.dramatiq,
        "celery": teams.celery,
        "procrastinate": teams.procrastinate,
        "dbos": teams.dbos,
        "paylinks-claim-1": partial(teams.paylinks, invoices=invoices, claim_size=1),
    }


TITLES = {
    "paylinks": ("Paylinks", "locks and changes an invoice per stage"),
    "paylinks-claim-1": ("Paylinks, claim size 1", "the same"),
    "dramatiq": ("bare dramatiq", "empty actors, RabbitMQ, confirms"),
    "celery": ("Celery", "empty tasks, RabbitMQ, confirms"),
    "procrastinate": ("procrastinate", "empty tasks, PostgreSQL"),
    "dbos": ("DBOS", "empty steps, PostgreSQL"),
}
BASE = "dramatiq"
LEAST_RATIO = 0.8


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Measure everybody in alternated rounds."""
    size = QUICK if quick else FULL
    chosen = contestants(size)
    runs: dict[str, list[Run]] = {name: [] for name in chosen}
    for number in range(size.rounds):
        for name, launch in chosen.items():
            try:
                run = run_round(room, launch, size.chains)
            except TimeoutError as error:
                raise teams.TeamError(f"{name}: {error}") from error
            runs[name].append(run)
            say(f"chain, round {number + 1} of {size.rounds}: {name} {run}")
    speeds = {name: tuple(run.per_second for run in found) for name, found in runs.items()}
    efforts = {name: tuple(run.cpu_ms for run in found) for name, found in runs.items()}
    return [_speed_line(name, speeds) for name in chosen] + [_effort_line(name, efforts) for name in chosen]


def _speed_line(name: str, speeds: dict[str, tuple[float, ...]]) -> Line:
    title, note = TITLES[name]
    ratio = statistics.median(speeds[name]) / statistics.median(speeds[BASE])
    target = Target(ratio=LEAST_RATIO) if name == "paylinks" else None
    return Line("chain of four stages", title, "chains/s", speeds[name], ratio, target, note)


def _effort_line(name: str, efforts: dict[str, tuple[float, ...]]) -> Line:
    ratio = statistics.median(efforts[BASE]) / statistics.median(efforts[name])
    return Line("  its processor time, all processes", TITLES[name][0], "ms/chain", efforts[name], ratio)


def run_round(room: Room, launch: Launch, chains: int, *, name: str = "r") -> Run:
    """Start a contestant's processes, warm them, and let them run through chains that all lie ready."""
    with hearing() as ends, launch(room, ends.path, THREADS) as team:
        team.submit(f"{name}-warm", 0, WARM_CHAINS)
        ends.wait(f"{name}-warm", WARM_CHAINS, seconds=WARM_SECONDS, check=team.company.check)
        with held_still(team.workers):
            team.submit(name, 0, chains)
            effort = Effort(team.company, team.database)
            began = time.monotonic()
        ended = ends.wait(name, chains, seconds=ROUND_SECONDS, check=team.company.check)
        used = effort.seconds()
        team.verify(WARM_CHAINS + chains)
    return Run(chains / (ended - began), used / chains * 1000)
