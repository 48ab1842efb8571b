"""How the demo opens and drives the simulated Ameriabank vPOS. The bank tells nobody of anything."""

from collections.abc import Mapping
from typing import Any

from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Money, Place, Simulator
from sandbox.ameriabank_merchants import CLIENT_ID
from sandbox.ameriabank_payments import APPROVED
from sandbox.visitors import act


def _opening(place: Place) -> dict[str, Any]:
    return {"password": place.secret, "two_phase": place.till.holds}


def _account(place: Place) -> dict[str, Any]:
    options = {
        "client_id": CLIENT_ID,
        "user_name": place.merchant,
        "two_phase": place.till.holds,
        "settle": "PT3S",
    }
    return {"api_key": place.secret, "capture": "by_command", "options": options}


def _money(payment: Mapping[str, Any]) -> Money:
    """What is given back is no longer deposited there."""
    held = payment["approved"] if payment["status"] == APPROVED else 0
    return Money(payment["deposited"] + payment["refunded"], payment["refunded"], held)


def _forge(merchant: str, payment: Mapping[str, Any]) -> dict[str, Any]:
    """Bring the browser's unsigned return to the door of events."""
    told = {"orderID": payment["reference"], "resposneCode": "00", "paymentID": payment["id"], "opaque": ""}
    return {"method": "GET", "params": told}


SIMULATOR = Simulator(
    program="ameriabank",
    tills=(SHOP, SILENT, HOLDS, UNLUCKY),
    opening=_opening,
    account=_account,
    money=_money,
    forge=_forge,
    deeds={"expire": act("expire"), "settle_late": act("settle_late"), "refund": act("refund")},
    path="/VPOS",
    create="InitPayment",
)
