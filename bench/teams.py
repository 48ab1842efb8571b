"""The contestants of the chain, each as a team of processes that can be given chains.

Every team has one process per queue (or as many processes, where it has no queues) with the same number of threads.
"""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from sqlalchemy import insert

from bench import ends, paylinks_chain
from bench.peers_environment import peers_python
from bench.processes import ROOT, Child, Company
from bench.room import PYTHON, Room, migrate, opened, plain_environment
from contracts import catalog
from db import schema
from db.tx import Cause
from runtime.deps import Deps
from tests.services.postgres import conninfo

OURS = "bench.paylinks_chain"
STEPS = ("one", "two", "three", "four")
PER_TRANSACTION = 200
SUBMIT_SECONDS = 120


@dataclass(frozen=True)
class Team:
    """The running processes of a contestant."""

    company: Company
    workers: list[Child]
    submit: Callable[[str, int, int], None]
    verify: Callable[[int], None]
    database: str | None = None  # the name of its own database, if it has one


class TeamError(Exception):
    """A contestant did not do what it reported."""


@contextlib.contextmanager
def paylinks(
    room: Room,
    ends_path: str,
    threads: int,
    *,
    invoices: int,
    claim_size: int | None = None,
    database_url: str | None = None,
    broker_url: str | None = None,
    tells_hops: bool = False,
) -> Iterator[Team]:
    """Paylinks with one process per queue and a relay; on a database of its own unless one is given."""
    with contextlib.ExitStack() as stack:
        url = database_url or stack.enter_context(prepared_database(room, invoices))
        prefix = stack.enter_context(room.prefix())
        company = stack.enter_context(Company())
        environment = room.environment(
            database_url=url, broker_url=broker_url or room.services.amqp_url, queue_prefix=prefix
        )
        environment |= {ends.VARIABLE: ends_path, paylinks_chain.TELLS_HOPS: "1" if tells_hops else ""}
        if claim_size is not None:
            environment[paylinks_chain.CLAIM_SIZE] = str(claim_size)
        deps = stack.enter_context(opened(environment))
        before = _ended(url)
        workers = [
            company.start(f"paylinks-{queue}", _dramatiq(f"{OURS}:set_up", prefix + queue, threads), environment)
            for queue in paylinks_chain.STEPS.values()
        ]
        company.start("paylinks-relay", [PYTHON, "-m", OURS, "relay"], environment)
        yield Team(
            company,
            workers,
            lambda *span: submit_ours(deps, *span),
            lambda chains: _verify_ours(url, before, chains),
            _name(url),
        )


@contextlib.contextmanager
def prepared_database(room: Room, invoices: int) -> Iterator[str]:
    """A migrated database with invoices for the chains."""
    with room.database() as url:
        migrate(room, url)
        with opened(room.environment(database_url=url)) as deps:
            make_invoices(deps, invoices)
        yield url


def make_invoices(deps: Deps, count: int) -> None:
    """Make the rows that the chains lock and change."""
    same = {"crm": "bench", "payable_type": "invoice", "version": 1, "kind": "invoice", "amount_minor": 1_500_000}
    same |= {"currency": "AMD", "purpose": "Contract 17", "locale": "en", "account": "none", "status": "pending"}
    rows = [{**same, "id": f"bench-{n}", "external_id": str(n), "request_id": "bench"} for n in range(count)]
    with deps.database.begin() as tx:
        tx.execute(insert(schema.invoices), rows)


def submit_ours(deps: Deps, round_name: str, first: int, last: int) -> None:
    """Write the first message of each chain, many in a transaction, as intake does."""
    catalog.QUEUES.update(paylinks_chain.STEPS)
    for start in range(first, last, PER_TRANSACTION):
        with deps.database.begin(Cause.new()) as tx:
            for number in range(start, min(start + PER_TRANSACTION, last)):
                tx.then(paylinks_chain.One(invoice=f"bench-{number}", chain=f"{round_name}/{number}"))


def _ended(url: str) -> tuple[int, ...]:
    return _one_row(
        url,
        """
        SELECT (SELECT count(*) FROM message_history WHERE type LIKE 'bench.%' AND outcome = 'done'),
               (SELECT count(*) FROM message_attempts a JOIN message_history h ON h.id = a.message_id
                WHERE h.type LIKE 'bench.%' AND a.outcome = 'done'),
               (SELECT sum(revision)::bigint FROM invoices),
               (SELECT count(*) FROM messages)
        """,
    )


def _verify_ours(url: str, before: tuple[int, ...], chains: int) -> None:
    gained = tuple(now - then for now, then in zip(_ended(url), before, strict=True))
    if gained != (4 * chains, 4 * chains, 4 * chains, 0):
        raise TeamError(f"paylinks: {chains} chains gave history, attempts, changes, left over: {gained}")


