"""VPOS.am payment sessions.

Written from the public pages https://api.vpos.am/docs and https://api.vpos.am/openapi.yaml (version 0.1.0). They show
how a session is created, and say that its status can be looked up and that events are signed; they do not show the
words of a status, the names in an answer, the signature, nor any call to list, cancel or refund. What is not public is
a setting here; docs/reference/providers/vpos.md lists them, and what is assumed. Traps that shape this file:

    the key names order and attempt     our reference is new for each attempt, so the key is made of it
    the browser's return                proves nothing: the session is always asked about
    a word that nobody mapped           is a person's case, never success and never failure
    the capability matrix               may deny a payment or a refund, and never stops a look-up
    customer                            is never sent: no name, e-mail or telephone leaves us
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from contracts.evidence import Evidence
from contracts.money import CURRENCIES
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
from gateways.providers.options import is_web_address
from gateways.providers.vpos_client import VposClient
from gateways.providers.vpos_events import EventReader
from gateways.providers.vpos_evidence import Money, Reading
from gateways.providers.vpos_options import Scheme, read_options
from gateways.providers.vpos_refunds import Refunds
from gateways.providers.vpos_wire import Fields, Session

_LONGEST_REFERENCE = 64
_LONGEST_URL = 2048


class VposProvider:
    """One merchant account at VPOS.am. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...] = (),
        transport: httpx.BaseTransport | None = None,
        **options: Any,
    ) -> None:
        """`base_url` is https://api.vpos.am, `api_key` the merchant's token. ValueError says what is wrong.

        The options, which are many because so little is public, are those of `vpos_options.Options`.
        """
        given = read_options(name, options)
        self.name = name
        self._options = given
        self._money = Money(given.decimals)
        self._reading = Reading(name, given.statuses, given.words_of_refunds, self._money, given.fiscal_statuses)
        fields = Fields(given.names)
        self._events = EventReader(name, given, webhook_secrets, fields, self._reading)
        self._client = VposClient(name, base_url, api_key, given, fields, transport)
        self._refunds = Refunds(self._client, self._reading, self._money)
        has_events = given.signature_scheme is not Scheme.OFF
        self.capabilities = Capabilities(
            create=CreateMode.IDEMPOTENT,
            opens=Opens.AT_PAY,
            session_life=given.session_life,
            settle=given.settle,
            lookup=True,
            lookup_gives_page=bool(given.find_path),
            cancel=bool(given.cancel_path),
            refund_idempotent=False,
            signed_events=has_events,
            push=has_events,
            refund=bool(given.refund_path),
            statement=False,
            receipt=bool(given.fiscal_statuses),
        )

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Create the session, or get it again: the key is the attempt's. Unknown when no answer came back."""
        body = self._body(order)
        self._client.allow("create_order")
        session, request_id = self._client.create("create_order", f"order-{order.reference}-pay-attempt-1", body)
        asked = (order.reference, body["amountMinor"], order.currency)
        if (session.order, session.amount, session.currency) != asked:
            raise self._client.unknown("create_order", "the answer is about another session", "other_order")
        if not is_web_address(session.page):
            raise self._client.unknown("create_order", "no page in the answer", "unreadable")
        return _order(session, request_id)

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look a session up by our order id. Refused where the account has no call for that."""
        found = self._client.find("find_order", reference, None)
        return _order(*found) if found else None

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the session; None: VPOS.am says that it has none. Refused for an unmapped word."""
        # The moment before the question: what happened while it travelled may be missing from the answer.
        asked_at = datetime.now(UTC)
        found = self._client.find("fetch_evidence", reference, provider_order_id)
        return self._reading.evidence(found[0], asked_at, found[1]) if found else None

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Close an unpaid session, where the account has a call for that."""
        if not self._options.cancel_path:
            raise self._client.not_offered("cancel_order")
        self._client.tell("cancel_order", self._options.cancel_path, provider_order_id)

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Refuse: no call that captures held money is public."""
        raise self._client.not_offered("capture_order")

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Refuse, as `capture_order` does."""
        raise self._client.not_offered("release_order")

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back, where the account has a call for that and its capabilities do not deny it."""
        if not self._options.refund_path:
            raise self._client.not_offered("refund")
        return self._refunds.make(request)

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check signature and, where it is signed, age; return the event's own id. Refused as by `parse_event`."""
        return self._events.check(method, headers, body, received_at)

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check the signature and say which session it is about. Evidence only where the time is signed too."""
        return self._events.read(method, headers, body, received_at)

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Return None: this provider asks nothing before money moves."""
        return None

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """Refuse: no list of a day's sessions is public."""
        raise self._client.not_offered("list_orders")

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _body(self, order: OrderRequest) -> dict[str, object]:
        """Return the request's body. Neither customer nor description: nothing personal leaves us."""
        if not 1 <= len(order.reference) <= _LONGEST_REFERENCE:
            raise self._client.invalid("create_order", "reference")
        if order.currency not in CURRENCIES:
            raise self._client.invalid("create_order", "currency")
        amount = self._money.to_wire(order.amount_minor, order.currency)
        if order.amount_minor <= 0 or amount is None:
            raise self._client.invalid("create_order", "amount")
        if not is_web_address(order.return_url) or len(order.return_url) > _LONGEST_URL:
            raise self._client.invalid("create_order", "return_url")
        if order.expires_in <= timedelta(0):
            raise self._client.invalid("create_order", "expires_in")
        return {
            "merchantOrderId": order.reference,
            "amountMinor": amount,
            "currency": order.currency,
            "provider": self._options.provider,
            "returnUrl": order.return_url,
            "metadata": self._options.metadata,
        }


_ADAPTER: type[Provider] = VposProvider  # checked by the type checker, method by method


def _order(session: Session, request_id: str | None) -> ProviderOrder:
    return ProviderOrder(
        reference=session.order,
        provider_order_id=session.id,
        pay_url=session.page if is_web_address(session.page) else None,
        expires_at=session.expires_at,
        provider_request_id=request_id,
    )
