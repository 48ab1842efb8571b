"""Stripe Checkout: one Checkout Session for each attempt, through the REST API.

Written from Stripe's public documentation, https://docs.stripe.com/api (version 2026-10-28.endive) and the guides named
in the modules beside this one; docs/reference/providers/stripe.md lists what is assumed. Traps that shape this file:

    a key is kept 24 hours     the same key makes a second session afterwards: so an older order is searched first
    other parameters, one key  refused (idempotency_error), and an expiry is a moment: then the first is searched
    a session lives a day      30 minutes at the least, so it may outlive its link, and is expired with it
    complete is not paid       payment_status and the payment's own status tell: a debit may fail days later
    requires_capture           a hold: it is no payment until it is captured
    two sessions, one order    harmless: one whose page nobody knows is paid by nobody
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx

from contracts.evidence import Evidence
from gateways.http import Answer, segment
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
from gateways.providers.options import duration, require
from gateways.providers.stripe_client import StripeClient
from gateways.providers.stripe_events import EventReader
from gateways.providers.stripe_evidence import charge_of, evidence, intent_of
from gateways.providers.stripe_orders import LOCALES, LONGEST, SHORTEST, Orders, found_order
from gateways.providers.stripe_refunds import Refunds
from gateways.providers.stripe_statement import Statement
from gateways.providers.stripe_wire import Intent, Session

_TYPE_OF_METHOD = re.compile(r"[a-z0-9_]{1,40}")


class StripeProvider:
    """One Stripe account, in test mode or live. Satisfies `gateways.providers.base.Provider`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        webhook_secrets: tuple[str, ...] = (),
        two_phase: bool = False,
        livemode: bool | None = None,
        payment_method_types: Sequence[str] = (),
        locales: Mapping[str, str] | None = None,
        session_life: timedelta | str = LONGEST,
        settle: timedelta | str = timedelta(seconds=10),
        describe: bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` is https://api.stripe.com, `webhook_secrets` are the endpoint's. ValueError says what is wrong.

        `payment_method_types`: empty leaves the choice to the account's settings at Stripe. `locales` maps languages
        of ours to Stripe's, as {"hy": "ru"}; without it, one that Stripe lacks leaves the choice to the browser.
        `livemode`: refuse answers and events of the other mode. Without `describe` only our reference is shown.
        """
        life = duration(session_life)
        require(all(webhook_secrets), name, "an empty webhook secret would let anyone sign")
        require(SHORTEST <= life <= LONGEST, name, "session_life is from 30 minutes to 24 hours")
        require(all(map(_TYPE_OF_METHOD.fullmatch, payment_method_types)), name, "payment_method_types are words")
        require(set((locales or {}).values()) <= LOCALES, name, "locales names a language that Stripe has not")
        require(_fits_mode(api_key, livemode), name, "livemode and the api_key are of different modes")
        self.name = name
        self._two_phase = two_phase
        self._client = StripeClient(name, base_url, api_key, livemode, transport)
        self._orders = Orders(self._client, two_phase, tuple(payment_method_types), dict(locales or {}), describe)
        self._refunds = Refunds(self._client)
        self._statement = Statement(self._client)
        self._events = EventReader(
            secrets=webhook_secrets,
            livemode=livemode,
            proves=not two_phase,
        )
        self.capabilities = Capabilities(
            create=CreateMode.IDEMPOTENT,
            opens=Opens.AT_PAY,
            session_life=life,
            settle=duration(settle),
            lookup=True,
            lookup_gives_page=True,
            cancel=True,
            refund_idempotent=True,
            signed_events=True,
            push=bool(webhook_secrets),
            capture=two_phase,
            statement=True,
            # 25 a second for each endpoint and for a sandbox altogether: https://docs.stripe.com/rate-limits
            calls_per_second=20.0,
            burst=20,
        )

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Create the session, or give the one that an earlier call made, however long ago that was."""
        return self._orders.make(order)

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by our reference; None: Stripe lists no session of that name."""
        found = self._orders.find("find_order", reference)
        return found_order(found, reference, None) if found else None

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order; None: Stripe says that it has none."""
        # The moment before the question: what happened while it travelled may be missing from the answer.
        asked_at = datetime.now(UTC)
        operation = "fetch_evidence"
        if provider_order_id is None:
            found = self._orders.find(operation, reference)
            if found is None:
                return None
            provider_order_id = found.id
        answer = self._client.session(operation, reference, provider_order_id)
        if answer is None:
            return None
        return self._evidence(operation, answer, reference, asked_at)

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Expire an open session. Refused when it is complete or expired: ask for evidence then."""
        path = f"v1/checkout/sessions/{segment(provider_order_id)}/expire"
        answer = self._client.move("cancel_order", path, {}, Session)
        self._client.require_same("cancel_order", answer.body, reference, provider_order_id)

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Capture held money, all of it or a part; what is left is let go. Refused where nothing is held."""
        self._require_holds("capture_order")
        amount, code = self._client.money("capture_order", amount_minor, currency)
        intent = self._held("capture_order", reference, provider_order_id)
        if intent.currency != code:
            raise self._client.invalid("capture_order", "currency")
        path = f"v1/payment_intents/{segment(intent.id)}/capture"
        self._client.move("capture_order", path, {"amount_to_capture": str(amount)}, Intent)

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Let a hold go: cancel the payment of a session, which Stripe permits for a hold alone."""
        self._require_holds("release_order")
        intent = self._held("release_order", reference, provider_order_id)
        self._client.move("release_order", f"v1/payment_intents/{segment(intent.id)}/cancel", {}, Intent)

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back, once per refund reference. It may still be on its way: only evidence says that it moved."""
        return self._refunds.make(request)

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check signature and age alone, and return the event's own id. Refused as by `parse_event`."""
        return self._events.check(method, headers, body, received_at)

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check signature and age, then parse. Refused names what is wrong.

        A dispute, and a refund made at Stripe's own desk, name their payment alone.
        """
        return self._events.read(method, headers, body, received_at)

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Return None: Stripe asks nothing before money moves."""
        return None

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """List every order of ours with a transaction in [since, until), for reconciliation."""
        asked_at = datetime.now(UTC)
        found = []
        for session in self._statement.sessions(since, until):
            answer = Answer(status=200, body=session, request_id=None)
            one = self._evidence("list_orders", answer, session.our_reference or "", asked_at)
            if any(since <= moved.occurred_at < until for moved in one.transactions):
                found.append(one)
        return found

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _require_holds(self, operation: str) -> None:
        if not self._two_phase:
            raise self._client.refused(operation, "not offered by this account", "not_offered")

    def _held(self, operation: str, reference: str, provider_order_id: str) -> Intent:
        """Return the payment that is held. Looked at first: what was captured must not be let go."""
        answer = self._client.session(operation, reference, provider_order_id)
        intent = intent_of(answer.body) if answer else None
        if intent is None or intent.status != "requires_capture":
            raise self._client.refused(operation, "nothing is held", "not_held")
        return intent

    def _evidence(self, operation: str, answer: Answer[Session], reference: str, asked_at: datetime) -> Evidence:
        charge = charge_of(intent_of(answer.body))
        return evidence(
            answer.body,
            self._client.refunds_of(operation, charge) if charge else (),
            self._client.disputes_of(operation, charge) if charge else (),
            reference=reference,
            asked_at=asked_at,
            request=answer.request_id,
        )


_ADAPTER: type[Provider] = StripeProvider  # checked by the type checker, method by method


def _fits_mode(api_key: str, livemode: bool | None) -> bool:
    """Tell whether a key, as sk_test_... or rk_live_..., is of the mode that is asked for."""
    other = "test" if livemode else "live"
    return livemode is None or not api_key.startswith((f"sk_{other}_", f"rk_{other}_"))
