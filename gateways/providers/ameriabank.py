"""Ameriabank's vPOS 3.1: card payments on the bank's own page.

Written from the bank's documentation and from what others saw on its test host; gateways/providers/ameriabank_wire.py
names both, docs/reference/providers/ameriabank.md lists what is assumed. Traps that shape this file:

    OrderID is an integer      so the core counts references for this account; any other is refused
    InitPayment twice          gives one PaymentID and overwrites what it was for: so the core asks first
    an order nobody tried yet  is answered with HTTP 500, or with the code of a wrong password: see `_look`
    RefundPayment twice        refunds twice: never repeated here
    CancelPayment              undoes a payment too: only sent while the order is held
    redirect                   unsigned, and the bank pushes nothing: the status is always asked for
    an order lives 20 minutes  and nothing closes it before
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from contracts.evidence import Evidence
from contracts.money import CURRENCIES
from gateways.errors import GatewayError, Refused, Unknown
from gateways.providers.ameriabank_client import ANSWERED, AmeriabankClient
from gateways.providers.ameriabank_evidence import Reading
from gateways.providers.ameriabank_looks import Looks, opaque
from gateways.providers.ameriabank_refunds import Refunds
from gateways.providers.ameriabank_wire import Result
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
    References,
    RefundRequest,
)
from gateways.providers.options import duration, is_web_address, require, zone_of

_LONGEST_LIFE = timedelta(seconds=1200)
# Seen to be taken (CONVENTIONS.md, 4.12); the true limit is not documented.
_LONGEST_DESCRIPTION = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_PAGE_LANGUAGES = frozenset({"am", "ru", "en"})


class AmeriabankProvider:
    """One merchant account. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...] = (),
        client_id: str = "",
        user_name: str = "",
        two_phase: bool = False,
        session_life: timedelta | str = _LONGEST_LIFE,
        settle: timedelta | str = timedelta(seconds=30),
        languages: Sequence[str] = ("am", "ru", "en"),
        zone: str = "Asia/Yerevan",
        currency: str | None = None,
        describe: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` ends with /VPOS, `api_key` is the password of `user_name`. ValueError says what is wrong.

        `two_phase`: the bank holds this account's payments first. `currency` is the account's, for answers that name
        none. Without `describe` only our reference is sent as description. `webhook_secrets` are not used.
        """
        require(bool(client_id), name, "client_id is missing: the ClientID that the bank gave")
        require(bool(user_name), name, "user_name is missing: the Username that the bank gave")
        require(currency is None or currency in CURRENCIES, name, "currency is an ISO 4217 code")
        require(set(languages) <= _PAGE_LANGUAGES and "en" in languages, name, "languages are en, and am and ru")
        life = duration(session_life)
        require(timedelta(seconds=1) <= life <= _LONGEST_LIFE, name, "session_life is 1 to 1200 seconds")
        self.name = name
        self._two_phase = two_phase
        self._languages = tuple(languages)
        self._describe = describe
        self._client = AmeriabankClient(name, base_url, client_id, user_name, api_key, transport)
        self._looks = Looks(self._client, Reading(name, two_phase, zone_of(name, zone), currency))
        self._refunds = Refunds(self._client, self._looks)
        self.capabilities = Capabilities(
            create=CreateMode.OVERWRITES,
            opens=Opens.AT_PAY,
            session_life=life,
            settle=duration(settle),
            lookup=True,
            lookup_gives_page=True,
            cancel=False,
            refund_idempotent=False,
            signed_events=False,
            push=False,
            refund=True,
            capture=two_phase,
            statement=False,
            amount_unit="major",
            currency_code="numeric",
            reference=References.NUMBER,
        )

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Register the order. Unknown when no answer came back, and when the bank says that the number is taken.

        Never repeated here: a second call under the number overwrites what the first one was for. Equal requests make
        equal bytes, so that even then nothing changes.
        """
        begun = datetime.now(UTC)
        payment_id, request_id = self._client.register(self._registration(order))
        return ProviderOrder(
            reference=order.reference,
            provider_order_id=payment_id,
            pay_url=self._client.page(payment_id, self._language(order.locale)),
            expires_at=begun + timedelta(seconds=_seconds(order.expires_in)),
            provider_request_id=request_id,
        )

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by our number; None: the bank says that it has none.

        Its page is made of the PaymentID, in English: nobody tells the customer's language here. Nor does the bank
        tell when it ends: no later than a whole session from now.
        """
        payment_id = self._client.payment_id("find_order", reference)
        if payment_id is None:
            return None
        page = self._client.page(payment_id, self._language("en"))
        return ProviderOrder(reference, payment_id, page, datetime.now(UTC) + self.capabilities.session_life)

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order; None: the bank says that it has none.

        An order that nobody tried to pay stays OPEN after its session: the bank does not tell when it began.
        """
        seen = self._looks.at("fetch_evidence", reference, provider_order_id)
        return seen.evidence if seen is not None else None

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Refuse: the bank closes no unpaid order; its session lapses, after 20 minutes at the longest."""
        raise self._client.refused("cancel_order", "not offered: the session lapses by itself", "not_offered")

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Capture held money, all of it or a part. Refused where nothing is held."""
        self._require_two_phases("capture_order")
        amount = self._client.amount("capture_order", amount_minor, currency)
        self._while_held("capture_order", "ConfirmPayment", reference, provider_order_id, Amount=amount)

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Let a hold go. Refused where nothing is held; CancelPayment would undo a payment of three days too."""
        self._require_two_phases("release_order")
        self._while_held("release_order", "CancelPayment", reference, provider_order_id)

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back. Unknown too when it was accepted and the order does not show it."""
        return self._refunds.make(request)

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Refuse: the bank sends no events."""
        raise self._no_events()

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Refuse: the bank sends no events, and the return of the customer's browser is none."""
        raise self._no_events()

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Return None: this provider asks nothing before money moves."""
        return None

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """Refuse: the bank's list of a day tells no refunds, and cuts its times off."""
        raise self._client.refused("list_orders", "not offered", "not_offered")

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _registration(self, order: OrderRequest) -> dict[str, Any]:
        """Refuse what the bank would refuse or read as something else, and put the rest into its words."""
        number = self._client.number("create_order", order.reference)
        if not is_web_address(order.return_url):
            raise self._client.invalid("create_order", "return_url")
        if not 1 <= _seconds(order.expires_in) <= _LONGEST_LIFE.total_seconds():  # the bank checks it not
            raise self._client.invalid("create_order", "expires_in")
        words = _CONTROL.sub(" ", order.description if self._describe else "").strip()
        return {
            "OrderID": number,
            "Amount": self._client.amount("create_order", order.amount_minor, order.currency),
            "Currency": CURRENCIES[order.currency][0],
            "Description": words[:_LONGEST_DESCRIPTION] or order.reference,
            "BackURL": order.return_url,
            "Opaque": opaque(order.reference),
            "Timeout": _seconds(order.expires_in),
        }

    def _language(self, locale: str) -> str:
        spoken = "am" if locale == "hy" else locale
        return spoken if spoken in self._languages else "en"

    def _require_two_phases(self, operation: str) -> None:
        if not self._two_phase:
            raise self._client.refused(operation, "not offered by this account", "not_offered")

    def _while_held(self, operation: str, path: str, reference: str, payment_id: str, **more: str) -> None:
        """Call once, while money is held. A code that may be a plain no is one where it is held still."""
        self._looks.refuse_unless_held(operation, reference, payment_id)
        try:
            self._client.ask(operation, path, {"PaymentID": payment_id, **more}, Result)
        except Unknown as unknown:
            if unknown.code in ANSWERED and self._is_still_held(operation, reference, payment_id):
                raise self._client.refused(operation, f"ResponseCode {unknown.code}", unknown.code) from None
            raise

    def _is_still_held(self, operation: str, reference: str, payment_id: str) -> bool:
        try:
            return self._looks.is_held(operation, reference, payment_id)
        except GatewayError:
            return False

    def _no_events(self) -> Refused:
        return Refused("event refused: this account sends none", code="not_offered")


_ADAPTER: type[Provider] = AmeriabankProvider  # checked by the type checker, method by method


def _seconds(life: timedelta) -> int:
    return int(life.total_seconds())
