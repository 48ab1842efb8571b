"""Capture money that the provider holds, or let it go, at most once.

Takes     attempt.hold, written when the provider says that money is held, or by a person's command.
Gives     attempt.check, so that the provider's own word brings the money into the books; a task when it refuses.
Twice?    Safe: by intent. Whoever finds one without a result asks what is still held, and never calls again blindly.
Gives up  After 12 tries over about 3 hours: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.evidence import OrderState
from contracts.messages import AttemptHold
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import attempts, audit, intents, invoices, links
from db.intents import Earlier
from db.tx import Record, Tx
from gateways.errors import Refused, Unavailable, Unknown
from gateways.providers.base import Provider
from rules.holds import HOLD_ORDER, hold_action
from rules.verdicts import Reason
from runtime import points
from runtime.checks import request_check
from runtime.deps import Deps
from workers.holding import take_word
from workers.stage import ALREADY_DONE, DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import raise_exception

# No call of ours is still on its way after this.
CALL_SECONDS = 20.0


@stage(
    AttemptHold,
    schedule=Schedule.growing(12, first=2, longest=1800),
    time_limit=timedelta(seconds=20),
    waits_end_in=Reason.HELD,
)
def settle_hold(message: AttemptHold, deps: Deps) -> Outcome:
    """Capture or release what one order holds."""
    with deps.begin() as tx:
        invoice = invoices.lock(tx, message.invoice)
        attempt = attempts.lock(tx, message.attempt)
        if (attempt.state, attempt.told) != (AttemptState.PROCESSING, OrderState.HELD):
            intents.resolve(tx, HOLD_ORDER, attempt.id, "done")  # by a call whose answer was lost, as a check found
            return ALREADY_DONE
        action = message.wanted
        if action == "decide":
            action = hold_action(LinkState(links.get(tx, attempt.link_id).state), InvoiceStatus(invoice.status))
        earlier = intents.declare(tx, HOLD_ORDER, attempt.id, deps.claim, call_seconds=CALL_SECONDS)
    provider = deps.providers[attempt.account]
    points.reach(f"{deps.claim.queue}.{points.INTENT}")
    if earlier is not None:
        return _look(message, deps, provider, attempt, earlier)

    try:
        if action == "capture":
            amount = message.amount_minor or attempt.amount_minor
            provider.capture_order(attempt.reference, attempt.provider_order_id, amount, attempt.currency)
        else:
            provider.release_order(attempt.reference, attempt.provider_order_id)
    except Unavailable:
        with deps.begin() as tx:
            intents.resolve(tx, HOLD_ORDER, attempt.id, "not_done", by=(deps.claim.id, deps.claim.claim_no))
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, HOLD_ORDER, attempt.id, (deps.claim.id, deps.claim.claim_no))
        raise
    except Refused as error:
        return _refused(message, deps, attempt, action, error)
    points.reach(f"{deps.claim.queue}.{points.CALLED}")
    with deps.concluding(message) as tx:
        invoices.lock(tx, attempt.invoice_id)
        intents.resolve(tx, HOLD_ORDER, attempt.id, "done")
        _write(tx, message, attempt, f"hold.{action}d")
        request_check(tx, attempt)
    return DONE


def _look(message: AttemptHold, deps: Deps, provider: Provider, attempt: Record, earlier: Earlier) -> Outcome:
    """Somebody may have called and died, or had no answer: ask whether anything is still held."""
    evidence = provider.fetch_evidence(attempt.reference, attempt.provider_order_id)
    if evidence is not None and (evidence.state is not OrderState.HELD or evidence.transactions):
        with deps.concluding(message, provider_request_id=evidence.provider_request_id) as tx:
            intents.resolve(tx, HOLD_ORDER, attempt.id, "done")
            _write(tx, message, attempt, "hold.settled")  # by a call whose answer was lost
            take_word(tx, deps, attempt, evidence)
        return DONE
    left = (earlier.deadline - earlier.now + provider.capabilities.settle).total_seconds()
    if left > 0:
        return NOT_YET(max(left, 0.5), "a lost call may still settle what is held")
    with deps.begin() as tx:  # also where an answer said that it was done: the money is held all the same
        intents.reopen(tx, HOLD_ORDER, attempt.id, earlier.by)
    return NOT_YET(0.0, "the lost call never settled what is held: do it now")


def _refused(message: AttemptHold, deps: Deps, attempt: Record, action: str, error: Refused) -> Outcome:
    """A person decides; where nothing is held any more, the check that follows says so and closes his task."""
    with deps.concluding(message, outcome="refused", detail=error.detail) as tx:
        invoices.lock(tx, attempt.invoice_id)
        intents.resolve(tx, HOLD_ORDER, attempt.id, "not_done")
        detail = f"{action} of what is held was refused ({error.code or 'refused'}): capture it there, or release it"
        raise_exception(tx, attempt.invoice_id, Reason.HELD, detail)
        request_check(tx, attempt)
    return DONE


def _write(tx: Tx, message: AttemptHold, attempt: Record, action: str) -> None:
    audit.write(
        tx,
        actor="paylinks",
        action=action,
        subject=attempt.invoice_id,
        reason="",
        attempt=attempt.id,
        order=attempt.provider_order_id,
        amount_minor=message.amount_minor or attempt.amount_minor,
        currency=attempt.currency,
    )
