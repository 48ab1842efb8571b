"""A provider behind its gate: each call that goes outside passes it; what only reads bytes does not."""

from datetime import datetime

from contracts.evidence import Evidence
from gateways.providers.base import (
    Capabilities,
    OrderRequest,
    Provider,
    ProviderOrder,
    ProviderRefund,
    RefundRequest,
)
from runtime.gates import Gate


class GatedProvider:
    """One account. Satisfies `gateways.providers.base.Provider`."""

    def __init__(self, provider: Provider, gate: Gate) -> None:
        self._provider = provider
        self._gate = gate
        self.name = provider.name
        self.capabilities: Capabilities = provider.capabilities
        # Nothing of these goes outside.
        self.check_event = provider.check_event
        self.parse_event = provider.parse_event
        self.parse_precheck = provider.parse_precheck
        self.close = provider.close

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Create the order."""
        return self._gate.call(lambda: self._provider.create_order(order))

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by our reference."""
        return self._gate.call(lambda: self._provider.find_order(reference))

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order."""
        return self._gate.call(lambda: self._provider.fetch_evidence(reference, provider_order_id))

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Close an unpaid order."""
        self._gate.call(lambda: self._provider.cancel_order(reference, provider_order_id))

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Capture money that is held."""
        self._gate.call(lambda: self._provider.capture_order(reference, provider_order_id, amount_minor, currency))

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Let a hold go."""
        self._gate.call(lambda: self._provider.release_order(reference, provider_order_id))

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back."""
        return self._gate.call(lambda: self._provider.refund(request))

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """List every order with a transaction in [since, until)."""
        return self._gate.call(lambda: self._provider.list_orders(since, until))
