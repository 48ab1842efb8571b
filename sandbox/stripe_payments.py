"""What happens to sessions, PaymentIntents, charges and refunds of the simulated Stripe API, and what is told of it.

Sections in brackets are of https://docs.stripe.com: [sessions] api/checkout/sessions, [intents] api/payment_intents,
[refunds] refunds and api/refunds, [disputes] disputes/how-disputes-work, [fulfil] checkout/fulfillment, [events]
api/events/types. What they leave open is marked ASSUMED, and listed in sandbox.stripe.
"""

from collections.abc import Mapping
from typing import Any

from sandbox import stripe_objects as objects
from sandbox.stripe_books import Books
from sandbox.stripe_form import WireError
from sandbox.stripe_money import check_amount
from sandbox.stripe_objects import Object, now


def lapse(books: Books) -> None:
    """Let sessions end whose time is over [sessions, expires_at]."""
    for session in list(books.open_sessions.values()):
        if session["status"] == "open" and session["expires_at"] <= now():
            _expire(books, session)
        if session["status"] != "open":
            del books.open_sessions[session["id"]]


def expire(books: Books, session: Object) -> None:
    """End an open session [sessions, expire]."""
    if session["status"] != "open":
        message = (
            'Only Checkout Sessions with a status in ["open"] can be expired. '
            f"This Checkout Session has a status of `{session['status']}`."
        )
        raise WireError(message, param="session", executed=True)
    _expire(books, session)


def _expire(books: Books, session: Object) -> None:
    session |= {"status": "expired", "url": None}
    if session["payment_intent"]:
        _cancel(
            books, books.find("payment_intent", session["payment_intent"]), "automatic"
        )  # ASSUMED: canceled, and so
    books.tell("checkout.session.expired", session)


def pay(books: Books, session: Object, told: Mapping[str, Any]) -> None:
    """Let the customer pay by card, or begin a payment by a method that notifies later [fulfil].

    `amount_minor` is another amount than the session's (no Stripe does that); `presentment` an amount and a currency
    that the customer saw (adaptive pricing).
    """
    method = str(told.get("method", "card"))
    if method not in {"card", *objects.DELAYED}:
        raise WireError(f"method is card or one of {', '.join(objects.DELAYED)}")
    if session["status"] == "open" and session["payment_status"] == "no_payment_required":
        session |= {"status": "complete", "url": None, "customer_details": _customer(session)}
        books.tell("checkout.session.completed", session)
        return
    intent = _first_or_next_try(books, session)
    if "amount_minor" in told:
        intent["amount"] = int(told["amount_minor"])
    if told.get("presentment"):
        shown = dict(told["presentment"])
        session["presentment_details"] = intent["presentment_details"] = shown
    charge = _charge(books, intent, method)
    session |= {"status": "complete", "url": None, "customer_details": _customer(session)}
    if method != "card":
        intent |= {"status": "processing", "processing": {"type": method}}
        books.tell("charge.pending", charge)
        books.tell("payment_intent.processing", intent)
        books.tell("checkout.session.completed", session)
        return
    _authorise(books, intent, charge)
    _settle_session(session, intent)
    books.tell("checkout.session.completed", session)


def decline(books: Books, session: Object, code: str = "card_declined", reason: str = "generic_decline") -> None:
    """Let one try fail: the session stays open, its PaymentIntent waits for another method [intents, lifecycle]."""
    intent = _first_or_next_try(books, session)
    charge = _charge(books, intent, "card")
    _fail(books, intent, charge, code, reason)


def settle_later(books: Books, session: Object, *, succeeds: bool) -> None:
    """End a delayed payment [fulfil]: days after the session is complete."""
    intent = books.find("payment_intent", session["payment_intent"] or "-")
    if intent["status"] != "processing":
        raise WireError("nothing is processing", executed=True)
    charge = books.find("charge", intent["latest_charge"])
    intent["processing"] = None
    if succeeds:
        _authorise(books, intent, charge)
        _settle_session(session, intent)
    else:
        _fail(books, intent, charge, "payment_method_provider_decline", "insufficient_funds")
    books.tell(f"checkout.session.async_payment_{'succeeded' if succeeds else 'failed'}", session)


def capture(books: Books, intent: Object, amount: int | None) -> None:
    """Capture a hold once, in whole or in part; the rest is released [intents, capture]."""
    if intent["status"] != "requires_capture":
        raise _unexpected_state(intent, "captured", "requires_capture")
    wanted = intent["amount_capturable"] if amount is None else amount
    if wanted > intent["amount_capturable"]:
        message = "The amount to capture is greater than the amount that can be captured."
        raise WireError(message, code="amount_too_large", param="amount_to_capture", executed=True)
    check_amount(wanted, intent["currency"], "amount_to_capture")
    if books.merchant.declines_capture:  # https://docs.stripe.com/api/errors: 402, parameters valid, yet it failed
        error = {"type_": "card_error", "code": "card_declined", "decline_code": "generic_decline"}
        raise WireError("Your card was declined.", status=402, executed=True, **error)
    charge = books.find("charge", intent["latest_charge"])
    _take(books, intent, charge, wanted)
    _release(books, charge, charge["amount"] - wanted)
    books.tell("charge.captured", charge)
    books.tell("payment_intent.succeeded", intent)
    _settle_session(books.find("checkout.session", intent["_session"]), intent)


