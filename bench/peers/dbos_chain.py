"""DBOS on PostgreSQL: a durable workflow of four empty steps, taken from a queue by every process.

python -m bench.peers.dbos_chain work
"""

import os
import signal
import sys
import threading

from dbos import DBOS, DBOSClient, DBOSConfig

from bench import ends

QUEUE = "chain"
PER_PROCESS = int(os.environ.get("BENCH_DBOS_CONCURRENCY", "32"))
POLL_SECONDS = float(os.environ.get("BENCH_DBOS_POLL", "0.05"))


@DBOS.step()
def one(chain: str) -> str:
    return chain


@DBOS.step()
def two(chain: str) -> str:
    return chain


@DBOS.step()
def three(chain: str) -> str:
    return chain


@DBOS.step()
def four(chain: str) -> str:
    return chain


@DBOS.workflow()
def steps(chain: str) -> None:
    ends.tell(four(three(two(one(chain)))))


def launch() -> None:
    config: DBOSConfig = {
        "name": "chain",
        "system_database_url": os.environ["BENCH_DATABASE_URL"],
        "application_version": "1",
        "executor_id": str(os.getpid()),
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()


def prepare() -> None:
    """Make the tables and the queue before several processes want them at once."""
    launch()
    DBOS.register_queue(QUEUE, worker_concurrency=PER_PROCESS, polling_interval_sec=POLL_SECONDS)
    DBOS.destroy()


def work() -> None:
    launch()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    DBOS.destroy()


def submit(round_name: str, first: int, last: int) -> None:
    client = DBOSClient(system_database_url=os.environ["BENCH_DATABASE_URL"])
    for number in range(first, last):
        client.enqueue({"workflow_name": "steps", "queue_name": QUEUE, "app_version": "1"}, f"{round_name}/{number}")
    client.destroy()


if __name__ == "__main__":
    {"prepare": prepare, "work": work}[sys.argv[1]]()
