"""The executor: claims messages of a queue, runs their stages, and writes how each run ended.

claim ──> run the stage ──> concluded by the stage itself        done
                       ├──> an outcome                           finished, or not yet
                       ├──> Unavailable, Unknown, any error      failed: next try by the stage's schedule, or dead
                       ├──> Refused                              dead at once: the same call will never succeed
                       ├──> Postponed                            given back until its turn, nothing counted
                       └──> lost claim, busy or absent database  given back, nothing counted
"""

import hashlib
import os
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta

import structlog

from contracts.catalog import Queue
from contracts.ids import new_id
from db import exceptions, invoices, message_store
from db.database import Trouble, trouble_of
from db.message_store import Claimed, ClaimLost, Ending, Failure
from db.tx import Tx
from gateways.errors import GatewayError, Postponed, Refused, Unavailable
from rules.verdicts import Reason
from runtime import points
from runtime.deps import Deps, Together
from workers.held import Held, TimeLimitExceeded
from workers.stage import Outcome, Stage, stages_of
from workers.standing import raise_exception

# A delivery keeps its thread for no longer than this when the process serves other queues too: so long may a waiting
# customer wait for a thread.
SLICE_SECONDS = 0.25
# A transaction that messages share takes no further one after this: others wait for its locks, and on SQLite to write.
SHARED_SECONDS = 0.05
BUSY_PAUSE_SECONDS = 0.3
OUTAGE_PAUSE_SECONDS = 1.0
MAX_ERROR_LENGTH = 500
# More threads than this on one quick lane would wait for each other's interpreter lock, and claim less at a time.
DRAINS_OF_A_QUICK_LANE = 2
# Where scheduled checks share a process with everything else, no more threads than this work on them: nobody waits for
# them, and whoever does wait finds a thread.
CHECKS_BESIDE_OTHERS = 2

log = structlog.get_logger()


@dataclass(slots=True)
class _Lane:
    """Messages of a queue that are claimed alike: quick stages many at once, slow ones singly."""

    queue: str
    stages: dict[str, Stage]
    size: int
    lease_seconds: float
    most_drains: int = sys.maxsize
    drains: int = 0
    again: bool = False
    served_at: float = 0.0

    @property
    def is_full(self) -> bool:
        """Tell whether as many threads as may drain this lane do so already."""
        return self.drains >= self.most_drains


@dataclass(frozen=True, slots=True)
class _Ran:
    """One run, for the log. Times are those of `time.perf_counter`; `ended` None: just now."""

    claimed: Claimed
    outcome: str
    began: float
    ended: float | None = None
    detail: str | None = None


