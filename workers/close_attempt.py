"""Close an attempt at the provider too, because its link was settled, cancelled, replaced or ran out.

Takes     attempt.close.
Gives     attempt.check, whatever the provider said: money that was in flight must be found.
Twice?    Safe: closing what is closed is refused by the provider, and then it is only looked at.
Gives up  After 10 tries over about 2 hours: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.messages import AttemptClose
from contracts.statuses import OPEN_ATTEMPTS, AttemptState
from db import attempts, intents, invoices
from gateways.errors import Refused, Unavailable
from runtime.checks import request_check
from runtime.deps import Deps
from workers.opening import CREATE_ORDER
from workers.stage import ALREADY_DONE, DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import restand

# What we closed ourselves may still be open there: its order's id was not known then.
_CLOSABLE = OPEN_ATTEMPTS | {AttemptState.CLOSED}


@stage(AttemptClose, schedule=Schedule.growing(10, first=5, longest=1800), time_limit=timedelta(seconds=20))
def close_attempt(message: AttemptClose, deps: Deps) -> Outcome:
    """Close one attempt."""
    with deps.begin() as tx:
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
        closed = _cancel(deps, attempt.account, attempt.reference, attempt.provider_order_id)

    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        if closed and attempts.lock(tx, attempt.id).provider_order_id != attempt.provider_order_id:
            raise Unavailable("the order was made meanwhile; it is closed in the next try")
        if closed:
            attempts.move(tx, attempt.id, AttemptState.CLOSED, error=message.reason)
        if attempt.provider_order_id is not None:
            request_check(tx, attempt)
        restand(tx, message.invoice)
    return DONE


def _cancel(deps: Deps, account: str, reference: str, provider_order_id: str) -> bool:
    """Return whether the provider closed the order; False: it was paid or closed before, the check tells."""
    try:
        deps.providers[account].cancel_order(reference, provider_order_id)
    except Refused:
        return False
    return True
