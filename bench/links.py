"""What a link costs: its page, its end, and its story.

pages      GET of a page that can be paid, over kept connections, from one web process on PostgreSQL
expiry     links that end at the same moment, by one worker process's threads on PostgreSQL
timeline   the whole story of one invoice with a thousand entries, as `paylinks invoice show` and the console read it
"""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select, text

from bench.processes import Company, wait_for
from bench.receiver import account, listens, load
from bench.report import Line, say
from bench.room import PYTHON, Room, migrate, opened
from contracts.catalog import Queue
from contracts.commands import LinkResend
from contracts.ids import new_id
from contracts.messages import InvoiceCreated
from db import invoices, links, message_store, timeline
from db.schema import links as link_rows
from db.tx import Cause, prepare
from runtime.deps import Deps
from runtime.logs import set_up
from tests.services.processes import free_port
from workers import registry
from workers.executor import Executor

CRM = "bench"
# As many as the executor lets drain one kind of quick message.
THREADS = 2
CONNECTIONS = 32
FULL_LINKS, QUICK_LINKS = 100_000, 2_000
ENTRIES = 1_000
PER_TRANSACTION = 500
START_SECONDS = 30.0


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Measure the three, each on a database of its own."""
    rounds, seconds = (2, 2.0) if quick else (5, 5.0)
    return [
        *_pages(room, rounds, seconds),
        *_expiry(room, QUICK_LINKS if quick else FULL_LINKS),
        *_timeline(room, 5 if quick else 20),
    ]


@contextmanager
def _installation(room: Room) -> Iterator[tuple[Deps, dict[str, str]]]:
    """A database with our schema, and a CRM that nobody writes to: its queue is not served."""
    with room.database() as url:
        migrate(room, url)
        crm = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "token": "none"}
        parts = {"crms": {CRM: crm}, "accounts": {"main": account("none")}, "routing": {"*": "main"}}
        environment = room.environment(database_url=url, **parts)
        registry.load_all()
        set_up("WARNING")  # a worker writes its lines to a file; here they would go into the table
        with opened(environment) as deps:
            yield deps, environment


def _accept(deps: Deps, count: int) -> None:
    """Take so many invoices in and make their links."""
    same = {"crm": CRM, "version": 1, "currency": "AMD", "amount_minor": 500_000, "purpose": "one of many"}
    for start in range(0, count, PER_TRANSACTION):
        many = range(start, min(start + PER_TRANSACTION, count))
        with deps.database.begin(Cause.new()) as tx:
            sent = [InvoiceCreated.parse({**same, "invoice_id": f"MANY-{number}"}) for number in many]
            message_store.add_all(tx, [prepare(message, tx.cause, deps.database.sealer) for message in sent])
    _drain(deps, Queue.LINK_CREATION)


def _drain(deps: Deps, queue: Queue) -> None:
    """Work on everything that is due in a queue, with the threads of one process."""
    executor = Executor(deps, [queue.value])

    def work() -> None:
        while _is_due(deps, queue):
            executor.serve(queue.value)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _is_due(deps: Deps, queue: Queue) -> bool:
    with deps.database.read() as tx:
        return bool(message_store.due(tx, queue.value, limit=1))


# --- pages ----------------------------------------------------------------------------------------------------------


def _pages(room: Room, rounds: int, seconds: float) -> list[Line]:
    with _installation(room) as (deps, environment), Company() as company:
        _accept(deps, 1)
        with deps.database.read() as tx:
            (link,) = links.some_active(tx, limit=1)
        path = f"/l/{deps.tokens.token(link.id, link.generation, link.key_id)}"
        port = free_port()
        command = [PYTHON, "-m", "cli.main", "web", "--host", "127.0.0.1", "--port", str(port)]
        web = company.start("web-pages", command, environment)
        wait_for(lambda: listens(port), seconds=START_SECONDS, what="web", company=company)
        results = []
        for number in range(rounds):
            results.append(load(port, web, seconds, connections=CONNECTIONS, BENCH_PAGE=path))
            say(f"links, round {number + 1} of {rounds}: {results[-1].per_second:.0f} pages/s")
    name = "a link's page, one web process"
    return [
        Line(name, "GET /l/<token>, ready to be paid", "pages/s", tuple(one.per_second for one in results)),
        Line(name, f"p50, {CONNECTIONS} connections", "ms", tuple(one.p50_ms for one in results)),
        Line(name, f"p99, {CONNECTIONS} connections", "ms", tuple(one.p99_ms for one in results)),
    ]


# --- expiry ---------------------------------------------------------------------------------------------------------


def _expiry(room: Room, count: int) -> list[Line]:
    with _installation(room) as (deps, _):
        say(f"links: making {count:,} links")
        _accept(deps, count)
        with deps.database.begin() as tx:
            tx.execute(text("SET LOCAL statement_timeout = 0"))
            tx.execute(text("UPDATE links SET expires_at = clock_timestamp() - interval '1 second'"))
            tx.execute(text("UPDATE messages SET available_at = clock_timestamp() WHERE type = 'link.expire.v1'"))
        began = time.monotonic()
        _drain(deps, Queue.LINK_CREATION)
        elapsed = time.monotonic() - began
        with deps.database.read() as tx:
            expired = select(func.count()).where(link_rows.c.state == "expired")
            if tx.execute(expired).scalar_one() != count:
                raise RuntimeError("not every link has expired")
    name = f"expiry of {count:,} links at once, one worker process"
    return [
        Line(name, f"all of them, {THREADS} threads", "s", (elapsed,)),
        Line(name, "the same", "links/s", (count / elapsed,)),
    ]


# --- timeline -------------------------------------------------------------------------------------------------------


def _timeline(room: Room, rounds: int) -> list[Line]:
    with _installation(room) as (deps, _):
        _accept(deps, 1)
        same = {"crm": CRM, "invoice_id": "MANY-0", "actor": "17", "reason": "asked"}
        with deps.database.read() as tx:
            found = invoices.find(tx, CRM, "MANY-0")
        assert found is not None
        story = None
        while story is None or len(story.entries) < ENTRIES:
            with deps.database.begin(Cause.new()) as tx:
                for _ in range(50):
                    tx.then(LinkResend(**same, wish=new_id()))
            _drain(deps, Queue.COMMANDS)
            with deps.database.read() as tx:
                story = timeline.of(tx, found.id)
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            with deps.database.read() as tx:
                timeline.of(tx, found.id)
            times.append((time.perf_counter() - began) * 1000)
    say(f"links: {len(story.entries)} entries in {statistics.median(times):.0f} ms")
    return [Line(f"the story of an invoice, {len(story.entries):,} entries", "timeline.of", "ms", tuple(times))]
