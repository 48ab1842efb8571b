"""Memory after work: each process of an installation, and the all-in-one.

RSS counts pages that processes share in each of them; PSS counts a shared page once, divided among those who share it.
"""

from bench.installation import Customers, embedded, production
from bench.processes import Usage
from bench.report import Line, Target, say
from bench.room import Room
from cli.stack import Stack
from contracts.catalog import Queue
from tests.services.processes import family

MOST_WORKER_MIB = 120.0
MOST_ALL_MIB = 200.0
AT_ONCE = 8


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Let some invoices be paid, then look."""
    count = 30 if quick else 300
    with production(room) as stack:
        Customers(stack).live(count, at_once=AT_ONCE)
        lines = _production(stack, count)
    with embedded() as stack:
        Customers(stack).live(count, at_once=AT_ONCE)
        lines += _all_in_one(stack, count)
    return lines


def _production(stack: Stack, count: int) -> list[Line]:
    workers = {queue.value: _members(stack, queue.value) for queue in Queue}
    largest = max(workers, key=lambda name: workers[name][-1].rss_mib)
    worker, starter = workers[largest][-1], workers[largest][0]
    say(f"memory: worker processes {', '.join(f'{name} {w[-1].rss_mib:.0f}' for name, w in workers.items())} MiB")
    measure_name = f"memory after {count} paid invoices"
    lines = [
        Line(
            measure_name,
            f"largest worker process ({largest}), RSS",
            "MiB",
            (worker.rss_mib,),
            target=Target(most=MOST_WORKER_MIB),
        ),
        Line(measure_name, "the same, PSS", "MiB", (worker.pss_mib,)),
        Line(measure_name, "dramatiq's process that started it, RSS", "MiB", (starter.rss_mib,)),
    ]
    for name in ("web", "relay", "intake"):
        lines.append(Line(measure_name, f"{name}, RSS", "MiB", (_members(stack, name)[-1].rss_mib,)))
    return lines


def _all_in_one(stack: Stack, count: int) -> list[Line]:
    usage = _members(stack, "up")[-1]
    name = f"memory after {count} paid invoices"
    return [
        Line(name, "all-in-one (paylinks up), RSS", "MiB", (usage.rss_mib,), target=Target(most=MOST_ALL_MIB)),
        Line(name, "the same, PSS", "MiB", (usage.pss_mib,)),
    ]


def _members(stack: Stack, name: str) -> list[Usage]:
    """Each process of one of our commands: the one that was started first, what it started after it."""
    return [Usage.of([pid]) for pid in family(stack.processes[name].pid)]
