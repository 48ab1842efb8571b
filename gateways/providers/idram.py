"""Idram, the Armenian wallet: drams alone, by a form that the customer's own browser posts.

Written from "Idram Payment System merchant interface description", which Idram hands to merchants (edition of 2025;
older ones are public, as https://www.slideshare.net/slideshow/228443396); docs/reference/providers/idram.md lists what
is assumed. Traps that shape this file:

    there is no call          no order is made, looked up, cancelled or refunded there: an order is a form of ours, and
                              making it again makes the same one
    the precheck is unsigned  anyone can send one, and it is the only place where a wrong payment can be stopped
    the confirmation          is the only proof, signed by an MD5, without an id, and sent once
    OK, HTTP 200              to the letter. Another 2xx makes Idram cancel what was paid; an error lets it stand
    the customer posts it     so amount and bill may be his own invention: nothing of the form comes back signed by us
"""

import re
from datetime import datetime, timedelta

import httpx

from contracts.evidence import Evidence
from contracts.money import MAX_AMOUNT_MINOR, exponent, major
from gateways.errors import Refused
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
from gateways.providers.idram_events import CURRENCY, LONGEST_BILL, ResultUrl
from gateways.providers.options import duration, is_web_address, require, zone_of

_LANGUAGES = {"hy": "AM", "ru": "RU", "en": "EN"}  # "EDP_LANGUAGE (RU, EN, AM)"
_LONGEST_DESCRIPTION = 250  # ASSUMED: the document gives no length
_NOT_ALLOWED = re.compile(r"[\x00-\x1f\x7f]+")
# A form lies in the customer's browser for as long as he likes: the link's own end is enforced at the precheck.
_LIFE = timedelta(days=365)


class IdramProvider:
    """One merchant's IdramID. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...] = (),
        rec_account: str | int = "",
        email: str = "",
        settle: timedelta | str = timedelta(minutes=5),
        zone: str = "Asia/Yerevan",
        describe: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`webhook_secrets` are the SECRET_KEY, several in a change; `api_key` and `transport` have no use here.

        `rec_account`: the merchant's IdramID. `email`: where Idram writes when it did not hear OK after a payment.
        `settle`: how long after a yes to a precheck nobody else is told yes. Long, since a precheck comes right before
        money moves, so that a second one means a second payment. Without `describe` only our reference is sent as
        description. ValueError says what is wrong.
        """
        account = str(rec_account)
        require(account.isascii() and account.isalnum(), name, "rec_account is your IdramID: digits")
        require(bool(webhook_secrets) and all(webhook_secrets), name, "webhook_secrets: your SECRET_KEY, never empty")
        require(is_web_address(base_url), name, "base_url is no web address; Idram's is https://banking.idram.am")
        self.name = name
        self._page = f"{base_url.rstrip('/')}/Payment/GetPayment"
        self._account = account
        self._email = email
        self._describe = describe
        self._result_url = ResultUrl(name, account, webhook_secrets, zone_of(name, zone))
        self.capabilities = Capabilities(
            create=CreateMode.IDEMPOTENT,
            opens=Opens.AT_PAY,
            session_life=_LIFE,
            settle=duration(settle),
            lookup=False,
            lookup_gives_page=False,
            cancel=False,  # a precheck that is refused is the cancel
            refund=False,
            refund_idempotent=False,
            signed_events=True,
            push=True,
            statement=False,
            amount_unit="major",
            precheck=True,
            answer="OK",
        )

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Fill the form. Nobody is called; the same order gives the same form, whose bill is our reference."""
        if order.currency != CURRENCY:
            raise self._invalid("currency")
        if not 0 < order.amount_minor <= MAX_AMOUNT_MINOR:
            raise self._invalid("amount")
        if not _is_bill(order.reference):
            raise self._invalid("reference")
        words = _NOT_ALLOWED.sub(" ", order.description if self._describe else "").strip()
        form = {
            "EDP_LANGUAGE": _LANGUAGES.get(order.locale, "EN"),
            "EDP_REC_ACCOUNT": self._account,
            "EDP_DESCRIPTION": words[:_LONGEST_DESCRIPTION] or order.reference,
            # With all decimals, as confirmations have it ("format-0.00").
            "EDP_AMOUNT": f"{major(order.amount_minor, CURRENCY):.{exponent(CURRENCY)}f}",
            "EDP_BILL_NO": order.reference,
        }
        return ProviderOrder(
            reference=order.reference,
            provider_order_id=order.reference,  # there is none before the payment
            pay_url=self._page,
            expires_at=None,
            pay_fields=form | ({"EDP_EMAIL": self._email} if self._email else {}),
        )

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Refuse: there is no look-up."""
        raise self._not_offered("find_order")

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Refuse: there is no look-up; the signed confirmation is the evidence."""
        raise self._not_offered("fetch_evidence")

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Refuse: there is nothing to cancel; the next precheck is told no."""
        raise self._not_offered("cancel_order")

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Refuse: nothing is held."""
        raise self._not_offered("capture_order")

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Refuse: nothing is held."""
        raise self._not_offered("release_order")

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refuse: money goes back by hand, in the merchant's cabinet at Idram."""
        raise self._not_offered("refund")

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check the checksum. A confirmation has no id of its own, and none is made up from its transaction's.

        The ledger keeps a transaction once, so a confirmation may come any number of times. One that is sent again on
        our wish, after we mended what kept the first from counting, must not be taken for a duplicate: it is the only
        way to learn of the payment.
        """
        self._result_url.checked(method, query, body)
        return None

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check the checksum and return the payment, with all facts. Unknown: signed, and not to be read."""
        return self._result_url.event(method, query, body, received_at)

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Read the question before money moves, which nobody signs; None: a confirmation, or nothing of Idram's."""
        return self._result_url.precheck(method, query, body)

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """Refuse: the statement is a file from the merchant's cabinet."""
        raise self._not_offered("list_orders")

    def close(self) -> None:
        """Release nothing: there are no connections."""

    def _invalid(self, field: str) -> Refused:
        return Refused(f"create_order at {self.name}: {field} is outside what Idram takes", code="invalid_request")

    def _not_offered(self, operation: str) -> Refused:
        return Refused(f"{operation} at {self.name}: Idram offers no such call", code="not_offered")


_ADAPTER: type[Provider] = IdramProvider  # checked by the type checker, method by method


def _is_bill(reference: str) -> bool:
    """Tell whether our reference can be a bill: a colon would make the checksum ambiguous."""
    return 1 <= len(reference) <= LONGEST_BILL and reference.isprintable() and ":" not in reference
