"""How the demo opens and drives the simulated Stripe API. Keys look like test mode's, and are invented."""

import json
import time
from collections.abc import Mapping
from typing import Any

from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Money, Place, Simulator
from sandbox.stripe_events import event, signature
from sandbox.visitors import act


def _opening(place: Place) -> dict[str, Any]:
    return {"password": place.secret, "webhook_url": place.door, "webhook_secret": place.signing}


def _account(place: Place) -> dict[str, Any]:
    return {
        "api_key": place.secret,
        "webhook_secrets": [place.signing],
        "capture": "by_command",
        "options": {"two_phase": place.till.holds, "livemode": False, "settle": "PT3S"},
    }


def _money(order: Mapping[str, Any]) -> Money:
    """Read the balance: a hold that was let go has a refund object too, and moves none."""
    moved = order["balance_transactions"]
    taken = sum(one["amount"] for one in moved if one["type"] in {"charge", "payment"})
    back = -sum(one["amount"] for one in moved if one["type"] in {"refund", "payment_refund"})
    intent = order["payment_intent"] or {}
    return Money(taken, back, intent.get("amount_capturable", 0))


def _forge(merchant: str, order: Mapping[str, Any]) -> dict[str, Any]:
    paid = {**order["session"], "status": "complete", "payment_status": "paid"}
    told = event("checkout.session.completed", paid, {"id": None, "idempotency_key": None}, None, 1)
    body = json.dumps(told).encode()
    signed = signature(body, ["a-guess"], int(time.time()))
    return {
        "method": "POST",
        "content": body,
        "headers": {"stripe-signature": signed, "content-type": "application/json"},
    }


SIMULATOR = Simulator(
    program="stripe",
    tills=(SHOP, SILENT, HOLDS, UNLUCKY),
    opening=_opening,
    account=_account,
    money=_money,
    forge=_forge,
    deeds={
        "expire": act("expire"),
        "begin": act("pay", method="sepa_debit"),  # its end is told later
        "settle": act("settle"),
        "refund": act("refund"),
    },
    create="sessions.create",
    arguments=("--webhook-pause-seconds", "1"),
)
