"""What happens to an order of the simulated Stripe API besides its calls: customers, banks, dashboards, time."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import stripe_payments as payments
from sandbox.stripe_answers import answer
from sandbox.stripe_books import Books
from sandbox.stripe_form import WireError
from sandbox.stripe_objects import Object, new_id


def act(books: Books, reference: str, action: str, told: Mapping[str, Any]) -> Object:
    """Do one of `ACTIONS` and return the session. WireError: there is none such, or its state does not allow it."""
    if action not in ACTIONS:
        raise WireError(f"action is one of {', '.join(sorted(ACTIONS))}")
    payments.lapse(books)
    session = books.session_of(reference)
    ACTIONS[action](books, session, told)
    return session


def act_for_merchant(books: Books, action: str) -> Object:
    """Do what concerns no order: let a day pass for keys, let the search catch up."""
    if action == "prune_keys":
        books.keys.prune()
    elif action == "index":
        for kind in ("payment_intent", "charge"):
            for one in books.all(kind):
                one["_indexed"] = True
    else:
        raise WireError("action is prune_keys or index")
    return {"done": action}


def _expire(_books: Books, session: Object, _told: Mapping[str, Any]) -> None:
    if session["status"] == "open":
        session["expires_at"] = int(time.time()) - 1
    payments.lapse(_books)


def _latest(books: Books, session: Object, kind: str) -> Object:
    found = [one for one in books.belonging(session) if one["object"] == kind]
    if not found:
        raise WireError(f"this order has no {kind}")
    return found[-1]


def _refund(books: Books, session: Object, told: Mapping[str, Any]) -> None:
    asked = {"amount": int(told["amount_minor"])} if "amount_minor" in told else {}
    payments.refund(books, _latest(books, session, "charge"), asked)


def _end_refund(status: str) -> Callable[[Books, Object, Mapping[str, Any]], None]:
    def end(books: Books, session: Object, told: Mapping[str, Any]) -> None:
        named = told.get("refund")
        found = books.find("refund", str(named)) if named else _latest(books, session, "refund")
        payments.end_refund(books, found, status)

    return end


def _capture(books: Books, session: Object, told: Mapping[str, Any]) -> None:
    payments.capture(books, _latest(books, session, "payment_intent"), told.get("amount_minor"))


def _repeat_event(books: Books, session: Object, told: Mapping[str, Any]) -> None:
    """Send an event of an order once more; `new_id`: as another Event object that tells the same [webhooks]."""
    ids = {one["id"] for one in books.belonging(session)}
    of_order = [one for one in books.all("event") if one["data"]["object"]["id"] in ids]
    found = [one for one in of_order if one["type"] == told.get("type")]
    if not found:
        raise WireError("this order has no event of that type")
    new = {**found[-1], "id": new_id("evt")}
    books.deliver(books.add(new) if told.get("new_id") else found[-1])


def _backdate(books: Books, session: Object, told: Mapping[str, Any]) -> None:
    """Let everything of an order have happened some seconds earlier, for the statements of past days."""
    for one in books.belonging(session):
        one["created"] -= int(told["seconds"])


# What a customer, his bank, the merchant at his dashboard, or the time does. Options are named beside.
ACTIONS: dict[str, Callable[[Books, Object, Mapping[str, Any]], None]] = {
    "pay": payments.pay,  # amount_minor, presentment; method: one of stripe_objects.DELAYED
    "settle": lambda books, session, _: payments.settle_later(books, session, succeeds=True),
    "fail": lambda books, session, _: payments.settle_later(books, session, succeeds=False),
    "decline": lambda books, session, told: payments.decline(
        books, session, reason=str(told.get("code", "generic_decline"))
    ),
    "expire": _expire,
    "capture": _capture,  # amount_minor
    "hold_expires": lambda books, session, _: payments.expire_hold(books, _latest(books, session, "payment_intent")),
    "refund": _refund,  # amount_minor
    "refund_succeeds": _end_refund("succeeded"),  # refund: an id, else the latest
    "refund_fails": _end_refund("failed"),  # refund
    "dispute": lambda books, session, told: payments.open_dispute(
        books, _latest(books, session, "charge"), told.get("amount_minor")
    ),
    "close_dispute": lambda books, session, told: payments.close_dispute(
        books, _latest(books, session, "charge"), str(told.get("status"))
    ),
    "repeat_event": _repeat_event,  # type, new_id
    "backdate": _backdate,  # seconds
}


def dumped(books: Books, session: Object, public_url: str) -> Object:
    """Return a session with its page and all that came of it."""
    of_kind: dict[str, list[Object]] = {}
    for one in books.belonging(session):
        of_kind.setdefault(one["object"], []).append(answer(books, one))
    return {
        "reference": session["client_reference_id"] or session["id"],
        "pay_url": f"{public_url}/c/pay/{session['id']}",
        "session": of_kind["checkout.session"][0],
        "payment_intent": next(iter(of_kind.get("payment_intent", [])), None),
        "charges": of_kind.get("charge", []),
        "refunds": of_kind.get("refund", []),
        "disputes": of_kind.get("dispute", []),
        "balance_transactions": of_kind.get("balance_transaction", []),
    }
