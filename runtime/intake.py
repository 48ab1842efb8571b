"""Intake: the one way in, by AMQP and by HTTP, and what becomes of each body.

    read ──> valid ──────> one row of the message store        accepted, duplicate
        │      └─────────> the same version, other content     conflict: a person is told, once per content
        └──> problems ───> kept for review and announced       rejected (over HTTP the sender has his answer instead)

A batch is one transaction. One that fails is tried again, then row by row, so that no body can fail its neighbours.
What is not committed was not taken: the caller answers, or acknowledges, only what comes back from here.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from contracts.base import Message
from contracts.envelope import MAX_BODY_BYTES, Problem
from contracts.ids import new_id
from contracts.messages import IntakeRejected, InvoiceAccepted, InvoiceCreated
from db import invoices, message_store, rejections
from db.database import Trouble, trouble_of
from db.message_store import Added, AddResult, Duplicate
from db.rejections import Refusal
from db.tx import Cause, Tx, prepare
from runtime.deps import Deps
from runtime.inbound import Incoming, Reading, names_itself, printable, read

TRIES = 3
PAUSE_SECONDS = 0.1

Outcome = Literal["accepted", "duplicate", "conflict", "rejected"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one body, committed."""

    outcome: Outcome
    request_id: str
    message: Message | None = None
    message_id: str | None = None  # of the first message, when this one is a duplicate or a conflict
    first_state: str | None = None  # of a duplicate's first: ready, running, dead, or how it ended
    rejection_id: str | None = None
    problems: tuple[Problem, ...] = ()
    forbidden: bool = False  # refused for its sender, not for its content


def take(deps: Deps, incoming: Sequence[Incoming]) -> list[Taken]:
    """Take bodies from outside; results in the order given, and everything in them is committed.

    Raises the database's own error when it is not there: then nothing is lost and nothing is known.
    """
    readings = [read(item, deps.settings) for item in incoming]
    try:
        taken = _keep_together(deps, readings)
    except Exception as error:
        if trouble_of(error) is Trouble.OUTAGE:
            raise
        log.warning("intake.batch_failed", size=len(readings), error=type(error).__name__)
        taken = [_keep_alone(deps, reading) for reading in readings]
    if taken:
        counts = Counter[str](item.outcome for item in taken)
        log.info("intake.taken", channel=incoming[0].channel, size=len(taken), **counts)
    return taken


def _keep_together(deps: Deps, readings: Sequence[Reading]) -> list[Taken]:
    """Write a batch; a lock that was not had in time is tried for again."""
    for again in range(TRIES):
        try:
            with deps.database.begin() as tx:
                return _write(tx, readings)
        except Exception as error:
            if trouble_of(error) is not Trouble.BUSY or again + 1 == TRIES:
                raise
            time.sleep(PAUSE_SECONDS * (again + 1))
    raise AssertionError("unreachable")


def _keep_alone(deps: Deps, reading: Reading) -> Taken:
    """Write one row; one that the database itself refuses is kept for review."""
    try:
        return _keep_together(deps, [reading])[0]
    except Exception as error:
        if trouble_of(error) in (Trouble.OUTAGE, Trouble.BUSY) or reading.message is None or not _is_kept(reading):
            raise
        log.warning("intake.row_failed", request_id=reading.cause.request_id, error=type(error).__name__)
        remedy = "nothing of it was done; tell the people who run this service"
        problem = Problem("body", f"could not be stored ({type(error).__name__}); {remedy}")
    return _keep_together(deps, [replace(reading, message=None, problems=(problem,))])[0]


# --- one transaction ------------------------------------------------------------------------------------------------


def _write(tx: Tx, readings: Sequence[Reading]) -> list[Taken]:
    good = [(reading, reading.message) for reading in readings if reading.message is not None]
    rows = [prepare(message, reading.cause, tx.sealer) for reading, message in good]
    results = message_store.add_all(tx, rows) if rows else []
    _tell_of_conflicts(tx, [(*one, result) for one, result in zip(good, results, strict=True)])
    for (reading, message), result in zip(good, results, strict=True):
        if _is_kept(reading) and isinstance(message, InvoiceCreated) and isinstance(result, Duplicate):
            _answer_again(tx, reading, message, result)
    ends = iter(results)
    taken = [_refused(reading) if reading.message is None else _taken(reading, next(ends)) for reading in readings]
    return _keep_refused(tx, readings, taken)


def _taken(reading: Reading, result: AddResult) -> Taken:
    request_id = reading.cause.request_id
    if isinstance(result, Added):
        return Taken("accepted", request_id, reading.message, result.message_id)
    if isinstance(result, Duplicate):
        return Taken("duplicate", request_id, reading.message, result.message_id, result.first_state)
    problem = _reused_name(reading) if names_itself(reading.message) else _reused_version(reading)
    return Taken("conflict", request_id, reading.message, result.message_id, problems=(problem,))


def _refused(reading: Reading) -> Taken:
    problems, forbidden = reading.problems, reading.forbidden
    return Taken("rejected", reading.cause.request_id, problems=problems, forbidden=forbidden)


