"""A thousand scheduled checks that are due at the same moment, while events of other payments come in.

Phases alternate: quiet ones, in which no check is due, and busy ones, at whose beginning all of them are. In both,
customers pay one after the other at uneven times, and the clock of each runs from his event's arrival at our door to
the row of his transaction. The sandbox's provider keeps the time of every call that reached it.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import func, select, update

from bench.installation import ACCOUNT, embedded, invoice_of, production
from bench.report import Line, Target, percentile, say
from bench.room import Room
from cli.stack import Stack
from contracts.catalog import Queue
from contracts.messages import ProviderEventReceived
from db.schema import attempts, invoices, message_history, messages, transactions
from runtime.gates import SHARE_OF_CHECKS, SHARE_OF_CHECKS_ON_SQLITE

CALLS_PER_SECOND = 50
BURST = 50  # what an account gets whose settings say its rate
LATENCY_MS = 20
FULL_CHECKS, QUICK_CHECKS = 1_000, 250
EVENTS_PER_SECOND = 5.0
WARM_EVENTS = 20
# What opening so many orders left to do goes on for some seconds, and is no part of either phase.
REST_SECONDS = 30.0
AT_ONCE = 100
MOST_CHANGE_PERCENT = 20.0
# So many of a busy phase's events must come while checks are being made; else nothing was shown.
LEAST_SHARE_BESIDE = 0.8
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 180.0
# Attempts are made to be so old that their next check is far away, when one has been made.
OLD = timedelta(hours=3)
FAR_AWAY = timedelta(hours=2)

Way = Callable[[], AbstractContextManager[Stack]]


@dataclass(frozen=True, slots=True)
class Phase:
    """What was seen in one phase."""

    times_ms: list[float]  # from the arrival of an event to its verdict
    checks_per_second: float
    busiest_second: int  # the most calls that reached the provider within one second

    @property
    def p95_ms(self) -> float:
        """What 95 % of the events did not exceed."""
        return percentile(self.times_ms, 95)


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Measure both ways to run."""
    count, rounds = (QUICK_CHECKS, 1) if quick else (FULL_CHECKS, 2)
    settings = {"provider_latency_ms": LATENCY_MS, "opens": "early", "calls_per_second": float(CALLS_PER_SECOND)}
    ways: dict[str, tuple[Way, float]] = {
        "one process per queue, PostgreSQL": (
            partial(production, room, **settings),  # type: ignore[arg-type]  # mixed
            SHARE_OF_CHECKS,
        ),
        "one process, SQLite": (
            partial(embedded, **settings),  # type: ignore[arg-type]  # mixed
            SHARE_OF_CHECKS_ON_SQLITE,
        ),
    }
    return [line for name, (way, share) in ways.items() for line in _measure(name, way, share, count, rounds)]


def _measure(name: str, way: Way, share: float, count: int, rounds: int) -> list[Line]:
    events = round(count / (CALLS_PER_SECOND * share) * EVENTS_PER_SECOND)
    with way() as stack:
        scene = Scene(stack, count)
        scene.open(count + WARM_EVENTS + 2 * rounds * events)
        scene.quiet(WARM_EVENTS)
        time.sleep(REST_SECONDS)
        quiet, busy = [], []
        for number in range(rounds):
            quiet.append(scene.quiet(events))
            busy.append(scene.busy(events))
            say(
                f"checks, {name}, round {number + 1} of {rounds}: p95 {quiet[-1].p95_ms:.0f} ms without, "
                f"{busy[-1].p95_ms:.0f} ms beside checks"
            )
    return _lines(name, share, count, events, quiet, busy)


def _lines(name: str, share: float, count: int, events: int, quiet: list[Phase], busy: list[Phase]) -> list[Line]:
    without, beside = tuple(one.p95_ms for one in quiet), tuple(one.p95_ms for one in busy)
    changes = tuple((new / old - 1) * 100 for new, old in zip(beside, without, strict=True))
    title = f"events beside {count:,} checks that are due at once, {name}"
    may_be, most = CALLS_PER_SECOND * share, CALLS_PER_SECOND + BURST
    return [
        Line(title, f"event to verdict, none due, p95 of {events}", "ms", without),
        Line(title, f"event to verdict, all due, p95 of {events}", "ms", beside),
        Line(title, "how much longer p95 is", "%", changes, target=Target(most=MOST_CHANGE_PERCENT)),
        Line(title, "checks made", "checks/s", tuple(one.checks_per_second for one in busy), note=f"may be {may_be:g}"),
        Line(
            title,
            "calls at the provider in the busiest second",
            "calls",
            (float(max(one.busiest_second for one in (*quiet, *busy))),),
            target=Target(most=most),
            note=f"{CALLS_PER_SECOND}/s, burst {BURST}",
        ),
    ]


