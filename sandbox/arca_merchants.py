"""The merchants of the simulated ArCa iPay / BPC gateway: their settings, their books, and what they may ask for.

Sections in brackets are those of https://dev.bpcbt.com/en/integration/api/rest.html.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

from sandbox import arca_orders as orders
from sandbox.arca_orders import Order, WireError
from sandbox.faults import Faults
from sandbox.server import Gate

OPERATIONS = frozenset(
    {"register", "registerPreAuth", "getOrderStatusExtended", "deposit", "reverse", "refund", "decline"}
)
_CURRENCIES = frozenset({"051", "643", "840", "978", "981", "398", "392", "414"})
_YEREVAN = timezone(timedelta(hours=4))


@dataclass(frozen=True)
class Merchant:
    """A merchant's settings, as the bank's support makes them."""

    user: str
    password: str
    version: int = 12  # of getOrderStatusExtended
    session_seconds: int = 1200
    tries_allowed: int = 3
    several_deposits: bool = False
    knows_external_refunds: bool = True
    callback_url: str = ""
    callback_secret: str = ""
    callback_private_key: str = ""
    callback_method: str = "GET"
    callback_date: bool = False
    changed_answer: Mapping[str, Any] = field(default_factory=dict)  # put over every status answer; None takes away
    latency_ms: float = 0.0


class Books:
    """One merchant with his orders, his faults and his counts."""

    def __init__(self, merchant: Merchant) -> None:
        """Begin empty."""
        self.merchant = merchant
        self.orders: dict[str, Order] = {}
        self.faults = Faults(OPERATIONS)
        self.gate = Gate(merchant.password, self.faults, lambda: None, merchant.latency_ms / 1000)

    def find(self, form: Mapping[str, str]) -> Order:
        """Return the order by orderId, which goes before orderNumber [Order status]."""
        if form.get("orderId"):
            found = next((one for one in self.orders.values() if one.id == form["orderId"].lower()), None)
        else:
            found = self.orders.get(form.get("orderNumber", ""))
        if found is None:
            raise WireError("6", "Order not found")  # ASSUMED
        return found

    def register(self, form: Mapping[str, str], *, two_phase: bool) -> Order:
        """Make an order, once for its number."""
        _check(form)
        if form["orderNumber"] in self.orders:
            message = "Order number is duplicated, order with given order number is processed already"
            raise WireError("1", message)  # [Order registration, response example]
        order = Order(
            number=form["orderNumber"],
            amount=int(form["amount"]),
            currency=form["currency"],
            return_url=form["returnUrl"],
            description=form.get("description", ""),
            language=form.get("language", "en"),
            two_phase=two_phase,
            expires_at=_end(form, self.merchant.session_seconds),
            tries_allowed=self.merchant.tries_allowed,
            callback_url=form.get("dynamicCallbackUrl", ""),
        )
        self.orders[order.number] = order
        return order

    def change(self, operation: str, order: Order, form: Mapping[str, str]) -> str | None:
        """Do what changes an order; return the callback's operation, or None where nothing is to be told."""
        match operation:
            case "deposit":
                return orders.deposit(order, _whole(form, "amount"), several=self.merchant.several_deposits)
            case "reverse":
                return orders.reverse(order)
            case "decline":
                if form.get("orderNumber") != order.number:
                    raise WireError("4", "orderNumber is mandatory")  # [Cancel order]: both are
                return orders.decline_by_merchant(order)
        expected = _whole(form, "expectedDepositedAmount") if form.get("expectedDepositedAmount") else None
        external = form.get("externalRefundId") if self.merchant.knows_external_refunds else None
        return orders.refund(order, _whole(form, "amount"), external_id=external, expected=expected)


def _check(form: Mapping[str, str]) -> None:
    """Refuse what the documentation calls wrong [Order registration]. ASSUMED: the codes 3 and 4."""
    if not 1 <= len(form.get("orderNumber", "")) <= 36:
        raise WireError("4", "orderNumber: 1 to 36 characters")
    if _whole(form, "amount") <= 0:
        raise WireError("4", "amount is empty")
    if form.get("currency") not in _CURRENCIES:
        raise WireError("3", "Unknown currency")
    parts = urlsplit(form.get("returnUrl", ""))
    if parts.scheme not in {"http", "https"} or len(form["returnUrl"]) > 512:
        raise WireError("4", "The return URL is invalid")
    if not 1 <= len(form.get("description", "-")) <= 598 or "<" in form.get("description", ""):
        raise WireError("4", "description")  # [Overview]: no field may hold parts of html


def _whole(form: Mapping[str, str], name: str) -> int:
    value = form.get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise WireError("4", f"{name}: digits")
    return int(value)


def _end(form: Mapping[str, str], default_seconds: int) -> float:
    """Return when the session ends: expirationDate goes before sessionTimeoutSecs [Order registration]."""
    if form.get("expirationDate"):
        try:
            told = datetime.strptime(form["expirationDate"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=_YEREVAN)
        except ValueError:
            raise WireError("4", "expirationDate") from None
        return told.timestamp()
    return time.time() + (_whole(form, "sessionTimeoutSecs") if form.get("sessionTimeoutSecs") else default_seconds)
