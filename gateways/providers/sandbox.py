"""The sandbox's payment provider, in each of its families (`paylinks sandbox provider`).

Also the example for a new adapter: one file, one conformance test.
"""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import httpx
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.money import CURRENCIES, Currency
from gateways.errors import Refused, Unavailable, Unknown
from gateways.http import Answer, Call, HttpClient, decode_json, segment
from gateways.providers.base import (
    Capabilities,
    CreateMode,
    Opens,
    OrderRequest,
    Precheck,
    Provider,
    ProviderEvent,
    ProviderOrder,
    ProviderRefund,
    RefundRequest,
)
from gateways.providers.options import duration

SIGNATURE_HEADER = "sandbox-signature"
TOLERANCE = timedelta(seconds=300)
_NOT_FOUND = "order_not_found"


class Family(StrEnum):
    """Which real providers the sandbox behaves like."""

    IDEMPOTENT = "idempotent"
    UNIQUE = "unique"
    OVERWRITES = "overwrites"
    NO_LOOKUP = "no_lookup"


_CREATE_MODE = {
    Family.IDEMPOTENT: CreateMode.IDEMPOTENT,
    Family.UNIQUE: CreateMode.UNIQUE,
    Family.OVERWRITES: CreateMode.OVERWRITES,
    Family.NO_LOOKUP: CreateMode.UNIQUE,
}


class _Transaction(BaseModel):
    id: str = Field(min_length=1, max_length=128)
    kind: TransactionKind
    amount_minor: int = Field(gt=0)
    currency: Currency
    occurred_at: AwareDatetime


class _Order(BaseModel):
    """An order's cumulative facts. Fields that we do not know are ignored."""

    id: str = Field(min_length=1, max_length=128)
    reference: str
    status: OrderState
    retryable: bool = False
    transactions: tuple[_Transaction, ...]
    expires_at: AwareDatetime | None = None
    pay_url: str | None = Field(default=None, pattern="^https?://.", repr=False)

    def evidence(self, asked_at: datetime, provider_request_id: str | None) -> Evidence:
        return Evidence(
            reference=self.reference,
            provider_order_id=self.id,
            state=self.status,
            retryable=self.retryable,
            transactions=tuple(_transaction(entry) for entry in self.transactions),
            provider_request_id=provider_request_id,
            asked_at=asked_at,
        )


class _Listing(BaseModel):
    orders: tuple[_Order, ...]
    next_cursor: str | None = None


class _Refund(BaseModel):
    transaction_id: str = Field(min_length=1, max_length=128)
    amount_minor: int = Field(gt=0)


