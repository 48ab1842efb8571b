"""The desk of Acme Pay: its merchant, its customer and its bank, in the words of Paylinks' conformance suite.

The file is called desk_<adapter>.py and has `open_desk`; what each method is for, tests/conformance/desk.py says.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
from acme_pay import AcmePayProvider
from acme_there import PLANTED, AcmeThere

from contracts.evidence import OrderState
from contracts.ids import new_id
from gateways.providers.base import OrderRequest, ProviderOrder
from sandbox.control import eventually
from tests.conformance.desk import Desk, Documented
from tests.conformance.receiver import Received, Receiver

SECRET = "secret-of-the-webhook"
KEY = "key-of-the-merchant"


class AcmeDesk(Desk):
    """One merchant."""

    secret = SECRET
    signs_time = True
    currencies = ("USD", "JPY")

    def __init__(self, room: ExitStack) -> None:
        self._room = room
        self._receiver = room.enter_context(Receiver())
        self.there = room.enter_context(AcmeThere(KEY, SECRET, self._receiver.url))
        self.provider = self.adapter()
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> AcmePayProvider:
        given = {"name": "acme", "base_url": self.there.url, "api_key": KEY, "webhook_secrets": (SECRET,)}
        # A transport of its own lets a second try begin at once.
        made = AcmePayProvider(**{**given, "transport": httpx.HTTPTransport(), **options})
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
        )
        return replace(request, **changes)

    # --- what happens there -----------------------------------------------------------------------------------------

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        asked = self.there.orders[order.reference]["amount"]
        self.there.move(order.reference, "capture", asked if amount_minor is None else amount_minor)

    def decline(self, order: ProviderOrder) -> None:
        self.there.status(order.reference, "declined")

    def hold(self, order: ProviderOrder) -> None:
        self.pay(order)  # Acme Pay holds no money

    def expire(self, order: ProviderOrder) -> None:
        self.there.status(order.reference, "expired")

    def settle_late(self, order: ProviderOrder) -> None:
        self.pay(order)

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.there.move(order.reference, "refund", amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        self.there.faults.add({"fault": fault, "operation": operation, "seconds": seconds, "times": times})

    # --- what can be seen -------------------------------------------------------------------------------------------

    def count(self) -> int:
        return len(self.there.orders)

    def calls(self, operation: str) -> int:
        return self.there.calls[operation]

    def planted(self) -> tuple[str, ...]:
        return PLANTED

    # --- events -----------------------------------------------------------------------------------------------------

    def events(self, at_least: int) -> list[Received]:
        return eventually(lambda: list(self._receiver.received), lambda received: len(received) >= at_least)

    def event_of(self, received: Received) -> dict[str, Any]:
        told = {"headers": received.headers, "body": received.body, "received_at": received.received_at}
        return {"method": "POST", "query": "", **told}

    def altered(self, received: Received) -> list[dict[str, Any]]:
        event, headers = self.event_of(received), received.headers
        signature = headers["acme-signature"]
        others = (
            {"acme-signature": signature[:-1] + ("0" if signature[-1] != "0" else "1")},
            {"acme-signature": ""},
            {"acme-time": str(int(headers["acme-time"]) + 1)},
        )
        bodies = (received.body + b" ", received.body.replace(b"paid", b"open"), b"{}", b"")
        return [
            *({**event, "headers": headers | changed} for changed in others),
            *({**event, "body": body} for body in bodies if body != received.body),
            {**event, "headers": {}},
            {**event, "method": "GET"},
        ]

    def sign_with(self, secret: str) -> None:
        self.there.secret = secret


@contextmanager
def open_desk(**options: Any) -> Iterator[AcmeDesk]:
    """Open a merchant. The suite always offers `two_phase`, which Acme Pay has not."""
    with ExitStack() as room:
        yield AcmeDesk(room)


def _to(status: str) -> Callable[[Desk, ProviderOrder], None]:
    """Let an order come to a status without money."""

    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, AcmeDesk)
        desk.there.status(order.reference, status)

    return reach


def _moved(*movements: tuple[str, int]) -> Callable[[Desk, ProviderOrder], None]:
    """Let money move: what, and how many per cent of the order's amount."""

    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, AcmeDesk)
        for kind, percent in movements:
            desk.there.move(order.reference, kind, desk.order().amount_minor * percent // 100)

    return reach


def _paid(name: str, *movements: tuple[str, int]) -> Documented:
    return Documented(name, _moved(*movements), OrderState.PAID, movements, event="order.paid")


# Every status that Acme Pay documents, and one that it does not.
STATUSES = (
    Documented("open", lambda desk, order: None, OrderState.OPEN),
    Documented("processing", _to("processing"), OrderState.PROCESSING, event="order.processing"),
    Documented("declined", _to("declined"), OrderState.DECLINED, event="order.declined"),
    Documented("expired", _to("expired"), OrderState.EXPIRED, event="order.expired"),
    Documented("cancelled", _to("cancelled"), OrderState.CANCELLED, event="order.cancelled"),
    Documented("a word of next year", _to("under_review"), OrderState.PROCESSING, event="order.under_review"),
    _paid("paid", ("capture", 100)),
    _paid("paid in part", ("capture", 25)),
    _paid("refunded in part", ("capture", 100), ("refund", 25)),
    _paid("refunded", ("capture", 100), ("refund", 100)),
    _paid("disputed", ("capture", 100), ("chargeback", 100)),
)
