"""One merchant account at the sandbox's provider: its settings, its orders, and how its family behaves."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from sandbox import orders
from sandbox.faults import Faults
from sandbox.orders import Conflict, Order
from sandbox.server import Gate, Refusal
from sandbox.store import Store

CALLS = frozenset({"create", "lookup", "list", "cancel", "refund"})
LOCALES = ("en", "hy", "ru")

_REFERENCE = re.compile(r"[A-Za-z0-9._:~-]{1,64}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_HIGHEST_AMOUNT = 10**13
_LONGEST_SECONDS = 366 * 86_400
# What a second create under the same reference must repeat: not its life, which counts from the call.
_SAME_PARAMETERS = ("amount_minor", "currency", "description", "return_url", "locale")
# What an overwriting family takes over from it.
_PARAMETERS = (*_SAME_PARAMETERS, "expires_in_seconds")

# With `magic_amounts` on, the last four digits of the amount ask for a fault, as test card numbers do elsewhere.
MAGIC_AMOUNTS = {
    6601: "timeout_before",
    6602: "timeout_after",
    6603: "error_500_before",
    6604: "error_500_after",
    6605: "rate_limited_429",
    6606: "slow",
    6611: "wrong_amount",
    6612: "wrong_currency",
    6621: "duplicate",
    6622: "reordered",
    6623: "lost",
    6624: "late",
    6625: "forged",
    6626: "stale",
    6627: "hint_only",
}


class Family(StrEnum):
    """What a second create does, and whether the provider can be asked at all."""

    IDEMPOTENT = "idempotent"
    UNIQUE = "unique"
    OVERWRITES = "overwrites"
    NO_LOOKUP = "no_lookup"


@dataclass
class Settings:
    """What an account may set, by the command line, by a JSON file, or by the control API."""

    name: str
    api_key: str = field(repr=False)
    family: Family = Family.IDEMPOTENT
    webhook_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    session_minutes: float = 20.0
    latency_ms: float = 0.0
    pay_later_seconds: float = 5.0
    auto_pay_seconds: float | None = None
    magic_amounts: bool = False


class Account:
    """The orders of one merchant. Every change goes to the store; times come from the caller."""

    def __init__(self, settings: Settings, store: Store) -> None:
        """Begin without orders; `restore` brings back what the store kept."""
        self._store = store
        self.faults = Faults(CALLS, money="pay", events="webhook")
        self.gate = Gate("", self.faults, self.flush)
        self.counts: Counter[str] = Counter()
        self.webhooks: Counter[str] = Counter()
        self._by_reference: dict[str, Order] = {}
        self._by_id: dict[str, Order] = {}
        self._marks_used: set[str] = set()
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings; orders and counts stay."""
        self.settings = settings
        self.gate.api_key = settings.api_key
        self.gate.latency_seconds = settings.latency_ms / 1000

    @property
    def webhook_url(self) -> str:
        """Where events go; empty: nowhere."""
        return self.settings.webhook_url

    @property
    def webhook_secret(self) -> str:
        """What events are signed with."""
        return self.settings.webhook_secret

    @property
    def gives_page_again(self) -> bool:
        """Whether a look-up tells the page where one pays."""
        return self.settings.family in {Family.IDEMPOTENT, Family.OVERWRITES}

    def document(self) -> dict[str, Any]:
        """Return what the store keeps beside the orders."""
        return {
            "settings": vars(self.settings),
            "rules": self.faults.rules(),
            "counts": self.counts,
            "webhooks": self.webhooks,
            "calls": self.gate.calls,
            "struck": self.faults.struck,
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take up counts and fault rules of an earlier process."""
        for rule in document["rules"]:
            self.faults.add(rule)
        self.counts.update(document["counts"])
        self.webhooks.update(document["webhooks"])
        self.gate.calls.update(document["calls"])
        self.faults.struck.update(document["struck"])

    def adopt(self, order: Order) -> None:
        """Take up an order."""
        self._by_reference[order.reference] = order
        self._by_id[order.id] = order

    def save(self, order: Order) -> None:
        """Hand a changed order and the changed counts to the store."""
        self._store.put("order", order.id, order.document)
        self.remember()

    def remember(self) -> None:
        """Hand the changed counts and rules to the store."""
        self._store.put("account", self.settings.name, self.document())

    def flush(self) -> None:
        """Write what changed, counts included."""
        self.remember()
        self._store.flush()

    def orders(self) -> list[Order]:
        """Return every order, oldest first."""
        return list(self._by_id.values())

    def order(self, order_id: str) -> Order:
        """Return the order with this id, or refuse."""
        order = self._by_id.get(order_id)
        if order is None:
            raise Refusal(404, "order_not_found")
        return order

    def order_of(self, reference: str) -> Order:
        """Return the order with the merchant's reference, or refuse."""
        order = self._by_reference.get(reference)
        if order is None:
            raise Refusal(404, "order_not_found")
        return order

    def reference_of(self, order_id: str) -> str | None:
        """Return the reference of an order, if there is one."""
        order = self._by_id.get(order_id)
        return order.reference if order else None

    def require_lookup(self) -> None:
        """Refuse every question where the family answers none."""
        if self.settings.family is Family.NO_LOOKUP:
            raise Refusal(405, "not_offered")

    def create(self, body: Mapping[str, Any], now: float) -> tuple[Order, bool]:
        """Create an order, or do what the family does the second time; True when the order is new."""
        wanted = _parameters(body)
        known = self._by_reference.get(wanted["reference"])
        if known is not None:
            self._create_again(known, wanted, now)
            return known, False
        order = self._new_order(wanted, now)
        self.adopt(order)
        self.counts["orders_created"] += 1
        self.save(order)
        return order, True

    def asked_fault(self, operation: str, reference: str, amount_minor: object, metadata: object) -> str | None:
        """Return the fault that an order asks for by its metadata or amount; calls are struck once per reference."""
        name = metadata.get("sandbox_fault") if isinstance(metadata, dict) else None
        if name is None and self.settings.magic_amounts and isinstance(amount_minor, int):
            name = MAGIC_AMOUNTS.get(amount_minor % 10_000)
        if not isinstance(name, str):
            return None
        if operation == "create":
            if reference in self._marks_used:
                return None
            self._marks_used.add(reference)
        return name

    def stats(self) -> dict[str, Any]:
        """Return exact counts."""
        return {
            "account": self.settings.name,
            "family": self.settings.family,
            "calls": {name: self.gate.calls[name] for name in sorted(CALLS)},
            "create_calls": self.gate.calls["create"],
            "orders_created": self.counts["orders_created"],
            "orders_per_reference": Counter(order.reference for order in self.orders()),
            "create_calls_per_reference": {order.reference: order.create_calls for order in self.orders()},
            "statuses": Counter(order.status for order in self.orders()),
            "declines": self.counts["declines"],
            **{f"{kind}s": self.counts[kind] for kind in ("capture", "refund", "reversal", "chargeback")},
            "captured_minor": self._totals("capture"),
            "returned_minor": self._totals("refund", "reversal", "chargeback"),
            "faults": dict(self.faults.struck),
        }

    def _create_again(self, known: Order, wanted: Mapping[str, Any], now: float) -> None:
        known.create_calls += 1
        self.save(known)
        match self.settings.family:
            case Family.UNIQUE | Family.NO_LOOKUP:
                raise Refusal(409, "duplicate_reference")
            case Family.IDEMPOTENT:
                if any(getattr(known, name) != wanted[name] for name in _SAME_PARAMETERS):
                    raise Refusal(409, "other_parameters")
            case Family.OVERWRITES:
                if not known.is_payable:
                    raise Refusal(409, f"order_{known.status}")
                for name in _PARAMETERS:
                    setattr(known, name, wanted[name])
                known.expires_at = self._expiry(wanted, now)
                self.save(known)

    def _new_order(self, wanted: Mapping[str, Any], now: float) -> Order:
        return Order(
            id=orders.new_id("ord"),
            account=self.settings.name,
            pay_token=orders.new_id("pay"),
            created_at=round(now, 6),
            expires_at=self._expiry(wanted, now),
            **wanted,
        )

    def _expiry(self, wanted: Mapping[str, Any], now: float) -> float:
        longest = self.settings.session_minutes * 60
        return float(round(now + min(wanted["expires_in_seconds"], longest), 6))

    def _totals(self, *kinds: str) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for order in self._by_id.values():
            for entry in order.transactions:
                if entry["kind"] in kinds:
                    totals[entry["currency"]] += entry["amount_minor"]
        return dict(totals)


def settings_from(document: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Read settings, each missing one from `base`. ValueError names the field that is wrong."""
    known = {field.name for field in fields(Settings)}
    unknown = set(document) - known
    if unknown:
        raise ValueError(f"{min(unknown)}: no such setting; use one of {', '.join(sorted(known))}")
    merged = (vars(base) if base else {}) | dict(document)
    try:
        merged["family"] = Family(merged.get("family", Family.IDEMPOTENT))
        return Settings(**merged)
    except TypeError:
        raise ValueError("name and api_key are needed") from None


def conflict(error: Conflict) -> Refusal:
    """Return the API's answer to what an order's state does not allow."""
    return Refusal(409, error.code)


def amount(body: Mapping[str, Any], name: str = "amount_minor") -> int:
    """Return an amount in minor units, or refuse."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _HIGHEST_AMOUNT:
        raise Refusal(400, "invalid_request", name)
    return value


def reference(body: Mapping[str, Any], name: str = "reference") -> str:
    """Return a reference of the merchant's, or refuse."""
    value = body.get(name)
    if not isinstance(value, str) or not _REFERENCE.fullmatch(value):
        raise Refusal(400, "invalid_request", name)
    return value


def currency(body: Mapping[str, Any], name: str = "currency") -> str:
    """Return a currency code, or refuse."""
    value = body.get(name)
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Refusal(400, "invalid_request", name)
    return value


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "reference": reference(body),
        "amount_minor": amount(body),
        "currency": currency(body),
        "description": _description(body),
        "return_url": _return_url(body),
        "expires_in_seconds": _seconds(body),
        "locale": body["locale"] if body.get("locale") in LOCALES else "en",
        "metadata": body["metadata"] if isinstance(body.get("metadata"), dict) else {},
    }


def _description(body: Mapping[str, Any]) -> str:
    value = body.get("description", "")
    if not isinstance(value, str) or len(value) > 512:
        raise Refusal(400, "invalid_request", "description")
    return value


def _return_url(body: Mapping[str, Any]) -> str:
    value = body.get("return_url")
    if not isinstance(value, str) or len(value) > 2048 or not _is_web_address(value):
        raise Refusal(400, "invalid_request", "return_url")
    return value


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _seconds(body: Mapping[str, Any]) -> int:
    value = body.get("expires_in_seconds", 1200)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LONGEST_SECONDS:
        raise Refusal(400, "invalid_request", "expires_in_seconds")
    return value
