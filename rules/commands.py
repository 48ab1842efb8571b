"""Whether a command about a link may be carried out: pure, the caller holds the invoice's lock.

Each answer is a sentence for the person who gave the command: what is in the way, and what to do instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

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
    PaymentCapture,
    PaymentRefund,
    PaymentRelease,
    PaymentVerify,
    RefundApprove,
    RefundReject,
)
from contracts.money import display
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from rules.policy import LinkPolicy
from rules.verdicts import BY_WORD

_SETTLED = {
    InvoiceStatus.PAID: "the invoice is paid: there is nothing left to pay, and what is too much is refunded",
    InvoiceStatus.REFUNDED: "the invoice was paid and refunded: send a new version of it to ask for money again",
    InvoiceStatus.MANUAL_REVIEW: "a person must decide about this invoice first: see its open exception",
}
_CLOSED = {
    LinkState.SETTLED: "the link is settled: nothing more is paid by it",
    LinkState.SUPERSEDED: "the link was replaced: only the newest link of an invoice can be paid",
    LinkState.CANCELLED: "the link is cancelled: reissue makes a new one",
    LinkState.EXPIRED: "the link has expired: reissue makes a new one",
}
_NOTHING_HELD = "no money is held for this invoice: verify the payment to see how it stands"
_RUNNING = "a payment is running: verify it first, and wait for its end"
# How far a sender's clock may be ahead of ours.
_SKEW = timedelta(minutes=5)
_NOT_ALLOWED = "the policy of this link does not allow it"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision needs to know. `attempt`: the invoice's open attempt that is nearest to money, if any."""

    now: datetime
    amount_minor: int
    currency: str
    status: InvoiceStatus
    cancelled_by_crm: bool
    partly_paid: bool
    link: LinkState
    attempt: AttemptState | None
    policy: LinkPolicy
    open_cases: frozenset[str] = frozenset()


def refusal(command: Command, facts: Facts) -> str | None:
    """Return why the command must not be carried out, or None."""
    if isinstance(command, InvoiceSettledElsewhere):
        return _settle(command, facts)
    if isinstance(command, InvoiceResolve):
        return _resolve(command, facts)
    return _RULES[type(command)](facts)


def _resend(facts: Facts) -> str | None:
    return _forbidden(facts.policy.resend) or _SETTLED.get(facts.status) or _CLOSED.get(facts.link)


def _sent(facts: Facts) -> str | None:
    return None  # it was sent: that is a fact, whatever the link is


def _cancel(facts: Facts) -> str | None:
    if facts.link is LinkState.CANCELLED:
        return None  # as it is wanted
    settled = None if facts.status is InvoiceStatus.MANUAL_REVIEW else _SETTLED.get(facts.status)
    return _forbidden(facts.policy.cancel) or settled


def _reissue(facts: Facts) -> str | None:
    if facts.cancelled_by_crm:
        return "the CRM cancelled the invoice: send a new version of it"
    if facts.partly_paid and facts.policy.partial != "collect":
        return "a part is paid already: send a new version with the rest, or refund the part"
    return _forbidden(facts.policy.reissue) or _SETTLED.get(facts.status) or _running(facts)


def _retry(facts: Facts) -> str | None:
    return _forbidden(facts.policy.retry) or _SETTLED.get(facts.status) or _CLOSED.get(facts.link) or _running(facts)


def _extend(facts: Facts) -> str | None:
    return _forbidden(facts.policy.extend) or _SETTLED.get(facts.status) or _CLOSED.get(facts.link)


def _settle(command: InvoiceSettledElsewhere, facts: Facts) -> str | None:
    if facts.cancelled_by_crm:
        return "the CRM cancelled the invoice: send a new version of it"
    if facts.partly_paid:
        return "a part is paid by the link already: refund it, or send a new version with the rest"
    if facts.status is not InvoiceStatus.MANUAL_REVIEW and facts.status in _SETTLED:
        return _SETTLED[facts.status]
    if command.settled_at is not None and command.settled_at > facts.now + _SKEW:
        return "settled_at is still to come: send the time of the payment, with its time zone"
    if (command.amount_minor, command.currency) != (facts.amount_minor, facts.currency):
        due = display(facts.amount_minor, facts.currency)
        return f"the invoice asks for {due}: for another amount send a new version first"
    return None


def _resolve(command: InvoiceResolve, facts: Facts) -> str | None:
    if command.case not in facts.open_cases:
        known = ", ".join(sorted(facts.open_cases)) or "none"
        return f"no exception of this name is open here; open are: {known}"
    if command.case not in BY_WORD:
        return "this closes by itself when the money, the provider or the CRM says so: the task says what to do"
    return None


def _review(facts: Facts) -> str | None:
    return None  # a person may always look


def _verify(facts: Facts) -> str | None:
    return None  # asking does no harm


def _capture(facts: Facts) -> str | None:
    if facts.cancelled_by_crm:
        return "the CRM cancelled the invoice: release the money, or send a new version first"
    settled = None if facts.status is InvoiceStatus.MANUAL_REVIEW else _SETTLED.get(facts.status)
    return settled or _release(facts)


def _release(facts: Facts) -> str | None:
    return None if facts.attempt is AttemptState.PROCESSING else _NOTHING_HELD


def _decided_elsewhere(facts: Facts) -> str | None:
    return None  # by rules.refunds, and by rules.fiscal


def _forbidden(is_allowed: bool) -> str | None:
    return None if is_allowed else _NOT_ALLOWED


def _running(facts: Facts) -> str | None:
    if facts.attempt is AttemptState.PROCESSING:
        return _RUNNING
    if facts.attempt is AttemptState.UNKNOWN:
        return "a payment has no known end: look at the provider, then `paylinks invoice give-up-attempt`"
    return None


_RULES: dict[type[Command], Callable[[Facts], str | None]] = {
    LinkResend: _resend,
    LinkSent: _sent,
    LinkCancel: _cancel,
    LinkReissue: _reissue,
    LinkRetry: _retry,
    LinkExtend: _extend,
    PaymentVerify: _verify,
    FiscalStatusChanged: _decided_elsewhere,
    PaymentCapture: _capture,
    PaymentRelease: _release,
    PaymentRefund: _decided_elsewhere,
    RefundApprove: _decided_elsewhere,
    RefundReject: _decided_elsewhere,
    InvoiceReview: _review,
}
