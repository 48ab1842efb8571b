"""Look whether a CRM's record still says what was written last, after an answer was lost on the way.

Takes     crm.check, due a minute after the lost write.
Gives     crm.update when a stale write arrived after a newer one.
Twice?    Safe: it only reads, and asks for a write of the current state.
Gives up  After 10 tries over about 2 hours: dead letter, and the manager is told.
"""

from datetime import timedelta

from contracts.messages import CrmCheck
from db import invoices
from gateways.errors import Unavailable
from rules.verdicts import Reason
from runtime.deps import Deps
from workers.stage import ALREADY_DONE, DONE, NOT_YET, REFUSED, Outcome, Schedule, stage
from workers.standing import announce
from workers.update_crm import payable_of


@stage(
    CrmCheck,
    schedule=Schedule.growing(10, first=5, longest=1800),
    time_limit=timedelta(seconds=20),
    max_waits=2000,
    waits_end_in=Reason.DEAD_LETTER,
)
def check_crm(message: CrmCheck, deps: Deps) -> Outcome:
    """Compare one record with its last written revision."""
    with deps.read() as tx:
        invoice = invoices.get(tx, message.invoice)
    if message.check_no < invoice.crm_check_no:
        return ALREADY_DONE
    if invoice.crm_revision < invoice.revision:
        return NOT_YET(30, "a write of the current state is still due")
    crm = deps.crms.get(invoice.crm)
    if crm is None:
        return REFUSED(f"no CRM named {invoice.crm} is configured here")
    written = crm.read_result(payable_of(invoice))

    with deps.concluding(message) as tx:
        now = invoices.lock(tx, invoice.id)
        if now.revision != invoice.revision:
            raise Unavailable("the invoice changed while its record was read")
        if written is None or written.revision != invoice.revision:
            announce(tx, invoice.id)
    return DONE
