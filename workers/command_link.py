"""Carry out what a person wants done with a link.

Takes     link.resend, link.sent, link.cancel, link.reissue, link.retry, link.extend, payment.verify,
          invoice.settled_elsewhere, invoice.review, invoice.resolve and fiscal.status_changed, written by intake.
Gives     command.answered to whoever asked; crm.update, attempt.close, attempt.check, link.create, link.expire as each
          needs. Every deed names who and why in the audit trail.
Twice?    Safe: a wish is carried out once, under the invoice's lock; one that is not allowed is refused with a remedy.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from datetime import UTC

from contracts.commands import (
    Command,
    FiscalStatusChanged,
    InvoiceResolve,
    InvoiceReview,
    InvoiceSettledElsewhere,
    LinkCancel,
    LinkExtend,
    LinkReissue,
    LinkResend,
    LinkRetry,
    LinkSent,
    PaymentVerify,
)
from contracts.messages import LinkCreate, LinkExpire
from contracts.statuses import AttemptState, FiscalStatus, LinkState
from db import attempts, audit, exceptions, invoices, links
from db.tx import Tx
from gateways.providers.base import Opens
from rules.fiscal import fiscal_refusal
from rules.masking import masked
from rules.verdicts import Reason
from runtime.checks import request_check
from runtime.deps import Deps
from runtime.reserving import reserve
from workers.commanding import LIMIT, SCHEDULE, Declined, Target, carry_out
from workers.linking import make_link, supersede
from workers.receipts import WordRefused, take_fiscal_word
from workers.stage import Outcome, stage
from workers.standing import announce, ask_to_close, clear_exception, raise_exception, restand


@stage(LinkResend, schedule=SCHEDULE, time_limit=LIMIT)
def resend_link(message: LinkResend, deps: Deps) -> Outcome:
    """Write down that the link goes out again; it is the same, so nothing else changes."""

    def do(tx: Tx, target: Target) -> str:
        _write(tx, message, target, "link.resent")
        links.note_sent(tx, target.link.id)
        return "the link goes out again, unchanged"

    return carry_out(message, deps, do)


@stage(LinkSent, schedule=SCHEDULE, time_limit=LIMIT)
def note_sent(message: LinkSent, deps: Deps) -> Outcome:
    """Write down that somebody sent the link."""

    def do(tx: Tx, target: Target) -> str:
        at = message.sent_at.astimezone(UTC).isoformat() if message.sent_at else None
        to = masked(message.recipient) if message.recipient else None
        _write(tx, message, target, "link.sent", channel=message.channel, recipient=to, sent_at=at)
        links.note_sent(tx, target.link.id)
        return "noted"

    return carry_out(message, deps, do)


@stage(LinkCancel, schedule=SCHEDULE, time_limit=LIMIT)
def cancel_link(message: LinkCancel, deps: Deps) -> Outcome:
    """Close the link, and what a customer could still pay by it."""

    def do(tx: Tx, target: Target) -> str:
        if target.link.state == LinkState.CANCELLED:
            return "it was cancelled before"
        links.move(tx, target.link.id, LinkState.CANCELLED)
        _write(tx, message, target, "link.cancelled")
        for attempt in attempts.open_of_invoice(tx, target.invoice.id):
            ask_to_close(tx, attempt, "cancelled")
        restand(tx, target.invoice.id)
        return "the link is cancelled"

    return carry_out(message, deps, do)


@stage(LinkReissue, schedule=SCHEDULE, time_limit=LIMIT)
def reissue_link(message: LinkReissue, deps: Deps) -> Outcome:
    """Close the link first, at the provider too, then make a new one; what may still come by the old one is watched."""

    def do(tx: Tx, target: Target) -> str:
        supersede(tx, target.invoice.id)
        policy = target.policy
        if message.expires_in is not None:
            policy = policy.model_copy(update={"expires_in": message.expires_in})
        made = make_link(tx, deps, target.invoice, policy, actor=message.author(), reason=message.reason)
        _write(tx, message, target, "link.reissued", by=made.id)
        before = target.invoice.revision
        restand(tx, target.invoice.id)
        _tell_the_crm(tx, target, before)
        return "a new link was made; the one before is closed"

    return carry_out(message, deps, do)


@stage(LinkRetry, schedule=SCHEDULE, time_limit=LIMIT)
def retry_link(message: LinkRetry, deps: Deps) -> Outcome:
    """Make room for a new payment under the same link."""

    def do(tx: Tx, target: Target) -> str:
        opened = attempts.open_of_link(tx, target.link.id)
        _write(tx, message, target, "link.retried", attempt=opened.id if opened else None)
        exceptions.clear(tx, target.invoice.id, Reason.PROVIDER_REFUSED)
        if opened is not None:
            ask_to_close(tx, opened, "a new payment is wanted")
            return "the open order is being closed; then Pay begins a new one"
        provider = deps.providers.get(target.invoice.account)
        if provider is not None and provider.capabilities.opens is Opens.EARLY:
            attempt = reserve(tx, deps, target.link, target.invoice.account)
            tx.then(LinkCreate(invoice=target.invoice.id, link=target.link.id, attempt=attempt.id))
        restand(tx, target.invoice.id)
        return "Pay begins a new payment"

    return carry_out(message, deps, do)


@stage(LinkExtend, schedule=SCHEDULE, time_limit=LIMIT)
def extend_link(message: LinkExtend, deps: Deps) -> Outcome:
    """Move the end of the link; the end that was planned before finds that it is not the end."""

    def do(tx: Tx, target: Target) -> str:
        lifetime = message.expires_in.total_seconds()
        links.move_end(tx, target.link.id, lifetime)
        ends = links.get(tx, target.link.id).expires_at.isoformat()
        _write(tx, message, target, "link.extended", expires_at=ends)
        wish = LinkExpire(invoice=target.invoice.id, link=target.link.id, extension=deps.claim.id)
        tx.then(wish, delay_seconds=lifetime)
        return f"the link lives until {ends}"

    return carry_out(message, deps, do)


@stage(PaymentVerify, schedule=SCHEDULE, time_limit=LIMIT)
def verify_payment(message: PaymentVerify, deps: Deps) -> Outcome:
    """Ask the provider now about every order of the invoice; of a reserved one it never heard."""

    def do(tx: Tx, target: Target) -> str:
        asked = [
            attempt
            for attempt in attempts.of_invoice(tx, target.invoice.id)
            if attempt.state != AttemptState.RESERVED and _can_be_asked(deps, attempt.account)
        ]
        for attempt in asked:
            request_check(tx, attempt)
        _write(tx, message, target, "payment.verified", attempts=[attempt.id for attempt in asked])
        if not asked:
            return "there is no order that the provider could be asked about"
        return f"the provider is being asked about {len(asked)} orders"

    return carry_out(message, deps, do)


@stage(InvoiceSettledElsewhere, schedule=SCHEDULE, time_limit=LIMIT)
def settle_elsewhere(message: InvoiceSettledElsewhere, deps: Deps) -> Outcome:
    """Settle the invoice on a person's word; its link and orders close, and money in flight becomes an exception."""

    def do(tx: Tx, target: Target) -> str:
        at = message.settled_at.astimezone(UTC).isoformat() if message.settled_at else None
        _write(
            tx,
            message,
            target,
            "invoice.settled_elsewhere",
            amount_minor=message.amount_minor,
            currency=message.currency,
            method=message.method,
            reference=message.reference,
            settled_at=at,
        )
        invoices.settle_elsewhere(tx, target.invoice.id, at=message.settled_at)
        restand(tx, target.invoice.id)
        return "the invoice is settled; its link is closed"

    return carry_out(message, deps, do)


