"""Where an invoice stands, and everything that follows from a change of it.

Called inside the transaction of the change, with the invoice's lock held: recompute from all money, open and clear
exceptions, close what a settled invoice leaves open, and ask for the CRM's update. One place, so that no path forgets.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from contracts.evidence import Evidence, OrderState
from contracts.messages import AttemptClose, CrmUpdate, PaymentStatusChanged
from contracts.results import PaymentResult
from contracts.statuses import AttemptState, FiscalStatus, InvoiceStatus, LinkState, Proof
from db import attempts, exceptions, invoices, ledger, links, message_store
from db.tx import Record, Tx
from rules.policy import LinkPolicy
from rules.verdicts import (
    MONEY_REASONS,
    REVIEW_REASONS,
    InvoiceView,
    Reason,
    Standing,
    attempt_after,
    evidence_reasons,
    evidence_verdicts,
    mismatch,
    stand,
    still_accepted,
)
from runtime.settings import Settings
from workers.receipts import known_money, take_providers_receipt, want_receipts


def apply_evidence(
    tx: Tx,
    settings: Settings,
    attempt: Record,
    evidence: Evidence,
    *,
    message_id: str,
    holds_are_ours: bool = False,
) -> Standing:
    """Take a provider's word on an attempt: money, attempt, verdicts, invoice, exceptions, follow-ups.

    `holds_are_ours`: money that is held needs no person, because we capture it or let it go by ourselves.
    """
    invoice = invoices.lock(tx, attempt.invoice_id)
    wrong = mismatch(evidence, attempt.reference, attempt.provider_order_id)
    if wrong is not None:
        raise_exception(tx, invoice.id, Reason.NO_EVIDENCE, f"the provider's answer names another {wrong}")
        return restand(tx, invoice.id)
    attempts.note_answer(tx, attempt.id, provider_order_id=evidence.provider_order_id, told=evidence.state)
    known = known_money(tx, settings, invoice)
    ledger.record(
        tx, attempt.account, evidence.transactions, invoice_id=invoice.id, attempt_id=attempt.id, proof=evidence.proof
    )
    has_fiscal_news = want_receipts(tx, settings, invoice, known)
    has_fiscal_news |= take_providers_receipt(tx, settings, invoice, evidence.receipt)
    attempts.move(tx, attempt.id, attempt_after(evidence), error=None)
    if evidence.state is OrderState.DECLINED:
        attempts.note_decline(tx, attempt.id)
    _keep_evidence_exceptions(tx, invoice.id, evidence, holds_are_ours=holds_are_ours)
    standing = restand(tx, invoice.id)
    if has_fiscal_news and invoices.get(tx, invoice.id).revision == invoice.revision:
        announce(tx, invoice.id)
    ledger.write_verdicts(
        tx,
        (*standing.verdicts, *evidence_verdicts(evidence.state, standing)),
        invoice_id=invoice.id,
        attempt_id=attempt.id,
        status=standing.status,
        evidence_digest=_digest(evidence),
        provider_request_id=evidence.provider_request_id,
        message_id=message_id,
    )
    return standing


def _keep_evidence_exceptions(tx: Tx, invoice_id: str, evidence: Evidence, *, holds_are_ours: bool) -> None:
    """Open and clear the exceptions that a provider's word decides about."""
    true_now = evidence_reasons(evidence.state)
    for reason in true_now - ({Reason.HELD} if holds_are_ours else set()):
        exceptions.raise_(tx, invoice_id, reason, _DETAILS[reason])
    over = {Reason.OUTCOME_UNKNOWN, Reason.HELD} - true_now
    if attempt_after(evidence) is not AttemptState.PROCESSING:
        over.add(Reason.NO_EVIDENCE)
    if evidence.transactions:
        over.add(Reason.PROVIDER_REFUSED)
    for reason in sorted(over & exceptions.open_reasons(tx, invoice_id)):
        exceptions.clear(tx, invoice_id, reason)


def _digest(evidence: Evidence) -> str:
    facts = evidence.model_dump_json(exclude={"asked_at", "provider_request_id"})
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def restand(tx: Tx, invoice_id: str) -> Standing:
    """Recompute an invoice and write what changed. The caller may hold the lock; it is taken again either way."""
    invoice = invoices.lock(tx, invoice_id)
    link = links.newest(tx, invoice_id)
    known = exceptions.cases(tx, invoice_id)
    money = ledger.money_of(tx, invoice_id, link.id if link else None)
    accepted = still_accepted(known.accepted, max((fact.found_at for fact in money), default=None))
    standing = stand(_view(tx, invoice, link, accepted), money)
    _keep_money_exceptions(tx, invoice_id, standing.reasons, known.open)
    if standing.is_settled:
        _close_what_is_open(tx, invoice_id, link)
    status = _status(tx, invoice_id, standing)
    capture = ledger.last_capture(tx, invoice_id)
    now = (status, standing.flags, standing.paid_minor, standing.refunded_minor)
    if now != (invoice.status, invoices.flags_of(invoice), invoice.paid_minor, invoice.refunded_minor):
        invoices.set_standing(
            tx,
            invoice_id,
            status=status,
            flags=standing.flags,
            paid_minor=standing.paid_minor,
            refunded_minor=standing.refunded_minor,
            paid_at=standing.paid_at,
            provider_reference=capture.provider_transaction_id if capture else None,
            paid_account=capture.account if capture else None,
            paid_proof=capture.proof if capture else None,
        )
        announce(tx, invoice_id)
    return replace(standing, status=status)