@contextlib.contextmanager
def dramatiq(room: Room, ends_path: str, threads: int) -> Iterator[Team]:
    """Bare dramatiq, from our own environment: the same version as under Paylinks."""
    everything = [f"{step}{suffix}" for step in STEPS for suffix in ("", ".DQ", ".XQ")]
    with room.prefix(*everything) as prefix, Company() as company:
        environment = _peer_environment(room, ends_path, prefix)
        module = "bench.peers.dramatiq_chain"
        workers = [
            company.start(f"dramatiq-{step}", _dramatiq(module, prefix + step, threads), environment) for step in STEPS
        ]
        yield Team(company, workers, _submitter(PYTHON, module, environment), lambda count: None)


@contextlib.contextmanager
def celery(room: Room, ends_path: str, threads: int) -> Iterator[Team]:
    """Celery with its thread pool, without the chatter between workers that a chain does not need."""
    python = peers_python()
    with room.prefix(*STEPS) as prefix, Company() as company:
        environment = _peer_environment(room, ends_path, prefix)
        module = "bench.peers.celery_chain"
        quiet = ["--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        pool = ["--pool", "threads", "--concurrency", str(threads)]
        workers = [
            company.start(
                f"celery-{step}",
                [
                    python,
                    "-m",
                    "celery",
                    "-A",
                    module,
                    "worker",
                    "-Q",
                    prefix + step,
                    "-n",
                    f"{step}@bench",
                    *pool,
                    *quiet,
                ],
                environment,
            )
            for step in STEPS
        ]
        yield Team(company, workers, _submitter(python, module, environment), lambda count: None)


@contextlib.contextmanager
def procrastinate(room: Room, ends_path: str, threads: int) -> Iterator[Team]:
    """Procrastinate with one worker per queue; its threads are asynchronous runs."""
    python = peers_python()
    with room.database() as url, Company() as company:
        environment = _peer_environment(room, ends_path, "", url)
        module = "bench.peers.procrastinate_chain"
        command = [python, "-m", "procrastinate", "--app", f"{module}.app"]
        subprocess.run([*command, "schema", "--apply"], cwd=ROOT, env=environment, check=True, capture_output=True)
        workers = [
            company.start(
                f"procrastinate-{step}",
                [*command, "worker", "--queues", step, "--concurrency", str(threads)],
                environment,
            )
            for step in STEPS
        ]
        done = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        yield Team(
            company,
            workers,
            _submitter(python, module, environment),
            _verifier("procrastinate", url, done, 4),
            _name(url),
        )


@contextlib.contextmanager
def dbos(room: Room, ends_path: str, threads: int) -> Iterator[Team]:
    """DBOS with as many processes as the others; it sizes its threads itself."""
    python = peers_python()
    with room.database() as url, Company() as company:
        environment = _peer_environment(room, ends_path, "", url)
        module = "bench.peers.dbos_chain"
        subprocess.run([python, "-m", module, "prepare"], cwd=ROOT, env=environment, check=True, capture_output=True)
        workers = [company.start(f"dbos-{step}", [python, "-m", module, "work"], environment) for step in STEPS]
        done = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
        yield Team(
            company, workers, _submitter(python, module, environment), _verifier("dbos", url, done, 1), _name(url)
        )


def _dramatiq(app: str, queue: str, threads: int) -> list[str]:
    return [PYTHON, "-m", "dramatiq", app, "-Q", queue, "-p", "1", "-t", str(threads)]


def _peer_environment(room: Room, ends_path: str, prefix: str, database_url: str = "") -> dict[str, str]:
    given = {
        ends.VARIABLE: ends_path,
        "BENCH_AMQP_URL": room.services.amqp_url,
        "BENCH_PREFIX": prefix,
        "BENCH_DATABASE_URL": conninfo(database_url),
    }
    return plain_environment() | given


def _submitter(python: str, module: str, environment: dict[str, str]) -> Callable[[str, int, int], None]:
    def submit(round_name: str, first: int, last: int) -> None:
        command = [python, "-m", "bench.submit", module, round_name, str(first), str(last)]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=SUBMIT_SECONDS)
        if ended.returncode:
            raise TeamError(f"{module}: chains were not submitted: {ended.stderr.decode()[-2000:]}")

    return submit


def _verifier(name: str, url: str, statement: LiteralString, per_chain: int) -> Callable[[int], None]:
    def verify(chains: int) -> None:
        (done,) = _one_row(url, statement)
        # The last step tells of its end before its own row is finished: up to one per thread may still be on the way.
        if not per_chain * chains - 64 <= done <= per_chain * chains:
            raise TeamError(f"{name}: {chains} chains left {done} finished rows, not {per_chain * chains}")

    return verify


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _one_row(url: str, statement: LiteralString) -> tuple[Any, ...]:
    with psycopg.connect(conninfo(url)) as connection:
        row = connection.execute(statement).fetchone()
    assert row is not None
    return row
