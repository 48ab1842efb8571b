"""The orders of the simulated ArCa iPay / BPC gateway: what happens to them, and what a status answer says.

Sections in brackets are those of https://dev.bpcbt.com/en/integration/api/rest.html. Written from that documentation
alone; what it leaves open is marked ASSUMED, and listed in sandbox.arca.
"""

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CREATED, APPROVED, DEPOSITED, REVERSED, REFUNDED, IN_ACS, DECLINED, PENDING, PARTLY_DEPOSITED = range(9)

NO_TRY, EXPIRED, TRIES_EXHAUSTED, DECLINED_BY_MERCHANT = "-100", "-2007", "-2013", "4005"  # [action codes]
INSUFFICIENT_FUNDS, NO_ANSWER = "116", "151019"

# What no merchant needs and every answer holds: a reader must neither keep nor show it.
PLANTED = {
    "maskedPan": "411111**1111",
    "pan": "4111111111111111",
    "cardholderName": "ANAHIT TESTYAN",
    "ip": "203.0.113.77",
    "email": "anahit@example.am",
}


class WireError(Exception):
    """An answer with an errorCode."""

    def __init__(self, code: str, message: str) -> None:
        """Keep both."""
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Order:
    """One order. Amounts are minor units, times are seconds since 1970."""

    number: str
    amount: int
    currency: str
    return_url: str
    description: str
    language: str
    two_phase: bool
    expires_at: float
    tries_allowed: int
    callback_url: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: int = CREATED
    action_code: str = NO_TRY
    tries: int = 0
    approved: int = 0
    deposited: int = 0
    refunded: int = 0
    refunds: list[dict[str, Any]] = field(default_factory=list)
    chargeback: bool = False
    registered_at: float = field(default_factory=time.time)
    moments: dict[str, float] = field(default_factory=dict)

    @property
    def is_payable(self) -> bool:
        """Whether a customer may still try."""
        return self.status in {CREATED, IN_ACS, PENDING} and time.time() < self.expires_at

    def note(self, name: str) -> None:
        """Remember when something happened."""
        self.moments[name] = time.time()


def lapse(order: Order) -> bool:
    """Let the session end [Order registration, sessionTimeoutSecs]; return whether it did now."""
    if order.status != CREATED or time.time() < order.expires_at:
        return False
    order.status, order.action_code = DECLINED, EXPIRED  # [action codes, -2007]
    return True


def pay(order: Order, amount: int | None = None, *, late: bool = False) -> str:
    """Authorise, and capture at once in one phase. A part is a partial authorisation [paymentAmountInfo]."""
    if not order.is_payable and not late:
        raise WireError("5", "The order is not payable")
    order.approved = order.amount if amount is None else amount
    order.action_code = "0"
    order.note("authDateTime")
    if order.two_phase:
        order.status = APPROVED
        return "approved"
    order.status, order.deposited = DEPOSITED, order.approved
    order.note("depositedDate")
    return "deposited"


def decline(order: Order, code: str = INSUFFICIENT_FUNDS) -> str:
    """Decline one try. ASSUMED: the order stays registered, with the try's action code, until no try is left."""
    if not order.is_payable:
        raise WireError("5", "The order is not payable")
    order.tries += 1
    order.action_code = code
    if order.tries >= order.tries_allowed:
        order.status, order.action_code = DECLINED, TRIES_EXHAUSTED  # [action codes, -2013]
    return "approved" if order.two_phase else "deposited"


def deposit(order: Order, amount: int, *, several: bool = False) -> str:
    """Capture a hold; 0 captures all [Deposit order]. With `several`, parts may follow each other [status 8]."""
    if order.status not in {APPROVED, PARTLY_DEPOSITED}:
        raise WireError("5", "The payment is in a wrong state")
    wanted = amount or order.approved - order.deposited
    if order.deposited + wanted > order.approved:
        raise WireError("5", "The deposit amount exceeds the approved amount")
    order.deposited += wanted
    order.status = PARTLY_DEPOSITED if several and order.deposited < order.approved else DEPOSITED
    order.note("depositedDate")
    return "deposited"


def reverse(order: Order) -> str:
    """Undo a hold or a payment, once [Payment reversal]. ASSUMED: nothing is deposited after it."""
    if order.status not in {APPROVED, DEPOSITED} or order.refunded:
        raise WireError("5", "The payment is in a wrong state")
    order.status, order.deposited = REVERSED, 0
    order.note("reversedDate")
    return "reversed"