class SandboxProvider:
    """One account at the sandbox's provider. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...],
        family: Family | str = Family.IDEMPOTENT,
        opens: Opens | str = Opens.AT_PAY,
        session_life: timedelta | str = timedelta(minutes=20),
        settle: timedelta | str = timedelta(seconds=10),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` ends with the account's name. Several secrets are active while one is being replaced.

        The rest may be written as in a settings file: "unique", "early", "PT20M". ValueError says what is wrong.
        """
        if not all(webhook_secrets):
            raise ValueError(f"provider {name}: an empty webhook secret would let anyone sign")
        self.name = name
        self._family = Family(family)
        self._secrets = tuple(secret.encode() for secret in webhook_secrets)
        self._http = HttpClient(name, base_url, headers={"authorization": f"Bearer {api_key}"}, transport=transport)
        self.capabilities = _capabilities(self._family, Opens(opens), duration(session_life), duration(settle))

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Create the order. Unknown when the call left us and no answer came back.

        Only the idempotent family is tried again within the call. A family that overwrites is not: after a lost
        answer we ask what stands there instead of writing over it.
        """
        self._require_money("create_order", order.amount_minor, order.currency)
        answer = self._http.ask(
            Call(
                "create_order",
                "POST",
                "v1/orders",
                idempotent=self._family is Family.IDEMPOTENT,
                json={
                    "reference": order.reference,
                    "amount_minor": order.amount_minor,
                    "currency": order.currency,
                    "description": order.description,
                    "return_url": order.return_url,
                    "expires_in_seconds": int(order.expires_in.total_seconds()),
                    "locale": order.locale,
                },
            ),
            _Order,
        )
        created = self._order(answer, order.reference)
        if created.pay_url is None:
            raise self._unknown("create_order", "no page in the answer", "unreadable", answer.request_id)
        return created

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by our reference; None: the provider says that it has none."""
        answer = self._look_up("find_order", reference, None)
        return self._order(answer, reference) if answer else None

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order; None: the provider says that it has none."""
        # The moment before the question: what happened while it travelled may be missing from the answer.
        asked_at = datetime.now(UTC)
        answer = self._look_up("fetch_evidence", reference, provider_order_id)
        return answer.body.evidence(asked_at, answer.request_id) if answer else None

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Close an unpaid order. Refused when it is paid or already closed: ask for evidence then."""
        path = f"v1/orders/{segment(provider_order_id)}/cancel"
        # A second cancel is refused like one of a paid order, so the call is not repeatable.
        self._http.tell(Call("cancel_order", "POST", path, idempotent=False))

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Refuse: the sandbox captures held money at its control interface alone."""
        raise Refused(f"capture at {self.name}: not offered; capture it there", code="not_offered")

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Refuse, as `capture_order` does."""
        raise Refused(f"release at {self.name}: not offered; let the hold go there", code="not_offered")

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back: once per refund reference, however often it is asked."""
        self._require_money("refund", request.amount_minor, request.currency)
        answer = self._http.ask(
            Call(
                "refund",
                "POST",
                f"v1/orders/{segment(request.provider_order_id)}/refunds",
                idempotent=True,
                json={"refund_reference": request.refund_reference, "amount_minor": request.amount_minor},
            ),
            _Refund,
        )
        if answer.body.amount_minor != request.amount_minor:
            raise self._unknown("refund", "the answer tells another amount", "other_amount", answer.request_id)
        return ProviderRefund(request.refund_reference, answer.body.transaction_id, answer.body.amount_minor)

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check signature and age alone, and return the event's own id. Refused as by `parse_event`."""
        _, event = self._checked(method, headers, body, received_at)
        return _text(event.get("id"))

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check signature and age against the receive time, then parse. Refused names what is wrong."""
        signed_at, event = self._checked(method, headers, body, received_at)
        return _event(event, signed_at)

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Return None: this provider asks nothing before money moves."""
        return None

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """List every order with a transaction in [since, until), for reconciliation."""
        self._require_lookup("list_orders")
        found: list[Evidence] = []
        cursor: str | None = "0"
        while cursor is not None:
            params = {"since": since.isoformat(), "until": until.isoformat(), "cursor": cursor}
            asked_at = datetime.now(UTC)
            call = Call("list_orders", "GET", "v1/orders", idempotent=True, params=params)
            answer = self._http.ask(call, _Listing)
            found += [order.evidence(asked_at, answer.request_id) for order in answer.body.orders]
            if answer.body.next_cursor == cursor:
                raise Unavailable(f"list_orders at {self.name}: the pages have no end", code="unreadable")
            cursor = answer.body.next_cursor
        return found

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def _look_up(self, operation: str, reference: str, provider_order_id: str | None) -> Answer[_Order] | None:
        self._require_lookup(operation)
        path = f"v1/orders/{segment(provider_order_id)}" if provider_order_id else "v1/orders"
        params = None if provider_order_id else {"reference": reference}
        try:
            answer = self._http.ask(Call(operation, "GET", path, idempotent=True, params=params), _Order)
        except Refused as refused:
            # Only this code means "no such order". A 404 of a wrong address or account must not look like it.
            if refused.code == _NOT_FOUND:
                return None
            raise
        self._require_same(operation, answer, reference)
        return answer

    def _order(self, answer: Answer[_Order], reference: str) -> ProviderOrder:
        self._require_same("create_order", answer, reference)
        return ProviderOrder(
            reference=reference,
            provider_order_id=answer.body.id,
            pay_url=answer.body.pay_url,
            expires_at=answer.body.expires_at,
            provider_request_id=answer.request_id,
        )

    def _require_money(self, operation: str, amount_minor: int, currency: str) -> None:
        if amount_minor <= 0 or currency not in CURRENCIES:
            raise Refused(f"{operation} at {self.name}: an amount and a currency are needed", code="invalid_request")

    def _require_lookup(self, operation: str) -> None:
        if not self.capabilities.lookup:
            raise Refused(f"{operation} at {self.name}: this provider answers no questions", code="not_offered")

    def _require_same(self, operation: str, answer: Answer[_Order], reference: str) -> None:
        """Facts about another order say nothing about ours."""
        if answer.body.reference != reference:
            raise self._unknown(operation, "the answer is about another order", "other_order", answer.request_id)

    def _unknown(self, operation: str, why: str, code: str, request_id: str | None) -> Unknown:
        return Unknown(f"{operation} at {self.name}: {why}", code=code, provider_request_id=request_id)

    def _checked(
        self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime
    ) -> tuple[datetime, Mapping[str, Any]]:
        if method != "POST":
            raise _bad_event("events come by POST", "method")
        signed_at = self._signed_at(headers.get(SIGNATURE_HEADER, ""), body)
        if abs((received_at - signed_at).total_seconds()) > TOLERANCE.total_seconds():
            raise _bad_event("signed more than 300 s before or after it came", "timestamp_outside_tolerance")
        return signed_at, _object(body)

    def _signed_at(self, header: str, body: bytes) -> datetime:
        """Return the time of a valid signature by any active secret, or refuse."""
        timestamp, signatures = _signature_parts(header)
        expected = [_signature(secret, timestamp, body) for secret in self._secrets]
        # Every pair is compared, so that the time taken tells nothing.
        matches = [
            hmac.compare_digest(left.encode("utf-8", "replace"), right) for left in signatures for right in expected
        ]
        if not any(matches):
            raise _bad_event("signed with no secret of ours", "signature_mismatch")
        return datetime.fromtimestamp(int(timestamp), UTC)


