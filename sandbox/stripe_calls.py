"""The endpoints of the simulated Stripe API: which parameters each takes, and what it does.

Parameters are those of https://docs.stripe.com/api and of stripe-python's `params` (API 2026-10-28). A parameter that
Stripe knows and the simulator would ignore to no harm is taken; any other is refused as unknown.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox import stripe_objects as objects
from sandbox import stripe_payments as payments
from sandbox.stripe_answers import answer, page, search
from sandbox.stripe_books import Books
from sandbox.stripe_form import (
    EXPAND,
    LIST,
    Check,
    WireError,
    anything,
    choice,
    fields,
    flag,
    lacking,
    listed,
    metadata,
    text,
    url,
    whole,
)
from sandbox.stripe_money import check_amount, check_total, currency
from sandbox.stripe_objects import Object, now

_LOCALES = (
    "auto bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hi-IN hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR "
    "ro ru sk sl sv th tr vi zh zh-HK zh-TW"  # no Armenian
)


@dataclass(frozen=True)
class Call:
    """One request, checked."""

    books: Books
    id: str
    path: str
    asked: Mapping[str, Any]
    public_url: str

    def found(self, kind: str, param: str) -> Object:
        """Return the object that the path names."""
        return self.books.find(kind, self.id, param)

    def told(self, found: Object) -> Object:
        """Return the object with its expansions."""
        return answer(self.books, found, self.asked.get("expand", []))


@dataclass(frozen=True)
class Endpoint:
    """One operation: `path` is below /v1/, with * for an id."""

    name: str
    method: str
    path: str
    work: Callable[[Call], Object]
    params: Mapping[str, Check] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def match(self, method: str, path: str) -> str | None:
        """Return the id in a path, "" where it has none, None where the path is another."""
        ours, theirs = self.path.split("/"), path.split("/")
        if method != self.method or len(ours) != len(theirs):
            return None
        pairs = list(zip(ours, theirs, strict=True))
        if any(one not in {"*", other} or not other for one, other in pairs):
            return None
        return next((other for one, other in pairs if one == "*"), "")

    def check(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters in their types, or raise WireError."""
        checked: dict[str, Any] = fields({**EXPAND, **self.params}, self.required)(asked, "")
        return checked


def _create_session(call: Call) -> Object:
    asked = call.asked
    if not asked["line_items"]:
        raise lacking("line_items")
    items = [_line_item(one, number) for number, one in enumerate(asked["line_items"])]
    if len({item["currency"] for item in items}) > 1:
        raise WireError("All line items must have the same currency.", param="line_items")
    _check_end(asked.get("expires_at"))
    merchant = call.books.merchant
    total = sum(item["amount_total"] for item in items)
    if total:
        check_total(total, items[0]["currency"], settlement=merchant.settlement_currency, most=merchant.max_amount)
    return call.told(call.books.add(objects.session(asked, items, call.public_url)))


def _line_item(asked: Mapping[str, Any], number: int) -> Object:
    name = f"line_items[{number}]"
    if "price" in asked:
        raise WireError(f"No such price: '{asked['price']}'", code="resource_missing", param=f"{name}[price]")
    for one in ("price_data", "quantity"):
        if one not in asked:
            raise lacking(f"{name}[{one}]")
    price = asked["price_data"]
    check_amount(price["unit_amount"], price["currency"], f"{name}[price_data][unit_amount]")
    return objects.line_item(asked)


def _check_end(expires_at: int | None) -> None:
    """Refuse an end below 30 minutes or above 24 hours from now."""
    if expires_at is None:
        return
    if expires_at < now() + 30 * 60 - 2:  # ASSUMED: two seconds of grace, since its clock and ours differ
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise WireError(message, param="expires_at")
    if expires_at > now() + 24 * 3600 + 2:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise WireError(message, param="expires_at")


def _expire_session(call: Call) -> Object:
    session = call.found("checkout.session", "session")
    payments.expire(call.books, session)
    return call.told(session)


def _line_items(call: Call) -> Object:
    rows = call.found("checkout.session", "session")["_line_items"]
    limit = call.asked.get("limit", 10)
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": f"/v1/{call.path}"}


def _capture(call: Call) -> Object:
    intent = call.found("payment_intent", "intent")
    payments.capture(call.books, intent, call.asked.get("amount_to_capture"))
    return call.told(intent)


