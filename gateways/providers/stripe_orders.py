"""Checkout Sessions of one Stripe account: made once for each reference, and found again.

Sources: https://docs.stripe.com/api/checkout/sessions/create and /list, https://docs.stripe.com/api/idempotent_requests.
A key gives its first answer again for 24 hours at the least, then the same key makes another session; with other
parameters it is refused (`idempotency_error`), and an expiry is a moment, so a later repeat has other parameters. A
session that nobody was told the page of is paid by nobody: so one too many does no harm.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contracts.ids import moment_of, new_id
from gateways.errors import Refused, Unavailable
from gateways.providers.base import OrderRequest, ProviderOrder
from gateways.providers.options import is_web_address
from gateways.providers.stripe_client import IDEMPOTENCY_ERROR, StripeClient, nothing_happened
from gateways.providers.stripe_wire import REFERENCE, Session, moment

# "It can be anywhere from 30 minutes to 24 hours after Checkout Session creation"; clocks differ a little.
SHORTEST, LONGEST = timedelta(minutes=30), timedelta(hours=24)
_MARGIN = timedelta(minutes=2)
_FRESH = timedelta(minutes=1)
_KEY_IS_SURE = timedelta(hours=20)
_LONGEST_REFERENCE = 200
_LONGEST_DESCRIPTION = 250
_LONGEST_URL = 2048
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_BROWSERS = "auto"
_LOCALES_TEXT = """auto bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hi-IN hr hu id it ja ko lt lv ms mt nb nl
    pl pt pt-BR ro ru sk sl sv th tr vi zh zh-HK zh-TW"""
LOCALES = frozenset(_LOCALES_TEXT.split())


@dataclass(frozen=True, slots=True)
class Orders:
    """The sessions of one account, and how they are made."""

    client: StripeClient
    two_phase: bool
    methods: Sequence[str]
    locales: Mapping[str, str]
    describe: bool

    def make(self, order: OrderRequest) -> ProviderOrder:
        """Create the session, or give the one that an earlier call made, however long ago that was."""
        form = self._creation(order)
        made = moment_of(order.reference)
        if made is not None and datetime.now(UTC) - made > _KEY_IS_SURE:
            found = self._living(order)
            if found is not None:
                return found
        try:
            return self._created(order, form, order.reference)
        except Unavailable as unavailable:
            # A fault of Stripe's is kept under the key too, so that the same call would hear it for a day.
            found = None if nothing_happened(unavailable) else self._living(order)
            if found is None:
                raise
            return found
        except Refused as refused:
            if refused.code != IDEMPOTENCY_ERROR:
                raise
        # An earlier call of ours used this key, with another expiry: its answer was lost, or was a fault of Stripe's.
        # Where nothing that lives came of it the key is spent, and a fresh one makes the session.
        return self._living(order) or self._created(order, form, f"{order.reference}:{new_id()}")

    def find(self, operation: str, reference: str) -> Session | None:
        """Return the session of a reference that counts; None: Stripe lists none of that name."""
        found = self.client.named(operation, reference)
        # One that took money, else one that may, else the newest.
        by_worth = sorted(found, key=lambda one: (one.status == "complete", one.status == "open", one.created))
        return by_worth[-1] if by_worth else None

    def _creation(self, order: OrderRequest) -> dict[str, str]:
        """Return the parameters of a session, or refuse what Stripe would refuse."""
        if not 1 <= len(order.reference) <= _LONGEST_REFERENCE or not order.reference.isascii():
            raise self.client.invalid("create_order", "reference")
        if not is_web_address(order.return_url) or len(order.return_url) > _LONGEST_URL:
            raise self.client.invalid("create_order", "return_url")
        amount, currency = self.client.money("create_order", order.amount_minor, order.currency)
        words = _CONTROLS.sub(" ", order.description if self.describe else "").strip()[:_LONGEST_DESCRIPTION]
        hold = {"payment_intent_data[capture_method]": "manual"} if self.two_phase else {}
        return {
            "mode": "payment",
            "client_reference_id": order.reference,
            f"metadata[{REFERENCE}]": order.reference,
            f"payment_intent_data[metadata][{REFERENCE}]": order.reference,
            "payment_intent_data[description]": words or order.reference,
            **hold,
            "line_items[0][quantity]": "1",
            "line_items[0][price_data][currency]": currency,
            "line_items[0][price_data][unit_amount]": str(amount),
            "line_items[0][price_data][product_data][name]": words or order.reference,
            **{f"payment_method_types[{place}]": word for place, word in enumerate(self.methods)},
            # The money is what the invoice says, whatever the account's settings offer for foreign cards.
            "adaptive_pricing[enabled]": "false",
            "success_url": order.return_url,
            "cancel_url": order.return_url,
            "locale": self._locale(order.locale),
            "expires_at": str(int(_end(order).timestamp())),
        }

    def _locale(self, ours: str) -> str:
        """Return Stripe's word for a language. It has no Armenian page: "hy" leaves the choice to the browser."""
        wanted = self.locales.get(ours, ours)
        known = [word for word in (wanted, wanted.partition("-")[0]) if word in LOCALES]
        return known[0] if known else _BROWSERS

    def _created(self, order: OrderRequest, form: Mapping[str, str], key: str) -> ProviderOrder:
        answer = self.client.post("create_order", "v1/checkout/sessions", form, Session, key=key)
        self._require_asked(order, answer.body)
        made = found_order(answer.body, order.reference, answer.request_id)
        if not is_web_address(made.pay_url):
            raise self.client.unknown("create_order", "no page in the answer", "unreadable")
        return made

    def _living(self, order: OrderRequest) -> ProviderOrder | None:
        """Find the open session of a reference; None: there is none, or its time ran out without money."""
        best = self.find("create_order", order.reference)
        if best is None or best.status == "expired":
            return None
        self._require_asked(order, best)
        if best.status != "open" or not is_web_address(best.url):
            raise self.client.unknown("create_order", "the order was paid or is being paid", "complete")
        return found_order(best, order.reference, None)

    def _require_asked(self, order: OrderRequest, session: Session) -> None:
        """A page that asks for other money is not given to a customer."""
        self.client.require_same("create_order", session, order.reference, session.id)
        asked = self.client.money("create_order", order.amount_minor, order.currency)
        if (session.amount_total, session.currency) != asked:
            raise self.client.unknown("create_order", "the session asks for other money", "other_amount")


def _end(order: OrderRequest) -> datetime:
    """Return when a session ends, within what Stripe takes.

    A fresh reference counts from its own moment, so that calls one after another, or at once, have one expiry.
    """
    now, made = datetime.now(UTC), moment_of(order.reference)
    begins = made if made is not None and now - _FRESH < made <= now else now
    return begins + min(max(order.expires_in, SHORTEST + _MARGIN), LONGEST - _MARGIN)


def found_order(session: Session, reference: str, request: str | None) -> ProviderOrder:
    """Return a session as an order. Its page can be had again while it is open."""
    return ProviderOrder(
        reference=reference,
        provider_order_id=session.id,
        pay_url=session.url if session.status == "open" else None,
        expires_at=moment(session.expires_at),
        provider_request_id=request,
    )
