"""ArCa iPay and its family: bank gateways made by BPC (Ardshin, Inecobank, IDBank, ACBA, Evoca, Converse and others).

Written from BPC's public documentation, https://dev.bpcbt.com/en/integration/api/rest.html. Each bank has its own
hosts and grants its own permissions, so both are settings; docs/reference/providers/arca.md lists them, and what is
assumed. Traps that shape this file:

    register.do twice          refused (errorCode 1) without the first one's page: ask, then open another attempt
    HTTP 200                   says nothing; `success` and `errorCode` do. HTTP 400 is a fault of theirs
    status 1                   a hold: it is no payment until deposit.do
    amount=0                   means everything, in refund.do and deposit.do: never sent
    an order lives 20 minutes  so it is made when the customer presses Pay
    redirect and callback      prove nothing: the status is always asked for
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx

from contracts.evidence import Evidence
from contracts.money import CURRENCIES
from gateways.errors import GatewayError, Refused
from gateways.providers.arca_client import ACCESS_DENIED, DUPLICATE, ArcaClient
from gateways.providers.arca_events import Callbacks, EventReader
from gateways.providers.arca_evidence import Reading
from gateways.providers.arca_refunds import Refunds
from gateways.providers.arca_wire import Registered, Result
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
from gateways.providers.options import duration, is_web_address, require, zone_of

_HELD = 1  # orderStatus: authorised, nothing captured
_LONGEST_NUMBER = 36
_LONGEST_DESCRIPTION = 598
_LONGEST_URL = 512
# "No API fields passed can contain parts of html": a purpose with "<" would be declined.
_NOT_ALLOWED = re.compile(r"[\x00-\x1f\x7f<>]+")


class ArcaProvider:
    """One merchant account at one bank's gateway. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...] = (),
        user_name: str = "",
        two_phase: bool = False,
        callbacks: Callbacks | str = Callbacks.HMAC,
        public_keys: Sequence[str] = (),
        callback_hash: str = "sha512",
        external_refund_id: bool = False,
        cancel: bool = True,
        session_life: timedelta | str = timedelta(minutes=20),
        settle: timedelta | str = timedelta(seconds=30),
        languages: Sequence[str] = ("hy", "ru", "en"),
        zone: str = "Asia/Yerevan",
        expiry: str = "seconds",
        currency: str | None = None,
        describe: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` ends with /payment/rest, `api_key` is the password of `user_name`. ValueError says what is wrong.

        `external_refund_id`: the bank's gateway knows the parameter of that name, and its answers show it (version 21
        or later), so that a refund may be repeated.
        `expiry` says how an order's end is sent: "seconds", or "date", a local time of `zone`. `currency` is the
        account's, for answers that name none. Without `describe` only our reference is sent as description.
        """
        require(bool(user_name), name, "user_name is missing: the login of the API user, often ending in -api")
        require(expiry in {"seconds", "date"}, name, "expiry is seconds or date")
        require(currency is None or currency in CURRENCIES, name, "currency is an ISO 4217 code")
        self.name = name
        self._two_phase = two_phase
        self._languages = tuple(languages)
        self._expires_by_date = expiry == "date"
        self._describe = describe
        self._zone = zone_of(name, zone)
        self._reading = Reading(name, two_phase, self._zone, currency)
        self._events = EventReader(name, Callbacks(callbacks), webhook_secrets, tuple(public_keys), callback_hash)
        self._client = ArcaClient(name, base_url, user_name, api_key, transport)
        self._refunds = Refunds(self._client, self._reading, named=external_refund_id)
        mode = Callbacks(callbacks)
        self.capabilities = Capabilities(
            create=CreateMode.UNIQUE,
            opens=Opens.AT_PAY,
            session_life=duration(session_life),
            settle=duration(settle),
            lookup=True,
            lookup_gives_page=False,
            cancel=cancel,
            refund_idempotent=external_refund_id,
            signed_events=mode in {Callbacks.HMAC, Callbacks.RSA},
            push=mode is not Callbacks.OFF,
            refund=True,
            capture=two_phase,
            statement=False,
            amount_unit="minor",
            currency_code="numeric",
        )

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Register the order. Unknown when no answer came back, and when it exists already under this reference.

        A duplicate is an order of ours, made by a call whose answer was lost: its page is lost with it, and whoever
        asks under the reference closes it and opens the next attempt.
        """
        self._check_order(order)
        begun = datetime.now(UTC)
        path = "registerPreAuth.do" if self._two_phase else "register.do"
        try:
            answer = self._client.ask(
                "create_order", path, self._registration(order, begun), Registered, idempotent=False
            )
        except Refused as refused:
            if refused.code == DUPLICATE and self._exists(order.reference):
                raise self._client.unknown(
                    "create_order", "an order of this number exists", "duplicate_reference"
                ) from None
            if refused.code == ACCESS_DENIED:
                self._client.status("create_order", order.reference, None)  # says so where it is the login
            raise
        made = answer.body
        if not made.order_id or not is_web_address(made.form_url):
            raise self._client.unknown("create_order", "neither failure nor page in the answer", "unreadable")
        return ProviderOrder(
            reference=order.reference,
            provider_order_id=made.order_id,
            pay_url=made.form_url,
            expires_at=begun + timedelta(seconds=_seconds(order.expires_in)),
            provider_request_id=answer.request_id,
        )

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by its number; the answer tells no page. None: the gateway says that it has none."""
        found = self._client.status("find_order", reference, None)
        return ProviderOrder(reference, found[1], None, None, found[0].request_id) if found else None

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order; None: the gateway says that it has none."""
        # The moment before the question: what happened while it travelled may be missing from the answer.
        asked_at = datetime.now(UTC)
        found = self._client.status("fetch_evidence", reference, provider_order_id)
        if found is None:
            return None
        answer, order_id = found
        return self._reading.evidence(answer.body, order_id, reference, asked_at, answer.request_id)

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Decline an unpaid order. Refused when it is paid, held or closed: ask for evidence then."""
        if not self.capabilities.cancel:
            raise self._client.not_offered("cancel_order")
        form = {"orderId": provider_order_id, "orderNumber": reference}
        self._client.ask("cancel_order", "decline.do", form, Result, idempotent=False)

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Capture held money, all of it or a part. Refused where nothing is held."""
        if not self._two_phase:
            raise self._client.not_offered("capture_order")
        form = {"orderId": provider_order_id, **self._client.money("capture_order", amount_minor, currency)}
        self._client.ask("capture_order", "deposit.do", form, Result, idempotent=False)

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Let a hold go. Once for an order, and the bank must have permitted it; Refused where nothing is held.

        reverse.do would undo a payment of the same day too, so it is asked first what there is.
        """
        if not self._two_phase:
            raise self._client.not_offered("release_order")
        found = self._client.status("release_order", reference, provider_order_id)
        if found is None or found[0].body.order_status != _HELD:
            raise Refused(f"release_order at {self.name}: nothing is held", code="not_held")
        self._client.ask("release_order", "reverse.do", {"orderId": provider_order_id}, Result, idempotent=False)

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back. Unknown too when it was accepted and the order does not show which refund it became."""
        return self._refunds.make(request)

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check the checksum. A callback has no id of its own: two that look alike may be two refunds."""
        return self._events.read(method, query, body).event_id

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check the checksum and say which order it is about. Never evidence. Refused names what is wrong."""
        return self._events.read(method, query, body)

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Return None: this provider asks nothing before money moves."""
        return None

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """Refuse: the documented interface lists no orders of a day."""
        raise self._client.not_offered("list_orders")

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _check_order(self, order: OrderRequest) -> None:
        """Refuse what the gateway would refuse, or would read as something else."""
        self._client.short("create_order", order.reference, _LONGEST_NUMBER)
        if not is_web_address(order.return_url) or len(order.return_url) > _LONGEST_URL:
            raise self._client.invalid("create_order", "return_url")
        if _seconds(order.expires_in) < 1:
            raise self._client.invalid("create_order", "expires_in")

    def _registration(self, order: OrderRequest, begun: datetime) -> dict[str, str]:
        seconds = _seconds(order.expires_in)
        ends = (begun + timedelta(seconds=seconds)).astimezone(self._zone)
        life = {"expirationDate": f"{ends:%Y-%m-%dT%H:%M:%S}"}
        words = _NOT_ALLOWED.sub(" ", order.description if self._describe else "").strip()
        return {
            "orderNumber": order.reference,
            **self._client.money("create_order", order.amount_minor, order.currency),
            "returnUrl": order.return_url,
            "description": words[:_LONGEST_DESCRIPTION] or order.reference,
            "language": order.locale if order.locale in self._languages else "en",
            **(life if self._expires_by_date else {"sessionTimeoutSecs": str(seconds)}),
        }

    def _exists(self, reference: str) -> bool:
        """Tell a duplicate from the other meanings that errorCode 1 has; where nobody answers, assume it."""
        try:
            return self._client.status("create_order", reference, None) is not None
        except GatewayError:
            return True


_ADAPTER: type[Provider] = ArcaProvider  # checked by the type checker, method by method


def _seconds(life: timedelta) -> int:
    return int(life.total_seconds())
