"""End the life of a link at its time.

Takes     link.expire, written with the link and due at its expiry; once more for every time that the end is moved.
Gives     crm.update; attempt.close for an order that a customer could still pay, which also asks a last time.
Twice?    Safe: a link expires once. Money that arrives later still pays the invoice, flagged late.
Gives up  After 10 tries over about 25 minutes: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.messages import LinkExpire
from contracts.statuses import LinkState
from db import attempts, audit, customer_pages, invoices, links
from runtime.deps import Deps
from workers.stage import DONE, Outcome, Schedule, stage
from workers.standing import ask_to_close, restand


@stage(LinkExpire, schedule=Schedule.growing(10, first=1, longest=600), time_limit=timedelta(milliseconds=1800))
def expire_link(message: LinkExpire, deps: Deps) -> Outcome:
    """Expire one link, unless it was settled or closed before."""
    with deps.concluding(message) as tx:
        invoices.lock(tx, message.invoice)
        if links.get(tx, message.link).expires_at > customer_pages.now(tx):
            return DONE  # the end was moved, and comes with a message of its own
        if not links.move(tx, message.link, LinkState.EXPIRED):
            return DONE
        audit.write(tx, actor="paylinks", action="link.expired", subject=message.invoice, link=message.link)
        for attempt in attempts.open_of_invoice(tx, message.invoice):
            ask_to_close(tx, attempt, "expired")
        restand(tx, message.invoice)
    return DONE
