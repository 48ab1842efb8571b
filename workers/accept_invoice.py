"""Turn an invoice of a CRM into ours, with its link.

Takes     invoice.created, written by intake.
Gives     crm.update with the link's URL, invoice.accepted to the sender, link.expire for the end of its life, and
          link.create where the provider's sessions live long enough to open one at once.
Twice?    Safe: a version is taken once under the invoice's lock; what is known already changes nothing.
Waits     While a payment of the version before is under way: a person is told, and its end decides.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from datetime import timedelta

from contracts.messages import InvoiceAccepted, InvoiceCreated
from contracts.statuses import AttemptState
from db import attempts, exceptions, invoices
from db.tx import Record, Tx
from rules.verdicts import Reason
from rules.versions import VersionDecision, decide_version
from runtime.deps import Deps
from workers.linking import amend_link, make_link, supersede
from workers.stage import DONE, NOT_YET, Outcome, Schedule, stage
from workers.standing import announce, raise_exception, restand

# How often the end of a running payment is looked for: seconds at first, then every ten minutes, for about a week.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSES = 5.0, 600.0, 1000


class _InFlight(Exception):
    """A payment of the version before is under way. `invoice`: whose."""

    def __init__(self, invoice: str) -> None:
        super().__init__(invoice)
        self.invoice = invoice


@stage(
    InvoiceCreated,
    schedule=Schedule.growing(10, first=1, longest=600),
    time_limit=timedelta(milliseconds=1800),
    max_waits=PAUSES,
)
def accept_invoice(message: InvoiceCreated, deps: Deps) -> Outcome:
    """Accept one version of one invoice."""
    try:
        return _accept(message, deps)
    except _InFlight as payment:
        with deps.begin() as tx:
            detail = "the CRM changed the invoice while a payment runs: the change waits for the end of the payment"
            raise_exception(tx, payment.invoice, Reason.CHANGED_IN_FLIGHT, detail)
        pause = min(FIRST_PAUSE_SECONDS * 1.5 ** min(deps.claim.waits, 20), LONGEST_PAUSE_SECONDS)
        return NOT_YET(pause, "a payment of the version before is under way")


def _accept(message: InvoiceCreated, deps: Deps) -> Outcome:
    content = message.model_copy(update={"version": None}).fingerprint()
    with deps.concluding(message) as tx:
        invoices.lock_name(tx, message.crm, message.type, message.invoice_id)
        through = invoices.cancelled_through(tx, message.crm, message.type, message.invoice_id)
        account = _account(deps, message)
        first = message.version or through + 1
        invoice, is_new = invoices.lock_named(tx, message, account=account, version=first)
        late = deps.claim.id < invoices.newest_message(tx, invoice.id)
        known = invoices.versions(tx, invoice.id)
        decision = decide_version(message.version, content, known, through, came_late=late)
        if known and decision.arrival == "accepted" and _is_paying(tx, invoice):
            deps.alone()
            raise _InFlight(invoice.id)
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
    policy = deps.settings.policy_for(message.crm, message.policy)
    actor = f"crm:{message.crm}:{message.created_by or '-'}"
    if invoice.paid_minor > invoice.refunded_minor or invoice.settled_elsewhere_at is not None:
        detail = "the CRM changed the invoice after money came: decide there, then send a version or refund"
        exceptions.clear(tx, invoice.id, Reason.CHANGED_IN_FLIGHT)
        raise_exception(tx, invoice.id, Reason.CHANGED_AFTER_PAYMENT, detail)
        return
    account = _account(deps, message)
    if not is_new:
        invoices.change_version(tx, invoice.id, message, account=account, version=decision.version)
        invoice = invoices.lock(tx, invoice.id)
    is_wanted = decision.arrival == "accepted"
    if is_new or not (is_wanted and amend_link(tx, deps, invoice, policy, actor=actor)):
        if not is_new:
            supersede(tx, invoice.id)
        if is_wanted:
            make_link(tx, deps, invoice, policy, actor=actor)
    revision_before = invoices.get(tx, invoice.id).revision
    restand(tx, invoice.id)
    if invoices.get(tx, invoice.id).revision == revision_before:
        announce(tx, invoice.id)
    if not account:
        detail = f"no provider account takes {message.currency} here: add a route, or name another account"
        raise_exception(tx, invoice.id, Reason.PROVIDER_REFUSED, detail)


def _account(deps: Deps, message: InvoiceCreated) -> str:
    return deps.settings.account_for(message.crm, message.currency, message.amount_minor, message.account) or ""


def _is_paying(tx: Tx, invoice: Record) -> bool:
    """Tell whether money of the version before may be on its way: the customer acted, and the provider has not said."""
    return any(attempt.state == AttemptState.PROCESSING for attempt in attempts.open_of_invoice(tx, invoice.id))


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
