"""Acme Pay, a payment provider that does not exist: an adapter for Paylinks from start to end, in one file."""

import hmac
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
from pydantic import AwareDatetime, BaseModel, Field

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.money import AmountMinor, Currency
from gateways.errors import Refused, Unknown
from gateways.http import Answer, Call, HttpClient, decode_json, segment
from gateways.providers import base

Transport = httpx.BaseTransport | None
Name = Annotated[str, Field(min_length=1, max_length=64)]

# A word that is not here is neither a success nor a failure: we ask again, and in the end a person looks.
STATES = {
    "open": OrderState.OPEN,
    "processing": OrderState.PROCESSING,
    "declined": OrderState.DECLINED,
    "paid": OrderState.PAID,
    "expired": OrderState.EXPIRED,
    "cancelled": OrderState.CANCELLED,
}


class _Movement(BaseModel):
    id: Name
    kind: TransactionKind  # their words are ours: capture, refund, chargeback; any other is an unreadable answer
    amount: AmountMinor
    currency: Currency
    at: AwareDatetime

    def transaction(self) -> ProviderTransaction:
        said: dict[str, Any] = {"amount_minor": self.amount, "currency": self.currency, "occurred_at": self.at}
        return ProviderTransaction(provider_transaction_id=self.id, kind=self.kind, **said)


class _Order(BaseModel):
    id: Name
    merchant_reference: Name
    status: str
    amount: AmountMinor
    currency: Currency
    page_url: str = Field(pattern=r"^https?://[\w.-]+(:\d+)?/\S*$")
    expires_at: AwareDatetime
    movements: tuple[_Movement, ...]


class _Event(BaseModel, hide_input_in_errors=True):
    id: Name
    type: Name
    merchant_reference: Name


