"""The desk of ArCa iPay: a merchant at the simulated gateway `sandbox.arca`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.arca import ArcaProvider
from gateways.providers.base import OrderRequest, ProviderOrder
from sandbox.arca_orders import PLANTED
from sandbox.control import ProviderControl, eventually
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.receiver import Received, Receiver

# Refunds that may be repeated need a gateway that knows their names, from version 21 on; plain accounts have 12.
VARIANTS = {"": {}, "named_refunds": {"external_refund_id": True}}

_PASSWORD = "password-of-the-api-user"
_SECRET = "ooc7slpvc61k7sf7ma7p4hrefr"  # published in BPC's documentation
_OPERATIONS = {
    "look_up": "getOrderStatusExtended",
    "cancel": "decline",
    "capture": "deposit",
    "release": "reverse",
    "refund": "refund",
}


class ArcaDesk(Desk):
    """One API user."""

    secret = _SECRET
    currencies = ("USD", "EUR", "RUB", "JPY")

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        self._process = running("arca", "--callback-pause-seconds", "0.1")
        self._control: ProviderControl = self._process.control
        self._receiver = room.enter_context(Receiver())
        self._room = room
        self._options = options
        self.two_phase = bool(options.get("two_phase"))
        self._user = f"shop-{new_id()}-api"
        self._control.configure(
            self._user,
            password=_PASSWORD,
            version=21 if options.get("external_refund_id") else 12,
            callback_url=self._receiver.url,
            callback_secret=_SECRET,
        )
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> ArcaProvider:
        given = {
            "name": self._user,
            "base_url": f"{self._process.base_url}/payment/rest",
            "api_key": _PASSWORD,
            "user_name": self._user,
            "webhook_secrets": (_SECRET,),
            "transport": httpx.HTTPTransport(),  # no pause between tries
        }
        made = ArcaProvider(**{**given, **self._options, **options})
        self._room.callback(made.close)
        return made

    def order(self, **changes: Any) -> OrderRequest:
        request = OrderRequest(
            reference=new_id(),
            amount_minor=1_500_000,
            currency="AMD",
            description="Կանխավճար, договор 17",
            return_url="https://pay.example.am/l/token/return?lang=hy",
            expires_in=timedelta(minutes=10),
            locale="hy",
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
        self.act(order, "pay")

    def expire(self, order: ProviderOrder) -> None:
        self.act(order, "expire")

    def settle_late(self, order: ProviderOrder) -> None:
        self.act(order, "settle")
        self._capture(order)

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", amount_minor=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        rule = {"operation": self._operation(operation), "seconds": seconds, "times": times}
        self._control.fault(fault, account=self._user, **rule)

    def count(self) -> int:
        return len(self._control.orders(self._user))

    def calls(self, operation: str) -> int:
        called: int = self._control.stats(self._user)["calls"].get(self._operation(operation), 0)
        return called

    def events(self, at_least: int) -> list[Received]:
        return eventually(lambda: list(self._receiver.received), lambda received: len(received) >= at_least)

    def event_of(self, received: Received) -> dict[str, Any]:
        return {
            "method": "GET",
            "query": urlsplit(received.path).query,
            "headers": received.headers,
            "body": received.body,
            "received_at": received.received_at,
        }

    def altered(self, received: Received) -> list[dict[str, Any]]:
        event = self.event_of(received)
        query = event["query"]
        changed = [
            query.replace("status=1", "status=0"),
            query.replace("orderNumber=", "orderNumber=x"),
            query.replace("mdOrder=", "mdOrder=x"),
            query.replace("operation=", "operation=x"),
            query.replace("checksum=", "checksum=0"),
            query.replace("checksum=", "other="),
            query + "&amount=1",  # a name that the gateway may sign
            query[: query.index("&checksum")],
            "",
        ]
        return [{**event, "query": one} for one in changed]

    def sign_with(self, secret: str) -> None:
        self._control.configure(self._user, callback_secret=secret)

    def planted(self) -> tuple[str, ...]:
        return tuple(PLANTED.values())

    def _operation(self, operation: str) -> str:
        if operation == "create":
            return "registerPreAuth" if self.two_phase else "register"
        return _OPERATIONS[operation]

    def _capture(self, order: ProviderOrder) -> None:
        if self.two_phase:
            self.act(order, "deposit")


@contextmanager
def open_desk(**options: Any) -> Iterator[ArcaDesk]:
    with ExitStack() as room:
        yield ArcaDesk(options, room)


def _acts(*actions: str, percent: int | None = None) -> Callable[[Desk, ProviderOrder], None]:
    """Do these actions one after the other; the last one with a part of the amount."""

    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, ArcaDesk)
        for action in actions:
            is_part = percent is not None and action == actions[-1]
            desk.act(order, action, **({"amount_minor": 1_500_000 * (percent or 0) // 100} if is_part else {}))

    return reach


def _cancelled(desk: Desk, order: ProviderOrder) -> None:
    desk.provider.cancel_order(order.reference, order.provider_order_id)


_TWO_PHASE = {"two_phase": True}

# https://dev.bpcbt.com/en/integration/api/rest.html, "Order status": orderStatus, told apart by actionCode.
STATUSES = (
    Documented("0 registered", _acts(), OrderState.OPEN),
    Documented("0 and a declined try", _acts("decline"), OrderState.DECLINED),
    Documented("1 authorised", _acts("pay"), OrderState.HELD, options=_TWO_PHASE, event="approved"),
    Documented("2 deposited", _acts("pay"), OrderState.PAID, (("capture", 100),), event="deposited"),
    Documented("2 in part", _acts("pay", percent=40), OrderState.PAID, (("capture", 40),), event="deposited"),
    Documented("3 a hold let go", _acts("pay", "reverse"), OrderState.CANCELLED, options=_TWO_PHASE, event="reversed"),
    Documented(
        "3 a payment undone",
        _acts("pay", "reverse"),
        OrderState.CANCELLED,
        (("capture", 100), ("reversal", 100)),
        event="reversed",
    ),
    Documented(
        "4 refunded", _acts("pay", "refund"), OrderState.PAID, (("capture", 100), ("refund", 100)), event="refunded"
    ),
    Documented(
        "4 in part",
        _acts("pay", "refund", percent=25),
        OrderState.PAID,
        (("capture", 100), ("refund", 25)),
        event="refunded",
    ),
    Documented("chargeback", _acts("pay", "chargeback"), OrderState.PAID, (("capture", 100), ("chargeback", 100))),
    Documented("5 at the ACS", _acts("acs"), OrderState.PROCESSING),
    Documented("6 no try left", _acts("decline", "decline", "decline"), OrderState.DECLINED),
    Documented("6 -2007 expired", _acts("expire"), OrderState.EXPIRED, event="declinedByTimeout"),
    Documented("6 4005 cancelled", _cancelled, OrderState.CANCELLED),
    Documented("6 151019 nobody knows", _acts("unknown"), OrderState.PROCESSING),
    Documented("7 pending", _acts("pending"), OrderState.PROCESSING),
    Documented(
        "8 partly deposited",
        _acts("pay", "deposit", percent=25),
        OrderState.HELD,
        (("capture", 25),),
        options=_TWO_PHASE,
        event="deposited",
    ),
)
