"""What the shared conformance suite needs of each provider: an adapter, and somebody who plays the other side.

A desk is one merchant at one simulated provider, a process of its own, and the adapter under test for it. Its methods
speak in the suite's words and hide how this simulator is told. What a provider does not know, its capabilities deny,
and the suite asks for the refusal instead; nothing is skipped in silence.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.evidence import OrderState
from gateways.providers.base import OrderRequest, Provider, ProviderOrder
from tests.conformance.receiver import Received


@dataclass(frozen=True)
class Documented:
    """One status that the provider documents: how an order gets there, and what we must make of it."""

    name: str  # the provider's own word
    reach: Callable[["Desk", ProviderOrder], None]
    state: OrderState
    money: tuple[tuple[str, int], ...] = ()  # (transaction kind, percent of the order's amount), in order
    options: Mapping[str, Any] = field(default_factory=dict)  # passed to the desk's maker, as two_phase=True


class Desk(Protocol):
    """One merchant at one simulated provider. Amounts are minor units; orders are named by our reference."""

    provider: Provider
    statuses: tuple[Documented, ...]

    def order(self, **changes: Any) -> OrderRequest:
        """Return a request that this provider takes: currency, amount, reference, URL; `changes` replace fields."""

    def pay(self, order: ProviderOrder, amount_minor: int | None = None) -> None:
        """Let the customer pay; an amount other than the order's is money that the provider really moved."""

    def decline(self, order: ProviderOrder) -> None:
        """Let one try of the customer fail, after which he may try again."""

    def hold(self, order: ProviderOrder) -> None:
        """Let the customer pay at an account that holds first (made with `two_phase=True`)."""

    def expire(self, order: ProviderOrder) -> None:
        """Let the session's time run out."""

    def settle_late(self, order: ProviderOrder) -> None:
        """Let a payment that was under way when the session ended succeed after its end."""

    def refund_there(self, order: ProviderOrder, amount_minor: int) -> None:
        """Give money back at the provider's own desk, without our adapter."""

    def fault(self, fault: str, operation: str, *, seconds: float = 0.1, times: int = 1) -> None:
        """Order a fault of sandbox.faults for create | look_up | cancel | capture | release | refund."""

    def count(self) -> int:
        """Return how many orders exist at the provider."""

    def calls(self, operation: str) -> int:
        """Return how many calls of that operation arrived, in the words of `fault`."""

    def events(self, at_least: int) -> list[Received]:
        """Wait until so many events came to the merchant's receiver, and return all of them."""

    def event_of(self, received: Received) -> dict[str, Any]:
        """Return the arguments of `check_event` and `parse_event` for what was received."""

    def altered(self, received: Received) -> list[dict[str, Any]]:
        """Return arguments of the event, forged or altered in every way that a signature must catch."""

    def planted(self) -> tuple[str, ...]:
        """Return the personal and card data that this simulator puts into its answers and events."""


MakeDesk = Callable[..., AbstractContextManager[Desk]]
