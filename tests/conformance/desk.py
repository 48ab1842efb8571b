"""What the shared conformance suite needs of each provider: an adapter, and somebody who plays the other side.

A desk is one merchant at one simulated provider, a process of its own, and the adapter under test for it. Its methods
speak in the suite's words and hide how this simulator is told. What a provider does not know, its capabilities deny,
and the suite asks for the refusal instead; nothing is skipped in silence.

`tests/conformance/desk_<name>.py` is the desk of the entry point <name> (paylinks.providers). It has

    open_desk(**options)   a context manager that yields a desk with a fresh merchant. Options go to the adapter, and to
                           the simulator where it must agree. `two_phase=True` is always taken: a provider without holds
                           gives an ordinary desk, whose capabilities say `capture=False`.
    VARIANTS               optional: {"": {}, "named": {"external_refund_id": True}}, options for which the whole suite
                           runs once more each; "" is the plain account. Without it: the plain account alone.

Write it `class StripeDesk(Desk)`: so it inherits what is optional, and each of that says so. Give its adapters
`transport=httpx.HTTPTransport()`: with a transport of a test no pause is made between tries. `running(program)` is
one simulator process for all desks of a test run, where each opens a merchant of its own; `Receiver(answer=b"OK")`
answers a provider that must hear a literal word.
"""

import atexit
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, Protocol

from contracts.evidence import OrderState
from gateways.providers.base import OrderRequest, Provider, ProviderOrder
from sandbox.launch import SimulatorProcess
from tests.conformance.receiver import Received


@cache
def running(program: str, *arguments: str) -> SimulatorProcess:
    """Return the simulator `sandbox.<program>`, started once; it ends with the tests. Each desk opens its merchant."""
    process = SimulatorProcess(program, arguments=arguments).start()
    atexit.register(process.stop)
    return process


@dataclass(frozen=True)
class Documented:
    """One status that the provider documents: how an order gets there, and what we must make of it."""

    name: str  # the provider's own word
    reach: Callable[["Desk", ProviderOrder], None]
    state: OrderState
    money: tuple[tuple[str, int], ...] = ()  # (transaction kind, percent of the order's amount), in order
    options: Mapping[str, Any] = field(default_factory=dict)  # passed to the desk's maker, as two_phase=True
    event: str | None = None  # the event_type that tells of it; None: none does, or nobody knows which


class Desk(Protocol):
    """One merchant at one simulated provider. Amounts are minor units; orders are named by our reference."""

    provider: Provider
    statuses: tuple[Documented, ...]
    secret: str = ""  # what the provider signs its events with now
    signs_time: bool = False  # optional: events carry a signed time, so that an old one is refused
    coarse_dates: timedelta = timedelta(minutes=2)  # optional: how far a told time may be from the true one
    a_decline_is_final: bool = False  # optional: another order is made for the next try; money of this one still counts
    currencies: tuple[str, ...] = ()  # optional: beside that of `order()`; one with other decimals where it is taken

    def adapter(self, **options: Any) -> Provider:
        """Return another adapter of this account, with these arguments of its constructor replaced; the desk closes it.

        `transport`, `webhook_secrets`, `api_key`, `base_url` are what the suite replaces.
        """

    def order(self, **changes: Any) -> OrderRequest:
        """Return a request that this provider takes: currency, amount, reference, URL; `changes` replace fields.

        Each has a reference of its own, and an amount that four equal parts make, none of them zero.
        """

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        """Let the customer pay; an amount other than the order's is money that the provider really moved.

        Money moves: at an account that holds first it is captured too, at the provider's own desk.
        """

    def decline(self, order: ProviderOrder) -> None:
        """Let one try of the customer fail, after which he may try again."""

    def hold(self, order: ProviderOrder) -> None:
        """Let the customer pay at an account that holds first (made with `two_phase=True`); nothing is captured."""

    def expire(self, order: ProviderOrder) -> None:
        """Let the session's time run out. Where the provider knows no end, nothing happens."""

    def settle_late(self, order: ProviderOrder) -> None:
        """Let a payment that was under way when the session ended succeed after its end."""

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        """Give money back at the provider's own desk, without our adapter."""

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        """Order a fault of sandbox.faults for create | look_up | cancel | capture | release | refund."""

    def count(self) -> int:
        """Return how many orders exist at the provider."""

    def calls(self, operation: str) -> int:
        """Return how many calls of that operation arrived, in the words of `fault`. 0 for ever: we make none."""

    def events(self, at_least: int) -> list[Received]:
        """Wait until so many events came to the merchant's receiver, and return all of them, without prechecks."""

    def prechecks(self) -> list[Received]:
        """Return the questions that came before money moved. Optional: only where `capabilities.precheck` says so."""
        return []

    def event_of(self, received: Received) -> dict[str, Any]:
        """Return the arguments of `check_event` and `parse_event` for what was received."""

    def altered(self, received: Received) -> list[dict[str, Any]]:
        """Return arguments of the event, forged or altered in every way that a signature must catch."""

    def sign_with(self, secret: str) -> None:
        """Let the provider sign its events with this secret from now on."""

    def planted(self) -> tuple[str, ...]:
        """Return the personal and card data that this simulator puts into its answers and events."""


MakeDesk = Callable[..., AbstractContextManager[Desk]]
