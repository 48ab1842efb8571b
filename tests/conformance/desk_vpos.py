"""The desk of VPOS.am: a merchant at the simulated payment sessions of `sandbox.vpos`.

Public are create, look-up and signed events; the account here has the calls too which are not, so that the suite sees
them. An account as the public pages describe it is in test_vpos.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.base import OrderRequest, ProviderOrder
from gateways.providers.vpos import VposProvider
from sandbox.control import ProviderControl, eventually
from sandbox.vpos_sessions import PLANTED
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.receiver import Received, Receiver

VARIANTS = {"": {}, "stamped": {"signature_scheme": "t-v1"}}

_SECRET = "webhook-secret-of-the-merchant"
_SESSIONS = "/v1/payment-sessions"
_NOT_PUBLIC = {
    "find_path": _SESSIONS,
    "cancel_path": f"{_SESSIONS}/{{id}}/cancel",
    "refund_path": f"{_SESSIONS}/{{id}}/refunds",
}
_CALLS = {"create": "create", "look_up": "get", "cancel": "cancel", "refund": "refund"}


class VposDesk(Desk):
    """One merchant."""

    secret = _SECRET
    currencies = ("USD", "EUR", "RUB")

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        self._process = running("vpos", "--webhook-pause-seconds", "0.1")
        self._control: ProviderControl = self._process.control
        self._receiver = room.enter_context(Receiver())
        self._room = room
        self._options = {name: value for name, value in options.items() if name != "two_phase"}
        self._name, self._token = f"shop-{new_id()}", f"token-{new_id()}"
        scheme = self._options.get("signature_scheme", "hmac-sha256-hex")
        self.signs_time = scheme == "t-v1"
        self._control.configure(
            self._name,
            api_key=self._token,
            list_path=_NOT_PUBLIC["find_path"],
            cancel_path=_NOT_PUBLIC["cancel_path"],
            refund_path=_NOT_PUBLIC["refund_path"],
            webhook_url=self._receiver.url,
            webhook_secret=_SECRET,
            signature_scheme=scheme,
        )
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> VposProvider:
        given = {
            "name": self._name,
            "base_url": self._process.base_url,
            "api_key": self._token,
            "webhook_secrets": (_SECRET,),
            "provider": "manual",
            "event_session": "data.session",
            **_NOT_PUBLIC,
        }
        made = VposProvider(**{**given, **self._options, **options})
        self._room.callback(made.close)
        return made

    def order(self, **changes: Any) -> OrderRequest:
        request = OrderRequest(
            reference=new_id(),
            amount_minor=1_500_000,
            currency="AMD",
            description="Կանխավճար, договор 17",
            return_url="https://pay.example.am/l/token/return?lang=hy",
            expires_in=timedelta(minutes=20),
            locale="hy",
        )
        return replace(request, **changes)

    def act(self, order: ProviderOrder, action: str, **options: Any) -> None:
        """Do one of the simulator's own actions."""
        self._control.act(order.reference, action, account=self._name, **options)

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        self.act(order, "pay", **({} if amount_minor is None else {"amount_minor": amount_minor}))

    def decline(self, order: ProviderOrder) -> None:
        """Do nothing: no word for a try that failed and may be repeated is known; "failed" is the end of a session."""

    def hold(self, order: ProviderOrder) -> None:
        """Let him pay: no account that holds first is known."""
        self.pay(order)

    def expire(self, order: ProviderOrder) -> None:
        self.act(order, "expire")

    def settle_late(self, order: ProviderOrder) -> None:
        self.act(order, "settle_late")

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", amount_minor=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        rule = {"operation": _CALLS[operation], "seconds": seconds, "times": times}
        self._control.fault(fault, account=self._name, **rule)

    def count(self) -> int:
        return len(self._control.orders(self._name))

    def calls(self, operation: str) -> int:
        called: int = self._control.stats(self._name)["calls"].get(_CALLS[operation], 0)
        return called

    def events(self, at_least: int) -> list[Received]:
        return eventually(lambda: list(self._receiver.received), lambda received: len(received) >= at_least)

    def event_of(self, received: Received) -> dict[str, Any]:
        return {
            "method": "POST",
            "query": "",
            "headers": received.headers,
            "body": received.body,
            "received_at": received.received_at,
        }

    def altered(self, received: Received) -> list[dict[str, Any]]:
        event, header = self.event_of(received), "x-vpos-signature"
        signature, told = received.headers[header], json.loads(received.body)
        session = told["data"]["session"]
        bodies = [
            json.dumps(told | {"data": {"session": session | changed}}).encode()
            for changed in ({"status": "another"}, {"merchantOrderId": "x"}, {"id": "x"}, {"paidAmountMinor": 1})
        ]
        others = ("", "0" * 64, signature[:-1], f"{signature}0", signature.replace("v1=", "v0=").replace("t=", "t=1"))
        named = [{**received.headers, header: one} for one in others if one != signature]
        unsigned = {name: value for name, value in received.headers.items() if name != header}
        return [{**event, "body": one} for one in (*bodies, b"", received.body + b" ")] + [
            {**event, "headers": one} for one in (unsigned, *named)
        ]

    def sign_with(self, secret: str) -> None:
        self._control.configure(self._name, webhook_secret=secret)

    def planted(self) -> tuple[str, ...]:
        return tuple(PLANTED.values())


@contextmanager
def open_desk(**options: Any) -> Iterator[VposDesk]:
    with ExitStack() as room:
        yield VposDesk(options, room)


def _acts(*actions: str, percent: int | None = None) -> Callable[[Desk, ProviderOrder], None]:
    """Do these actions one after the other; the last one with a part of the amount."""

    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, VposDesk)
        for action in actions:
            is_part = percent is not None and action == actions[-1]
            desk.act(order, action, **({"amount_minor": 1_500_000 * (percent or 0) // 100} if is_part else {}))

    return reach


# The words are the simulator's, and ASSUMED: https://api.vpos.am/docs shows none.
STATUSES = (
    Documented("created", _acts(), OrderState.OPEN),
    Documented("pending", _acts("pending"), OrderState.PROCESSING, event="payment_session.pending"),
    Documented("processing", _acts("processing"), OrderState.PROCESSING, event="payment_session.processing"),
    Documented("paid", _acts("pay"), OrderState.PAID, (("capture", 100),), event="payment_session.paid"),
    Documented("paid, another sum", _acts("pay", percent=40), OrderState.PAID, (("capture", 40),)),
    Documented("failed", _acts("decline"), OrderState.DECLINED, event="payment_session.failed"),
    Documented("expired", _acts("expire"), OrderState.EXPIRED, event="payment_session.expired"),
    Documented("cancelled", _acts("cancel"), OrderState.CANCELLED, event="payment_session.cancelled"),
    Documented(
        "partially_refunded",
        _acts("pay", "refund", percent=25),
        OrderState.PAID,
        (("capture", 100), ("refund", 25)),
        event="payment_session.partially_refunded",
    ),
    Documented(
        "refunded",
        _acts("pay", "refund"),
        OrderState.PAID,
        (("capture", 100), ("refund", 100)),
        event="payment_session.refunded",
    ),
)