class Executor:
    """Runs the stages of some queues in this process."""

    def __init__(self, deps: Deps, queues: list[str], *, shared_seconds: float = SHARED_SECONDS) -> None:
        """Serve these queues; their stages must be registered by now."""
        self._deps = deps
        self._shared_seconds = shared_seconds
        is_shared = len(queues) > 1
        self._lanes = {queue: _lanes(queue, deps.settings.lease_cap, is_shared=is_shared) for queue in queues}
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{new_id()[-6:]}"
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.held = Held(deps.database)
        self._log_run = structlog.get_logger().bind().info  # a bound logger: one line per run

    @property
    def queues(self) -> list[str]:
        """The queues that are served here."""
        return list(self._lanes)

    def serve(self, queue: str, named: str | None = None, message_type: str | None = None) -> bool:
        """Work on what is due in a queue, the named message first; return whether more is probably due.

        A quick lane that enough threads drain already is only told to look once more: so it claims more at a time.
        """
        lanes = [lane for lane in self._lanes[queue] if message_type in lane.stages] or self._lanes[queue]
        more = [self._drain(lane, named if lane.size == 1 else None) for lane in lanes]  # every lane, then the answer
        return any(more)

    def served_at(self, queue: str) -> float:
        """Return when (monotonic) the queue's longest neglected kind was looked at last."""
        return min((lane.served_at for lane in self._lanes[queue]), default=time.monotonic())

    def _drain(self, lane: _Lane, named: str | None) -> bool:
        if not self._enter(lane):
            return False
        until = time.monotonic() + SLICE_SECONDS
        try:
            while not self._stopping.is_set():
                batch = self._claim(lane, named, lane.size)
                self._work(lane, batch)
                if len(batch) < lane.size and self._leave(lane):
                    return False
                if time.monotonic() > until and len(self._lanes) > 1:
                    self._leave(lane, at_once=True)
                    return True
                named = None
        except BaseException:
            self._leave(lane, at_once=True)
            raise
        self._leave(lane, at_once=True)
        return False

    def _enter(self, lane: _Lane) -> bool:
        with self._lock:
            lane.served_at = time.monotonic()
            if lane.is_full:
                lane.again = True
                return False
            lane.drains += 1
            return True

    def _leave(self, lane: _Lane, *, at_once: bool = False) -> bool:
        """Leave the lane, unless somebody said in the same moment that more came."""
        with self._lock:
            again, lane.again = lane.again, False
            if again and not at_once:
                return False
            lane.drains -= 1
            return True

    def serve_alone(self, queue: str) -> None:
        """Work on one message that killed its worker before, with no neighbours."""
        for lane in self._lanes[queue]:
            if not self._stopping.is_set():
                for claimed in self._claim(lane, None, 1, alone=True):
                    self._run(lane, claimed)

    def stop(self) -> None:
        """Start nothing more; what is claimed and has not begun is given back."""
        self._stopping.set()

    def give_back_all(self) -> None:
        """Give back whatever is still held: a run that goes on will find that it may not conclude."""
        for claimed in self.held.all():
            self._give_back(claimed)

    def _claim(self, lane: _Lane, named: str | None, size: int, *, alone: bool = False) -> list[Claimed]:
        if not self._is_worth_claiming(lane, alone=alone):
            return []
        with self._deps.database.at_once() as tx:
            batch = message_store.claim(
                tx,
                lane.queue,
                list(lane.stages),
                worker=self._worker,
                limit=size,
                lease_seconds=lane.lease_seconds,
                named=named,
                alone=alone,
            )
        self.held.take(batch, lane.lease_seconds)
        if batch:
            points.reach(f"{lane.queue}.{points.CLAIMED}")
        return batch

    def _is_worth_claiming(self, lane: _Lane, *, alone: bool) -> bool:
        """Look first where there is one writer at a time: every queue is looked at after its last message too."""
        database = self._deps.database
        if not database.is_sqlite:
            return True
        with database.read() as tx:
            return message_store.is_any_due(tx, lane.queue, list(lane.stages), alone=alone)

    def _work(self, lane: _Lane, batch: list[Claimed]) -> None:
        """Run what was claimed: quick stages together, as long as that goes well, else each by itself."""
        # By subject, so that two workers seldom lock invoices crosswise; if they do, the short wait parts them.
        rest = sorted(batch, key=lambda claimed: (claimed.subject, claimed.id))
        while len(rest) > 1 and (ran := self._run_together(lane, rest)):
            rest = rest[ran:]
        for claimed in rest:
            self._run(lane, claimed)

    def _run_together(self, lane: _Lane, batch: list[Claimed]) -> int:
        """Run quick stages in one transaction, one commit for all; return how many ended so.

        Whatever goes wrong undoes the whole transaction, and none has run: so nobody's error is another's.
        """
        until = time.monotonic() + self._shared_seconds
        ran: list[_Ran] = []
        try:
            with self._deps.database.begin(is_shared=True) as tx:
                together = Together(tx)
                for claimed in batch:
                    if self._stopping.is_set() or (ran and time.monotonic() > until):
                        break
                    ran.append(self._run_once(lane.stages[claimed.type], claimed, together))
                message_store.finish(tx, *together.endings)
                points.reach(f"{lane.queue}.{points.CONCLUDING}")
        except (Exception, TimeLimitExceeded) as error:
            log.info("batch.parted", queue=lane.queue, size=len(batch), error=type(error).__name__)
            return 0
        points.reach(f"{lane.queue}.{points.CONCLUDED}")
        for one in ran:
            self._log(one)
            self.held.release(one.claimed)
        return len(ran)

    def _run(self, lane: _Lane, claimed: Claimed) -> None:
        """Run one message to an end; no exception leaves here."""
        if self._stopping.is_set():
            self._give_back(claimed)
            return
        stage = lane.stages[claimed.type]
        began = time.perf_counter()
        try:
            self._log(self._run_once(stage, claimed))
        except ClaimLost:
            self._log(_Ran(claimed, "claim_lost", began))
        except (Exception, TimeLimitExceeded) as error:
            self._settle(stage, claimed, error, began)
        finally:
            self.held.release(claimed)

    def _run_once(self, stage: Stage, claimed: Claimed, together: Together | None = None) -> "_Ran":
        """Run one message's stage, and end what the stage did not conclude by itself."""
        began = time.perf_counter()
        with self.held.running(claimed, limit_seconds=stage.time_limit.total_seconds()):
            run = self._deps.running(claimed, together)
            outcome = stage.function(claimed.message(self._deps.database.sealer), run)
        ended = run.ended[0] if run.ended else self._end(stage, run, outcome)
        return _Ran(claimed, ended, began, time.perf_counter(), outcome.detail)

    def _end(self, stage: Stage, run: Deps, outcome: Outcome) -> str:
        """Finish what the stage did not conclude by itself."""
        claimed = run.claim
        with run.begin() as tx:
            if outcome.after_seconds is None:
                run.end(tx, Ending(claimed, outcome.name, outcome.detail))
                return outcome.name
            if claimed.waits < stage.max_waits:
                pause = self._scaled(outcome.after_seconds)
                message_store.wait(tx, claimed, seconds=pause, reason=outcome.detail or "")
                return "not_yet"
            self._tell_manager(tx, claimed, stage.waits_end_in, outcome.detail or "")
            run.end(tx, Ending(claimed, "waited_in_vain", outcome.detail))
            return "waited_in_vain"

    def _settle(self, stage: Stage, claimed: Claimed, error: BaseException, began: float) -> None:
        """Record how a run failed; while the database is away, try until the lease is over."""
        trouble = trouble_of(error)
        until = time.monotonic() + stage.lease(self._deps.settings.lease_cap).total_seconds()
        while True:
            try:
                if isinstance(error, Postponed):
                    self._give_back(claimed, error.retry_after_seconds or BUSY_PAUSE_SECONDS, swallow=False)
                    self._log(_Ran(claimed, "postponed", began, detail=error.code))
                elif trouble in (Trouble.BUSY, Trouble.OUTAGE):
                    self._give_back(claimed, BUSY_PAUSE_SECONDS, swallow=False)
                    self._log(_Ran(claimed, f"given_back_{trouble}", began))
                else:
                    self._log(_Ran(claimed, self._fail(stage, claimed, error), began, detail=_safe_text(error)))
                return
            except ClaimLost:
                self._log(_Ran(claimed, "claim_lost", began))
                return
            except Exception as again:
                if trouble_of(again) is None or time.monotonic() > until or self._stopping.is_set():
                    log.warning("stage.unsettled", message_id=claimed.id, error=type(again).__name__)
                    return
                time.sleep(OUTAGE_PAUSE_SECONDS)

    def _fail(self, stage: Stage, claimed: Claimed, error: BaseException) -> str:
        pause = None if isinstance(error, Refused) else stage.schedule.pause_after(claimed.failures + 1)
        if pause is not None:
            pause = self._scaled(pause)
            if isinstance(error, Unavailable) and error.retry_after_seconds:
                pause = max(pause, error.retry_after_seconds)
        with self._deps.running(claimed).begin() as tx:
            message_store.fail(tx, claimed, failure_of(claimed, error), retry_in_seconds=pause)
            if pause is None:
                self._tell_manager(tx, claimed, Reason.DEAD_LETTER, f"{claimed.type}: {_safe_text(error)}")
        return "failed" if pause is not None else "dead"

    def _tell_manager(self, tx: Tx, claimed: Claimed, reason: Reason, detail: str) -> None:
        if claimed.queue == Queue.MANAGER_TASKS or not invoices.exists(tx, claimed.subject):
            return
        if claimed.queue == Queue.CRM_UPDATE and Reason.CRM_REFUSED in exceptions.open_reasons(tx, claimed.subject):
            return  # the manager knows already, and why
        raise_exception(tx, claimed.subject, reason, detail)

    def _give_back(self, claimed: Claimed, seconds: float = 0.0, *, swallow: bool = True) -> None:
        try:
            with self._deps.database.begin() as tx:
                message_store.give_back(tx, claimed, seconds=seconds)
        except Exception:
            if not swallow:
                raise
            log.warning("message.not_given_back", message_id=claimed.id)  # its lease ends by itself
        finally:
            if swallow:
                self.held.release(claimed)

    def _scaled(self, seconds: float) -> float:
        return seconds * self._deps.settings.time_scale

    def _log(self, ran: "_Ran") -> None:
        claimed = ran.claimed
        self._log_run(
            "stage.run",
            queue=claimed.queue,
            type=claimed.type,
            message_id=claimed.id,
            subject=claimed.subject,
            request_id=claimed.request_id,
            outcome=ran.outcome,
            failures=claimed.failures,
            seconds=round((ran.ended or time.perf_counter()) - ran.began, 4),
            **({"detail": ran.detail} if ran.detail else {}),
        )