def _cancel(call: Call) -> Object:
    intent = call.found("payment_intent", "intent")
    payments.cancel(call.books, intent, call.asked.get("cancellation_reason"))
    return call.told(intent)


def _refund(call: Call) -> Object:
    asked, books = call.asked, call.books
    if ("charge" in asked) is ("payment_intent" in asked):
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise WireError(message)
    if "charge" in asked:
        charge = books.find("charge", asked["charge"], "charge")
    else:
        intent = books.find("payment_intent", asked["payment_intent"], "payment_intent")
        if not intent["latest_charge"] or intent["status"] not in {"succeeded", "requires_capture"}:
            message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
            raise WireError(message, code="payment_intent_unexpected_state", executed=True)  # ASSUMED: the code
        charge = books.find("charge", intent["latest_charge"])
    return call.told(payments.refund(books, charge, asked))


def _cancel_refund(call: Call) -> Object:
    found = call.found("refund", "refund")
    if found["status"] != "requires_action":  # https://docs.stripe.com/api/refunds/cancel
        raise WireError("You can only cancel refunds with a status of requires_action.", executed=True)
    payments.end_refund(call.books, found, "canceled")
    return call.told(found)


def _retrieval(kind: str, param: str) -> Callable[[Call], Object]:
    return lambda call: call.told(call.found(kind, param))


def _listing(kind: str, *filters: str) -> Callable[[Call], Object]:
    def work(call: Call) -> Object:
        wanted = {name: call.asked[name] for name in filters if name in call.asked}
        types = call.asked.get("types")

        def keep(one: Object) -> bool:
            return all(one.get(name) == value for name, value in wanted.items()) and (not types or one["type"] in types)

        return page(call.books, kind, f"/v1/{call.path}", call.asked, keep)

    return work


def _searching(kind: str) -> Callable[[Call], Object]:
    return lambda call: search(call.books, kind, f"/v1/{call.path}", call.asked)


def _account(call: Call) -> Object:
    currency_ = call.books.merchant.settlement_currency or "usd"
    told = {"id": f"acct_{call.books.merchant.name}", "object": "account", "charges_enabled": True}
    return told | {"country": "US", "default_currency": currency_, "payouts_enabled": True, "type": "standard"}


def _balance(call: Call) -> Object:
    sums: dict[str, int] = {}
    for one in call.books.all("balance_transaction"):
        sums[one["currency"]] = sums.get(one["currency"], 0) + one["net"]
    pending = [{"amount": amount, "currency": code, "source_types": {}} for code, amount in sums.items()]
    return {"object": "balance", "available": [], "livemode": False, "pending": pending}


_INTENT_DATA: Mapping[str, Check] = {
    "capture_method": choice("automatic", "automatic_async", "manual"),
    "description": text(1000),
    "metadata": metadata,
    "receipt_email": text(512),
    "setup_future_usage": choice("off_session", "on_session"),
    "statement_descriptor": text(22),
    "statement_descriptor_suffix": text(22),
}
_PRODUCT: Mapping[str, Check] = {
    "name": text(5000),
    "description": text(40_000),
    "images": listed(url, 8),
    "metadata": metadata,
    "tax_code": text(),
}
_PRICE: Mapping[str, Check] = {
    "currency": currency,
    "product_data": fields(_PRODUCT, ("name",)),
    "tax_behavior": choice("exclusive", "inclusive", "unspecified"),
    "unit_amount": whole(),
}
_ITEM: Mapping[str, Check] = {
    "metadata": metadata,
    "price": text(),
    "price_data": fields(_PRICE, ("currency", "product_data", "unit_amount")),
    "quantity": whole(1),
}
# Stripe knows them, and for a payment link nothing would be different.
_TAKEN = (
    "branding_settings",
    "consent_collection",
    "custom_text",
    "excluded_payment_method_types",
    "integration_identifier",
    "origin_context",
    "payment_method_options",
    "saved_payment_method_options",
    "wallet_options",
)
_SESSION: Mapping[str, Check] = {
    **dict.fromkeys(_TAKEN, anything),
    "adaptive_pricing": fields({"enabled": flag}),
    "allow_promotion_codes": flag,
    "billing_address_collection": choice("auto", "required"),
    "cancel_url": url,
    "client_reference_id": text(200),
    "currency": currency,
    "customer_creation": choice("always", "if_required"),
    "customer_email": text(800),
    "expires_at": whole(),
    "line_items": listed(fields(_ITEM)),
    "locale": choice(*_LOCALES.split()),
    "metadata": metadata,
    "mode": choice("payment"),
    "payment_intent_data": fields(_INTENT_DATA),
    "payment_method_types": listed(choice("card", *objects.DELAYED)),
    "phone_number_collection": fields({"enabled": flag}, ("enabled",)),
    "submit_type": choice("auto", "book", "donate", "pay"),
    "success_url": url,
    "ui_mode": choice("hosted", "hosted_page"),  # "hosted" in versions before 2026
}
_SEARCH: Mapping[str, Check] = {"query": text(), "limit": LIST["limit"], "page": text()}
_REFUND_REASONS = choice("duplicate", "fraudulent", "requested_by_customer")
_CANCEL_REASONS = choice("abandoned", "duplicate", "fraudulent", "requested_by_customer")
_STATES = choice("complete", "expired", "open")


