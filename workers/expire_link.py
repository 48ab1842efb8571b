"""End the life of a link at its time, after a last question to the provider.

Takes     link.expire, written with the link and due at its expiry; once more for every time that the end is moved.
Gives     attempt.check for an order that may have been paid; then crm.update, and attempt.close for what is still open.
Twice?    Safe: a link expires once. Money that arrives later still pays the invoice, flagged late where it moved later.
Gives up  After 10 tries over about 25 minutes: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.messages import LinkExpire
from contracts.statuses import AttemptState, LinkState
from db import attempts, audit, customer_pages, invoices, links, message_store
from db.tx import Record, Tx
from runtime.checks import request_check
from runtime.deps import Deps
from workers.stage import DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import ask_to_close, restand

# The last question is waited for so long; a provider that is away must not keep a link alive.
PATIENCE = 15
PAUSE_SECONDS = 2.0
# The customer may have acted at the provider, and only the provider knows.
_MAY_BE_PAID = frozenset({AttemptState.OPEN, AttemptState.PROCESSING})


@stage(LinkExpire, schedule=Schedule.growing(10, first=1, longest=600), time_limit=timedelta(milliseconds=1800))
def expire_link(message: LinkExpire, deps: Deps) -> Outcome:
    """Expire one link, unless it was settled or closed before."""
    with deps.begin() as tx:
        invoices.lock(tx, message.invoice)
        link = links.get(tx, message.link)
        is_over = link.expires_at <= customer_pages.now(tx)  # else the end was moved, and comes with its own message
        if is_over and link.state == LinkState.ACTIVE and _is_asking(tx, deps, message):
            return NOT_YET(PAUSE_SECONDS, "a last question to the provider is on its way")
    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        if not is_over or not links.move(tx, message.link, LinkState.EXPIRED):
            return DONE
        audit.write(tx, actor="paylinks", action="link.expired", subject=message.invoice, link=message.link)
        for attempt in attempts.open_of_invoice(tx, message.invoice):
            ask_to_close(tx, attempt, "expired")
        restand(tx, message.invoice)
    return DONE


def _is_asking(tx: Tx, deps: Deps, message: LinkExpire) -> bool:
    """Ask about every order that may have been paid; tell whether an answer is still to come."""
    asked = [attempt for attempt in attempts.open_of_invoice(tx, message.invoice) if _can_be_asked(deps, attempt)]
    if deps.claim.waits == 0:
        for attempt in asked:
            request_check(tx, attempt)
        return bool(asked)
    if deps.claim.waits >= PATIENCE:
        return False
    return any(message_store.is_at_hand(tx, attempt.check_message_id) for attempt in asked)


def _can_be_asked(deps: Deps, attempt: Record) -> bool:
    provider = deps.providers.get(attempt.account)
    return AttemptState(attempt.state) in _MAY_BE_PAID and provider is not None and provider.capabilities.lookup
