"""One process that serves queues: the transport, the executor behind it, and the threads that look after both.

broker ── actor ──> Executor.serve      a delivery wakes a thread, which empties what is due
poller ───────────> Executor.serve      nothing was heard for some seconds: ask the store
keeper ───────────> Held.tick           renew leases, interrupt overdue runs
sweeper ──────────> relay.sweep         take back what dead workers held
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import dramatiq
import structlog
from dramatiq import Worker
from dramatiq.middleware import Middleware

from contracts.catalog import Queue
from contracts.delivery import Delivery
from db import message_store
from db.database import trouble_of
from runtime.deps import Deps
from workers import registry
from workers.broker import declare_actors, make_broker
from workers.executor import Executor
from workers.held import KEEPER_TICK_SECONDS, Keeper
from workers.publisher import Publisher
from workers.relay import sweep

# Rarer than the relay's: it only matters where no relay runs.
SWEEP_SECONDS = 4.0
LAST_RUNS_SECONDS = 3.0

log = structlog.get_logger()


class Service:
    """Everything of a process that serves queues."""

    def __init__(self, deps: Deps) -> None:
        """Build the transport and its actors; which queues are served is known when the worker boots."""
        registry.load_all()
        self.deps = deps
        self.broker = make_broker(deps.settings)
        self.publisher = Publisher(self.broker, deps.settings)
        deps.database.after_commit = self.publisher.publish
        declare_actors(self.broker, deps.settings, self._serve)
        self.broker.add_middleware(_Lifecycle(self))
        self._worker: Worker | None = None
        self._executor: Executor | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._threads: tuple[Keeper, ...] = ()

    @property
    def executor(self) -> Executor:
        """The executor; only while the worker runs."""
        if self._executor is None:
            raise RuntimeError("the worker has not booted")
        return self._executor

    def start(self, threads: int) -> None:
        """Serve every queue in this process, without dramatiq's command line."""
        self.broker.emit_after("process_boot")
        self._worker = Worker(self.broker, worker_threads=threads)
        self._worker.start()

    def stop(self, timeout_ms: int) -> None:
        """End what `start` began: what runs may end within the time, the rest is given back."""
        if self._worker is not None:
            self._worker.stop(timeout=timeout_ms)
        self.broker.close()

    def boot(self, worker: Worker) -> None:
        """Begin to serve the worker's queues."""
        prefix = self.deps.settings.queue_prefix
        wanted = {name.removeprefix(prefix) for name in worker.consumer_whitelist or ()}
        queues = [queue.value for queue in Queue if not wanted or queue in wanted]
        self._executor = Executor(self.deps, queues)
        for gate in self.deps.gates.values():  # one provider that hangs leaves threads for the others
            gate.limit_places(max(1, worker.worker_threads // 2) if len(self.deps.gates) > 1 else worker.worker_threads)
        self._pool = ThreadPoolExecutor(worker.worker_threads, thread_name_prefix="asked")
        poll = self.deps.settings.poll_interval.total_seconds()
        self._threads = (
            Keeper("keeper", self._executor.held.tick, KEEPER_TICK_SECONDS),
            Keeper("poller", self._poll, poll / 2),
            Keeper("sweeper", lambda: sweep(self.deps), SWEEP_SECONDS),
        )
        self.publisher.start()
        for thread in self._threads:
            thread.start()
        log.info("worker.ready", queues=queues, threads=worker.worker_threads, pid=os.getpid())

    def begin_shutdown(self) -> None:
        """Start nothing more; what runs may end."""
        if self._executor is not None:
            self._executor.stop()

    def end_shutdown(self) -> None:
        """Give back what still runs, and let go of everything."""
        if self._executor is None or self._pool is None:
            return
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + LAST_RUNS_SECONDS
        while self._executor.held.all() and time.monotonic() < until:
            time.sleep(0.05)  # what the poller began has no thread of dramatiq's that waited for it
        for thread in self._threads:
            thread.stop()
        self._executor.give_back_all()
        self.publisher.stop()
        log.info("worker.stopped", pid=os.getpid())

    def _serve(self, queue: str, delivery: Delivery) -> None:
        self._guarded(queue, delivery)

    def _guarded(self, queue: str, delivery: Delivery | None) -> None:
        """Serve a queue; a database that is away is not the broker's business."""
        named, message_type = (delivery.id, delivery.type) if delivery else (None, None)
        try:
            if self.executor.serve(queue, named, message_type) and delivery is not None:
                self.publisher.publish([(queue, delivery)])
        except Exception as error:
            if trouble_of(error) is None:
                raise
            log.warning("store.unreachable", queue=queue, error=type(error).__name__)
            time.sleep(0.5)

    def _poll(self) -> None:
        """Ask the store about queues from which nothing was heard, and about messages that must run alone."""
        if self._pool is None:
            return
        silent = time.monotonic() - self.deps.settings.poll_interval.total_seconds()
        for queue in self.executor.queues:
            if self.executor.served_at(queue) < silent:
                self._ask(queue)
            self._pool.submit(self.executor.serve_alone, queue)

    def _ask(self, queue: str) -> None:
        with self.deps.database.read() as tx:
            waiting = len(message_store.due(tx, queue, limit=self._threads_of_pool))
        for _ in range(waiting):
            self._submit(queue)

    @property
    def _threads_of_pool(self) -> int:
        return self._pool._max_workers if self._pool else 1

    def _submit(self, queue: str) -> None:
        if self._pool is not None:
            self._pool.submit(self._guarded, queue, None)


class _Lifecycle(Middleware):
    """Ties the service to dramatiq's worker, whichever way that was started."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._service.boot(worker)

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._service.begin_shutdown()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Worker) -> None:
        self._service.end_shutdown()