def _endpoints() -> tuple[Endpoint, ...]:
    get, post, name = "GET", "POST", text()
    sessions, intents = "checkout/sessions", "payment_intents"
    made = {"amount": whole(1), "charge": name, "metadata": metadata, "payment_intent": name, "reason": _REFUND_REASONS}
    by = {"charge": name, "payment_intent": name}
    of_intent = {"payment_intent": name}
    movement = {"source": name, "type": name, "currency": currency}
    seek = ("query",)
    return (
        Endpoint("sessions.create", post, sessions, _create_session, _SESSION, ("mode", "line_items", "success_url")),
        Endpoint("sessions.list", get, sessions, _listing("checkout.session", "payment_intent", "status"),
                 {**LIST, "payment_intent": name, "status": _STATES}),
        Endpoint("sessions.retrieve", get, f"{sessions}/*", _retrieval("checkout.session", "session")),
        Endpoint("sessions.expire", post, f"{sessions}/*/expire", _expire_session),
        Endpoint("sessions.line_items", get, f"{sessions}/*/line_items", _line_items, LIST),
        Endpoint("payment_intents.search", get, f"{intents}/search", _searching("payment_intent"), _SEARCH, seek),
        Endpoint("payment_intents.list", get, intents, _listing("payment_intent"), LIST),
        Endpoint("payment_intents.retrieve", get, f"{intents}/*", _retrieval("payment_intent", "intent")),
        Endpoint("payment_intents.capture", post, f"{intents}/*/capture", _capture,
                 {"amount_to_capture": whole(1), "final_capture": flag}),
        Endpoint("payment_intents.cancel", post, f"{intents}/*/cancel", _cancel,
                 {"cancellation_reason": _CANCEL_REASONS}),
        Endpoint("charges.search", get, "charges/search", _searching("charge"), _SEARCH, seek),
        Endpoint("charges.list", get, "charges", _listing("charge", *of_intent), {**LIST, **of_intent}),
        Endpoint("charges.retrieve", get, "charges/*", _retrieval("charge", "charge")),
        Endpoint("refunds.create", post, "refunds", _refund, made),
        Endpoint("refunds.list", get, "refunds", _listing("refund", *by), {**LIST, **by}),
        Endpoint("refunds.retrieve", get, "refunds/*", _retrieval("refund", "refund")),
        Endpoint("refunds.cancel", post, "refunds/*/cancel", _cancel_refund),
        Endpoint("events.list", get, "events", _listing("event", "type"),
                 {**LIST, "type": name, "types": listed(name, 20), "delivery_success": anything}),
        Endpoint("events.retrieve", get, "events/*", _retrieval("event", "id")),
        Endpoint("balance_transactions.list", get, "balance_transactions",
                 _listing("balance_transaction", *movement), {**LIST, **movement}),
        Endpoint("balance_transactions.retrieve", get, "balance_transactions/*",
                 _retrieval("balance_transaction", "id")),
        Endpoint("disputes.list", get, "disputes", _listing("dispute", *by), {**LIST, **by}),
        Endpoint("disputes.retrieve", get, "disputes/*", _retrieval("dispute", "dispute")),
        Endpoint("account.retrieve", get, "account", _account),
        Endpoint("balance.retrieve", get, "balance", _balance),
    )  # fmt: skip


ENDPOINTS = _endpoints()
OPERATIONS = frozenset(one.name for one in ENDPOINTS)
