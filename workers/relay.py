"""The relay: publishes deliveries for what is due and unclaimed, takes back what dead workers held, seals audit rows.

It also erases raw bytes whose retention is over. Any number of relays may run: a delivery published twice wakes two
workers, and one claims. None may run: workers that hear nothing ask the store by themselves.
"""

import threading
import time

import structlog

from contracts.catalog import Queue
from contracts.delivery import Delivery
from db import audit_chain, invoices, message_store
from db.tx import Record
from rules.verdicts import Reason
from runtime.deps import Deps
from workers.held import Keeper
from workers.publisher import Publisher
from workers.retention import EVERY_SECONDS as ERASE_SECONDS
from workers.retention import erase_old
from workers.standing import raise_exception

# Deliveries per queue and round: enough to wake every thread of a few workers.
PER_QUEUE = 16
SWEEP_SECONDS = 1.0
SEAL_SECONDS = 5.0

log = structlog.get_logger()


def sweep(deps: Deps) -> None:
    """Take back messages whose lease lapsed; tell the manager of those that died of it."""
    with deps.database.begin() as tx:
        swept = message_store.sweep_lapsed(tx, sparing_dying=True)
    with deps.database.read() as tx:
        doomed = message_store.dying(tx)
    for message in doomed:
        swept += _end_with_task(deps, message)
    for message_id, queue, is_dead in swept:
        log.warning("lease.lapsed", message_id=message_id, queue=queue, dead=is_dead)


def _end_with_task(deps: Deps, message: Record) -> list[tuple[str, str, bool]]:
    """Let a message die and tell the manager, both or neither; the invoice is locked first, as everywhere."""
    with deps.database.begin() as tx:
        is_told = message.queue != Queue.MANAGER_TASKS and invoices.exists(tx, message.subject)
        if is_told:
            invoices.lock(tx, message.subject)
        swept = message_store.sweep_lapsed(tx, named=message.id)
        if is_told and any(is_dead for _, _, is_dead in swept):
            raise_exception(tx, message.subject, Reason.DEAD_LETTER, f"{message.type}: its workers died")
    return swept


def seal(deps: Deps) -> None:
    """Chain new audit rows, and write the chain's head into the log, where a changed database cannot reach it."""
    while (head := audit_chain.seal(deps.database)) is not None:
        log.info("audit.sealed", head=str(head))


class Relay:
    """One relay."""

    def __init__(self, deps: Deps, publisher: Publisher) -> None:
        """Publish what is due in this database."""
        self._deps = deps
        self._publisher = publisher
        interval = deps.settings.relay_interval.total_seconds()
        self._threads = (
            Keeper("relay", self.publish_due, interval),
            Keeper("sweeper", lambda: sweep(deps), SWEEP_SECONDS),
            Keeper("sealer", lambda: seal(deps), SEAL_SECONDS),
            Keeper("retention", lambda: erase_old(deps), ERASE_SECONDS),
        )

    def publish_due(self) -> None:
        """Publish deliveries for the oldest due messages of every queue."""
        with self._deps.database.read() as tx:
            found = [(queue.value, row) for queue in Queue for row in message_store.due(tx, queue, limit=PER_QUEUE)]
        self._publisher.publish([(queue, Delivery(**row._mapping)) for queue, row in found])

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads."""
        for thread in self._threads:
            thread.stop()

    def run(self, stop: threading.Event) -> None:
        """Run until told to stop; log that the relay is alive once a minute."""
        self.start()
        began = time.monotonic()
        while not stop.wait(60):
            log.info("relay.alive", seconds=round(time.monotonic() - began))
        self.stop()
