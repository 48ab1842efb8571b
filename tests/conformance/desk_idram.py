"""The desk of Idram: a merchant at the simulated wallet `sandbox.idram`, and his RESULT_URL."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from contracts.evidence import OrderState
from contracts.ids import new_id
from contracts.money import major
from gateways.providers.base import OrderRequest, ProviderOrder
from gateways.providers.idram import IdramProvider
from sandbox.control import ProviderControl, eventually
from sandbox.idram_bills import PLANTED
from tests.conformance.desk import Desk, Documented, running
from tests.conformance.idram_door import IdramDoor
from tests.conformance.receiver import Received

SECRET = "secret-key-of-the-merchant"


class IdramDesk(Desk):
    """One IdramID. Nothing is called there, so an order exists once its form was posted."""

    secret = SECRET
    coarse_dates = timedelta(days=1)

    def __init__(self, options: dict[str, Any], room: ExitStack) -> None:
        options.pop("two_phase", None)  # a wallet holds nothing
        self._process = running("idram")
        self.control: ProviderControl = self._process.control
        self._room = room
        self._options = options
        self.account = str(10**11 + secrets.randbelow(9 * 10**11))
        self.door = room.enter_context(IdramDoor())
        self.control.configure(self.account, secret=SECRET, result_url=self.door.url)
        self.provider = self.adapter()
        self.door.provider = self.provider
        self.statuses = STATUSES

    def adapter(self, **options: Any) -> IdramProvider:
        given = {
            "name": f"wallet-{self.account}",
            "base_url": self._process.base_url,
            "api_key": "none",
            "webhook_secrets": (SECRET,),
            "rec_account": self.account,
        }
        made = IdramProvider(**{**given, **self._options, **options})
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

    def act(self, order: ProviderOrder, action: str, **options: Any) -> dict[str, Any]:
        """Do one of the simulator's own actions."""
        return self.control.act(order.reference, action, account=self.account, **options)

    def submit(self, order: ProviderOrder, **changes: str) -> None:
        """Post the form as the customer's browser does; `changes` are what he wrote into it."""
        self.act(order, "submit", fields={**order.pay_fields, **changes})

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        changes = {} if amount_minor is None else {"EDP_AMOUNT": str(major(amount_minor, "AMD"))}
        self.submit(order, **changes)
        self.act(order, "pay")

    def decline(self, order: ProviderOrder) -> None:
        self.submit(order)
        self.act(order, "decline")

    def hold(self, order: ProviderOrder) -> None:
        self.pay(order)

    def expire(self, order: ProviderOrder) -> None:
        """A form has no end."""

    def settle_late(self, order: ProviderOrder) -> None:
        self.pay(order)

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        self.act(order, "refund", cents=amount_minor)

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        raise AssertionError(f"{fault}: no call of ours could meet it")

    def count(self) -> int:
        return len(self.control.orders(self.account))

    def calls(self, operation: str) -> int:
        return 0

    def events(self, at_least: int) -> list[Received]:
        return eventually(lambda: list(self.door.events), lambda received: len(received) >= at_least)

    def prechecks(self) -> list[Received]:
        return list(self.door.prechecks)

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
        told = dict(parse_qsl(received.body.decode(), keep_blank_values=True))
        bodies = [urlencode(told | {name: f"{value}0"}) for name, value in told.items()]
        bodies += [urlencode({key: value for key, value in told.items() if key != name}) for name in told]
        bodies += [urlencode([*told.items(), (name, value)]) for name, value in told.items()]
        bodies += [urlencode(told | {"EDP_PRECHECK": "YES"}), ""]
        return [{**event, "body": body.encode()} for body in bodies] + [{**event, "method": "GET"}]

    def sign_with(self, secret: str) -> None:
        self.control.configure(self.account, secret=secret)

    def planted(self) -> tuple[str, ...]:
        return tuple(PLANTED.values())


@contextmanager
def open_desk(**options: Any) -> Iterator[IdramDesk]:
    with ExitStack() as room:
        yield IdramDesk(options, room)


def _does(what: Callable[[IdramDesk, ProviderOrder], Any]) -> Callable[[Desk, ProviderOrder], None]:
    def reach(desk: Desk, order: ProviderOrder) -> None:
        assert isinstance(desk, IdramDesk)
        what(desk, order)

    return reach


def _refused(desk: IdramDesk, order: ProviderOrder) -> None:
    desk.door.agrees = lambda _: False
    desk.pay(order)


_MONEY = (("capture", 100),)

# The document knows no states; these are the ends of its section "Order Confirmation".
STATUSES = (
    Documented("confirmed", _does(lambda desk, order: desk.pay(order)), OrderState.PAID, _MONEY, event="confirmation"),
    Documented("precheck refused", _does(_refused), OrderState.OPEN),
    Documented("given up", _does(lambda desk, order: desk.decline(order)), OrderState.OPEN),
    Documented("only looked at", _does(lambda desk, order: desk.submit(order)), OrderState.OPEN),
)