class AcmePayProvider:
    """One account at Acme Pay. A real adapter cites the documentation at each rule, and marks each guess ASSUMED."""

    def __init__(
        self, name: str, base_url: str, api_key: str, webhook_secrets: tuple[str, ...], transport: Transport = None
    ) -> None:
        """Take what the settings say; options would be arguments before `transport`. ValueError says what is wrong."""
        if not webhook_secrets or not all(webhook_secrets):
            raise ValueError(f"provider {name}: needs a webhook secret; with an empty one anybody could sign")
        self.name = name
        self._secrets = [secret.encode() for secret in webhook_secrets]
        self._http = HttpClient(name, base_url, headers={"authorization": f"Bearer {api_key}"}, transport=transport)
        self.capabilities = base.Capabilities(
            create=base.CreateMode.IDEMPOTENT,
            opens=base.Opens.AT_PAY,
            session_life=timedelta(minutes=30),
            settle=timedelta(seconds=30),
            lookup=True,
            lookup_gives_page=True,
            cancel=True,
            refund_idempotent=True,
            signed_events=True,
            statement=False,
        )

    def create_order(self, order: base.OrderRequest) -> base.ProviderOrder:
        """Create the order with its own reference as key: asked again, they give the first one."""
        body = {
            "merchant_reference": order.reference,
            "amount": order.amount_minor,
            "currency": order.currency,
            "description": order.description,
            "return_url": order.return_url,
            "lifetime_seconds": int(min(order.expires_in, self.capabilities.session_life).total_seconds()),
        }
        # What they promise of the key makes the call repeatable. Else: idempotent=False, and a lost answer is Unknown.
        key = {"idempotency-key": order.reference}
        call = Call("create_order", "POST", "v1/orders", idempotent=True, json=body, headers=key)
        answer = self._ask(call, order.reference)
        if (answer.body.amount, answer.body.currency) != (order.amount_minor, order.currency):
            raise Unknown(f"create_order at {self.name}: the order asks for other money", code="other_amount")
        return _order(answer)

    def find_order(self, reference: str) -> base.ProviderOrder | None:
        """Look an order up by our reference; None: they say that they have none."""
        answer = self._look_up("find_order", reference)
        return _order(answer) if answer else None

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened; None: they say that they have no such order."""
        asked_at = datetime.now(UTC)  # before the question: what happens while it travels may be missing
        answer = self._look_up("fetch_evidence", reference)
        if answer is None:
            return None
        return Evidence(
            reference=reference,
            provider_order_id=answer.body.id,
            state=STATES.get(answer.body.status, OrderState.PROCESSING),
            retryable=answer.body.status == "declined",  # the customer may try again on the same page
            transactions=tuple(one.transaction() for one in answer.body.movements),  # all of them, each time
            provider_request_id=answer.request_id,
            asked_at=asked_at,
        )

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Close an unpaid order. A second time they refuse, as if it were paid: so nothing here repeats it."""
        self._http.tell(
            Call("cancel_order", "POST", f"v1/orders/{segment(provider_order_id)}/cancel", idempotent=False)
        )

    def refund(self, request: base.RefundRequest) -> base.ProviderRefund:
        """Give money back: once for each `refund_reference`, however often it is asked."""
        if request.amount_minor <= 0:
            raise Refused(f"refund at {self.name}: nothing to give back", code="amount")
        path = f"v1/orders/{segment(request.provider_order_id)}/refunds"
        body = {"amount": request.amount_minor, "currency": request.currency}
        key = {"idempotency-key": f"refund-{request.refund_reference}"}
        answer = self._http.ask(Call("refund", "POST", path, idempotent=True, json=body, headers=key), _Movement)
        if (answer.body.amount, answer.body.currency) != (request.amount_minor, request.currency):
            raise Unknown(f"refund at {self.name}: the answer tells of other money", code="other_amount")
        return base.ProviderRefund(request.refund_reference, answer.body.id, answer.body.amount)

    def check_event(self, **event: Any) -> str | None:
        """Check signature and age, and return the event's own id."""
        return self.parse_event(**event).event_id

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> base.ProviderEvent:
        """Check signature and age, then read which order it is about; what happened to that is asked, not believed."""
        time, told = headers.get("acme-time", ""), headers.get("acme-signature", "")
        right = [hmac.digest(secret, f"{time}.".encode() + body, "sha256").hex().encode() for secret in self._secrets]
        if method != "POST" or not any(hmac.compare_digest(told.encode(), one) for one in right):
            raise Refused("event refused: signed with no secret of ours", code="signature_mismatch")
        if not (time.isdecimal() and len(time) < 12) or abs(received_at.timestamp() - int(time)) > 300:
            raise Refused("event refused: signed too long before or after it came", code="stale")
        try:
            event = _Event.model_validate(decode_json(body))
        except ValueError:
            raise Refused("event refused: not in the documented form", code="body_invalid") from None
        return base.ProviderEvent(event.id, event.type, event.merchant_reference, None)

    # What Acme Pay has not is refused, as the capabilities say.

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        raise Refused(f"capture_order at {self.name}: nothing is held", code="not_offered")

    def release_order(self, reference: str, provider_order_id: str) -> None:
        raise Refused(f"release_order at {self.name}: nothing is held", code="not_offered")

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        raise Refused(f"list_orders at {self.name}: there is no list", code="not_offered")

    def parse_precheck(self, **question: Any) -> base.Precheck | None:
        return None

    def close(self) -> None:
        self._http.close()

    def _look_up(self, operation: str, reference: str) -> Answer[_Order] | None:
        params = {"merchant_reference": reference}
        try:
            return self._ask(Call(operation, "GET", "v1/orders", idempotent=True, params=params), reference)
        except Refused as refused:
            if refused.code == "order_not_found":  # their own word: any other 404 is a wrong address
                return None
            raise

    def _ask(self, call: Call, reference: str) -> Answer[_Order]:
        answer = self._http.ask(call, _Order)
        if answer.body.merchant_reference != reference:
            raise Unknown(f"{call.operation} at {self.name}: the answer is about another order", code="other_order")
        return answer


_ADAPTER: type[base.Provider] = AcmePayProvider  # a type checker compares every method


def _order(answer: Answer[_Order]) -> base.ProviderOrder:
    one = answer.body
    return base.ProviderOrder(one.merchant_reference, one.id, one.page_url, one.expires_at, answer.request_id)
