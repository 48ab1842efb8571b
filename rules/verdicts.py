"""What evidence means for an invoice: pure functions over totals and states, each answer with its rule's id.

    evidence + invoice + link -> outcome of the attempt
                              -> verdicts, one per fact, each with the id of the rule that decided
                              -> the invoice's status and flags, recomputed from all its money
                              -> exceptions that are open now

Money alone decides about paid and refunded: totals are recomputed from every transaction, so that order and repetition
of evidence change nothing. A state that money has reached is never left for one that only words would give.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from contracts.evidence import Evidence, OrderState, TransactionKind
from contracts.statuses import AttemptState, Flag, InvoiceStatus, LinkState
from rules.policy import LinkPolicy

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Reason(StrEnum):
    """Why a person is needed. One open task per invoice and reason."""

    PARTIAL = "partial_payment"
    OVERPAID = "overpaid"
    WRONG_CURRENCY = "wrong_currency"
    DUPLICATE = "duplicate_payment"
    PAID_AFTER_CANCEL = "paid_after_cancel"
    PAID_AFTER_REFUND = "paid_after_refund"
    CANCELLED_AFTER_PAYMENT = "cancelled_after_payment"
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
    LINK_WANTED = "link_wanted"
    MARKED = "marked_for_review"
    LATE = "late_payment"
    OLD_LINK = "old_link_payment"
    CHANGED_IN_FLIGHT = "changed_during_payment"
    REFUND_WAITS = "refund_waits_for_approval"
    REFUND_FAILED = "refund_failed"


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
        Reason.MARKED,
        Reason.LATE,
        Reason.OLD_LINK,
    }
)
# What a person may accept about money as it is: that holds until more money moves.
ACCEPTABLE = frozenset(
    {
        Reason.PARTIAL,
        Reason.OVERPAID,
        Reason.DUPLICATE,
        Reason.LATE,
        Reason.OLD_LINK,
        Reason.PAID_AFTER_CANCEL,
        Reason.PAID_AFTER_REFUND,
        Reason.CANCELLED_AFTER_PAYMENT,
        Reason.CHARGEBACK,
    }
)
# What a person may close by saying so. The others follow the money, the provider or the CRM, and close by themselves.
BY_WORD = frozenset(
    {
        Reason.MARKED,
        Reason.LINK_WANTED,
        Reason.VERSION_CONFLICT,
        Reason.CHANGED_AFTER_PAYMENT,
        Reason.PROVIDER_REFUSED,
        Reason.DEAD_LETTER,
        Reason.UNMATCHED_EVENT,
        Reason.REFUND_FAILED,
        *ACCEPTABLE,
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
    link_was: LinkState  # when it moved
    link_expires_at: datetime
    link_current: bool  # it belongs to the newest link of the invoice
    link_id: str = ""
    found_at: datetime = _LONG_AGO  # when we were told


def link_then(state: LinkState, closed_at: datetime | None, at: datetime) -> LinkState:
    """Return what a link was at a time, given what it is: whoever paid before it was cancelled paid by a good link."""
    return LinkState.ACTIVE if state is LinkState.CANCELLED and closed_at is not None and at < closed_at else state


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """What a decision about an invoice needs to know of it."""

    amount_minor: int
    currency: str
    cancelled_at: datetime | None  # by its CRM
    policy: LinkPolicy  # of the newest link
    link: LinkState | None  # the newest link
    any_open_attempt: bool
    last_attempt: AttemptState | None
    settled_elsewhere_at: datetime | None = None  # past the link, as a person said
    accepted: frozenset[Reason] = frozenset()  # what a person took as it is, after the newest money

    @property
    def accept_partial(self) -> bool:
        """Tell whether a part is enough."""
        return self.policy.partial == "accept" or Reason.PARTIAL in self.accepted

    @property
    def collects_rest(self) -> bool:
        """Tell whether the rest may still be paid by the link."""
        wanted = not self.cancelled and not self.is_settled_elsewhere
        return self.policy.partial == "collect" and self.link is LinkState.ACTIVE and wanted

    @property
    def is_settled_elsewhere(self) -> bool:
        """Tell whether it was paid past the link, and its CRM still wants it."""
        return self.settled_elsewhere_at is not None and not self.cancelled

    @property
    def cancelled(self) -> bool:
        """Tell whether the CRM wants no money any more."""
        return self.cancelled_at is not None


def still_accepted(accepted: Mapping[str, datetime], newest_money: datetime | None) -> frozenset[Reason]:
    """Return what a person accepted and nothing moved since: `newest_money` is when the last transaction was found."""
    kept = {Reason(reason) for reason, at in accepted.items() if newest_money is None or at >= newest_money}
    return frozenset(kept & ACCEPTABLE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One fact and the rule that says what it means."""

    rule_id: str
    meaning: str