class Scene:
    """An installation with open attempts: some that are only checked, and some whose customers pay."""

    def __init__(self, stack: Stack, checks: int) -> None:
        self._stack = stack
        self._checks = checks
        self._unpaid: list[str] = []  # references
        self._gaps = random.Random(17)

    def open(self, count: int) -> None:
        """Let so many invoices come, whose orders are made at once, and let everything come to rest."""
        say(f"checks: opening {count:,} orders")
        self._publish(count)
        self._wait_for(lambda: self._is_ready(count), f"{count} open orders")
        with self._stack.deps.database.begin() as tx:
            tx.execute(update(attempts).values(created_at=datetime.now(UTC) - OLD))
            rows = tx.execute(select(attempts.c.reference).order_by(attempts.c.id)).all()
        self._unpaid = [str(row.reference) for row in rows[self._checks :]]

    def quiet(self, events: int) -> Phase:
        """Let events come while no check is due."""
        self._set_checks_due(datetime.now(UTC) + FAR_AWAY)
        began = datetime.now(UTC)
        arrivals = self._pay(events)
        made = self._checks_made(began)
        if made:
            raise RuntimeError(f"{len(made)} checks were made in a quiet phase")
        return Phase(list(arrivals.values()), 0.0, self._busiest_second(began, events))

    def busy(self, events: int) -> Phase:
        """Let events come while all the checks become due at once."""
        began = datetime.now(UTC)
        due = self._set_checks_due(began)
        if due < self._checks:
            raise RuntimeError(f"only {due} of {self._checks} checks could be made due")
        arrivals = self._pay(events)
        self._wait_for(lambda: len(self._checks_made(began)) >= self._checks, f"{self._checks} checks")
        made = self._checks_made(began)
        beside = sum(made[0] <= at <= made[-1] for at in arrivals)
        if beside < LEAST_SHARE_BESIDE * events:
            raise RuntimeError(f"only {beside} of {events} events came while checks were made")
        seconds = (made[-1] - made[0]).total_seconds()
        reached = self._busiest_second(began, events + self._checks)
        return Phase(list(arrivals.values()), (len(made) - 1) / seconds, reached)

    # --- what happens ---

    def _publish(self, count: int) -> None:
        """Let the CRM publish so many invoices."""
        ((name, crm),) = self._stack.crms.items()
        for start in range(0, count, AT_ONCE):
            crm.control.create(
                [invoice_of(name, f"C-{number}") for number in range(start, min(start + AT_ONCE, count))]
            )

    def _set_checks_due(self, at: datetime) -> int:
        """Move the scheduled checks of the attempts that nobody pays to this moment, all others far away."""
        theirs = messages.c.queue == Queue.STATUS_CHECKS.value
        ready = messages.c.state == "ready"
        paying = (
            select(attempts.c.check_message_id)
            .where(attempts.c.reference.in_(self._unpaid))
            .where(attempts.c.check_message_id.is_not(None))
        )
        with self._stack.deps.database.begin() as tx:
            far = datetime.now(UTC) + FAR_AWAY
            tx.execute(update(messages).where(theirs, ready, messages.c.id.in_(paying)).values(available_at=far))
            moved = update(messages).where(theirs, ready, messages.c.id.not_in(paying)).values(available_at=at)
            return int(tx.execute(moved).rowcount)

    def _pay(self, count: int) -> dict[datetime, float]:
        """Let customers pay one after the other; return when each event came, and the time to its verdict in ms."""
        chosen, self._unpaid = self._unpaid[:count], self._unpaid[count:]
        for reference in chosen:
            time.sleep(self._gaps.uniform(0.5, 1.5) / EVENTS_PER_SECOND)
            self._stack.provider.control.act(reference, "pay", account=ACCOUNT)
        self._wait_for(lambda: len(self._verdicts(chosen)) == count, f"{count} verdicts")
        return self._verdicts(chosen)

    # --- what is seen ---

    def _verdicts(self, references: Sequence[str]) -> dict[datetime, float]:
        found = (
            select(message_history.c.payload, transactions.c.created_at)
            .join(transactions, transactions.c.invoice_id == message_history.c.subject)
            .join(attempts, attempts.c.id == transactions.c.attempt_id)
            .where(message_history.c.type == ProviderEventReceived.TYPE, attempts.c.reference.in_(references))
        )
        with self._stack.deps.database.read() as tx:
            rows = tx.execute(found).all()
        arrived = {datetime.fromisoformat(json.loads(row.payload)["received_at"]): row.created_at for row in rows}
        return {at: (seen - at).total_seconds() * 1000 for at, seen in arrived.items()}

    def _checks_made(self, since: datetime) -> list[datetime]:
        """When scheduled checks ended, in order."""
        ended = select(message_history.c.finished_at).where(
            message_history.c.queue == Queue.STATUS_CHECKS.value,
            message_history.c.outcome == "done",
            message_history.c.finished_at >= since,
        )
        with self._stack.deps.database.read() as tx:
            return sorted(tx.execute(ended).scalars())

    def _busiest_second(self, since: datetime, least: int) -> int:
        """The most calls that reached the provider within any second, since a moment."""
        times = [at for at in self._stack.provider.control.called_at(ACCOUNT) if at >= since.timestamp()]
        if len(times) < least:
            raise RuntimeError(f"only {len(times)} calls reached the provider, {least} are needed")
        return busiest_second(times)

    def _is_ready(self, count: int) -> bool:
        """Put off what checks there are; tell whether all orders are open, the CRM knows, and nothing is being done."""
        self._set_checks_due(datetime.now(UTC) + FAR_AWAY)
        is_open = select(func.count()).where(attempts.c.state == "open")
        behind = select(func.count()).where(invoices.c.crm_revision < invoices.c.revision)
        due = select(func.count()).where(messages.c.available_at <= datetime.now(UTC))
        with self._stack.deps.database.read() as tx:
            opened, *left = (int(tx.execute(one).scalar_one()) for one in (is_open, behind, due))
        return opened == count and not any(left)

    def _wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)


def busiest_second(times: Sequence[float]) -> int:
    """Count the calls in the fullest second, wherever it begins."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most
