"""How the demo opens and drives the simulated Idram wallet, which our server never calls."""

from collections.abc import Mapping
from typing import Any

from cli.simulated import SHOP, Money, Place, Simulator
from sandbox.idram_bills import Merchant, Transaction
from sandbox.idram_calls import confirmation
from sandbox.visitors import act, bad_luck


def _opening(place: Place) -> dict[str, Any]:
    back = f"{place.site}/back/{place.till.name}"
    return {"secret": place.signing, "result_url": place.door, "success_url": back, "fail_url": back}


def _account(place: Place) -> dict[str, Any]:
    return {
        "api_key": "none",
        "webhook_secrets": [place.signing],
        "options": {"rec_account": place.merchant},
    }


def _money(bill: Mapping[str, Any]) -> Money:
    stands = [one for one in bill["transactions"] if one["state"] == "completed"]
    return Money(sum(one["cents"] for one in stands), sum(one["refunded_cents"] for one in stands))


def _forge(merchant: str, bill: Mapping[str, Any]) -> dict[str, Any]:
    invented = Transaction(bill["reference"], 1_250_000, id="0" * 14)
    return {"method": "POST", "data": confirmation(Merchant(merchant, "a-guess"), invented)}


SIMULATOR = Simulator(
    program="idram",
    tills=(SHOP,),
    opening=_opening,
    account=_account,
    money=_money,
    forge=_forge,
    deeds={
        "double": bad_luck("duplicate", "confirm"),
        "lose": bad_luck("lost", "confirm"),
        "tell_again": act("repeat"),
    },
    numbered=True,
    pages=frozenset({"handover"}),
)
