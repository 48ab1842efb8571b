"""Write an invoice's current state to its CRM, and read it back.

Takes     crm.update, written with every change that the CRM must see.
Gives     crm.check when an answer was lost: a write that is still on its way must not win over a later one.
Twice?    Safe: the write is absolute and carries its revision; one writer per invoice at a time, by a lease.
Gives up  After 14 tries over about 8 hours: dead letter, and the manager is told. A record that the CRM does not have
          is refused at once.
"""

from datetime import timedelta

from contracts.messages import CrmCheck, CrmUpdate
from contracts.results import PaymentResult
from db import exceptions, invoices, links
from db.tx import Record, Tx
from gateways.crms.base import Payable
from gateways.errors import GatewayError, Refused, Unavailable, Unknown
from rules.verdicts import Reason
from runtime import points
from runtime.deps import Deps
from workers.stage import DONE, NOT_YET, REFUSED, SUPERSEDED, Outcome, Schedule, stage
from workers.standing import raise_exception, result_of

LIMIT = timedelta(seconds=20)
# Longer than the run may take, so that two writers never meet; a dead writer's lease ends by itself.
LEASE_SECONDS = 30.0
# A lost write is over by then, here and at the CRM.
LOOK_AGAIN_SECONDS = 60.0


@stage(
    CrmUpdate,
    schedule=Schedule.growing(14, first=2, longest=3600),
    time_limit=LIMIT,
    max_waits=500,
    waits_end_in=Reason.DEAD_LETTER,
)
def update_crm(message: CrmUpdate, deps: Deps) -> Outcome:
    """Bring one invoice's record up to its current revision."""
    writer = f"{deps.claim.id}:{deps.claim.claim_no}"
    with deps.begin() as tx:
        invoice = invoices.take_crm_lease(tx, message.invoice, writer, seconds=LEASE_SECONDS)
        result = _current(tx, deps, invoice) if invoice is not None else None
    if invoice is None or result is None:
        return NOT_YET(0.5, "another worker writes this record now")
    if invoice.crm_revision >= message.revision:
        _release(deps, invoice, writer)
        return SUPERSEDED
    crm = deps.crms.get(invoice.crm)
    if crm is None:
        _release(deps, invoice, writer)
        return REFUSED(f"no CRM named {invoice.crm} is configured here")

    payable = payable_of(invoice)
    try:
        crm.write_result(payable, result)
        points.reach(f"{deps.claim.queue}.{points.CALLED}")
        written = crm.read_result(payable)
    except GatewayError as error:
        _write_failed(deps, invoice, writer, error)
        raise
    except BaseException:  # interrupted, by the time limit perhaps: the write may be on its way
        _write_failed(deps, invoice, writer, Unknown("interrupted"))
        raise
    if written != result:
        _write_failed(deps, invoice, writer, Unknown("read back"))
        raise Unavailable("the CRM's record does not show what was written; it is written again", code="read_back")

    with deps.concluding(message) as tx:
        invoices.lock(tx, invoice.id)
        if not invoices.release_crm_lease(tx, invoice.id, writer, written_revision=result.revision):
            raise Unavailable("the lease on the CRM's record ended before the write did")
        exceptions.clear(tx, invoice.id, Reason.CRM_REFUSED)
    return DONE


def payable_of(invoice: Record) -> Payable:
    """Name the record in the CRM's own words."""
    return Payable(type=invoice.payable_type, id=invoice.external_id, deal_id=invoice.deal_id)


def _current(tx: Tx, deps: Deps, invoice: Record) -> PaymentResult:
    """Return the invoice's state now, not the message's; the URL leaves us here, and that is noted."""
    link = links.newest(tx, invoice.id)
    if link is None:
        return result_of(invoice)
    links.note_sent(tx, link.id)
    return result_of(invoice, deps.tokens.url(link.id, link.generation, link.key_id))


def _release(deps: Deps, invoice: Record, writer: str) -> None:
    with deps.begin() as tx:
        invoices.release_crm_lease(tx, invoice.id, writer)


def _write_failed(deps: Deps, invoice: Record, writer: str, error: GatewayError) -> None:
    """Let the next writer in; a lost answer also wants a later look, a refusal a person."""
    with deps.begin() as tx:
        invoices.lock(tx, invoice.id)
        invoices.release_crm_lease(tx, invoice.id, writer)
        if isinstance(error, Unknown):
            check_no = invoices.next_crm_check(tx, invoice.id)
            delay = LOOK_AGAIN_SECONDS * deps.settings.time_scale
            tx.then(CrmCheck(invoice=invoice.id, check_no=check_no), delay_seconds=delay)
        if isinstance(error, Refused):
            raise_exception(tx, invoice.id, Reason.CRM_REFUSED, error.detail)