_ADAPTER: type[Provider] = SandboxProvider  # checked by the type checker, method by method


def _capabilities(family: Family, opens: Opens, session_life: timedelta, settle: timedelta) -> Capabilities:
    return Capabilities(
        create=_CREATE_MODE[family],
        opens=opens,
        session_life=session_life,
        settle=settle,
        lookup=family is not Family.NO_LOOKUP,
        lookup_gives_page=family in {Family.IDEMPOTENT, Family.OVERWRITES},
        cancel=True,
        refund_idempotent=True,
        signed_events=True,
        statement=family is not Family.NO_LOOKUP,
        calls_per_second=5000.0,
        burst=5000,
    )


def _transaction(entry: _Transaction) -> ProviderTransaction:
    return ProviderTransaction(
        provider_transaction_id=entry.id,
        kind=entry.kind,
        amount_minor=entry.amount_minor,
        currency=entry.currency,
        occurred_at=entry.occurred_at,
    )


def _signature_parts(header: str) -> tuple[str, list[str]]:
    """Split "t=1700000000,v1=abc,v1=def". Refused when a part is missing."""
    if not header:
        raise _bad_event("no Sandbox-Signature header", "signature_missing")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 11) or not signatures:
        raise _bad_event("Sandbox-Signature is not t=<unix seconds>,v1=<hex>", "signature_malformed")
    return times[0], signatures


def _signature(secret: bytes, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(secret, timestamp.encode() + b"." + body, "sha256").hex().encode()


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        decoded = decode_json(body)
    except ValueError:
        raise _bad_event("the body is not JSON", "body_invalid") from None
    if not isinstance(decoded, dict):
        raise _bad_event("the body is not a JSON object", "body_invalid")
    return decoded


def _event(body: Mapping[str, Any], signed_at: datetime) -> ProviderEvent:
    """Read a signed body. Facts that are missing or unreadable leave a hint, and then we ask."""
    data = body.get("data")
    order = data.get("order") if isinstance(data, dict) else None
    named = order if isinstance(order, dict) else {}
    try:
        evidence = _Order.model_validate(named).evidence(signed_at, None)
    except ValidationError:
        evidence = None
    return ProviderEvent(
        event_id=_text(body.get("id")),
        event_type=_text(body.get("type")) or "unknown",
        reference=_text(named.get("reference")),
        provider_order_id=_text(named.get("id")),
        evidence=evidence,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 else None


def _bad_event(why: str, code: str) -> Refused:
    return Refused(f"event refused: {why}", code=code)