def _lanes(queue: str, lease_cap: timedelta, *, is_shared: bool) -> list[_Lane]:
    """Sort a queue's stages by how many of their messages one worker may hold."""
    sizes: dict[int, dict[str, Stage]] = {}
    for name, stage in stages_of(queue).items():
        sizes.setdefault(stage.claim_size(lease_cap), {})[name] = stage
    return [
        _Lane(
            queue,
            stages,
            size,
            max(stage.lease(lease_cap).total_seconds() for stage in stages.values()),
            _most_drains(queue, size, is_shared),
        )
        for size, stages in sorted(sizes.items(), reverse=True)
    ]


def _most_drains(queue: str, size: int, is_shared: bool) -> int:
    if size > 1:
        return DRAINS_OF_A_QUICK_LANE
    return CHECKS_BESIDE_OTHERS if is_shared and queue == Queue.STATUS_CHECKS else sys.maxsize


def failure_of(claimed: Claimed, error: BaseException) -> Failure:
    """Describe an error for the retry history; equal causes get equal groups."""
    name = type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1:] if error.__traceback__ else []
    where = f"{place[0].name}" if place else ""
    code = error.code if isinstance(error, GatewayError) else ""
    group = hashlib.sha256(f"{claimed.type}|{name}|{code}|{where}".encode()).hexdigest()[:12]
    request = error.provider_request_id if isinstance(error, GatewayError) else None
    return Failure(name, _safe_text(error), group, request)


def _safe_text(error: BaseException) -> str:
    """Return an error's text if it is known to hold no personal data, else its class alone."""
    if isinstance(error, GatewayError):
        return error.detail[:MAX_ERROR_LENGTH]
    if isinstance(error, TimeLimitExceeded):
        return "the stage took longer than its time limit"
    place = traceback.extract_tb(error.__traceback__)[-1:] if error.__traceback__ else []
    where = f" in {place[0].name}, line {place[0].lineno}" if place else ""
    return f"{type(error).__name__}{where}"