def cancel(books: Books, intent: Object, reason: str | None) -> None:
    """Let a hold go. Only holds: otherwise the session is to be expired [intents, cancel]."""
    if intent["status"] != "requires_capture":
        if intent["status"] in {"succeeded", "canceled"}:
            raise _unexpected_state(intent, "canceled", "requires_capture")
        message = "You cannot cancel a PaymentIntent of a Checkout Session. Expire the Checkout Session instead."
        raise WireError(message, code="payment_intent_unexpected_state", executed=True)  # ASSUMED: the code
    _cancel(books, intent, reason)


def expire_hold(books: Books, intent: Object) -> None:
    """Let the time of a hold end, seven days for most cards [payments/place-a-hold-on-a-payment-method]."""
    if intent["status"] != "requires_capture":
        raise _unexpected_state(intent, "canceled", "requires_capture")
    _cancel(books, intent, "automatic")


def refund(books: Books, charge: Object, asked: Mapping[str, Any]) -> Object:
    """Give money back, in parts too [refunds]; 400 when it is more than is left."""
    left = charge["amount"] - charge["amount_refunded"]
    amount = asked.get("amount", left)
    _check_refundable(charge, amount, left)
    check_amount(amount, charge["currency"], "amount")
    if not charge["captured"]:
        return _cancel(books, books.find("payment_intent", charge["payment_intent"]), None)
    new = books.add(objects.refund(charge, amount, asked.get("reason"), asked.get("metadata", {})))
    new["status"] = books.merchant.refund_status
    if new["status"] == "pending":
        new["pending_reason"] = "processing"  # https://docs.stripe.com/changelog/basil/2025-04-30/refund-pending-reason
    _count_refund(charge, amount)
    kind = "refund" if charge["id"].startswith("ch_") else "payment_refund"
    new["balance_transaction"] = books.move(new, kind, -amount)["id"]
    books.tell("refund.created", new)
    books.tell("charge.refunded", charge)  # [events]: "including partial refunds"
    return new


def end_refund(books: Books, given: Object, status: str, reason: str = "expired_or_canceled_card") -> None:
    """Let a refund come to its end; a failure may come when it had succeeded [refunds, failed refunds]."""
    before = {"status": given["status"]}
    if given["status"] in {"failed", "canceled"}:
        raise WireError("the refund has ended", executed=True)
    given |= {"status": status, "pending_reason": None}
    charge = books.find("charge", given["charge"])
    if status in {"failed", "canceled"}:
        _count_refund(charge, -given["amount"])  # ASSUMED: the charge can be refunded again
        given["failure_balance_transaction"] = books.move(given, "refund_failure", given["amount"])["id"]
    if status == "failed":
        given["failure_reason"] = reason
        books.tell("refund.failed", given)
    books.tell("refund.updated", given, before)
    books.tell("charge.refund.updated", given, before)


def open_dispute(books: Books, charge: Object, amount: int | None) -> None:
    """Let the customer's bank take the money back for now [disputes]. The charge's other amounts stay as they are."""
    new = books.add(objects.dispute(charge, charge["amount_captured"] if amount is None else amount))
    charge["disputed"] = True
    new["balance_transactions"].append(books.move(new, "adjustment", -new["amount"]))
    books.tell("charge.dispute.created", new)
    books.tell("charge.dispute.funds_withdrawn", new)


def close_dispute(books: Books, charge: Object, status: str) -> None:
    """Close a dispute: won gives the money back [disputes]."""
    if status not in {"won", "lost"}:
        raise WireError("status is won or lost")
    found = [one for one in books.all("dispute") if one["charge"] == charge["id"]]
    if not found or found[-1]["status"] in {"won", "lost"}:
        raise WireError("no open dispute", executed=True)
    found[-1]["status"] = status
    if status == "won":
        found[-1]["balance_transactions"].append(books.move(found[-1], "adjustment", found[-1]["amount"]))
        books.tell("charge.dispute.funds_reinstated", found[-1])
    books.tell("charge.dispute.closed", found[-1])


def _first_or_next_try(books: Books, session: Object) -> Object:
    if session["status"] != "open":
        raise WireError(f"the session is {session['status']}", executed=True)
    if session["payment_intent"]:
        return books.find("payment_intent", session["payment_intent"])
    intent = books.add(objects.payment_intent(session))
    session["payment_intent"] = intent["id"]
    books.tell("payment_intent.created", intent)
    return intent


