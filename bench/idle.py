"""The idle hop: from the commit that asks for a stage to the start of that stage, when nothing else is to be done.

Each chain passes four stages, which gives three hops; chains come one at a time, with pauses of uneven length.
"""

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import ends as ends_module
from bench import paylinks_chain, teams
from bench.ends import Ends, hearing
from bench.processes import Company
from bench.report import Line, Target, percentile, say
from bench.room import PYTHON, Room, migrate, opened

HOPS_OF_A_CHAIN = 3
FULL_CHAINS = 67
QUICK_CHAINS = 8
WARM_CHAINS = 5
CHAIN_SECONDS = 20
INVOICES = 200
PAUSE_SECONDS = (0.1, 0.5)
MOST_MS = 20.0

Submit = Callable[[str, int, int], None]


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Measure each transport."""
    chains = QUICK_CHAINS if quick else FULL_CHAINS
    lines = []
    for title, start, target in (
        ("RabbitMQ, PostgreSQL", _separate(room.services.amqp_url), Target(most=MOST_MS)),
        ("embedded: one process, SQLite", _embedded, Target(most=MOST_MS)),
        ("Redis, PostgreSQL", _separate(room.services.redis_url), None),
    ):
        with hearing() as ends, start(room, ends.path) as submit:
            hops = _hops(ends, submit, chains)
        say(f"idle hop, {title}: p50 {percentile(hops, 50):.1f} ms")
        lines += [
            Line(
                "idle hop, commit to start",
                f"{title}, p50 of {len(hops)}",
                "ms",
                (percentile(hops, 50),),
                target=target,
            ),
            Line("idle hop, commit to start", f"{title}, p95", "ms", (percentile(hops, 95),)),
        ]
    return lines


def _separate(broker_url: str) -> Callable[[Room, str], contextlib.AbstractContextManager[Submit]]:
    @contextlib.contextmanager
    def start(room: Room, ends_path: str) -> Iterator[Submit]:
        with teams.paylinks(room, ends_path, 4, invoices=INVOICES, broker_url=broker_url, tells_hops=True) as team:
            yield team.submit

    return start


@contextlib.contextmanager
def _embedded(room: Room, ends_path: str) -> Iterator[Submit]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Company() as company:
        url = f"sqlite:///{Path(folder) / 'paylinks.db'}"
        environment = room.environment(database_url=url, broker_url="memory://")
        environment |= {ends_module.VARIABLE: ends_path, paylinks_chain.TELLS_HOPS: "1"}
        migrate(room, url)
        with opened(environment) as deps:
            teams.make_invoices(deps, INVOICES)
            company.start("paylinks-all", [PYTHON, "-m", teams.OURS, "all"], environment)
            yield lambda *span: teams.submit_ours(deps, *span)


def _hops(ends: Ends, submit: Submit, chains: int) -> list[float]:
    """Run chains one by one; return every hop in milliseconds."""
    pauses = random.Random(17)
    hops: list[float] = []
    for number in range(WARM_CHAINS + chains):
        time.sleep(pauses.uniform(*PAUSE_SECONDS))
        submit("hops", number, number + 1)
        found = _hops_of_one(ends)
        hops += found if number >= WARM_CHAINS else []
    return hops


def _hops_of_one(ends: Ends) -> list[float]:
    """Hear of one chain until its last stage has begun."""
    commits: dict[str, float] = {}
    starts: dict[str, float] = {}
    deadline = time.monotonic() + CHAIN_SECONDS
    while len(commits) < HOPS_OF_A_CHAIN or len(starts) <= HOPS_OF_A_CHAIN:
        told = ends.hear(1.0)
        if told is not None:
            kind, key, at = told.split(" ")
            (commits if kind == "commit" else starts)[key] = float(at)
        elif time.monotonic() > deadline:
            raise TimeoutError(f"a single chain took longer than {CHAIN_SECONDS} s")
    return [(starts[key] - committed) * 1000 for key, committed in commits.items()]
