"""The desk of Stripe Checkout: an account at the simulated API `sandbox.stripe`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.base import OrderRequest, ProviderOrder
from gateways.providers.stripe import StripeProvider
from sandbox.control import ProviderControl, eventually
from sandbox.stripe_objects import PLANTED
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.receiver import Received, Receiver

_SECRET = "whsec_invented_for_these_tests"
_DEBIT = "sepa_debit"  # a method that tells its end later
_OPERATIONS = {
    "create": "sessions.create",
    "look_up": "sessions.retrieve",
    "cancel": "sessions.expire",
    "capture": "payment_intents.capture",
    "release": "payment_intents.cancel",
    "refund": "refunds.create",
}


class StripeDesk(Desk):
    """One account in test mode."""

    secret = _SECRET
    signs_time = True
    currencies = ("USD", "EUR", "JPY", "KWD")

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        self._process = running("stripe", "--webhook-pause-seconds", "0.1")
        self._control: ProviderControl = self._process.control
        self._receiver = room.enter_context(Receiver())
        self._room = room
        self._options = options
        self._account = f"acct-{new_id()}"
        self._key = f"sk_test_{self._account}"
        self._control.configure(
            self._account, password=self._key, webhook_url=self._receiver.url, webhook_secret=_SECRET
        )
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> StripeProvider:
        given = {
            "name": self._account,
            "base_url": self._process.base_url,
            "api_key": self._key,
            "webhook_secrets": (_SECRET,),
            "livemode": False,
            "transport": httpx.HTTPTransport(),
        }
        made = StripeProvider(**{**given, **self._options, **options})
        self._room.callback(made.close)
        return made

    def order(self, **changes: Any) -> OrderRequest:
        request = OrderRequest(
            reference=new_id(),
            amount_minor=1_500_000,
            currency="AMD",
            description="Կանխավճար, договор 17",
            return_url="https://pay.example.am/l/token/return?lang=hy",
            expires_in=timedelta(hours=1),
            locale="hy",
        )
        return replace(request, **changes)

    def act(self, order: ProviderOrder, action: str, **options: Any) -> None:
        """Do one of the simulator's own actions."""
        self._control.act(order.reference, action, account=self._account, **options)

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        self.act(order, "pay", **({} if amount_minor is None else {"amount_minor": amount_minor}))
        if self._options.get("two_phase"):
            self.act(order, "capture")

    def decline(self, order: ProviderOrder) -> None:
        self.act(order, "decline")

    def hold(self, order: ProviderOrder) -> None:
        self.act(order, "pay")

    def expire(self, order: ProviderOrder) -> None:
        """Let the customer begin a debit, and then the time run out: nothing else can settle after a session's end."""
        self.act(order, "pay", method=_DEBIT)
        self.act(order, "expire")

    def settle_late(self, order: ProviderOrder) -> None:
        self.act(order, "settle")

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", amount_minor=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        rule = {"operation": _OPERATIONS[operation], "seconds": seconds, "times": times}
        self._control.fault(fault, account=self._account, **rule)

    def count(self) -> int:
        return len(self._control.orders(self._account))

    def calls(self, operation: str) -> int:
        called: int = self._control.stats(self._account)["calls"].get(_OPERATIONS[operation], 0)
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
        event = self.event_of(received)
        body, header = event["body"], event["headers"]["stripe-signature"]
        bodies = [body + b" ", body.replace(b'"evt_', b'"evt_x'), body.replace(b'"livemode"', b'"x"'), b"{}", b""]
        headers = [
            header.replace("t=1", "t=2", 1),
            header.replace("v1=", "v1=0"),
            header.replace("v1=", "v0="),
            header.partition(",")[2],
            "",
        ]
        return [{**event, "body": one} for one in bodies] + [
            {**event, "headers": {**event["headers"], "stripe-signature": one}} for one in headers
        ]

    def sign_with(self, secret: str) -> None:
        self._control.configure(self._account, webhook_secret=secret)

    def planted(self) -> tuple[str, ...]:
        return tuple(PLANTED.values())