def _view(tx: Tx, invoice: Record, link: Record | None, accepted: frozenset[Reason]) -> InvoiceView:
    counted = attempts.summary(tx, invoice.id)
    return InvoiceView(
        amount_minor=invoice.amount_minor,
        currency=invoice.currency,
        cancelled_at=invoices.cancelled_at(tx, invoice),
        policy=LinkPolicy.kept(link.policy) if link else LinkPolicy(),
        link=LinkState(link.state) if link else None,
        any_open_attempt=counted.open > 0,
        last_attempt=AttemptState(counted.last) if counted.last else None,
        settled_elsewhere_at=invoice.settled_elsewhere_at,
        accepted=accepted,
    )


def _keep_money_exceptions(tx: Tx, invoice_id: str, true_now: Iterable[Reason], opened: set[str]) -> None:
    """Open each exception that the money makes true, and clear each that it no longer does."""
    wanted = set(true_now)
    for reason in sorted(MONEY_REASONS):
        if reason in wanted and reason not in opened:
            exceptions.raise_(tx, invoice_id, reason, _DETAILS[reason])
        elif reason in opened and reason not in wanted:
            exceptions.clear(tx, invoice_id, reason)


def ask_to_close(tx: Tx, attempt: Record, reason: str) -> None:
    """Wish an attempt closed at the provider, unless such a wish already waits."""
    fresh = attempts.lock(tx, attempt.id)
    if message_store.is_waiting(tx, fresh.close_message_id):
        return
    close_no = attempts.next_close(tx, attempt.id)
    wish = AttemptClose(invoice=attempt.invoice_id, attempt=attempt.id, close_no=close_no, reason=reason)
    attempts.note_close(tx, attempt.id, tx.then(wish))


_DETAILS = {
    Reason.PARTIAL: "less was paid than asked: ask for the rest, or refund",
    Reason.OVERPAID: "more was paid than asked: refund the difference, or book it as a credit",
    Reason.WRONG_CURRENCY: "money came in another currency: refund it, or settle by hand",
    Reason.DUPLICATE: "the invoice was paid more than once: refund the second payment",
    Reason.PAID_AFTER_CANCEL: "money came for a cancelled invoice: refund it, or reopen the invoice",
    Reason.PAID_AFTER_REFUND: "money came after the invoice was refunded: refund it, or settle by hand",
    Reason.CANCELLED_AFTER_PAYMENT: "the CRM cancelled an invoice that was paid: refund it, or reopen the invoice",
    Reason.HELD: "the money is held at the provider: capture it there, or release it",
    Reason.CHARGEBACK: "the customer's bank took the money back: gather the evidence",
    Reason.LATE: "money came after the link had expired: accept it, or refund it",
    Reason.OLD_LINK: "money came by a link that was replaced or cancelled: accept it, or refund it",
}


def _close_what_is_open(tx: Tx, invoice_id: str, link: Record | None) -> None:
    """Close the settled invoice's link and every attempt that could still take money; nobody needs a link any more."""
    if Reason.LINK_WANTED in exceptions.open_reasons(tx, invoice_id):
        exceptions.clear(tx, invoice_id, Reason.LINK_WANTED)
    if link is not None and link.state in (LinkState.ACTIVE, LinkState.EXPIRED):
        links.move(tx, link.id, LinkState.SETTLED)
    for attempt in attempts.open_of_invoice(tx, invoice_id):
        ask_to_close(tx, attempt, "settled")


def _status(tx: Tx, invoice_id: str, standing: Standing) -> InvoiceStatus:
    """Money decides first; else an open exception that needs a review does."""
    if standing.is_settled or not exceptions.open_reasons(tx, invoice_id) & REVIEW_REASONS:
        return standing.status
    return InvoiceStatus.MANUAL_REVIEW


def announce(tx: Tx, invoice_id: str) -> int:
    """Raise the revision and ask for everything that tells others; return the new revision."""
    revision = invoices.raise_revision(tx, invoice_id)
    tx.then(CrmUpdate(invoice=invoice_id, revision=revision))
    invoice = invoices.get(tx, invoice_id)
    tx.then(
        PaymentStatusChanged(
            invoice=invoice_id,
            revision=revision,
            crm=invoice.crm,
            type=invoice.payable_type,
            invoice_id=invoice.external_id,
            deal_id=invoice.deal_id,
            result=result_of(invoice),
        )
    )
    return revision


def result_of(invoice: Record, link_url: str | None = None) -> PaymentResult:
    """Put an invoice row into the words that others get. The URL is made fresh by the caller, never stored."""
    return PaymentResult(
        revision=invoice.revision,
        status=InvoiceStatus(invoice.status),
        flags=invoices.flags_of(invoice),
        amount_minor=invoice.amount_minor,
        paid_minor=invoice.paid_minor,
        refunded_minor=invoice.refunded_minor,
        currency=invoice.currency,
        provider=invoice.paid_account,
        provider_reference=invoice.provider_reference,
        paid_at=invoice.paid_at,
        proof=Proof(invoice.paid_proof) if invoice.paid_proof else None,
        fiscal_status=FiscalStatus(invoice.fiscal_status),
        link_url=link_url,
        request_id=invoice.request_id,
    )


def raise_exception(tx: Tx, invoice_id: str, reason: Reason, detail: str) -> None:
    """Open an exception and let the invoice's status say so."""
    invoices.lock(tx, invoice_id)
    if exceptions.raise_(tx, invoice_id, reason, detail):
        restand(tx, invoice_id)


def clear_exception(tx: Tx, invoice_id: str, reason: Reason, *, by_word: bool = False) -> None:
    """Close an exception and let the invoice's status say so; `by_word`: a person took it as it is."""
    invoices.lock(tx, invoice_id)
    if exceptions.clear(tx, invoice_id, reason, by_word=by_word):
        restand(tx, invoice_id)
