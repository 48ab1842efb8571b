"""Refunds at VPOS.am, where an account has a call for them: made once, and found again as evidence will name them.

No such call is public (https://api.vpos.am/docs). Its path is a setting; body and key are ASSUMED to be like those of a
create. What its answer says is not known, so the session is looked at before and after.
"""

import time

from gateways.errors import GatewayError, Refused, Unavailable
from gateways.providers.base import ProviderRefund, RefundRequest
from gateways.providers.vpos_client import VposClient
from gateways.providers.vpos_evidence import Money, Reading
from gateways.providers.vpos_wire import Session

# A refund that begins later could still be on its way when its caller believes that none is.
_PATIENCE_SECONDS = 5.0


class Refunds:
    """The refunds of one account."""

    def __init__(self, client: VposClient, reading: Reading, money: Money) -> None:
        """All three are the account's."""
        self._client = client
        self._reading = reading
        self._money = money

    def make(self, request: RefundRequest) -> ProviderRefund:
        """Give money back, and look that the session's total grew by it. Unknown when that cannot be seen."""
        amount = self._money.to_wire(request.amount_minor, request.currency)
        if request.amount_minor <= 0 or amount is None:
            raise self._client.invalid("refund", "amount")
        begun = time.monotonic()
        self._client.allow("refund", refund=True)
        before = self._refunded(request)
        if time.monotonic() - begun > _PATIENCE_SECONDS:
            raise Unavailable(f"refund at {self._client.name}: too slow to begin now", code="slow")
        key = f"refund-{request.refund_reference}"
        self._client.refund(request.provider_order_id, key, {"amountMinor": amount, "reason": "refund"})
        total = self._total_after(request)
        if total != before + request.amount_minor:
            why = "it was accepted, and the session does not show it"
            raise self._client.unknown("refund", why, "not_shown")
        named = f"{request.provider_order_id}:refund:{total}"  # as the ledger names what a growing total gained
        return ProviderRefund(request.refund_reference, named, request.amount_minor)

    def _refunded(self, request: RefundRequest) -> int:
        """Return what went back so far. Nothing has happened when it raises."""
        session = self._session(request)
        if session is None:
            raise Refused(f"refund at {self._client.name}: no such session", code="order_not_found")
        if session.refunded_amount is None:
            why = "sessions of this account do not tell what was refunded"
            raise Refused(f"refund at {self._client.name}: {why}", code="amounts_missing")
        if (session.paid_currency or session.currency) != request.currency:
            raise self._client.invalid("refund", "currency")
        captured, refunded = self._reading.refunded(session)
        if request.amount_minor > captured - refunded:
            # 409 is not known to be a refusal, so what is one is refused here.
            raise Refused(f"refund at {self._client.name}: more than is left of the payment", code="amount_too_large")
        return refunded

    def _total_after(self, request: RefundRequest) -> int | None:
        try:
            session = self._session(request)
            return None if session is None else self._reading.refunded(session)[1]
        except GatewayError:
            return None

    def _session(self, request: RefundRequest) -> Session | None:
        found = self._client.find("refund", request.reference, request.provider_order_id)
        return None if found is None else found[0]
