"""What evidence means for an invoice: pure functions over totals and states, each answer with its rule's id.

    evidence + invoice + link -> outcome of the attempt
                              -> verdicts, one per fact, each with the id of the rule that decided
                              -> the invoice's status and flags, recomputed from all its money
                              -> exceptions that are open now

Money alone decides about paid and refunded: totals are recomputed from every transaction, so that order and repetition
of evidence change nothing. A state that money has reached is never left for one that only words would give.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.statuses import AttemptState, Flag, InvoiceStatus, LinkState


class Reason(StrEnum):
    """Why a person is needed. One open task per invoice and reason."""

    PARTIAL = "partial_payment"
    OVERPAID = "overpaid"
    WRONG_CURRENCY = "wrong_currency"
    DUPLICATE = "duplicate_payment"
    PAID_AFTER_CANCEL = "paid_after_cancel"
    PAID_AFTER_REFUND = "paid_after_refund"
    CHARGEBACK = "chargeback"
    OUTCOME_UNKNOWN = "provider_outcome_unknown"
    PROVIDER_REFUSED = "provider_refused"
    NO_EVIDENCE = "no_evidence"
    VERSION_CONFLICT = "version_conflict"
    CHANGED_AFTER_PAYMENT = "changed_after_payment"
    CRM_REFUSED = "crm_refused"
    DEAD_LETTER = "dead_letter"
    HELD = "held_not_captured"
    UNMATCHED_EVENT = "unmatched_event"


# Reasons that make the invoice's status manual_review while they are open. The others need a task, not a new status.
REVIEW_REASONS = frozenset(
    {
        Reason.PARTIAL,
        Reason.WRONG_CURRENCY,
        Reason.PAID_AFTER_CANCEL,
        Reason.PAID_AFTER_REFUND,
        Reason.OUTCOME_UNKNOWN,
        Reason.NO_EVIDENCE,
        Reason.HELD,
    }
)


@dataclass(frozen=True, slots=True)
class Money:
    """One transaction of an invoice, with the link that it came by."""

    kind: TransactionKind
    amount_minor: int
    currency: str
    occurred_at: datetime
    attempt_id: str
    link_was: LinkState  # before any of this evidence was applied
    link_expires_at: datetime
    link_current: bool  # it belongs to the newest link of the invoice


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """What a decision about an invoice needs to know of it."""

    amount_minor: int
    currency: str
    cancelled: bool  # by its CRM
    accept_partial: bool
    link: LinkState | None  # the newest link
    any_open_attempt: bool
    last_attempt: AttemptState | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """One fact and the rule that says what it means."""

    rule_id: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an invoice stands, recomputed from all its money."""

    status: InvoiceStatus
    flags: tuple[Flag, ...]
    paid_minor: int
    refunded_minor: int
    paid_at: datetime | None
    verdicts: tuple[Verdict, ...]
    reasons: frozenset[Reason]  # the money-related exceptions that are true now

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing more is to be paid."""
        return self.status in (InvoiceStatus.PAID, InvoiceStatus.REFUNDED)


# The exceptions that `stand` decides about: each is opened when true and cleared when not.
MONEY_REASONS = frozenset(
    {
        Reason.PARTIAL,
        Reason.OVERPAID,
        Reason.WRONG_CURRENCY,
        Reason.DUPLICATE,
        Reason.PAID_AFTER_CANCEL,
        Reason.PAID_AFTER_REFUND,
        Reason.CHARGEBACK,
    }
)

_ORDER_TO_ATTEMPT: dict[OrderState, AttemptState] = {
    OrderState.OPEN: AttemptState.OPEN,
    OrderState.PROCESSING: AttemptState.PROCESSING,
    OrderState.HELD: AttemptState.PROCESSING,
    OrderState.PAID: AttemptState.PAID,
    OrderState.DECLINED: AttemptState.FAILED,
    OrderState.EXPIRED: AttemptState.EXPIRED,
    OrderState.CANCELLED: AttemptState.CLOSED,
}


def attempt_after(evidence: Evidence) -> AttemptState:
    """Return what the evidence makes of its attempt: captured money outranks every word."""
    if any(transaction.kind is TransactionKind.CAPTURE for transaction in evidence.transactions):
        return AttemptState.PAID
    if evidence.state is OrderState.DECLINED and evidence.retryable:
        return AttemptState.OPEN
    if evidence.state is OrderState.PAID:  # a word without money: not proven
        return AttemptState.PROCESSING
    return _ORDER_TO_ATTEMPT[evidence.state]


def mismatch(evidence: Evidence, reference: str, provider_order_id: str | None) -> str | None:
    """Return why this evidence is not about this attempt, or None when it is."""
    if evidence.reference != reference:
        return "reference"
    if provider_order_id is not None and evidence.provider_order_id.lower() != provider_order_id.lower():
        return "provider_order_id"
    return None


def stand(view: InvoiceView, money: Iterable[Money]) -> Standing:
    """Recompute an invoice from all its money."""
    facts = sorted(money, key=lambda fact: fact.occurred_at)
    same = [fact for fact in facts if fact.currency == view.currency]
    captures = [fact for fact in same if fact.kind is TransactionKind.CAPTURE]
    paid = sum(fact.amount_minor for fact in captures)
    refunded = sum(
        fact.amount_minor for fact in same if fact.kind in (TransactionKind.REFUND, TransactionKind.REVERSAL)
    )
    charged_back = sum(fact.amount_minor for fact in same if fact.kind is TransactionKind.CHARGEBACK)
    kept = paid - refunded - charged_back

    verdicts = [*_capture_verdicts(view, captures), *_return_verdicts(view, facts, paid, refunded)]
    reasons = _reasons(view, captures, paid, refunded, charged_back, kept)
    if len(same) != len(facts):
        verdicts.append(Verdict("currency.other", "money in another currency than the invoice's"))
        reasons.add(Reason.WRONG_CURRENCY)
    return Standing(
        status=_status(view, paid=paid, refunded=refunded, kept=kept, reasons=reasons),
        flags=tuple(sorted(_flags(view, captures, paid, refunded, charged_back))),
        paid_minor=paid,
        refunded_minor=refunded + charged_back,
        paid_at=_paid_at(view, captures),
        verdicts=tuple(verdicts),
        reasons=frozenset(reasons),
    )


def _capture_verdicts(view: InvoiceView, captures: list[Money]) -> list[Verdict]:
    verdicts = []
    running = 0
    for fact in captures:
        before, running = running, running + fact.amount_minor
        verdicts.append(_amount_verdict(view, before, fact.amount_minor))
        verdicts.extend(_link_verdicts(fact))
    if captures and view.cancelled:
        verdicts.append(Verdict("invoice.cancelled", "money for an invoice that its CRM cancelled"))
    return verdicts


def _amount_verdict(view: InvoiceView, before: int, amount: int) -> Verdict:
    if before >= view.amount_minor:
        return Verdict("amount.second", "a payment for an invoice that was paid already")
    total = before + amount
    if total == view.amount_minor:
        return Verdict("amount.exact" if before == 0 else "amount.completed", "the whole amount is there")
    if total > view.amount_minor:
        return Verdict("amount.over", "more than what was asked")
    return Verdict("amount.partial", "less than what was asked")


def _link_verdicts(fact: Money) -> list[Verdict]:
    if not fact.link_current or fact.link_was is LinkState.SUPERSEDED:
        return [Verdict("link.old", "paid by an older link")]
    if fact.link_was is LinkState.CANCELLED:
        return [Verdict("link.cancelled", "paid by a cancelled link")]
    if fact.occurred_at > fact.link_expires_at:
        return [Verdict("link.late", "paid after the link had expired")]
    return []


def _return_verdicts(view: InvoiceView, facts: list[Money], paid: int, refunded: int) -> list[Verdict]:
    verdicts = []
    kinds = {fact.kind for fact in facts}
    if TransactionKind.REFUND in kinds:
        rule = "refund.full" if refunded >= paid else "refund.partial"
        verdicts.append(Verdict(rule, "the provider gave money back"))
    if TransactionKind.REVERSAL in kinds:
        verdicts.append(Verdict("reversal", "the provider took the capture back"))
    if TransactionKind.CHARGEBACK in kinds:
        verdicts.append(Verdict("chargeback", "the customer's bank took the money back"))
    return verdicts


def _reasons(
    view: InvoiceView, captures: list[Money], paid: int, refunded: int, charged_back: int, kept: int
) -> set[Reason]:
    reasons: set[Reason] = set()
    if charged_back:
        reasons.add(Reason.CHARGEBACK)
    if kept <= 0:
        return reasons
    if view.cancelled:
        reasons.add(Reason.PAID_AFTER_CANCEL)
    elif 0 < kept < view.amount_minor and not refunded and not charged_back and not view.accept_partial:
        reasons.add(Reason.PARTIAL)
    if kept > view.amount_minor:
        reasons.add(Reason.DUPLICATE if _paid_twice(view, captures) else Reason.OVERPAID)
    return reasons


def _paid_twice(view: InvoiceView, captures: list[Money]) -> bool:
    running = 0
    for fact in captures:
        if running >= view.amount_minor:
            return True
        running += fact.amount_minor
    return False


def _flags(view: InvoiceView, captures: list[Money], paid: int, refunded: int, charged_back: int) -> set[Flag]:
    flags: set[Flag] = set()
    if 0 < paid < view.amount_minor:
        flags.add(Flag.PARTIAL)
    if paid > view.amount_minor:
        flags.add(Flag.DUPLICATE if _paid_twice(view, captures) else Flag.OVERPAID)
    if 0 < refunded + charged_back < paid:
        flags.add(Flag.PARTIALLY_REFUNDED)
    if charged_back:
        flags.add(Flag.CHARGEBACK)
    rules = {verdict.rule_id for fact in captures for verdict in _link_verdicts(fact)}
    if "link.late" in rules:
        flags.add(Flag.LATE)
    if rules & {"link.old", "link.cancelled"}:
        flags.add(Flag.OLD_LINK)
    return flags


def _paid_at(view: InvoiceView, captures: list[Money]) -> datetime | None:
    """Return when the whole amount had come; for a partial payment nothing."""
    running = 0
    for fact in captures:
        running += fact.amount_minor
        if running >= view.amount_minor:
            return fact.occurred_at
    return None


def _status(view: InvoiceView, *, paid: int, refunded: int, kept: int, reasons: set[Reason]) -> InvoiceStatus:
    if reasons & REVIEW_REASONS:
        return InvoiceStatus.MANUAL_REVIEW
    if paid >= view.amount_minor:
        return InvoiceStatus.REFUNDED if kept <= 0 else InvoiceStatus.PAID
    if paid and kept <= 0:
        return InvoiceStatus.REFUNDED
    return _status_without_money(view)


def _status_without_money(view: InvoiceView) -> InvoiceStatus:
    if view.cancelled:
        return InvoiceStatus.CANCELLED
    if view.link is LinkState.ACTIVE:
        failed = view.last_attempt is AttemptState.FAILED and not view.any_open_attempt
        return InvoiceStatus.FAILED if failed else InvoiceStatus.PENDING
    if view.link is LinkState.EXPIRED:
        return InvoiceStatus.EXPIRED
    if view.link is LinkState.CANCELLED:
        return InvoiceStatus.CANCELLED
    return InvoiceStatus.PENDING


def describes(transaction: ProviderTransaction) -> str:
    """Return a short sentence about a transaction, for tasks and timelines."""
    return f"{transaction.kind.value} {transaction.amount_minor} {transaction.currency} (minor units)"
