"""The desk of Ameriabank's vPOS: a merchant at the simulated bank `sandbox.ameriabank`."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.ameriabank import AmeriabankProvider
from gateways.providers.base import OrderRequest, ProviderOrder
from sandbox.ameriabank_merchants import CLIENT_ID
from sandbox.ameriabank_payments import PLANTED
from sandbox.control import ProviderControl
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.receiver import Received

_PASSWORD = "password-of-the-api-user"
_OPERATIONS = {
    "create": "InitPayment",
    "look_up": "GetPaymentDetails",
    "capture": "ConfirmPayment",
    "release": "CancelPayment",
    "cancel": "CancelPayment",
    "refund": "RefundPayment",
}
_NUMBERS = itertools.count(4_565_001)


class AmeriabankDesk(Desk):
    """One API user."""

    a_decline_is_final = True
    currencies = ("USD", "EUR", "RUB")

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        self._process = running("ameriabank")
        self._control: ProviderControl = self._process.control
        self._room = room
        self._options = options
        self.two_phase = bool(options.get("two_phase"))
        self._user = f"shop-{new_id()}"
        self._control.configure(self._user, password=_PASSWORD, two_phase=self.two_phase)
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> AmeriabankProvider:
        given = {
            "name": self._user,
            "base_url": f"{self._process.base_url}/VPOS",
            "api_key": _PASSWORD,
            "client_id": CLIENT_ID,
            "user_name": self._user,
        }
        made = AmeriabankProvider(**{**given, **self._options, **options})
        self._room.callback(made.close)
        return made

    def order(self, **changes: Any) -> OrderRequest:
        request = OrderRequest(
            reference=str(next(_NUMBERS)),
            amount_minor=1_500_000,
            currency="AMD",
            description="Կանխավճար, договор 17",
            return_url="https://pay.example.am/l/token/return?lang=hy",
            expires_in=timedelta(minutes=10),
            locale="en",  # a page that is told again is told in English
        )
        return replace(request, **changes)

    def act(self, order: ProviderOrder, action: str, **options: Any) -> None:
        """Do one of the simulator's own actions."""
        self._control.act(order.reference, action, account=self._user, **options)

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        self.act(order, "pay", **({} if amount_minor is None else {"amount_minor": amount_minor}))
        self._capture(order)

    def decline(self, order: ProviderOrder) -> None:
        self.act(order, "decline")

    def hold(self, order: ProviderOrder) -> None:
        self.act(order, "hold")

    def expire(self, order: ProviderOrder) -> None:
        self.act(order, "expire")

    def settle_late(self, order: ProviderOrder) -> None:
        self.act(order, "settle_late")
        self._capture(order)

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", amount_minor=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        rule = {"operation": _OPERATIONS[operation], "seconds": seconds, "times": times}
        self._control.fault(fault, account=self._user, **rule)

    def count(self) -> int:
        return len(self._control.orders(self._user))

    def calls(self, operation: str) -> int:
        called: int = self._control.stats(self._user)["calls"].get(_OPERATIONS[operation], 0)
        return called

    def events(self, at_least: int) -> list[Received]:
        assert at_least == 0, "the bank sends no events"
        return []

    def event_of(self, received: Received) -> dict[str, Any]:
        """Return what a browser that comes back would look like at the door of events: it is none."""
        return {
            "method": "GET",
            "query": received.path.partition("?")[2],
            "headers": received.headers,
            "body": received.body,
            "received_at": received.received_at,
        }

    def altered(self, received: Received) -> list[dict[str, Any]]:
        return [self.event_of(received)]

    def sign_with(self, secret: str) -> None:
        raise AssertionError(f"the bank signs nothing, nor with a secret of {len(secret)} characters")

    def planted(self) -> tuple[str, ...]:
        return tuple(PLANTED.values())

    def _capture(self, order: ProviderOrder) -> None:
        if self.two_phase:
            self.act(order, "confirm")


@contextmanager
def open_desk(**options: Any) -> Iterator[AmeriabankDesk]:
    with ExitStack() as room:
        yield AmeriabankDesk(options, room)


def _acts(*actions: str, percent: int | None = None, **told: Any) -> Callable[[Desk, ProviderOrder], None]:
    """Do these actions one after the other; the last one with a part of the amount, and what else is told."""

    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, AmeriabankDesk)
        for action in actions:
            part = {"amount_minor": 1_500_000 * percent // 100} if percent is not None else {}
            desk.act(order, action, **({**part, **told} if action == actions[-1] else {}))

    return reach


_TWO_PHASE = {"two_phase": True}

# "AmeriaBank vPOS 3.1, API Protocol Description", Table 2: OrderStatus; told apart by the codes of Table 1.
STATUSES = (
    Documented("0 payment_started", _acts(), OrderState.OPEN),
    Documented("1 payment_approved", _acts("pay"), OrderState.HELD, options=_TWO_PHASE),
    Documented("2 payment_deposited", _acts("pay"), OrderState.PAID, (("capture", 100),)),
    Documented("2 in part", _acts("pay", percent=40), OrderState.PAID, (("capture", 40),)),
    Documented(
        "2 a hold captured in part",
        _acts("pay", "confirm", percent=25),
        OrderState.PAID,
        (("capture", 25),),
        options=_TWO_PHASE,
    ),
    Documented("3 a hold let go", _acts("pay", "reverse"), OrderState.CANCELLED, options=_TWO_PHASE),
    Documented("3 payment_void", _acts("pay", "reverse"), OrderState.CANCELLED, (("capture", 100), ("reversal", 100))),
    Documented("4 payment_refunded", _acts("pay", "refund"), OrderState.PAID, (("capture", 100), ("refund", 100))),
    Documented("4 in part", _acts("pay", "refund", percent=25), OrderState.PAID, (("capture", 100), ("refund", 25))),
    Documented("5 payment_autoauthorized", _acts("pending"), OrderState.PROCESSING),
    Documented("5 0151019 nobody knows", _acts("pending", code="0151019"), OrderState.PROCESSING),
    Documented("6 payment_declined", _acts("decline"), OrderState.DECLINED),
    Documented("6 0-2013 no try left", _acts("decline", "decline", "decline"), OrderState.DECLINED),
    Documented("6 0-2007 expired", _acts("expire"), OrderState.EXPIRED),
)
