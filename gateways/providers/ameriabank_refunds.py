"""Refunds at Ameriabank's vPOS 3.1: made once, and found again as evidence will name them.

Source: the bank's documentation, section 5, RefundPayment: an amount of a payment, and nothing that names the refund.
The bank would make a second one of a repeated call, and its answer tells nothing but "00". So the order is looked at
before and after, and the refund is known by the total that it made.
"""

import time

from contracts.evidence import OrderState
from gateways.errors import GatewayError, Unavailable, Unknown
from gateways.providers.ameriabank_client import ANSWERED, AmeriabankClient
from gateways.providers.ameriabank_evidence import Money
from gateways.providers.ameriabank_looks import Looks, Seen
from gateways.providers.ameriabank_wire import Result
from gateways.providers.base import ProviderRefund, RefundRequest

# A refund that begins later could still be on its way when its caller believes that none is.
_PATIENCE_SECONDS = 5.0


class Refunds:
    """The refunds of one account."""

    def __init__(self, client: AmeriabankClient, looks: Looks) -> None:
        """Call with `client`, and look with `looks`."""
        self._client = client
        self._looks = looks

    def make(self, request: RefundRequest) -> ProviderRefund:
        """Give money back, and look which total it made. Unknown when that look fails."""
        amount = self._client.amount("refund", request.amount_minor, request.currency)
        before = self._before(request)
        try:
            body = {"PaymentID": request.provider_order_id, "Amount": amount}
            self._client.ask("refund", "RefundPayment", body, Result)
        except Unknown as unknown:
            if unknown.code in ANSWERED and self._refunded(request) == before.refunded:
                raise self._client.refused("refund", f"ResponseCode {unknown.code}", unknown.code) from None
            raise
        total = self._refunded(request)
        if total != before.refunded + request.amount_minor:
            raise self._client.unknown("refund", "it was accepted, and the order does not show it", "not_shown")
        name = f"{request.provider_order_id.lower()}:refund:{total}"
        return ProviderRefund(request.refund_reference, name, request.amount_minor)

    def _before(self, request: RefundRequest) -> Money:
        """Return how the money stands. Nothing has happened when it raises."""
        begun = time.monotonic()
        money = self._money(self._looks.at("refund", request.reference, request.provider_order_id))
        if money is None:
            raise self._client.refused("refund", "nothing was paid in this order", "not_paid")
        if money.currency != request.currency:
            raise self._client.refused("refund", "it was paid in another currency", "other_currency")
        if request.amount_minor > money.left:
            raise self._client.refused("refund", "more than is left of the payment", "too_much")
        if time.monotonic() - begun > _PATIENCE_SECONDS:
            raise Unavailable(f"refund at {self._client.name}: too slow to begin now", code="slow")
        return money

    def _refunded(self, request: RefundRequest) -> int | None:
        """Return what went back in all; None where nobody tells."""
        try:
            money = self._money(self._looks.at("refund", request.reference, request.provider_order_id))
        except GatewayError:
            return None
        return money.refunded if money is not None else None

    def _money(self, seen: Seen | None) -> Money | None:
        return seen.money if seen is not None and seen.evidence.state is OrderState.PAID else None
