"""Ask the provider what happened to an attempt, and apply its word.

Takes     attempt.check, hastened by an event, a person or the customer's return; scheduled ones, with growing pauses,
          on a queue of their own, within what the provider's rate leaves for them.
Gives     the verdict with its rule's id, crm.update, exceptions, attempt.close for what is left open, the next check;
          an order that ended without money is watched for a day.
Twice?    Safe: evidence is cumulative and applied under the invoice's lock; the same word twice changes nothing.
Gives up  After 12 tries over about 3 hours: dead letter, and the manager is told.
"""

from datetime import UTC, datetime, timedelta

from contracts.catalog import Queue
from contracts.evidence import Evidence, OrderState
from contracts.messages import AttemptCheck
from contracts.statuses import OPEN_ATTEMPTS, AttemptState, FiscalStatus
from db import attempts, invoices, links
from db.tx import Record, Tx
from gateways.providers.base import Provider
from rules.links import next_check_seconds, next_watch_seconds
from rules.prechecks import is_unconfirmed
from rules.verdicts import Reason, mismatch
from runtime import points
from runtime.checks import schedule_check, wait_for_turn
from runtime.deps import Deps
from workers.holding import take_word
from workers.stage import ALREADY_DONE, DONE, NOT_YET, REFUSED, Outcome, Schedule, stage
from workers.standing import raise_exception, restand

# How long an order is watched after its session ended, before we believe that no money will come.
WATCH = timedelta(days=1)
PATIENCE = 20
MANY_CHECKS = 20


@stage(
    AttemptCheck,
    also_on=Queue.STATUS_CHECKS,
    schedule=Schedule.growing(12, first=2, longest=1800),
    time_limit=timedelta(seconds=15),
    waits_end_in=Reason.NO_EVIDENCE,
)
def verify_attempt(message: AttemptCheck, deps: Deps) -> Outcome:
    """Ask about one attempt."""
    with deps.read() as tx:
        attempt = attempts.get(tx, message.attempt)
    if message.check_no < attempt.check_no:
        return ALREADY_DONE
    provider = deps.providers[attempt.account]
    if not provider.capabilities.lookup:
        return _close_if_over(message, deps, attempt)
    if deps.claim.queue == Queue.STATUS_CHECKS:
        wait_for_turn(deps, attempt.account)  # whoever waits for an answer goes first

    evidence = provider.fetch_evidence(attempt.reference, attempt.provider_order_id)
    points.reach(f"{deps.claim.queue}.{points.CALLED}")
    if evidence is None:
        return _nothing_there(message, deps, attempt)
    word = _judged(evidence, attempt, provider)
    is_news = _is_news(deps, attempt, word)
    with deps.concluding(message, provider_request_id=evidence.provider_request_id) as tx:
        if is_news:
            take_word(tx, deps, attempt, word)
            _tell_of_long_processing(tx, message)
        else:
            attempts.note_still_open(tx, attempt.id, provider_order_id=word.provider_order_id)
        receipt_waits = evidence.receipt is not None and evidence.receipt.status is FiscalStatus.PENDING
        _schedule_next(tx, deps, message, receipt_waits=receipt_waits)
    return DONE


def _is_news(deps: Deps, attempt: Record, word: Evidence) -> bool:
    """Tell whether anything can follow from an answer. From most nothing does: the order is open, as it was before.

    Asked before the last transaction, which is the shorter for it. Whatever changes in between does by itself all that
    follows from its change; this answer would add nothing.
    """
    is_plain = word.state is OrderState.OPEN and not (word.retryable or word.transactions or word.receipt)
    if not is_plain or mismatch(word, attempt.reference, attempt.provider_order_id) is not None:
        return True
    with deps.read() as tx:
        return not attempts.still_waits(tx, attempt.id)


def _judged(evidence: Evidence, attempt: Record, provider: Provider) -> Evidence:
    """Take an order for expired that is called open long after its session's end: some providers never say so."""
    may_be_paid = evidence.state is OrderState.OPEN or evidence.retryable
    over = attempt.expires_at is not None and evidence.asked_at >= attempt.expires_at + provider.capabilities.settle
    if not (may_be_paid and over):
        return evidence
    return evidence.model_copy(update={"state": OrderState.EXPIRED, "retryable": False})


def _nothing_there(message: AttemptCheck, deps: Deps, attempt: Record) -> Outcome:
    """The provider knows no such order: believe it only after a while, replicas lag."""
    if attempt.provider_order_id is None and deps.claim.waits >= PATIENCE:
        return ALREADY_DONE  # whoever opens it asks for a check of its own
    if deps.claim.waits < PATIENCE:
        return NOT_YET(3, "the order is not at the provider yet")
    with deps.concluding(message, outcome="no_evidence") as tx:
        detail = f"the provider does not know the order {attempt.reference} that it gave us: ask its support"
        raise_exception(tx, attempt.invoice_id, Reason.NO_EVIDENCE, detail)
        _schedule_next(tx, deps, message)
    return DONE


def _tell_of_long_processing(tx: Tx, message: AttemptCheck) -> None:
    """After some twenty checks, days, a payment that is neither there nor refused is a person's case."""
    attempt = attempts.get(tx, message.attempt)
    if attempt.state == AttemptState.PROCESSING and message.check_no >= MANY_CHECKS:
        detail = f"the provider calls the order {attempt.reference} in progress for very long: ask its support"
        raise_exception(tx, attempt.invoice_id, Reason.NO_EVIDENCE, detail)


def _schedule_next(tx: Tx, deps: Deps, message: AttemptCheck, *, receipt_waits: bool = False) -> None:
    """Look again later while money may still come, or the provider's own receipt, unless somebody else looks first."""
    attempt = attempts.lock(tx, message.attempt)
    if attempt.check_no != message.check_no or (attempt.state == AttemptState.PAID and not receipt_waits):
        return
    scale = deps.settings.time_scale
    is_open = AttemptState(attempt.state) in OPEN_ATTEMPTS
    age = (datetime.now(UTC) - (attempt.created_at if is_open else attempt.ended_at)).total_seconds() / scale
    pause = next_check_seconds(age) if is_open else next_watch_seconds(age)
    if pause is not None:
        schedule_check(tx, attempt, delay_seconds=pause * scale)


def _close_if_over(message: AttemptCheck, deps: Deps, attempt: Record) -> Outcome:
    """Without look-ups only signed events speak; when the session and the watch are over, the attempt is over."""
    if AttemptState(attempt.state) not in OPEN_ATTEMPTS:
        return REFUSED("this provider offers no look-up: its signed events and statements decide")
    with deps.concluding(message) as tx:
        invoices.lock(tx, attempt.invoice_id)
        link = links.get(tx, attempt.link_id)
        ends = (attempt.expires_at or link.expires_at) + WATCH * deps.settings.time_scale
        if datetime.now(UTC) >= ends and attempt.state != AttemptState.UNKNOWN:
            attempts.move(tx, attempt.id, AttemptState.EXPIRED)
            restand(tx, attempt.invoice_id)
        else:
            if is_unconfirmed(attempt.prechecked_at, datetime.now(UTC), deps.settings.time_scale):
                detail = f"the provider was told that it may take the money of {attempt.reference}, and confirmed "
                detail += "nothing: look there; if nothing came, `paylinks invoice give-up-attempt` lets him pay again"
                raise_exception(tx, attempt.invoice_id, Reason.OUTCOME_UNKNOWN, detail)
            _schedule_next(tx, deps, message)
    return DONE
