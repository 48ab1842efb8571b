"""The chain with two million finished messages in the store, beside the chain with none.

The rows are made by SQL: keys are digests of random order, as real ones are, and ids sort before those of today.
"""

import statistics
from functools import partial
from typing import LiteralString

import psycopg

from bench import chain, teams
from bench.report import Line, Target, say
from bench.room import Room
from tests.services.postgres import conninfo

FULL_ROWS = 2_000_000
QUICK_ROWS = 200_000
LEAST_RATIO = 0.9

_FILL: tuple[LiteralString, ...] = (
    """
    INSERT INTO message_keys (queue, digest, fingerprint, message_id)
    SELECT 'crm-update', sha256(n::text::bytea), sha256((-n)::text::bytea), '00' || lpad(n::text, 24, '0')
    FROM generate_series(1, %(rows)s) n
    """,
    """
    INSERT INTO message_history (id, queue, type, payload, dedup_key, subject, correlation, causation, request_id,
                                 claim_no, outcome, created_at, finished_at)
    SELECT '00' || lpad(n::text, 24, '0'), 'crm-update', 'crm.update.v1',
           '{"invoice":"' || invoice || '","revision":1}', 'crm.update:' || invoice || ':1', invoice,
           '00' || lpad(n::text, 24, '0'), '00' || lpad(n::text, 24, '0'),
           '00' || lpad(n::text, 24, '0'), 1, 'done', now() - interval '1 day', now() - interval '1 day'
    FROM generate_series(1, %(rows)s) n, LATERAL (SELECT '01' || left(md5(n::text), 24) AS invoice) i
    """,
    """
    INSERT INTO message_attempts (message_id, number, started_at, ended_at, outcome, worker)
    SELECT '00' || lpad(n::text, 24, '0'), 1, now() - interval '1 day', now() - interval '1 day', 'done',
           'host:1:abcdef'
    FROM generate_series(1, %(rows)s) n
    """,
)


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Run rounds on an empty and on a full store in turn."""
    size = chain.Size(rounds=1, chains=300) if quick else chain.Size(rounds=4, chains=1500)
    rows = QUICK_ROWS if quick else FULL_ROWS
    speeds: dict[int, list[float]] = {0: [], rows: []}
    invoices = max(size.chains, chain.WARM_CHAINS)
    with teams.prepared_database(room, invoices) as empty, teams.prepared_database(room, invoices) as full:
        _fill(full, rows)
        for number in range(size.rounds):
            for count, url in ((0, empty), (rows, full)):
                launch = partial(teams.paylinks, invoices=0, database_url=url)
                run = chain.run_round(room, launch, size.chains, name=f"r{number}")
                speeds[count].append(run.per_second)
                say(f"history, round {number + 1} of {size.rounds}: {count} finished messages: {run}")
    ratio = statistics.median(speeds[rows]) / statistics.median(speeds[0])
    return [
        Line("chain with a long history", "no finished messages", "chains/s", tuple(speeds[0]), 1.0),
        Line(
            "chain with a long history",
            f"{rows:,} finished messages",
            "chains/s",
            tuple(speeds[rows]),
            ratio,
            Target(ratio=LEAST_RATIO),
        ),
    ]


def _fill(url: str, rows: int) -> None:
    say(f"history: making {rows:,} finished messages")
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        for statement in _FILL:
            connection.execute(statement, {"rows": rows})
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
