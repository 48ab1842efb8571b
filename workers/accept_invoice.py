"""Turn an invoice of a CRM into ours, with its link.

Takes     invoice.created, written by intake.
Gives     crm.update with the link's URL, invoice.accepted to the sender, link.expire for the end of its life, and
          link.create where the provider's sessions live long enough to open one at once.
Twice?    Safe: a version is taken once under the invoice's lock; what is known already changes nothing.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from datetime import timedelta

from contracts.messages import InvoiceAccepted, InvoiceCreated
from db import invoices
from db.tx import Record, Tx
from rules.verdicts import Reason
from rules.versions import VersionDecision, decide_version
from runtime.deps import Deps
from workers.linking import make_link, supersede
from workers.stage import DONE, Outcome, Schedule, stage
from workers.standing import announce, raise_exception, restand


@stage(InvoiceCreated, schedule=Schedule.growing(10, first=1, longest=600), time_limit=timedelta(milliseconds=1800))
def accept_invoice(message: InvoiceCreated, deps: Deps) -> Outcome:
    """Accept one version of one invoice."""
    content = message.model_copy(update={"version": None}).fingerprint()
    with deps.concluding(message) as tx:
        invoices.lock_name(tx, message.crm, message.type, message.invoice_id)
        through = invoices.cancelled_through(tx, message.crm, message.type, message.invoice_id)
        account = deps.settings.account_for(message.currency, message.account)
        first = message.version or through + 1
        invoice, is_new = invoices.lock_named(tx, message, account=account or "", version=first)
        late = deps.claim.id < invoices.newest_message(tx, invoice.id)
        known = invoices.versions(tx, invoice.id)
        decision = decide_version(message.version, content, known, through, came_late=late)
        _take(tx, deps, message, invoice, decision, content=content, is_new=is_new)
        _answer(tx, deps, message, decision)
    return DONE


def _take(
    tx: Tx,
    deps: Deps,
    message: InvoiceCreated,
    invoice: Record,
    decision: VersionDecision,
    *,
    content: bytes,
    is_new: bool,
) -> None:
    if decision.arrival == "conflict":
        detail = f"version {decision.version} came again with other content: compare, and send a higher version"
        raise_exception(tx, invoice.id, Reason.VERSION_CONFLICT, detail)
    if decision.arrival not in ("accepted", "cancelled"):
        return
    invoices.add_version(tx, invoice.id, message, version=decision.version, content=content, message_id=deps.claim.id)
    if invoice.paid_minor > invoice.refunded_minor or invoice.settled_elsewhere_at is not None:
        detail = "the CRM changed the invoice after money came: decide there, then send a version or refund"
        raise_exception(tx, invoice.id, Reason.CHANGED_AFTER_PAYMENT, detail)
        return
    account = deps.settings.account_for(message.currency, message.account) or ""
    if not is_new:
        invoices.change_version(tx, invoice.id, message, account=account, version=decision.version)
        supersede(tx, invoice.id)
    if decision.arrival == "accepted":
        policy = deps.settings.policy_for(message.crm, message.policy)
        actor = f"crm:{message.crm}:{message.created_by or '-'}"
        make_link(tx, deps, invoices.lock(tx, invoice.id), policy, actor=actor)
    revision_before = invoices.get(tx, invoice.id).revision
    restand(tx, invoice.id)
    if invoices.get(tx, invoice.id).revision == revision_before:
        announce(tx, invoice.id)
    if not account:
        detail = f"no provider account takes {message.currency} here: add a route, or name another account"
        raise_exception(tx, invoice.id, Reason.PROVIDER_REFUSED, detail)


def _answer(tx: Tx, deps: Deps, message: InvoiceCreated, decision: VersionDecision) -> None:
    tx.then(
        InvoiceAccepted(
            crm=message.crm,
            type=message.type,
            invoice_id=message.invoice_id,
            version=decision.version,
            sent_version=message.version,
            outcome=decision.arrival,
            request_id=tx.cause.request_id,
            causation=deps.claim.id,
        )
    )
