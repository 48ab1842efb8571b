"""A customer who waits, while ten thousand invoices wait too: from Pay to the provider's page.

The invoices lie in the message store, as intake writes them, and the workers are busy with them all the time; the
customers' links were made before. The sandbox's provider answers at once, so its own time is next to nothing.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from sqlalchemy import func, select

from bench.installation import Customers, embedded, press_pay, production
from bench.report import Line, Target, say
from bench.room import Room
from cli.stack import Stack
from contracts.catalog import Queue
from contracts.messages import InvoiceCreated
from db import message_store
from db.schema import messages
from db.tx import Cause, prepare

QUEUED = 10_000
PER_TRANSACTION = 500
MOST_MS = 2000.0
PAUSE_SECONDS = 1.0
# Fewer invoices than this still waiting at the end: then nobody was overtaken, and nothing was shown.
LEAST_WAITING = QUEUED // 4


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Press Pay again and again, on both ways to run."""
    presses = 5 if quick else 10
    ways: dict[str, Callable[[], AbstractContextManager[Stack]]] = {
        "one process per queue, PostgreSQL": partial(production, room),
        "one process, SQLite": embedded,
    }
    return [line for name, way in ways.items() for line in _measure(name, way, presses)]


def _measure(name: str, way: Callable[[], AbstractContextManager[Stack]], presses: int) -> list[Line]:
    with way() as stack:
        customers = Customers(stack)
        urls = customers.links(presses)
        _queue(stack, customers.crm)
        times = []
        for url in urls:
            time.sleep(PAUSE_SECONDS)
            pressed, given = press_pay(url)
            times.append((given - pressed) * 1000)
        waiting = _waiting(stack)
    say(f"overtaking: {name}: {max(times):.0f} ms at most, with {waiting} invoices still waiting")
    if waiting < LEAST_WAITING:
        raise RuntimeError(f"only {waiting} of {QUEUED} invoices still waited: nobody was overtaken")
    return [
        Line(f"Pay beside {QUEUED:,} queued invoices", f"{name}, median of {presses}", "ms", tuple(times)),
        Line("", f"{name}, slowest", "ms", (max(times),), target=Target(most=MOST_MS)),
    ]


def _queue(stack: Stack, crm: str) -> None:
    same = {"crm": crm, "version": 1, "currency": "AMD", "amount_minor": 500_000, "purpose": "one of many"}
    database = stack.deps.database
    for start in range(0, QUEUED, PER_TRANSACTION):
        with database.begin(Cause.new()) as tx:
            many = [InvoiceCreated.parse({**same, "invoice_id": f"MANY-{start + n}"}) for n in range(PER_TRANSACTION)]
            message_store.add_all(tx, [prepare(message, tx.cause, database.sealer) for message in many])


def _waiting(stack: Stack) -> int:
    ready = select(func.count()).where(messages.c.queue == Queue.LINK_CREATION.value, messages.c.state == "ready")
    with stack.deps.database.read() as tx:
        return int(tx.execute(ready).scalar_one())
