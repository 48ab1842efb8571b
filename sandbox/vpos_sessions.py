"""The payment sessions of the simulated VPOS.am: what happens to them, and what an answer says.

From the public pages (sources in sandbox.vpos): the request's fields, amounts in minor units, a life cycle that knows
pending, a fiscal result that comes later and is another thing than paid, refunds with a fiscal result of their own.
ASSUMED: everything else here, which is every other name of a field, and every word of a status.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.server import Refusal

# Our names for the states; a merchant's setting `words` tells what they are called on the wire.
STATES = (
    "created",
    "pending",
    "processing",
    "paid",
    "failed",
    "expired",
    "cancelled",
    "partially_refunded",
    "refunded",
)
FISCAL = ("pending", "issued", "failed")
_OPEN = frozenset({"created", "pending", "processing"})
_HAS_MONEY = frozenset({"paid", "partially_refunded"})

# What a reader needs not and must neither keep nor show: what a buyer typed at the checkout.
PLANTED = {
    "email": "anahit@example.am",
    "phone": "+37499000077",
    "name": "ANAHIT TESTYAN",
    "maskedPan": "411111******1111",
    "ip": "203.0.113.77",
}


@dataclass
class Refund:
    """Money given back."""

    amount: int
    reason: str
    fiscal: str | None
    id: str = field(default_factory=lambda: f"rfn_{secrets.token_hex(12)}")
    at: float = field(default_factory=time.time)


@dataclass
class Session:
    """One session. Amounts are minor units, times are seconds since 1970."""

    order_id: str
    amount: int
    currency: str
    provider: str
    return_url: str
    customer: Mapping[str, str]
    metadata: Mapping[str, Any]
    key: str
    expires_at: float
    id: str = field(default_factory=lambda: f"ps_{secrets.token_hex(12)}")
    state: str = "created"
    odd_word: str = ""
    fiscal: str | None = None
    paid_amount: int = 0
    paid_currency: str = ""
    paid_at: float | None = None
    provider_reference: str = ""
    refunds: list[Refund] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)

    @property
    def is_open(self) -> bool:
        """Whether the buyer may still pay."""
        return self.state == "created" and time.time() < self.expires_at

    @property
    def refunded(self) -> int:
        """Return what was given back."""
        return sum(one.amount for one in self.refunds)


def lapse(session: Session) -> bool:
    """Let the session end; return whether it did now. What a bank works on does not end."""
    if session.state != "created" or time.time() < session.expires_at:
        return False
    session.state = "expired"
    return True


def pay(session: Session, amount: int | None = None, currency: str = "", *, late: bool = False) -> None:
    """Take the money. `late`: also of a session that has ended, as a slow bank does."""
    allowed = STATES if late else _OPEN
    if session.state not in allowed or session.paid_at is not None:
        raise Refusal(409, "not_payable")
    session.state, session.odd_word = "paid", ""
    session.paid_amount = session.amount if amount is None else amount
    session.paid_currency = currency or session.currency
    session.paid_at = time.time()
    session.provider_reference = f"rrn{secrets.randbelow(9 * 10**11) + 10**11}"


def refund(session: Session, amount: int, reason: str = "", fiscal: str | None = None) -> Refund:
    """Give money back; 0 gives back all that is left."""
    left = session.paid_amount - session.refunded
    wanted = amount or left
    if session.state not in _HAS_MONEY or not 0 < wanted <= left:
        raise Refusal(409, "not_refundable")
    made = Refund(wanted, reason, fiscal)
    session.refunds.append(made)
    session.state = "refunded" if wanted == left else "partially_refunded"
    return made


def move(state: str, *leaves: str) -> Callable[[Session], None]:
    """Return what brings a session into a state, from some others."""

    def put(session: Session) -> None:
        if session.state not in leaves:
            raise Refusal(409, f"is_{session.state}")
        session.state = state

    return put


decline = move("failed", *_OPEN)
cancel = move("cancelled", "created", "pending")
pend = move("pending", "created", "processing")
process = move("processing", "created", "pending")


def expire(session: Session) -> None:
    """Let the time be over."""
    session.expires_at = time.time() - 1
    if not lapse(session):
        raise Refusal(409, f"is_{session.state}")


def say_oddly(session: Session, word: str) -> None:
    """Use a word that nobody knows, until something else happens. The state behind it stays."""
    session.odd_word = word


def answer(session: Session, words: Mapping[str, str], checkout_url: str) -> dict[str, Any]:
    """Return what a look-up and a webhook say."""
    told: dict[str, Any] = {
        "id": session.id,
        "merchantOrderId": session.order_id,
        "amountMinor": session.amount,
        "currency": session.currency,
        "provider": session.provider,
        "status": session.odd_word or words.get(session.state, session.state),
        "checkoutUrl": checkout_url,
        "returnUrl": session.return_url,
        "customer": dict(session.customer),
        "metadata": dict(session.metadata),
        "createdAt": iso(session.created_at),
        "expiresAt": iso(session.expires_at),
    }
    if session.paid_at is not None:
        card = {name: PLANTED[name] for name in ("maskedPan", "ip")} | {"cardholderName": PLANTED["name"]}
        told |= {
            "paidAt": iso(session.paid_at),
            "providerReference": session.provider_reference,
            "paidAmountMinor": session.paid_amount,
            "paidCurrency": session.paid_currency,
            "refundedAmountMinor": session.refunded,
            "refunds": [refund_answer(one) for one in session.refunds],
            "payment": card,
        }
    return told | ({"fiscalStatus": session.fiscal} if session.fiscal else {})


def refund_answer(made: Refund) -> dict[str, Any]:
    """Return one refund."""
    told = {"id": made.id, "amountMinor": made.amount, "reason": made.reason, "createdAt": iso(made.at)}
    return told | ({"fiscalStatus": made.fiscal} if made.fiscal else {})


def iso(moment: float) -> str:
    """Return a moment as ISO 8601 in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