def _reused_version(reading: Reading) -> Problem:
    field = "data.version" if _is_event(reading) else "version"
    return Problem(field, "came before with other content; compare, and send a higher version")


def _reused_name(reading: Reading) -> Problem:
    field = "id" if _is_event(reading) else "Idempotency-Key"
    return Problem(field, "named another content before; name each event by an id of its own")


def _is_event(reading: Reading) -> bool:
    return reading.origin.event_id is not None


def _tell_of_conflicts(tx: Tx, added: Sequence[tuple[Reading, Message, AddResult]]) -> None:
    """Send a version's other content after the first: under the invoice's lock it becomes an exception, once."""
    again = []
    for reading, message, result in added:
        if isinstance(message, InvoiceCreated) and message.version is not None and not _is_known(result):
            second = message.model_copy(update={"wish": f"conflict-{message.fingerprint().hex()}"})
            again.append(prepare(second, reading.cause, tx.sealer))
    if again:
        message_store.add_all(tx, again)


def _answer_again(tx: Tx, reading: Reading, message: InvoiceCreated, known: Duplicate) -> None:
    """Tell a sender who lost our first answer; while the first message is not done, its answer is still to come."""
    invoice = invoices.find(tx, message.crm, message.invoice_id, message.type)
    if invoice is None or known.first_state != "done":
        return
    answer = InvoiceAccepted(
        crm=message.crm,
        type=message.type,
        invoice_id=message.invoice_id,
        version=message.version or invoice.version,
        sent_version=message.version,
        outcome="unchanged",
        request_id=reading.cause.request_id,
        causation=new_id(),  # every repeat is answered
    )
    tx.pending.append(prepare(answer, reading.cause, tx.sealer))


def _is_known(result: AddResult) -> bool:
    return isinstance(result, Added | Duplicate)


def _keep_refused(tx: Tx, readings: Sequence[Reading], taken: list[Taken]) -> list[Taken]:
    """Keep for review what nobody answers for: what could not be read, and an event whose name was used before."""
    places = [place for place, reading in enumerate(readings) if _is_kept(reading) and _wants_review(taken[place])]
    kept = rejections.keep(tx, [_refusal(readings[place], taken[place].problems) for place in places])
    for place, (rejection_id, is_new) in zip(places, kept, strict=True):
        taken[place] = replace(taken[place], rejection_id=rejection_id)
        if is_new:
            announcement = _announcement(readings[place], rejection_id, taken[place].problems)
            tx.pending.append(prepare(announcement, readings[place].cause, tx.sealer))
    return taken


def _is_kept(reading: Reading) -> bool:
    return reading.incoming.channel == "amqp"


def _wants_review(taken: Taken) -> bool:
    return taken.outcome == "rejected" or (taken.outcome == "conflict" and names_itself(taken.message))


def _refusal(reading: Reading, problems: tuple[Problem, ...]) -> Refusal:
    incoming, origin = reading.incoming, reading.origin
    size = incoming.body_bytes or len(incoming.body)
    if size > MAX_BODY_BYTES:
        problems = (*problems, Problem("body", f"only its first {MAX_BODY_BYTES} of {size} bytes were kept"))
    return Refusal(
        channel=incoming.channel,
        routing_key=printable(incoming.routing_key) if incoming.routing_key is not None else None,
        sender=printable(incoming.sender) if incoming.sender is not None else None,
        event_source=origin.source,
        event_id=origin.event_id,
        event_type=origin.event_type,
        problems=problems,
        body=incoming.body[:MAX_BODY_BYTES],
        body_bytes=size,
    )


def _announcement(reading: Reading, rejection_id: str, problems: tuple[Problem, ...]) -> IntakeRejected:
    return IntakeRejected(
        rejection=rejection_id,
        source=reading.origin.source,
        event_id=reading.origin.event_id,
        event_type=reading.origin.event_type,
        problems=tuple(str(problem) for problem in problems),
    )


# --- review ---------------------------------------------------------------------------------------------------------


def replay(deps: Deps, rejection_id: str, *, actor: str, reason: str, body: bytes | None = None) -> Taken:
    """Send a kept body in again, as it came or edited; the person vouches for its sender.

    What is wrong still comes back as problems, and the rejection stays open. Raises rejections.NotOpen.
    """
    cause = Cause.new()
    with deps.database.begin(cause) as tx:
        kept = rejections.lock_open(tx, rejection_id)
        if body is None and kept.is_cut:
            problem = Problem(
                "body", "was too large and only its beginning was kept; give the whole body, made smaller"
            )
            return Taken("rejected", cause.request_id, rejection_id=rejection_id, problems=(problem,))
        incoming = Incoming(
            body=kept.body if body is None else body,
            channel="operator",
            request_id=cause.request_id,
            received_at=kept.created_at,
        )
        taken = _write(tx, [read(incoming, deps.settings)])[0]
        if not _wants_review(taken):
            rejections.resolve(
                tx,
                rejection_id,
                "replayed",
                actor=actor,
                reason=reason,
                message_id=taken.message_id,
                edited=body is not None,
                outcome=taken.outcome,
            )
    return replace(taken, rejection_id=rejection_id)
