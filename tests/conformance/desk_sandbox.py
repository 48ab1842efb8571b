"""The desk of our own sandbox provider: an account at `sandbox.provider`, in each of its families."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.base import OrderRequest, ProviderOrder
from gateways.providers.sandbox import SIGNATURE_HEADER, SandboxProvider
from sandbox.control import ProviderControl, eventually
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.receiver import Received, Receiver

VARIANTS = {
    "": {},
    "unique": {"family": "unique"},
    "overwrites": {"family": "overwrites"},
    "no_lookup": {"family": "no_lookup"},
}

_KEY = "key-of-the-merchant"
_SECRET = "secret-of-the-webhook"
_OPERATIONS = {"look_up": "lookup"}


class SandboxDesk(Desk):
    """One account."""

    secret = _SECRET
    signs_time = True
    currencies = ("USD", "JPY", "KWD")

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        options.pop("two_phase", None)  # held money is captured at its control interface alone
        self._process = running("provider", "--webhook-pauses", "0.05,0.1")
        self._control: ProviderControl = self._process.control
        self._receiver = room.enter_context(Receiver())
        self._room = room
        self._options = options
        self._account = f"acc-{new_id()}"
        self._control.configure(
            self._account,
            api_key=_KEY,
            family=options.get("family", "idempotent"),
            webhook_url=self._receiver.url,
            webhook_secret=_SECRET,
        )
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> SandboxProvider:
        given = {
            "name": self._account,
            "base_url": f"{self._process.base_url}/{self._account}",
            "api_key": _KEY,
            "webhook_secrets": (_SECRET,),
            "transport": httpx.HTTPTransport(),  # no pause between tries
        }
        made = SandboxProvider(**{**given, **self._options, **options})
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
        self._control.act(order.reference, action, account=self._account, **options)

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        self.act(order, "pay", **({} if amount_minor is None else {"amount_minor": amount_minor}))

    def decline(self, order: ProviderOrder) -> None:
        self.act(order, "decline")

    def hold(self, order: ProviderOrder) -> None:
        self.act(order, "hold")

    def expire(self, order: ProviderOrder) -> None:
        self.act(order, "expire")

    def settle_late(self, order: ProviderOrder) -> None:
        self.act(order, "pay", force=True)

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", amount_minor=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        rule = {"operation": _OPERATIONS.get(operation, operation), "seconds": seconds, "times": times}
        self._control.fault(fault, account=self._account, **rule)

    def count(self) -> int:
        return len(self._control.orders(self._account))

    def calls(self, operation: str) -> int:
        called: int = self._control.stats(self._account)["calls"].get(_OPERATIONS.get(operation, operation), 0)
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
        header = received.headers[SIGNATURE_HEADER]
        time = header.partition(",")[0].removeprefix("t=")
        another = hmac.new(b"of-somebody-else", f"{time}.".encode() + received.body, hashlib.sha256).hexdigest()
        headers = [
            f"t={time},v1={another}",
            header.replace(f"t={time}", f"t={int(time) + 1}"),
            header.replace("v1=", "v0="),
            header[:-1] + ("0" if header[-1] != "0" else "1"),
            "",
        ]
        bodies = [received.body + b" ", received.body.replace(b"1500000", b"1500001"), b"{}", b""]
        return [
            *({**event, "headers": {**received.headers, SIGNATURE_HEADER: one}} for one in headers),
            *({**event, "body": one} for one in bodies if one != received.body),
            {**event, "headers": {}},
            {**event, "method": "GET"},
        ]

    def sign_with(self, secret: str) -> None:
        self._control.configure(self._account, webhook_secret=secret)

    def planted(self) -> tuple[str, ...]:
        return ()  # it knows nobody's name and no card


@contextmanager
def open_desk(**options: Any) -> Iterator[SandboxDesk]:
    with ExitStack() as room:
        yield SandboxDesk(options, room)


def _acts(*actions: str, **options: Any) -> Callable[[Desk, ProviderOrder], None]:
    """Do these actions one after the other; the last one with options."""
    return partial(_reach, actions=actions, options=options)


def _reach(desk: Desk, order: ProviderOrder, *, actions: tuple[str, ...], options: dict[str, Any]) -> None:
    assert isinstance(desk, SandboxDesk)
    for action in actions:
        desk.act(order, action, **(options if action == actions[-1] else {}))


def _cancelled(desk: Desk, order: ProviderOrder) -> None:
    desk.provider.cancel_order(order.reference, order.provider_order_id)


_PAID = OrderState.PAID
_ALL, _PART, _QUARTER = ("capture", 100), ("capture", 25), 375_000

# The actions of sandbox.service, and what each leaves behind.
STATUSES = (
    Documented("open", _acts(), OrderState.OPEN),
    Documented("processing", _acts("pay_later", seconds=600), OrderState.PROCESSING, event="order.processing"),
    Documented("held", _acts("hold"), OrderState.HELD, event="order.held"),
    Documented("paid", _acts("pay"), _PAID, (_ALL,), event="payment.captured"),
    Documented(
        "paid in part", _acts("pay", amount_minor=_QUARTER), _PAID, (("capture", 25),), event="payment.captured"
    ),
    Documented("paid, it says", _acts("say_paid"), _PAID, event="order.paid"),
    Documented("declined", _acts("decline"), OrderState.DECLINED, event="payment.declined"),
    Documented("declined for good", _acts("decline", final=True), OrderState.DECLINED, event="payment.declined"),
    Documented("expired", _acts("expire"), OrderState.EXPIRED, event="order.expired"),
    Documented("cancelled", _cancelled, OrderState.CANCELLED, event="order.cancelled"),
    Documented("refunded", _acts("pay", "refund"), _PAID, (_ALL, ("refund", 100)), event="payment.refunded"),
    Documented(
        "refunded in part",
        _acts("pay", "refund", amount_minor=_QUARTER),
        _PAID,
        (_ALL, ("refund", 25)),
        event="payment.refunded",
    ),
    Documented("reversed", _acts("pay", "reverse"), _PAID, (_ALL, ("reversal", 100)), event="payment.reversed"),
    Documented(
        "charged back", _acts("pay", "chargeback"), _PAID, (_ALL, ("chargeback", 100)), event="payment.charged_back"
    ),
    Documented(
        "declined after the money",
        lambda desk, order: (_acts("pay")(desk, order), _acts("decline", force=True)(desk, order))[1],
        OrderState.DECLINED,
        (_ALL,),
        event="payment.declined",
    ),
)