# Money of an order that is no invoice's: it lies in the inbox until a person decides.
UNMATCHED = Verdict("money.unmatched", "money came by an order that is nobody's")


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
        Reason.CANCELLED_AFTER_PAYMENT,
        Reason.CHARGEBACK,
        Reason.LATE,
        Reason.OLD_LINK,
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


@dataclass(frozen=True, slots=True)
class _Balance:
    """How the money of an invoice went up and down, in its own currency."""

    captured: int
    returned: int  # refunds and reversals
    charged_back: int
    peak: int  # the most that was kept at a time, since nothing was kept last
    reached_at: datetime | None  # when the peak reached what was asked
    again_after_return: bool  # money came by a link whose money had all been given back

    @property
    def kept(self) -> int:
        """What is with the merchant now."""
        return self.captured - self.returned - self.charged_back


def stand(view: InvoiceView, money: Iterable[Money]) -> Standing:
    """Recompute an invoice from all its money."""
    facts = sorted(money, key=_by_time)
    same = [fact for fact in facts if fact.currency == view.currency]
    captures = [fact for fact in same if fact.kind is TransactionKind.CAPTURE]
    balance = _balance(view, same)
    verdicts = [*_capture_verdicts(view, captures), *_return_verdicts(facts, balance)]
    if len(same) != len(facts):
        verdicts.append(Verdict("currency.other", "money in another currency than the invoice's"))
    reasons = _reasons(view, captures, balance) - view.accepted
    if _keeps_other_currency(view, facts):
        reasons.add(Reason.WRONG_CURRENCY)
    return Standing(
        status=_status(view, captures, balance, reasons),
        flags=tuple(sorted(_flags(view, captures, balance))),
        paid_minor=balance.captured,
        refunded_minor=balance.returned + balance.charged_back,
        paid_at=_paid_at(view, captures, balance),
        verdicts=tuple(verdicts),
        reasons=frozenset(reasons),
    )


def evidence_verdicts(order: OrderState, standing: Standing) -> tuple[Verdict, ...]:
    """Say what the state of an order means where its money alone does not."""
    if order is OrderState.HELD:
        return (Verdict("hold.open", "the money is held at the provider, not captured"),)
    if order is OrderState.DECLINED and standing.paid_minor:
        return (Verdict("decline.late", "a decline after money came changes nothing"),)
    if order is OrderState.PAID and not standing.paid_minor and not standing.verdicts:
        return (Verdict("word.only", "the provider says paid, and shows no money"),)
    return ()


def evidence_reasons(order: OrderState) -> frozenset[Reason]:
    """Return the exceptions that the state of an order opens by itself."""
    return frozenset({Reason.HELD}) if order is OrderState.HELD else frozenset()


def _by_time(fact: Money) -> tuple[object, ...]:
    return fact.occurred_at, fact.kind, fact.currency, fact.amount_minor, fact.link_id, fact.link_was, fact.link_current


def _balance(view: InvoiceView, facts: list[Money]) -> _Balance:
    totals = dict.fromkeys(TransactionKind, 0)
    kept = peak = 0
    reached_at: datetime | None = None
    used: set[str] = set()
    again = False
    for fact in facts:
        totals[fact.kind] += fact.amount_minor
        if fact.kind is TransactionKind.CAPTURE:
            # A newer link is a new start; the same one again, or an older one, is not.
            again |= bool(used) and kept <= 0 and (fact.link_id in used or not fact.link_current)
            used.add(fact.link_id)
            if kept <= 0:
                peak, reached_at = 0, None
            kept += fact.amount_minor
            peak = max(peak, kept)
            reached_at = reached_at or (fact.occurred_at if peak >= view.amount_minor else None)
        else:
            kept -= fact.amount_minor
    returned = totals[TransactionKind.REFUND] + totals[TransactionKind.REVERSAL]
    return _Balance(
        totals[TransactionKind.CAPTURE], returned, totals[TransactionKind.CHARGEBACK], peak, reached_at, again
    )


def _paid_at(view: InvoiceView, captures: list[Money], balance: _Balance) -> datetime | None:
    """Return when all came, or a part that the policy accepts, or what was paid past the link."""
    accepted = captures[-1].occurred_at if view.accept_partial and balance.kept > 0 else None
    elsewhere = view.settled_elsewhere_at if view.is_settled_elsewhere else None
    return balance.reached_at or accepted or elsewhere


def _capture_verdicts(view: InvoiceView, captures: list[Money]) -> list[Verdict]:
    verdicts = []
    running = 0
    for fact in captures:
        before, running = running, running + fact.amount_minor
        verdicts.append(_amount_verdict(view, before, fact.amount_minor))
        verdicts.extend(_link_verdicts(fact))
    if captures and view.is_settled_elsewhere:
        verdicts.append(Verdict("elsewhere.second", "money for an invoice that was paid past its link"))
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


