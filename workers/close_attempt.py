"""Close an attempt at the provider too, because its link was settled, cancelled, replaced or ran out.

Takes     attempt.close.
Gives     attempt.check, whatever the provider said: money that was in flight must be found.
Twice?    Safe: by intent. Whoever finds one without a result asks whether the order is still open before he closes it
          again; closing what is closed is refused by the provider, and then it is only looked at.
Gives up  After 10 tries over about 2 hours: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.evidence import OrderState
from contracts.messages import AttemptClose
from contracts.statuses import OPEN_ATTEMPTS, AttemptState
from db import attempts, intents, invoices
from db.intents import Earlier
from db.tx import Record
from gateways.errors import Refused, Unavailable, Unknown
from gateways.providers.base import Provider
from rules.holds import CANCEL_ORDER
from runtime.checks import request_check
from runtime.deps import Deps
from workers.opening import CREATE_ORDER
from workers.stage import ALREADY_DONE, DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import restand

# No cancel call of ours is still on its way after this.
CALL_SECONDS = 20.0

# What we closed ourselves may still be open there: its order's id was not known then.
_CLOSABLE = OPEN_ATTEMPTS | {AttemptState.CLOSED}


@stage(AttemptClose, schedule=Schedule.growing(10, first=5, longest=1800), time_limit=timedelta(seconds=20))
def close_attempt(message: AttemptClose, deps: Deps) -> Outcome:
    """Close one attempt."""
    with deps.read() as tx:
        attempt = attempts.get(tx, message.attempt)
        being_created = intents.is_open(tx, CREATE_ORDER, attempt.id)
    if AttemptState(attempt.state) not in _CLOSABLE:
        return ALREADY_DONE
    provider = deps.providers[attempt.account]
    if attempt.provider_order_id is None and (being_created or attempt.state == AttemptState.UNKNOWN):
        return NOT_YET(5, "the order's creation has no known end yet")

    if attempt.state == AttemptState.CLOSED and attempt.provider_order_id is None:
        return ALREADY_DONE

    closed = attempt.provider_order_id is None
    if attempt.provider_order_id is not None and provider.capabilities.cancel:
        left_seconds = _still_on_its_way(deps, provider, attempt)
        if left_seconds > 0:
            return NOT_YET(left_seconds, "a lost call may still close the order")
        closed = _cancel(deps, provider, attempt)

    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        if closed and attempts.lock(tx, attempt.id).provider_order_id != attempt.provider_order_id:
            raise Unavailable("the order was made meanwhile; it is closed in the next try")
        if closed:
            attempts.move(tx, attempt.id, AttemptState.CLOSED, error=message.reason)
        intents.resolve(tx, CANCEL_ORDER, attempt.id, "done" if closed else "not_done")
        if attempt.provider_order_id is not None:
            request_check(tx, attempt)
        restand(tx, message.invoice)
    return DONE


def _still_on_its_way(deps: Deps, provider: Provider, attempt: Record) -> float:
    """Declare the intent to cancel; return for how many seconds an earlier lost call must be waited for.

    Where somebody called before and nobody knows how it ended, the provider is asked first: an order that it calls
    open was not closed, once the lost call had its time. Where it answers no questions, closing twice does no harm.
    """
    with deps.begin() as tx:
        earlier = intents.declare(tx, CANCEL_ORDER, attempt.id, deps.claim, call_seconds=CALL_SECONDS)
    if earlier is None or not provider.capabilities.lookup:
        return 0.0
    evidence = provider.fetch_evidence(attempt.reference, attempt.provider_order_id)
    if evidence is not None and (evidence.state is OrderState.OPEN or evidence.retryable):
        left = _left_seconds(provider, earlier)
        if left > 0:
            return max(left, 0.5)
    with deps.begin() as tx:
        intents.reopen(tx, CANCEL_ORDER, attempt.id, earlier.by)
        intents.declare(tx, CANCEL_ORDER, attempt.id, deps.claim, call_seconds=CALL_SECONDS)
    return 0.0


def _left_seconds(provider: Provider, earlier: Earlier) -> float:
    return (earlier.deadline - earlier.now + provider.capabilities.settle).total_seconds()


def _cancel(deps: Deps, provider: Provider, attempt: Record) -> bool:
    """Return whether the provider closed the order; False: it was paid or closed before, the check tells."""
    mine = (deps.claim.id, deps.claim.claim_no)
    try:
        provider.cancel_order(attempt.reference, attempt.provider_order_id)
    except Refused:
        return False
    except Unavailable:
        with deps.begin() as tx:
            intents.resolve(tx, CANCEL_ORDER, attempt.id, "not_done", by=mine)
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, CANCEL_ORDER, attempt.id, mine)
        raise
    return True
