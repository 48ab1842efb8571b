"""Refunds at a gateway of the ArCa iPay / BPC family: made once, and found again as evidence will name them.

Source: https://dev.bpcbt.com/en/integration/api/rest.html, section "Refund". The answer to refund.do tells nothing of
the refund, so the order is looked at before and after. A guard of the gateway goes with the call: `externalRefundId`,
under which a second call gives the first one's result, or else `expectedDepositedAmount`, with which it is refused.
"""

import time
from datetime import UTC, datetime

from contracts.evidence import TransactionKind
from gateways.errors import GatewayError, Refused, Unavailable
from gateways.providers.arca_client import ArcaClient
from gateways.providers.arca_evidence import Reading
from gateways.providers.arca_wire import Result, Status
from gateways.providers.base import ProviderRefund, RefundRequest

_LONGEST_REFUND_ID = 32
# A refund that begins later could still be on its way when its caller believes that none is.
_PATIENCE_SECONDS = 5.0


class Refunds:
    """The refunds of one account."""

    def __init__(self, client: ArcaClient, reading: Reading, *, named: bool) -> None:
        """`named`: the gateway knows externalRefundId, and its answers show it."""
        self._client = client
        self._reading = reading
        self._named = named

    def make(self, request: RefundRequest) -> ProviderRefund:
        """Give money back, and look which refund of the order it became. Unknown when that look fails."""
        form = {
            "orderId": request.provider_order_id,
            **self._client.money("refund", request.amount_minor, request.currency),
        }
        if self._named:
            form["externalRefundId"] = self._client.short("refund", request.refund_reference, _LONGEST_REFUND_ID)
        deposited, before = self._before_refund(request)
        if not self._named:
            form["expectedDepositedAmount"] = str(deposited)
        self._client.ask("refund", "refund.do", form, Result, idempotent=self._named)
        return ProviderRefund(request.refund_reference, self._became(request, before), request.amount_minor)

    def _before_refund(self, request: RefundRequest) -> tuple[int, set[str]]:
        """Return what is deposited, and the order's refunds of this amount. Nothing has happened when it raises."""
        begun = time.monotonic()
        found = self._client.status("refund", request.reference, request.provider_order_id)
        if found is None:
            raise Refused(f"refund at {self._client.name}: no such order", code="order_not_found")
        status = found[0].body
        if status.deposited is None:
            why = "answers of this account name no amounts; ask the bank for version 5 or later"
            raise Refused(f"refund at {self._client.name}: {why}", code="amounts_missing")
        if time.monotonic() - begun > _PATIENCE_SECONDS:
            raise Unavailable(f"refund at {self._client.name}: too slow to begin now", code="slow")
        return status.deposited, set(self._refund_ids(status, found[1], request))

    def _became(self, request: RefundRequest, before: set[str]) -> str:
        """Find the transaction that a refund became, as evidence names it: by our name, else the only new one."""
        try:
            named, found = self._refunds_now(request)
        except GatewayError:
            named, found = None, []
        if named is not None:
            return named
        fresh = [one for one in found if one not in before]
        if len(fresh) != 1:
            raise self._client.unknown(
                "refund", "it was accepted, and the order does not show which it is", "not_shown"
            )
        return fresh[0]

    def _refunds_now(self, request: RefundRequest) -> tuple[str | None, list[str]]:
        """Return the refund that carries our name, and the ids of all of this amount."""
        found = self._client.status("refund", request.reference, request.provider_order_id)
        if found is None:
            return None, []
        status, order_id = found[0].body, found[1]
        for name, one in status.refund_entries(self._reading.zone):
            if one.external_refund_id == request.refund_reference:
                return f"{order_id.lower()}:refund:{name}", []
        return None, self._refund_ids(status, order_id, request)

    def _refund_ids(self, status: Status, order_id: str, request: RefundRequest) -> list[str]:
        """Return the ids of the order's refunds of this amount, as the ledger names them."""
        evidence = self._reading.evidence(status, order_id, request.reference, datetime.now(UTC), None)
        refunds = [one for one in evidence.transactions if one.kind is TransactionKind.REFUND]
        return [
            f"{one.provider_transaction_id}:{one.amount_minor}" if one.cumulative else one.provider_transaction_id
            for one in refunds
            if one.cumulative or one.amount_minor == request.amount_minor
        ]