def _return_verdicts(facts: list[Money], balance: _Balance) -> list[Verdict]:
    verdicts = []
    kinds = {fact.kind for fact in facts}
    if TransactionKind.REFUND in kinds:
        rule = "refund.full" if balance.returned >= balance.captured else "refund.partial"
        verdicts.append(Verdict(rule, "the provider gave money back"))
    if TransactionKind.REVERSAL in kinds:
        verdicts.append(Verdict("reversal", "the provider took the capture back"))
    if TransactionKind.CHARGEBACK in kinds:
        verdicts.append(Verdict("chargeback", "the customer's bank took the money back"))
    return verdicts


def _keeps_other_currency(view: InvoiceView, facts: list[Money]) -> bool:
    """Tell whether money in another currency came and was not given back."""
    kept: dict[str, int] = {}
    for fact in facts:
        sign = 1 if fact.kind is TransactionKind.CAPTURE else -1
        kept[fact.currency] = kept.get(fact.currency, 0) + sign * fact.amount_minor
    return any(amount > 0 for currency, amount in kept.items() if currency != view.currency)


def _reasons(view: InvoiceView, captures: list[Money], balance: _Balance) -> set[Reason]:
    reasons: set[Reason] = set()
    if balance.charged_back:
        reasons.add(Reason.CHARGEBACK)
    if balance.kept <= 0:
        return reasons
    if balance.again_after_return:
        reasons.add(Reason.PAID_AFTER_REFUND)
    reasons |= _link_reasons(view, captures)
    if view.cancelled_at is not None:
        came_later = any(fact.occurred_at > view.cancelled_at for fact in captures)
        reasons.add(Reason.PAID_AFTER_CANCEL if came_later else Reason.CANCELLED_AFTER_PAYMENT)
    elif view.is_settled_elsewhere:
        reasons.add(Reason.DUPLICATE)
        return reasons
    elif balance.peak < view.amount_minor and not view.accept_partial and not view.collects_rest:
        reasons.add(Reason.PARTIAL)
    if balance.kept > view.amount_minor:
        if _paid_twice(view, captures):
            reasons.add(Reason.DUPLICATE)
        elif view.policy.over == "review":
            reasons.add(Reason.OVERPAID)
    return reasons


def _link_reasons(view: InvoiceView, captures: list[Money]) -> set[Reason]:
    """Return what the policy wants a person to see about the links that money came by."""
    rules = _link_rules(captures)
    reasons: set[Reason] = set()
    if "link.late" in rules and view.policy.late == "review":
        reasons.add(Reason.LATE)
    if rules & _OLD and view.policy.old_link == "review":
        reasons.add(Reason.OLD_LINK)
    return reasons


_OLD = frozenset({"link.old", "link.cancelled"})


def _link_rules(captures: list[Money]) -> set[str]:
    return {verdict.rule_id for fact in captures for verdict in _link_verdicts(fact)}


def _paid_twice(view: InvoiceView, captures: list[Money]) -> bool:
    running = 0
    for fact in captures:
        if running >= view.amount_minor:
            return True
        running += fact.amount_minor
    return False


def _flags(view: InvoiceView, captures: list[Money], balance: _Balance) -> set[Flag]:
    flags: set[Flag] = {Flag.SETTLED_ELSEWHERE} if view.is_settled_elsewhere else set()
    if view.is_settled_elsewhere and balance.kept > 0:
        flags.add(Flag.DUPLICATE)
    if balance.kept > 0 and balance.peak < view.amount_minor and not view.is_settled_elsewhere:
        flags.add(Flag.PARTIAL)
    if balance.kept > view.amount_minor:
        flags.add(Flag.DUPLICATE if _paid_twice(view, captures) else Flag.OVERPAID)
    if balance.captured > balance.kept > 0:
        flags.add(Flag.PARTIALLY_REFUNDED)
    if balance.charged_back:
        flags.add(Flag.CHARGEBACK)
    rules = _link_rules(captures)
    if "link.late" in rules:
        flags.add(Flag.LATE)
    if rules & _OLD:
        flags.add(Flag.OLD_LINK)
    return flags


def _status(view: InvoiceView, captures: list[Money], balance: _Balance, reasons: set[Reason]) -> InvoiceStatus:
    if reasons & REVIEW_REASONS:
        return InvoiceStatus.MANUAL_REVIEW
    if view.is_settled_elsewhere:
        return InvoiceStatus.PAID
    if balance.kept <= 0:
        # A link that was never paid in full was made, or left open, after the money went back: it can be paid.
        paid_by_it = balance.reached_at is not None and captures[-1].link_current
        open_again = not balance.captured or (view.link is LinkState.ACTIVE and not paid_by_it)
        return _status_without_money(view) if open_again else InvoiceStatus.REFUNDED
    # A policy that accepts a part settles the invoice with it; the flag says so.
    reached = balance.peak >= view.amount_minor or view.accept_partial
    if reached:
        return InvoiceStatus.PAID
    return InvoiceStatus.PENDING if view.collects_rest else InvoiceStatus.MANUAL_REVIEW


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
