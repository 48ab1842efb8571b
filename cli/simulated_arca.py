"""How the demo opens and drives the simulated ArCa iPay / BPC gateway."""

from collections.abc import Mapping
from typing import Any

from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Money, Place, Simulator
from sandbox.arca_callbacks import parameters
from sandbox.arca_orders import APPROVED
from sandbox.visitors import act


def _opening(place: Place) -> dict[str, Any]:
    return {"password": place.secret, "callback_url": place.door, "callback_secret": place.signing}


def _account(place: Place) -> dict[str, Any]:
    return {
        "api_key": place.secret,
        "webhook_secrets": [place.signing],
        "capture": "by_command",
        "options": {"user_name": place.merchant, "two_phase": place.till.holds, "settle": "PT3S"},
    }


def _money(order: Mapping[str, Any]) -> Money:
    """What is given back is no longer deposited there."""
    held = order["approved"] if order["status"] == APPROVED else 0
    return Money(order["deposited"] + order["refunded"], order["refunded"], held)


def _forge(merchant: str, order: Mapping[str, Any]) -> dict[str, Any]:
    guess = {"secret": "a-guess", "private_key": ""}
    told = parameters(order["id"], order["reference"], "deposited", done=True, extra={}, **guess)
    return {"method": "GET", "params": told}


SIMULATOR = Simulator(
    program="arca",
    tills=(SHOP, SILENT, HOLDS, UNLUCKY),
    opening=_opening,
    account=_account,
    money=_money,
    forge=_forge,
    deeds={"expire": act("expire"), "settle_late": act("settle"), "refund": act("refund")},
    path="/payment/rest",
    create="register",
    arguments=("--callback-pause-seconds", "1"),
)