def refund(order: Order, amount: int, *, external_id: str | None = None, expected: int | None = None) -> str | None:
    """Give money back; 0 gives back all [Refund]. None: this external id was refunded before, and is not again."""
    if external_id and any(one["externalRefundId"] == external_id for one in order.refunds):
        return None  # "if it exists, a successful response with refund data is returned"
    if order.status not in {DEPOSITED, REFUNDED}:
        raise WireError("5", "The payment is in a wrong state")
    if expected is not None and expected != order.deposited:
        raise WireError("5", "The deposited amount is another one")  # expectedDepositedAmount
    wanted = amount or order.deposited
    if wanted > order.deposited:
        raise WireError("5", "The refund amount exceeds the deposited amount")
    order.deposited -= wanted  # "This return will change the depositedAmount value"
    order.refunded += wanted
    order.status = REFUNDED  # ASSUMED: after a part too
    order.note("refundedDate")
    order.refunds.append(
        {
            "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 4 * 3600)),  # ASSUMED: local, no zone
            "externalRefundId": external_id,
            "approvalCode": secrets.token_hex(3).upper(),
            "actionCode": "000",  # [action codes]: "in the refunds block"
            "referenceNumber": str(secrets.randbelow(9 * 10**11) + 10**11),
            "amount": wanted,
        }
    )
    return "refunded"


def decline_by_merchant(order: Order) -> str | None:
    """Cancel an order that is not complete [Cancel order]: it becomes DECLINED."""
    if order.status not in {CREATED, IN_ACS}:
        raise WireError("5", "The order cannot be cancelled")
    order.status, order.action_code = DECLINED, DECLINED_BY_MERCHANT  # ASSUMED: this action code
    return None


def answer(order: Order, version: int) -> dict[str, Any]:
    """Return the status answer with the fields that a version of it has [Order status, versions]."""
    body: dict[str, Any] = {
        "errorCode": "0",
        "errorMessage": "Success",
        "orderNumber": order.number,
        "orderStatus": order.status,
        "actionCode": int(order.action_code),
        "actionCodeDescription": "",
        "amount": order.amount,
        "currency": order.currency,
        "date": round(order.registered_at * 1000),
        "orderDescription": order.description,
        "ip": PLANTED["ip"],
        "merchantOrderParams": [],
        "attributes": [{"name": "mdOrder", "value": order.id}],
    }
    if order.tries or order.approved:
        card = {name: PLANTED[name] for name in ("maskedPan", "pan", "cardholderName")}
        body["cardAuthInfo"] = {"expiration": "203412", "approvalCode": "123456", **card}
    for since, named in _SINCE:
        if version >= since:
            body |= named(order, version)
    return body


def _moment(name: str) -> Callable[[Order, int], dict[str, Any]]:
    def told(order: Order, version: int) -> dict[str, Any]:
        return {name: round(order.moments[name] * 1000)} if name in order.moments else {}

    return told


def _amounts(order: Order, version: int) -> dict[str, Any]:
    states = ["CREATED", "APPROVED", "DEPOSITED", "REVERSED", "REFUNDED", "CREATED", "DECLINED", "CREATED", "APPROVED"]
    return {
        "paymentAmountInfo": {
            "paymentState": states[order.status],
            "approvedAmount": order.approved,
            "depositedAmount": order.deposited,
            "refundedAmount": order.refunded,
        },
        "bankInfo": {"bankCountryCode": "UNKNOWN", "bankCountryName": "Unknown"},
    }


def _refunds(order: Order, version: int) -> dict[str, Any]:
    hidden = {"externalRefundId": 21, "approvalCode": 26}
    entries = [{k: v for k, v in one.items() if version >= hidden.get(k, 0) and v} for one in order.refunds]
    return {"refunds": entries} if entries else {}


_SINCE: tuple[tuple[int, Callable[[Order, int], dict[str, Any]]], ...] = (
    (2, _moment("authDateTime")),
    (3, _amounts),
    (5, _refunds),
    (6, lambda order, _: {"chargeback": order.chargeback}),
    (10, _moment("depositedDate")),
    (12, _moment("refundedDate")),
    (12, _moment("reversedDate")),
    (13, lambda order, _: {"payerData": {"email": PLANTED["email"]}}),
)
