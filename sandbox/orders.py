"""One order at the sandbox's provider, and everything that may happen to it.

Pure: no clock and no I/O here. Times are seconds since 1970, rounded to the microseconds that JSON shows.

Beside what every customer does, providers do odd things, and each is a move here:

pay with `force`        captures where no page would: an expired, cancelled or already paid order
pay with `untold`       the money moved, and neither look-up nor event nor listing shows it until `tell`
pay of a held order     captures what was held
decline with `final`    no other card may be tried in this order
decline with `force`    a decline that comes after the money; the money stays
say_paid                the word "paid" before any money was captured
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

PAYABLE = frozenset({"open", "declined"})
UNPAID = frozenset({"open", "declined", "held"})


class Conflict(Exception):
    """The order's state does not allow it. `code` is what the API answers."""

    def __init__(self, code: str) -> None:
        """Keep the code."""
        super().__init__(code)
        self.code = code


@dataclass
class Order:
    """An order with all that it went through. Its attributes are the document that the store keeps."""

    id: str
    account: str
    reference: str
    amount_minor: int
    currency: str
    description: str
    return_url: str
    locale: str
    expires_in_seconds: int
    pay_token: str
    created_at: float
    expires_at: float
    status: str = "open"
    settles_at: float | None = None
    create_calls: int = 1
    declines: int = 0
    is_final: bool = False  # declined, and no other card may be tried
    metadata: dict[str, Any] = field(default_factory=dict)
    transactions: list[dict[str, Any]] = field(default_factory=list)
    refunds: dict[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """What the store keeps."""
        return vars(self)

    @property
    def is_payable(self) -> bool:
        """Whether the page takes a card."""
        return self.status in PAYABLE and not self.is_final

    @property
    def told(self) -> list[dict[str, Any]]:
        """The transactions that the provider shows."""
        return [entry for entry in self.transactions if not entry.get("untold")]

    def total(self, *kinds: str) -> int:
        """Return the sum of the transactions of these kinds, in minor units."""
        return _total(self.transactions, *kinds)

    def left(self) -> int:
        """Return what was captured and not yet given back."""
        return self.total("capture") - self.total("refund", "reversal", "chargeback")


def new_id(prefix: str) -> str:
    """Return an identifier that nobody guesses: ord_5f0c..."""
    return f"{prefix}_{secrets.token_hex(10)}"


def iso(seconds: float) -> str:
    """Return the time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def facts(order: Order) -> dict[str, Any]:
    """Return what a look-up and a signed event say: cumulative facts, without the page where one pays."""
    return {
        "id": order.id,
        "reference": order.reference,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "description": order.description,
        "locale": order.locale,
        "status": order.status,
        "retryable": order.status == "declined" and order.is_payable,
        "created_at": iso(order.created_at),
        "expires_at": iso(order.expires_at),
        "captured_minor": _total(order.told, "capture"),
        "returned_minor": _total(order.told, "refund", "reversal", "chargeback"),
        "transactions": [
            {
                "id": entry["id"],
                "kind": entry["kind"],
                "amount_minor": entry["amount_minor"],
                "currency": entry["currency"],
                "occurred_at": iso(entry["at"]),
            }
            for entry in order.told
        ],
    }


def pay(
    order: Order,
    now: float,
    *,
    amount_minor: int | None = None,
    currency: str | None = None,
    force: bool = False,
    untold: bool = False,
) -> None:
    """Capture the money. `force` also captures where no page would; `untold` keeps it back until `tell`."""
    if not force:
        _require(order, PAYABLE | {"held", "processing"})
    entry = _move_money(order, "capture", amount_minor or order.amount_minor, currency or order.currency, now)
    if untold:
        entry["untold"] = True
    order.status = "paid"
    order.is_final = False
    order.settles_at = None


def pay_later(order: Order, now: float, seconds: float) -> None:
    """Take the customer's word: the result comes by itself after some seconds."""
    _require(order, PAYABLE)
    order.status = "processing"
    order.settles_at = now + seconds


def hold(order: Order) -> None:
    """Authorise without a capture."""
    _require(order, PAYABLE)
    order.status = "held"


def say_paid(order: Order) -> None:
    """Call the order paid although nothing was captured; the money may come later, by `force`, or never."""
    _require(order, PAYABLE)
    order.status = "paid"


def tell(order: Order) -> None:
    """Show what was kept back."""
    for entry in order.transactions:
        entry.pop("untold", None)


def decline(order: Order, *, final: bool = False, force: bool = False) -> None:
    """Refuse the card; the customer may try again in the same order unless it is `final`. `force`: after the money."""
    if not force:
        _require(order, PAYABLE | {"processing"})
    order.status = "declined"
    order.declines += 1
    order.is_final = final or force
    order.settles_at = None


def expire(order: Order) -> None:
    """Close the order because its time is over."""
    _require(order, UNPAID)
    order.status = "expired"


def cancel(order: Order) -> None:
    """Close the order because the merchant said so. Money in flight cannot be called back."""
    _require(order, UNPAID)
    order.status = "cancelled"


def refund(order: Order, now: float, refund_reference: str, amount_minor: int) -> dict[str, Any]:
    """Give money back, once per refund reference."""
    known = order.refunds.get(refund_reference)
    if known is not None:
        first = next(entry for entry in order.transactions if entry["id"] == known)
        if first["amount_minor"] != amount_minor:
            raise Conflict("refund_reference_reused")
        return first
    entry = take_back(order, now, "refund", amount_minor)
    order.refunds[refund_reference] = entry["id"]
    return entry


def take_back(order: Order, now: float, kind: str, amount_minor: int | None) -> dict[str, Any]:
    """Move captured money back as a refund, reversal or chargeback; by default all that is left."""
    amount = order.left() if amount_minor is None else amount_minor
    if amount <= 0 or amount > order.left():
        raise Conflict("exceeds_captured")
    currency = next(entry["currency"] for entry in order.transactions if entry["kind"] == "capture")
    return _move_money(order, kind, amount, currency, now)


def _require(order: Order, statuses: frozenset[str]) -> None:
    if order.status not in statuses or order.is_final:
        raise Conflict(f"order_{order.status}")


def _total(entries: Iterable[dict[str, Any]], *kinds: str) -> int:
    return sum(entry["amount_minor"] for entry in entries if entry["kind"] in kinds)


def _move_money(order: Order, kind: str, amount_minor: int, currency: str, now: float) -> dict[str, Any]:
    entry = {
        "id": new_id("txn"),
        "kind": kind,
        "amount_minor": amount_minor,
        "currency": currency,
        "at": round(now, 6),
    }
    order.transactions.append(entry)
    return entry
