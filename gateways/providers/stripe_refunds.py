"""Refunds of one Stripe account: each made once, by its name, for ever.

Sources: https://docs.stripe.com/api/refunds/create, https://docs.stripe.com/refunds, and
https://docs.stripe.com/api/idempotent_requests. A key lasts a day, and a refund's wish may be older; so the payment's
refunds are looked at first, and the key guards what happens meanwhile. A refund may be accepted and fail later: then
evidence says so.
"""

from gateways.providers.base import ProviderRefund, RefundRequest
from gateways.providers.stripe_client import StripeClient
from gateways.providers.stripe_evidence import charge_of, intent_of
from gateways.providers.stripe_money import from_wire
from gateways.providers.stripe_wire import REFERENCE, REFUND, Refund

_ENDED_BADLY = frozenset({"failed", "canceled"})


class Refunds:
    """The refunds of one account."""

    def __init__(self, client: StripeClient) -> None:
        """Nothing is asked yet."""
        self._client = client

    def make(self, request: RefundRequest) -> ProviderRefund:
        """Give money back. Refused too when the refund of this name failed."""
        amount, code = self._client.money("refund", request.amount_minor, request.currency)
        answer = self._client.session("refund", request.reference, request.provider_order_id)
        if answer is None:
            raise self._client.refused("refund", "no such order", "order_not_found")
        intent = intent_of(answer.body)
        charge = charge_of(intent)
        # Stripe would let a hold go instead, and what is pending has not come.
        if intent is None or charge is None or charge.status != "succeeded" or not charge.captured:
            raise self._client.refused("refund", "nothing was paid", "not_paid")
        if charge.currency != code:
            raise self._client.invalid("refund", "currency")
        for one in self._client.refunds_of("refund", charge):
            if one.metadata.get(REFUND) == request.refund_reference:
                return self._accepted(request, one)
        form = {
            "payment_intent": intent.id,
            "amount": str(amount),
            f"metadata[{REFUND}]": request.refund_reference,
            f"metadata[{REFERENCE}]": request.reference,
        }
        key = f"refund:{request.refund_reference}"
        return self._accepted(request, self._client.post("refund", "v1/refunds", form, Refund, key=key).body)

    def _accepted(self, request: RefundRequest, made: Refund) -> ProviderRefund:
        if made.status in _ENDED_BADLY:
            raise self._client.refused("refund", "the customer's bank did not take it", "refund_failed")
        try:
            money = from_wire(made.amount, made.currency)
        except ValueError:
            money = (0, "")
        if money != (request.amount_minor, request.currency):
            raise self._client.unknown("refund", "a refund of this name is of other money", "other_amount")
        return ProviderRefund(request.refund_reference, made.id, request.amount_minor)
