"""Celery on RabbitMQ with publisher confirms and late acknowledgement: four empty tasks, each sends the next.

celery -A bench.peers.celery_chain worker -Q <prefix>one --pool threads --concurrency 8
"""

import os

from celery import Celery

from bench import ends

_PREFIX = os.environ["BENCH_PREFIX"]

app = Celery("chain", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_ignore_result=True,
    task_create_missing_queues=True,
    task_default_delivery_mode="persistent",
    worker_enable_remote_control=False,
    task_routes={name: {"queue": f"{_PREFIX}{name}"} for name in ("one", "two", "three", "four")},
)


@app.task(name="one")
def one(chain: str) -> None:
    two.delay(chain)


@app.task(name="two")
def two(chain: str) -> None:
    three.delay(chain)


@app.task(name="three")
def three(chain: str) -> None:
    four.delay(chain)


@app.task(name="four")
def four(chain: str) -> None:
    ends.tell(chain)


def submit(round_name: str, first: int, last: int) -> None:
    for number in range(first, last):
        one.delay(f"{round_name}/{number}")
