"""Bare dramatiq on RabbitMQ with publisher confirms: four empty actors on four queues, each sends to the next.

dramatiq bench.peers.dramatiq_chain -Q <prefix>one -p 1 -t 8
"""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from bench import ends

NAMES = ("one", "two", "three", "four")

broker = RabbitmqBroker(url=os.environ["BENCH_AMQP_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)
_PREFIX = os.environ["BENCH_PREFIX"]


@dramatiq.actor(queue_name=f"{_PREFIX}one")
def one(chain: str) -> None:
    two.send(chain)


@dramatiq.actor(queue_name=f"{_PREFIX}two")
def two(chain: str) -> None:
    three.send(chain)


@dramatiq.actor(queue_name=f"{_PREFIX}three")
def three(chain: str) -> None:
    four.send(chain)


@dramatiq.actor(queue_name=f"{_PREFIX}four")
def four(chain: str) -> None:
    ends.tell(chain)


def submit(round_name: str, first: int, last: int) -> None:
    for number in range(first, last):
        one.send(f"{round_name}/{number}")