@stage(InvoiceReview, schedule=SCHEDULE, time_limit=LIMIT)
def review_invoice(message: InvoiceReview, deps: Deps) -> Outcome:
    """Open an exception on a person's word: a task, and nobody pays until it is resolved."""

    def do(tx: Tx, target: Target) -> str:
        _write(tx, message, target, "invoice.marked")
        raise_exception(tx, target.invoice.id, Reason.MARKED, f"marked for review: {message.reason}")
        return "the invoice is under review"

    return carry_out(message, deps, do)


@stage(InvoiceResolve, schedule=SCHEDULE, time_limit=LIMIT)
def resolve_exception(message: InvoiceResolve, deps: Deps) -> Outcome:
    """Close an exception on a person's word; its task closes by itself."""

    def do(tx: Tx, target: Target) -> str:
        _write(tx, message, target, "exception.resolved", case=message.case)
        clear_exception(tx, target.invoice.id, Reason(message.case), by_word=True)
        return f"{message.case} is resolved"

    return carry_out(message, deps, do)


@stage(FiscalStatusChanged, schedule=SCHEDULE, time_limit=LIMIT)
def note_fiscal(message: FiscalStatusChanged, deps: Deps) -> Outcome:
    """Write down where the fiscal receipt stands, and tell the CRM."""

    def do(tx: Tx, target: Target) -> str | Declined:
        now = FiscalStatus(target.invoice.fiscal_status)
        try:
            said = take_fiscal_word(tx, deps, target.invoice, message)
        except WordRefused as error:
            return Declined(str(error))
        if said is None:  # no receipt of ours is open: only his word counts
            refused = fiscal_refusal(now, message.status)
            if refused is not None:
                return Declined(refused)
            if message.status is now:
                return f"the receipt was {now} before"
            invoices.set_fiscal(tx, target.invoice.id, message.status)
        _write(tx, message, target, "fiscal.changed", status=message.status, before=now, receipt_no=message.receipt_no)
        announce(tx, target.invoice.id)
        return said or f"the receipt is {message.status}"

    return carry_out(message, deps, do)


def _write(tx: Tx, message: Command, target: Target, action: str, **detail: object) -> None:
    known = {name: value for name, value in detail.items() if value is not None}
    audit.write(
        tx,
        actor=message.author(),
        action=action,
        subject=target.invoice.id,
        reason=message.reason,
        link=target.link.id,
        **known,
    )


def _tell_the_crm(tx: Tx, target: Target, revision_before: int) -> None:
    """Tell the CRM of the new link, unless a change of the invoice does."""
    if invoices.get(tx, target.invoice.id).revision == revision_before:
        announce(tx, target.invoice.id)


def _can_be_asked(deps: Deps, account: str) -> bool:
    provider = deps.providers.get(account)
    return provider is not None and provider.capabilities.lookup
