"""Procrastinate on PostgreSQL: four empty asynchronous tasks on four queues, each defers the next.

procrastinate --app bench.peers.procrastinate_chain.app worker --queues one --concurrency 8
"""

import os

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench import ends

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"]))


@app.task(name="one", queue="one")
async def one(chain: str) -> None:
    await two.defer_async(chain=chain)


@app.task(name="two", queue="two")
async def two(chain: str) -> None:
    await three.defer_async(chain=chain)


@app.task(name="three", queue="three")
async def three(chain: str) -> None:
    await four.defer_async(chain=chain)


@app.task(name="four", queue="four")
async def four(chain: str) -> None:
    ends.tell(chain)


def submit(round_name: str, first: int, last: int) -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"])) as sync, sync.open():
        one.batch_defer(*({"chain": f"{round_name}/{number}"} for number in range(first, last)))
