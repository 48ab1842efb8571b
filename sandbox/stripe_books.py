"""The merchants of the simulated Stripe API: their settings, their objects, and what is told of them."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from sandbox import stripe_objects as objects
from sandbox.faults import Faults
from sandbox.server import Gate
from sandbox.stripe_events import Sender, event
from sandbox.stripe_form import WireError, missing
from sandbox.stripe_keys import Keys
from sandbox.stripe_objects import Object

NO_CAUSE: Object = {"id": None, "idempotency_key": None}


@dataclass(frozen=True)
class Merchant:
    """An account's settings. `password` is its secret key, and tells it from the others."""

    name: str
    password: str
    webhook_url: str = ""
    webhook_secret: str = ""
    further_webhook_secrets: Sequence[str] = ()  # while a secret is rolled, both sign
    enabled_events: Sequence[str] = ("*",)
    refund_status: str = "succeeded"  # of new refunds: or pending, requires_action
    declines_capture: bool = False
    settlement_currency: str = ""  # of balance transactions; empty: the charge's own
    exchange_rate: float = 1.0
    fee_basis_points: int = 290
    max_amount: int = 999_999_999_999  # https://docs.stripe.com/currencies; the API reference still says 99_999_999
    search_lag_seconds: float = 60.0
    keeps_errors_before: bool = False  # the key keeps the 500 of error_500_before too: the endpoint had begun
    forbidden: Sequence[str] = ()  # operations that this (restricted) key may not do
    changed_answer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # object name -> fields put over it
    latency_ms: float = 0.0


class Books:
    """One merchant with his objects, keys, faults and counts."""

    def __init__(self, merchant: Merchant, operations: frozenset[str], pause_seconds: float) -> None:
        """Begin empty."""
        self.merchant = merchant
        self.keys = Keys()
        self.faults = Faults(operations, events="events")
        self.gate = Gate(merchant.password, self.faults, lambda: None, merchant.latency_ms / 1000)
        self.sender = Sender(pause_seconds)
        self.cause = NO_CAUSE
        self._kinds: dict[str, dict[str, Object]] = {}
        self._latest: dict[str, str] = {}
        self.open_sessions: dict[str, Object] = {}

    def add(self, new: Object) -> Object:
        """Keep an object, and return it."""
        self._kinds.setdefault(new["object"], {})[new["id"]] = new
        if new["object"] == "checkout.session":
            self._latest[new["client_reference_id"] or new["id"]] = new["id"]
            self.open_sessions[new["id"]] = new
        return new

    def all(self, kind: str) -> Iterator[Object]:
        """Yield the objects of a kind, oldest first."""
        yield from self._kinds.get(kind, {}).values()

    def find(self, kind: str, id_: str, param: str = "id", status: int = 404) -> Object:
        """Return an object, or raise the error that it is not there."""
        found = self._kinds.get(kind, {}).get(id_)
        if found is None:
            raise missing(kind, id_, param, status)
        return found

    def seen(self, id_: str) -> Object | None:
        """Return the object of whatever kind that has this id."""
        return next((kept[id_] for kept in self._kinds.values() if id_ in kept), None)

    def session_of(self, reference: str) -> Object:
        """Return the session with this id, or the latest with this client_reference_id or a metadata value."""
        sessions = self._kinds.get("checkout.session", {})
        found = sessions.get(reference) or sessions.get(self._latest.get(reference, ""))
        if found is None:
            named = [one for one in sessions.values() if reference in one["metadata"].values()]
            found = named[-1] if named else None
        if found is None:
            raise WireError("no session of this reference", status=404, code="resource_missing")
        return found

    def belonging(self, session: Object) -> list[Object]:
        """Return a session with everything that came of it."""
        intent = session["payment_intent"]
        found = [session]
        if intent:
            found.append(self.find("payment_intent", intent))
            for kind in ("charge", "refund", "dispute"):
                found += [one for one in self.all(kind) if one["payment_intent"] == intent]
        ids = {one["id"] for one in found}
        return found + [one for one in self.all("balance_transaction") if one["source"] in ids]

    def reference_of(self, id_: str) -> str | None:
        """Return what a fault may name an order by: its session's client_reference_id, for the id of any object."""
        found = self.seen(id_)
        while found is not None and found["object"] != "checkout.session":
            found = self.seen(found.get("_session") or found.get("payment_intent") or "")
        return str(found["client_reference_id"] or found["id"]) if found else None

    def tell(self, kind: str, about: Object, previous: Object | None = None) -> Object:
        """Make an event of an object as it is now, and send it where the merchant wants it."""
        merchant = self.merchant
        wanted = bool(merchant.webhook_url) and any(one in {"*", kind} for one in merchant.enabled_events)
        told = deepcopy({name: value for name, value in about.items() if not name.startswith("_")})
        new = self.add(event(kind, told, self.cause, previous, int(wanted)))
        if wanted:
            self.deliver(new)
        return new

    def deliver(self, told: Object) -> None:
        """Send an event once more, or for the first time."""
        about = told["data"]["object"]
        fault = self.faults.pick("events", self.reference_of(about.get("payment_intent") or about["id"]))
        active = [one for one in (self.merchant.webhook_secret, *self.merchant.further_webhook_secrets) if one]
        if self.merchant.webhook_url:
            self.sender.send(self.merchant.webhook_url, active, told, fault)

    def move(self, source: Object, kind: str, amount: int) -> Object:
        """Move the balance, with the fee of a payment, in the settlement currency; return the transaction."""
        merchant = self.merchant
        settled = merchant.settlement_currency or source["currency"]
        rate = None if settled == source["currency"] else merchant.exchange_rate
        own = round(amount * (rate or 1.0))
        fee = own * merchant.fee_basis_points // 10_000 if kind in {"charge", "payment"} else 0
        return self.add(objects.balance_transaction(source, kind, own, fee, settled, rate))
