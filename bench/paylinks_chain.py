"""Paylinks as a contestant: four stages, each locks and updates one invoice row and concludes its message.

The bench's own contracts enter the catalog in this process alone, and take the place of the product's stages:

    dramatiq bench.paylinks_chain:set_up -Q <prefix>link-creation -p 1 -t 8
    python -m bench.paylinks_chain relay | all
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import ClassVar

import dramatiq

from bench import ends
from contracts import catalog
from contracts.base import Message, key_of
from contracts.catalog import Queue
from contracts.delivery import Delivery
from db import invoices
from db.tx import Tx
from runtime.build import build
from runtime.deps import Deps
from runtime.logs import set_up as set_up_logs
from runtime.settings import load_settings
from workers import registry
from workers import stage as stages
from workers.relay import Relay
from workers.service import Service
from workers.stage import DONE, Outcome, Schedule, stage

CLAIM_SIZE = "BENCH_CLAIM_SIZE"
# Tell when each stage begins and when each commit that asks for one has happened.
TELLS_HOPS = "BENCH_TELLS_HOPS"
THREADS_OF_ALL = 4


class Step(Message):
    """One step of one chain."""

    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "chain")

    invoice: str
    chain: str

    def key(self) -> str:
        return key_of(self.TYPE, self.chain)

    def subject(self) -> str:
        return self.invoice


class One(Step):
    TYPE: ClassVar[str] = "bench.one.v1"


class Two(Step):
    TYPE: ClassVar[str] = "bench.two.v1"


class Three(Step):
    TYPE: ClassVar[str] = "bench.three.v1"


class Four(Step):
    TYPE: ClassVar[str] = "bench.four.v1"


STEPS: dict[type[Message], Queue] = {
    One: Queue.LINK_CREATION,
    Two: Queue.WEBHOOK_VERIFICATION,
    Three: Queue.CRM_UPDATE,
    Four: Queue.MANAGER_TASKS,
}
_NEXT: dict[type[Message], type[Step]] = {One: Two, Two: Three, Three: Four}


def register() -> None:
    """Put the four contracts into this process's catalog, and their stages in place of the product's."""
    vars(registry)["STAGES"] = ()  # none of the product's stages in this process
    catalog.QUEUES.update(STEPS)
    catalog.TYPES.update({model.TYPE: model for model in STEPS})
    for model in (One, Two, Three, Four):
        stage(model, schedule=Schedule.growing(3, first=1, longest=1), time_limit=timedelta(seconds=1))(take_step)


def take_step(message: Step, deps: Deps) -> Outcome:
    """Lock the invoice, change it, ask for the next step: the public way of every stage."""
    began = time.monotonic()
    follower = _NEXT.get(type(message))
    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        invoices.raise_revision(tx, message.invoice)
        if follower is not None:
            tx.then(follower(invoice=message.invoice, chain=message.chain))
        elif not os.environ.get(TELLS_HOPS):
            _ended.chains.append(message.chain)
    if os.environ.get(TELLS_HOPS):
        ends.tell(f"start {message.key()} {began}")
    return DONE


class _Ended(threading.local):
    """The chains that a thread's open transaction ends: told of after its commit."""

    def __init__(self) -> None:
        self.chains: list[str] = []


_ended = _Ended()


def _tell_ends(announce: Callable[[Tx], None], tx: Tx) -> None:
    while _ended.chains:
        ends.tell(_ended.chains.pop())
    announce(tx)


def set_up() -> None:
    """Build this process's service. Called by dramatiq in each worker process."""
    dramatiq.set_broker(make_service().broker)


def make_service() -> Service:
    """Build a service with our four stages."""
    settings = load_settings()
    set_up_logs(settings.log_level)
    stages.MAX_CLAIM = int(os.environ.get(CLAIM_SIZE, stages.MAX_CLAIM))
    register()
    service = Service(build(settings))
    database = service.deps.database
    vars(database)["announce"] = partial(_tell_ends, database.announce)  # called after each commit
    if os.environ.get(TELLS_HOPS):
        service.deps.database.after_commit = partial(_tell_commit, service)
    return service


def _tell_commit(service: Service, due: Sequence[tuple[str, Delivery]]) -> None:
    committed = time.monotonic()
    service.publisher.publish(due)
    for _, delivery in due:
        ends.tell(f"commit {delivery.key} {committed}")


def run(what: str) -> None:
    """Run the relay, or everything in this one process, until told to stop."""
    service = make_service()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    relay = Relay(service.deps, service.publisher)
    if what == "all":
        service.start(THREADS_OF_ALL)
    else:
        service.publisher.start()
    relay.run(stop)


if __name__ == "__main__":
    run(sys.argv[1])
