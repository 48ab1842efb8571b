"""How the demo opens and drives the simulated VPOS.am: with the calls that its public pages show, and no others."""

import json
import time
from collections.abc import Mapping
from typing import Any

from cli.simulated import SHOP, SILENT, UNLUCKY, Money, Place, Simulator
from sandbox.visitors import act
from sandbox.vpos_webhooks import event, sign


def _opening(place: Place) -> dict[str, Any]:
    return {"api_key": place.secret, "webhook_url": place.door, "webhook_secret": place.signing}


def _account(place: Place) -> dict[str, Any]:
    return {
        "api_key": place.secret,
        "webhook_secrets": [place.signing],
        "options": {"provider": "manual", "event_session": "data.session", "settle": "PT3S"},
    }


def _money(session: Mapping[str, Any]) -> Money:
    return Money(session["paid_amount"], sum(one["amount"] for one in session["refunds"]))


def _forge(merchant: str, session: Mapping[str, Any]) -> dict[str, Any]:
    told = {"id": session["id"], "merchantOrderId": session["reference"], "status": "paid"}
    body = json.dumps(event("payment_session.paid", told)).encode()
    signed = sign("hmac-sha256-hex", "a-guess", body, int(time.time()))
    return {
        "method": "POST",
        "content": body,
        "headers": {"x-vpos-signature": signed, "content-type": "application/json"},
    }


SIMULATOR = Simulator(
    program="vpos",
    tills=(SHOP, SILENT, UNLUCKY),
    opening=_opening,
    account=_account,
    money=_money,
    forge=_forge,
    deeds={"expire": act("expire"), "settle_late": act("settle_late"), "refund": act("refund")},
    create="create",
    arguments=("--webhook-pause-seconds", "1"),
)
