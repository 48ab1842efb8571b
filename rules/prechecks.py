"""Whether money may move, where a provider asks before it does. The one place that stops a wrong payment in time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.statuses import AttemptState, LinkState

# A confirmation comes within seconds; after this a person looks.
CONFIRMED_WITHIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What stands behind the order that the provider asks about, and the money that it names."""

    link: LinkState
    link_expires_at: datetime
    invoice_takes_money: bool
    attempt: AttemptState
    amount_minor: int
    currency: str
    agreed_at: datetime | None  # when it was last told yes
    named_amount_minor: int
    named_currency: str


def precheck_refusal(asked: Asked, *, now: datetime, settle: timedelta) -> str | None:
    """Return why no money may move, as a short code, or None. Whoever was told yes may still be paying."""
    if (asked.named_amount_minor, asked.named_currency) != (asked.amount_minor, asked.currency):
        return "other_amount"
    if not asked.invoice_takes_money:
        return "closed"
    if asked.link is not LinkState.ACTIVE:
        return f"link_{asked.link}"
    if now >= asked.link_expires_at:
        return "link_expired"
    if asked.attempt is not AttemptState.OPEN:
        return f"attempt_{asked.attempt}"
    if asked.agreed_at is not None and now < asked.agreed_at + settle:
        return "being_paid"
    return None


def is_unconfirmed(agreed_at: datetime | None, now: datetime, scale: float = 1.0) -> bool:
    """Tell whether a confirmation should have come long ago: it may be lost, and nobody can be asked."""
    return agreed_at is not None and now >= agreed_at + CONFIRMED_WITHIN * scale
