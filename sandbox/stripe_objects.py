"""The objects of the simulated Stripe API, as new: https://docs.stripe.com/api and the fixtures of stripe/openapi.

Names that begin with "_" are the simulator's own and are never answered.
"""

import secrets
import string
import time
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]

# What no merchant needs and many answers hold: a reader must neither keep nor show it.
PLANTED = {
    "email": "anahit@example.am",
    "name": "ANAHIT TESTYAN",
    "phone": "+37499000077",
    "line1": "77 Invented Street",
    "last4": "4242",
    "fingerprint": "Xt5EWLLDS7FJjR1c",
    "iban_last4": "3000",
}
DELAYED = ("acss_debit", "au_becs_debit", "bacs_debit", "boleto", "customer_balance", "konbini", "oxxo", "sepa_debit")
_LETTERS = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """Return an id as Stripe's: a prefix and letters, no order in them."""
    return f"{prefix}_" + "".join(secrets.choice(_LETTERS) for _ in range(length))


def now() -> int:
    """Return seconds since 1970; Stripe's times have no fractions."""
    return int(time.time())


def address() -> Object:
    """Return a customer's address."""
    told = {"city": "Yerevan", "country": "AM", "line1": PLANTED["line1"], "line2": None}
    return told | {"postal_code": "0001", "state": None}


def session(asked: Mapping[str, Any], items: list[Object], public_url: str) -> Object:
    """Return a new Checkout Session. It has no PaymentIntent yet.

    https://docs.stripe.com/changelog/2022-08-01/deferred-paymentintent-checkout-session: it comes with the first try.
    """
    id_ = new_id("cs_test", 58)
    total = sum(item["amount_total"] for item in items)
    return {
        "id": id_,
        "object": "checkout.session",
        "adaptive_pricing": asked.get("adaptive_pricing", {"enabled": False}),
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "status": None},
        "billing_address_collection": asked.get("billing_address_collection"),
        "cancel_url": asked.get("cancel_url"),
        "client_reference_id": asked.get("client_reference_id"),
        "client_secret": None,
        "created": now(),
        "currency": items[0]["currency"],
        "customer": None,
        "customer_creation": asked.get("customer_creation", "if_required"),
        "customer_details": None,
        "customer_email": asked.get("customer_email"),
        "expires_at": asked.get("expires_at") or now() + 24 * 3600,
        "invoice": None,
        "livemode": False,
        "locale": asked.get("locale"),
        "metadata": asked.get("metadata", {}),
        "mode": "payment",
        "payment_intent": None,
        "payment_link": None,
        "payment_method_options": asked.get("payment_method_options", {}),
        "payment_method_types": asked.get("payment_method_types", ["card"]),
        "payment_status": "unpaid" if total else "no_payment_required",
        "presentment_details": None,
        "recovered_from": None,
        "setup_intent": None,
        "status": "open",
        "submit_type": asked.get("submit_type"),
        "subscription": None,
        "success_url": asked["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": asked.get("ui_mode", "hosted_page"),
        "url": f"{public_url}/c/pay/{id_}",
        "_line_items": items,
        "_intent_data": asked.get("payment_intent_data", {}),
        "_tries": 0,
    }


def line_item(asked: Mapping[str, Any]) -> Object:
    """Return one line item of a session."""
    price, quantity = asked["price_data"], asked["quantity"]
    total = price["unit_amount"] * quantity
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": price["currency"],
        "description": price["product_data"]["name"],
        "price": {
            "id": new_id("price"),
            "object": "price",
            "active": False,
            "currency": price["currency"],
            "livemode": False,
            "product": new_id("prod", 14),
            "type": "one_time",
            "unit_amount": price["unit_amount"],
            "unit_amount_decimal": str(price["unit_amount"]),
        },
        "quantity": quantity,
    }


