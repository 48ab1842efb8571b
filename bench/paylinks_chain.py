"""Paylinks as a contestant: four stages, each locks and updates one invoice row and concludes its message.

The bench's own contracts enter the catalog in this process alone, and take the place of the product's stages:

    dramatiq bench.paylinks_chain:set_up -Q <prefix>link-creation -p 1 -t 8
    python -m bench.paylinks_chain relay
"""

import os
import signal
import threading
from datetime import timedelta
from typing import ClassVar

import dramatiq

from bench import ends
from contracts import catalog
from contracts.base import Message, key_of
from contracts.catalog import Queue
from db import invoices
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
    registry.STAGES = ()  # type: ignore[assignment] - none of the product's stages in this process
    catalog.QUEUES.update(STEPS)
    catalog.TYPES.update({model.TYPE: model for model in STEPS})
    for model in STEPS:
        stage(model, schedule=Schedule.growing(3, first=1, longest=1), time_limit=timedelta(seconds=1))(take_step)


def take_step(message: Step, deps: Deps) -> Outcome:
    """Lock the invoice, change it, ask for the next step: the public way of every stage."""
    follower = _NEXT.get(type(message))
    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        invoices.raise_revision(tx, message.invoice)
        if follower is not None:
            tx.then(follower(invoice=message.invoice, chain=message.chain))
    if follower is None:
        ends.tell(message.chain)
    return DONE


def set_up() -> None:
    """Build this process's service. Called by dramatiq in each worker process."""
    settings = load_settings()
    set_up_logs(settings.log_level)
    stages.MAX_CLAIM = int(os.environ.get(CLAIM_SIZE, stages.MAX_CLAIM))
    register()
    dramatiq.set_broker(Service(build(settings)).broker)


def run_relay() -> None:
    """Run the relay until told to stop."""
    settings = load_settings()
    set_up_logs(settings.log_level)
    service = Service(build(settings))
    service.publisher.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    Relay(service.deps, service.publisher).run(stop)


if __name__ == "__main__":
    run_relay()
