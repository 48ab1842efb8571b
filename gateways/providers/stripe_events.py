"""Stripe's events: which are genuine, and which order they speak of.

Source: https://docs.stripe.com/webhooks ("Verify webhook signatures manually", "Event ordering", "Handle duplicate
events") and https://docs.stripe.com/api/events. The header is `Stripe-Signature: t=<seconds>,v1=<hex>`, an HMAC-SHA256
of "{t}.{body}"; several v1 while a secret is rolled; other schemes count for nothing. An event that is sent again has a
new time and signature and its old id. Events come in any order, and two of them may tell the same fact.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from contracts.evidence import Evidence, OrderState, TransactionKind
from gateways.errors import Refused
from gateways.http import decode_json
from gateways.providers.base import ProviderEvent
from gateways.providers.stripe_evidence import moved
from gateways.providers.stripe_wire import REFERENCE, Session, moment

SIGNATURE_HEADER = "stripe-signature"
# "Our libraries have a default tolerance of five minutes"; and a clock that runs behind is no forger's.
OLDEST = timedelta(seconds=300)
EARLIEST = timedelta(seconds=60)

_SESSION = "checkout.session"
_CARRY_REFERENCE = frozenset({"payment_intent", "charge", "refund"})
_PAID = frozenset({"checkout.session.completed", "checkout.session.async_payment_succeeded"})
_WORD = re.compile(r"[a-z0-9_.]{1,80}")
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class EventReader:
    """Checks and reads the events of one account."""

    secrets: Sequence[str]  # several are active while one is being rolled
    livemode: bool | None  # events of the other mode are refused
    proves: bool  # a paid session is money at once: it was not held first

    def check(self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime) -> str | None:
        """Check signature and age alone; return the event's id."""
        return _text(self._genuine(method, headers, body, received_at).get("id"))

    def read(self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime) -> ProviderEvent:
        """Return what a genuine event speaks of. Refused names what is wrong."""
        event = self._genuine(method, headers, body, received_at)
        self._require_ours(event)
        data = event.get("data")
        thing = data.get("object") if isinstance(data, dict) else None
        if not isinstance(thing, dict):
            raise _refused("it names no order", "order_missing")
        reference, order_id, payment = _order_of(thing)
        kind = event.get("type")
        event_type = kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "unknown"
        return ProviderEvent(
            event_id=_text(event.get("id")),
            event_type=event_type,
            reference=reference,
            provider_order_id=order_id,
            evidence=_proof(event, thing) if self.proves and event_type in _PAID else None,
            payment=payment,
        )

    def _require_ours(self, event: Mapping[str, Any]) -> None:
        if self.livemode is not None and event.get("livemode") is not self.livemode:
            raise _refused("it is of the other mode, test or live", "livemode")
        if event.get("account") is not None:
            raise _refused("it is about a connected account, which this one does not serve", "other_account")

    def _genuine(
        self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime
    ) -> Mapping[str, Any]:
        if method != "POST":
            raise _refused("events come by POST", "method")
        signed_at = self._signed_at(headers.get(SIGNATURE_HEADER, ""), body)
        if not signed_at - EARLIEST <= received_at <= signed_at + OLDEST:
            raise _refused("signed too long before or after it came", "timestamp_outside_tolerance")
        return _event(body)

    def _signed_at(self, header: str, body: bytes) -> datetime:
        """Return the time of a valid signature by any active secret, or refuse."""
        timestamp, signatures = _signature_parts(header)
        text = timestamp.encode() + b"." + body
        expected = [hmac.digest(secret.encode(), text, "sha256").hex().encode() for secret in self.secrets]
        # Every pair is compared, so that the time taken tells nothing.
        matches = [
            hmac.compare_digest(given.encode("utf-8", "replace"), right) for given in signatures for right in expected
        ]
        if not any(matches):
            raise _refused("signed with no secret of ours", "signature_mismatch")
        return moment(int(timestamp))


def _order_of(thing: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Return our reference, the session's id and the payment's, where each is told.

    What was made at Stripe's own desk, or by the customer's bank, names the payment alone.
    """
    kind = _text(thing.get("object"))
    if kind == _SESSION:
        return _ours(_text(thing.get("client_reference_id")), thing), _text(thing.get("id")), None
    if kind in _CARRY_REFERENCE:
        reference = _metadata(thing).get(REFERENCE)
        if isinstance(reference, str) and _text(reference):
            return reference, None, None
    payment = _text(thing.get("payment_intent"))
    if kind not in {"charge", "refund", "dispute"} or payment is None:
        raise _refused("it names no order of ours", "order_missing")
    return None, None, payment


def _signature_parts(header: str) -> tuple[str, list[str]]:
    if not header:
        raise _refused("no Stripe-Signature header", "signature_missing")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not _is_time(times[0]) or not signatures:
        raise _refused("Stripe-Signature is not t=<unix seconds>,v1=<hex>", "signature_malformed")
    return times[0], signatures


def _is_time(text: str) -> bool:
    """Keep a margin at both ends, so that adding a tolerance stays within what a clock can show."""
    return text.isascii() and text.isdigit() and len(text) <= 12 and 1_000 <= int(text) <= _LAST_SECOND - 1_000


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        decoded = decode_json(body)
    except ValueError:
        raise _refused("the body is not JSON", "body_invalid") from None
    if not isinstance(decoded, dict) or decoded.get("object") != "event":
        raise _refused("the body is no snapshot event", "body_invalid")
    return decoded


def _proof(event: Mapping[str, Any], thing: Mapping[str, Any]) -> Evidence | None:
    """Read a signed session that is paid: that money came, and how much.

    Only this is safe to believe alone. It can say nothing that is untrue later, in whatever order events come: the
    ledger only grows, and knows the payment by the same id. What it leaves out, refunds and disputes, other events
    hasten; a decline, an expiry or a hold may be over when its event is read, so these are asked about.
    """
    try:
        session = Session.model_validate(thing)
        at = datetime.fromtimestamp(event["created"], UTC)
        payment = session.payment_intent
        is_whole = session.amount_total and session.currency and isinstance(payment, str)
        if session.payment_status != "paid" or session.status != "complete" or not is_whole or session.was_converted:
            return None
        capture = moved(TransactionKind.CAPTURE, str(payment), session.amount_total or 0, session.currency or "", at)
    except (ValidationError, ValueError, TypeError, KeyError, OverflowError, OSError, Refused):
        return None
    return Evidence(
        reference=session.client_reference_id or "",
        provider_order_id=session.id,
        state=OrderState.PAID,
        transactions=tuple(capture),
        asked_at=at,
    )


def _ours(reference: str | None, thing: Mapping[str, Any]) -> str:
    """Another program may use the same account: its sessions lack our mark."""
    if reference is None or _metadata(thing).get(REFERENCE) != reference:
        raise _refused("its session is of no order of ours", "not_ours")
    return reference


def _metadata(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = thing.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None


def _refused(why: str, code: str) -> Refused:
    return Refused(f"event refused: {why}", code=code)
