"""Stop wanting an invoice paid, up to a version.

Takes     invoice.cancelled, written by intake.
Gives     crm.update, and attempt.close for an order that a customer could still pay.
Twice?    Safe: the tombstone only rises, and a link closes once. It may come before its invoice.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from datetime import timedelta

from contracts.messages import InvoiceCancelled
from contracts.statuses import LinkState
from db import attempts, audit, invoices, links
from runtime.deps import Deps
from workers.stage import DONE, Outcome, Schedule, stage
from workers.standing import ask_to_close, restand


@stage(InvoiceCancelled, schedule=Schedule.growing(10, first=1, longest=600), time_limit=timedelta(milliseconds=1800))
def cancel_invoice(message: InvoiceCancelled, deps: Deps) -> Outcome:
    """Cancel every version up to the message's."""
    with deps.concluding(message) as tx:
        invoices.lock_name(tx, message.crm, message.type, message.invoice_id)
        invoice = invoices.find(tx, message.crm, message.invoice_id, message.type)
        if invoice is not None:
            invoice = invoices.lock(tx, invoice.id)
        invoices.cancel_through(tx, message.crm, message.type, message.invoice_id, message.version)
        if invoice is None or invoice.version > message.version:
            return DONE
        if invoice.settled_elsewhere_at is not None:
            invoices.forget_settlement(tx, invoice.id)
            actor = f"crm:{message.crm}:{message.cancelled_by or '-'}"
            audit.write(tx, actor=actor, action="invoice.unsettled", subject=invoice.id, reason=message.reason or "")
        if links.move_active(tx, invoice.id, LinkState.CANCELLED):
            actor = f"crm:{message.crm}:{message.cancelled_by or '-'}"
            audit.write(tx, actor=actor, action="link.cancelled", subject=invoice.id, reason=message.reason or "")
        for attempt in attempts.open_of_invoice(tx, invoice.id):
            ask_to_close(tx, attempt, "cancelled")
        restand(tx, invoice.id)
    return DONE