def _charge(books: Books, intent: Object, method: str) -> Object:
    charge = books.add(objects.charge(intent, method))
    intent |= {"latest_charge": charge["id"], "payment_method": charge["payment_method"]}
    return charge


def _customer(session: Object) -> Object:
    planted = objects.PLANTED
    email = session["customer_email"] or planted["email"]
    told = {"address": objects.address(), "email": email, "name": planted["name"], "phone": planted["phone"]}
    return told | {"tax_exempt": "none", "tax_ids": []}


def _authorise(books: Books, intent: Object, charge: Object) -> None:
    charge |= {"status": "succeeded", "paid": True, "outcome": {"type": "authorized", "network_status": "approved"}}
    intent["last_payment_error"] = None
    if intent["capture_method"] == "manual" and charge["id"].startswith("ch_"):
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        books.tell("charge.succeeded", charge)
        books.tell("payment_intent.amount_capturable_updated", intent)
        return
    charge |= {"captured": True, "amount_captured": charge["amount"]}
    books.tell("charge.succeeded", charge)  # [intents, capture_method automatic_async]: the balance comes later
    _take(books, intent, charge, charge["amount"])
    books.tell("charge.updated", charge, {"balance_transaction": None})
    books.tell("payment_intent.succeeded", intent)


def _take(books: Books, intent: Object, charge: Object, amount: int) -> None:
    charge |= {"captured": True, "amount_captured": amount}
    kind = "charge" if charge["id"].startswith("ch_") else "payment"
    charge["balance_transaction"] = books.move(charge, kind, amount)["id"]
    intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}


def _settle_session(session: Object, intent: Object) -> None:
    """A hold leaves it unpaid until it is captured (observed)."""
    session["payment_status"] = "paid" if intent["status"] == "succeeded" else "unpaid"


def _fail(books: Books, intent: Object, charge: Object, code: str, reason: str) -> None:
    charge |= {"status": "failed", "paid": False, "failure_code": code, "failure_message": "Your card was declined."}
    charge["outcome"] = {"type": "issuer_declined", "network_status": "declined_by_network", "reason": reason}
    error = {"type": "card_error", "code": code, "decline_code": reason, "message": "Your card was declined."}
    method = {"id": charge["payment_method"], "object": "payment_method", "billing_details": charge["billing_details"]}
    intent["last_payment_error"] = error | {"charge": charge["id"], "payment_method": method}
    intent |= {"status": "requires_payment_method", "payment_method": None}
    books.tell("charge.failed", charge)
    books.tell("payment_intent.payment_failed", intent)


def _cancel(books: Books, intent: Object, reason: str | None) -> Object:
    """Cancel an intent and let its hold go; return the refund of the hold, or the intent that had none."""
    held, released = intent["status"] == "requires_capture", intent
    intent |= {"status": "canceled", "canceled_at": now(), "cancellation_reason": reason, "amount_capturable": 0}
    if held:
        charge = books.find("charge", intent["latest_charge"])
        released = _release(books, charge, charge["amount"])
        if reason == "automatic":
            books.tell("charge.expired", charge)
    books.tell("payment_intent.canceled", intent)
    return released


def _release(books: Books, charge: Object, amount: int) -> Object:
    """Give back what was held and never taken.

    [intents, cancel]: it "is automatically refunded". Observed: a capture of a part too leaves a refund OBJECT, and the
    charge's amount_refunded counts it, although no money has moved. ASSUMED: its events, and that it moves no balance.
    """
    new = objects.refund(charge, amount, None, {})
    if amount:
        books.add(new)
        _count_refund(charge, amount)
        books.tell("refund.created", new)
        books.tell("charge.refunded", charge)
    return new


def _check_refundable(charge: Object, amount: int, left: int) -> None:
    id_ = charge["id"]
    if charge["status"] != "succeeded":  # ASSUMED: the code
        raise WireError(f"Charge {id_} did not succeed.", code="charge_not_refundable", executed=True)
    if charge["disputed"]:  # https://docs.stripe.com/error-codes#charge-disputed
        raise WireError(
            f"Charge {id_} has been charged back; cannot issue a refund.", code="charge_disputed", executed=True
        )
    if left <= 0:
        message = f"Charge {id_} has already been refunded."
        raise WireError(message, code="charge_already_refunded", executed=True)
    if not charge["captured"] and amount != left:  # observed
        raise WireError("You cannot partially refund an uncaptured charge.", param="amount", executed=True)
    if amount > left:  # observed: no code
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise WireError(message, param="amount", executed=True)


def _count_refund(charge: Object, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] >= charge["amount"]


def _unexpected_state(intent: Object, verb: str, wanted: str) -> WireError:
    message = (
        f"This PaymentIntent could not be {verb} because it has a status of {intent['status']}. "
        f"Only a PaymentIntent with one of the following statuses may be {verb}: {wanted}."
    )
    told = {name: value for name, value in intent.items() if not name.startswith("_")}
    return WireError(message, code="payment_intent_unexpected_state", executed=True, payment_intent=told)