@contextmanager
def open_desk(**options: Any) -> Iterator[Desk]:
    """Open an account of its own at the running API."""
    with ExitStack() as room:
        yield StripeDesk(options, room)


Act = Callable[[Any, ProviderOrder], None]


def _acts(*actions: str, percent: int = 100, **options: Any) -> Act:
    """Return a way there: the actions one after the other; the last takes the options, and a part of the amount."""

    def reach(desk: StripeDesk, order: ProviderOrder) -> None:
        amount = desk.order().amount_minor * percent // 100
        part = {} if percent == 100 else {"amount_minor": amount}
        for action in actions:
            desk.act(order, action, **({**part, **options} if action == actions[-1] else {}))

    return reach


def _debit(*actions: str) -> Act:
    def reach(desk: StripeDesk, order: ProviderOrder) -> None:
        desk.act(order, "pay", method=_DEBIT)
        for action in actions:
            desk.act(order, action)

    return reach


def _cancelled(desk: StripeDesk, order: ProviderOrder) -> None:
    desk.provider.cancel_order(order.reference, order.provider_order_id)


_TWO_PHASE = {"two_phase": True}
_ALL = ("capture", 100)
STATUSES = (
    Documented("open", _acts(), OrderState.OPEN),
    Documented("open, requires_payment_method", _acts("decline"), OrderState.DECLINED, event="charge.failed"),
    Documented("complete, paid", _acts("pay"), OrderState.PAID, (_ALL,), event="checkout.session.completed"),
    Documented("complete, processing", _debit(), OrderState.PROCESSING, event="checkout.session.completed"),
    Documented(
        "complete, paid later",
        _debit("settle"),
        OrderState.PAID,
        (_ALL,),
        event="checkout.session.async_payment_succeeded",
    ),
    Documented(
        "complete, failed later",
        _debit("fail"),
        OrderState.DECLINED,
        event="checkout.session.async_payment_failed",
    ),
    Documented(
        "requires_capture",
        _acts("pay"),
        OrderState.HELD,
        options=_TWO_PHASE,
        event="payment_intent.amount_capturable_updated",
    ),
    Documented(
        "succeeded after a hold",
        _acts("pay", "capture"),
        OrderState.PAID,
        (_ALL,),
        options=_TWO_PHASE,
        event="charge.captured",
    ),
    Documented(
        "succeeded in part",
        _acts("pay", "capture", percent=25),
        OrderState.PAID,
        (("capture", 25),),
        options=_TWO_PHASE,
        event="charge.captured",
    ),
    Documented(
        "canceled, a hold that ran out",
        _acts("pay", "hold_expires"),
        OrderState.CANCELLED,
        options=_TWO_PHASE,
        event="payment_intent.canceled",
    ),
    Documented("expired", _acts("expire"), OrderState.EXPIRED, event="checkout.session.expired"),
    Documented("expired by us", _cancelled, OrderState.EXPIRED, event="checkout.session.expired"),
    Documented("refunded", _acts("pay", "refund"), OrderState.PAID, (_ALL, ("refund", 100)), event="charge.refunded"),
    Documented(
        "refunded in part",
        _acts("pay", "refund", percent=25),
        OrderState.PAID,
        (_ALL, ("refund", 25)),
        event="refund.created",
    ),
    Documented(
        "refunded, and the refund failed",
        _acts("pay", "refund", "refund_fails"),
        OrderState.PAID,
        (_ALL, ("refund", 100), _ALL),
        event="refund.failed",
    ),
    Documented(
        "disputed",
        _acts("pay", "dispute"),
        OrderState.PAID,
        (_ALL, ("chargeback", 100)),
        event="charge.dispute.funds_withdrawn",
    ),
    Documented(
        "disputed, and won",
        _acts("pay", "dispute", "close_dispute", status="won"),
        OrderState.PAID,
        (_ALL, ("chargeback", 100), _ALL),
        event="charge.dispute.funds_reinstated",
    ),
)