def payment_intent(checkout: Object) -> Object:
    """Return the PaymentIntent of a session whose customer makes his first try."""
    data = checkout["_intent_data"]
    id_ = new_id("pi")
    return {
        "id": id_,
        "object": "payment_intent",
        "amount": checkout["amount_total"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": data.get("capture_method", "automatic_async"),
        "client_secret": f"{id_}_secret_{secrets.token_hex(12)}",
        "confirmation_method": "automatic",
        "created": now(),
        "currency": checkout["currency"],
        "customer": None,
        "description": data.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": dict(data.get("metadata", {})),
        "next_action": None,
        "payment_method": None,
        "payment_method_types": checkout["payment_method_types"],
        "presentment_details": None,
        "processing": None,
        "receipt_email": data.get("receipt_email"),
        "setup_future_usage": None,
        "statement_descriptor": data.get("statement_descriptor"),
        "statement_descriptor_suffix": data.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "_session": checkout["id"],
    }


def charge(intent: Object, method: str) -> Object:
    """Return one try of a customer; a delayed method's has an id of its own kind (observed)."""
    card = {
        "amount_authorized": intent["amount"] if method == "card" else None,
        "brand": "visa",
        "country": "AM",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": PLANTED["fingerprint"],
        "last4": PLANTED["last4"],
        "network": "visa",
    }
    bank = {"country": "AM", "fingerprint": PLANTED["fingerprint"], "last4": PLANTED["iban_last4"]}
    id_ = new_id("ch" if method == "card" else "py")
    return {
        "id": id_,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": {"address": address(), **{one: PLANTED[one] for one in ("email", "name", "phone")}},
        "captured": False,
        "created": now(),
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": dict(intent["metadata"]),  # https://docs.stripe.com/metadata: copied when the charge is made
        "outcome": None,
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": new_id("pm"),
        "payment_method_details": {"type": method, method: card if method == "card" else bank},
        "presentment_details": intent["presentment_details"],
        "receipt_email": intent["receipt_email"],
        "receipt_url": f"https://pay.stripe.com/receipts/payment/{secrets.token_hex(16)}",
        "refunded": False,
        "status": "pending",
    }


def refund(paid: Object, amount: int, reason: str | None, told: Mapping[str, str]) -> Object:
    """Return a refund of a charge."""
    return {
        "id": new_id("re" if paid["id"].startswith("ch_") else "pyr"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": paid["id"],
        "created": now(),
        "currency": paid["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "failure_balance_transaction": None,
        "failure_reason": None,
        "metadata": dict(told),
        "payment_intent": paid["payment_intent"],
        "pending_reason": None,
        "presentment_details": paid["presentment_details"],
        "reason": reason,
        "receipt_number": None,
        "status": "succeeded",
    }


def dispute(paid: Object, amount: int) -> Object:
    """Return a dispute that wants an answer. ASSUMED: a disputed charge cannot be refunded."""
    return {
        "id": new_id("du"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": paid["id"],
        "created": now(),
        "currency": paid["currency"],
        "evidence": {"customer_email_address": PLANTED["email"], "customer_name": PLANTED["name"]},
        "evidence_details": {"due_by": now() + 7 * 86_400, "has_evidence": False, "past_due": False},
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": paid["payment_intent"],
        "reason": "fraudulent",
        "status": "needs_response",
    }


def balance_transaction(source: Object, kind: str, amount: int, fee: int, currency: str, rate: float | None) -> Object:
    """Return a movement of the account's balance, in the currency that the account SETTLES in."""
    return {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": now() + 2 * 86_400,
        "balance_type": "payments",
        "created": now(),
        "currency": currency,
        "description": source.get("description"),
        "exchange_rate": rate,
        "fee": fee,
        "fee_details": [],
        "net": amount - fee,
        "reporting_category": {"payment": "charge", "payment_refund": "refund", "adjustment": "dispute"}.get(
            kind, kind
        ),
        "source": source["id"],
        "status": "pending",
        "type": kind,
    }
