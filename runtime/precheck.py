"""Answer a provider that asks before money moves: from our database alone, under the invoice's lock."""

from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import attempts, customer_pages, invoices, links
from db.tx import Cause
from gateways.providers.base import Precheck
from rules.prechecks import Asked, precheck_refusal
from runtime.checkout import CLOSED
from runtime.deps import Deps

UNKNOWN_ORDER = "unknown_order"


def answer_precheck(deps: Deps, account: str, precheck: Precheck, *, request_id: str) -> str | None:
    """Return why this money may not move, or None: then it may, and for a while nobody else is told so.

    Raises when the database is away or a lock is not had in time: no yes, no money.
    """
    with deps.database.begin(Cause.new(request_id)) as tx:
        found = attempts.by_order(tx, account, precheck.reference, None)
        if found is None:
            return UNKNOWN_ORDER
        invoice = invoices.lock(tx, found.invoice_id)
        attempt, link = attempts.lock(tx, found.id), links.get(tx, found.link_id)
        asked = Asked(
            link=LinkState(link.state),
            link_expires_at=link.expires_at,
            invoice_takes_money=InvoiceStatus(invoice.status) not in CLOSED,
            attempt=AttemptState(attempt.state),
            amount_minor=attempt.amount_minor,
            currency=attempt.currency,
            agreed_at=attempt.prechecked_at,
            named_amount_minor=precheck.amount_minor,
            named_currency=precheck.currency,
        )
        settle = deps.providers[account].capabilities.settle
        refusal = precheck_refusal(asked, now=customer_pages.now(tx), settle=settle)
        if refusal is None:
            attempts.note_precheck(tx, attempt.id)
        return refusal
