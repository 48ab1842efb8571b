"""The merchants of the simulated VPOS.am: their settings, their books, and what they may ask for.

What the public pages leave open is a setting, so that a test may try the other ways; `ASSUMED` names these settings.
Sources are those of sandbox.vpos.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.faults import Faults
from sandbox.server import Gate, Refusal
from sandbox.vpos_sessions import PLANTED, Session

OPERATIONS = frozenset({"create", "get", "list", "cancel", "refund", "capabilities"})
SCHEMES = ("hmac-sha256-hex", "t-v1")
_FIELDS = {"merchantOrderId", "amountMinor", "currency", "provider", "returnUrl", "customer", "metadata"}
_CURRENCIES = frozenset({"AMD", "USD", "EUR", "RUB"})  # ASSUMED; the pages show AMD

# Settings whose default is a guess.
ASSUMED = (
    "words",
    "names",
    "lookup_path",
    "list_path",
    "cancel_path",
    "refund_path",
    "key_required",
    "session_seconds",
    "signature_header",
    "signature_scheme",
    "event_type",
    "fiscal",
)


@dataclass(frozen=True)
class Merchant:
    """A merchant's settings. An empty path: there is no such operation, which is so for all that is not public."""

    name: str
    api_key: str
    providers: tuple[str, ...] = ("manual",)  # [docs, quick start]
    trusted_origins: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)  # status words by the names in vpos_sessions.STATES
    names: Mapping[str, str] = field(default_factory=dict)  # other names for the fields of a session's answer
    lookup_path: str = "/v1/payment-sessions/{id}"
    list_path: str = ""  # as /v1/payment-sessions, with merchantOrderId, or from and to
    cancel_path: str = ""  # as /v1/payment-sessions/{id}/cancel
    refund_path: str = ""  # as /v1/payment-sessions/{id}/refunds
    key_required: bool = True
    session_seconds: int = 1800
    fiscal: str = ""  # the fiscal status right after money moved: pending, issued, failed; empty: not told at all
    webhook_url: str = ""
    webhook_secret: str = ""
    signature_header: str = "X-Vpos-Signature"
    signature_scheme: str = "hmac-sha256-hex"
    event_type: str = "payment_session.{status}"
    changed_answer: Mapping[str, Any] = field(default_factory=dict)  # put over every session told; None takes away
    latency_ms: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what could never work. ValueError names it."""
        if not self.api_key:
            raise ValueError("api_key: empty")
        if self.signature_scheme not in SCHEMES:
            raise ValueError(f"signature_scheme: one of {', '.join(SCHEMES)}")
        if self.lookup_path.count("{id}") != 1:
            raise ValueError("lookup_path: with {id}")


class Books:
    """One merchant with his sessions, his faults and his counts."""

    def __init__(self, merchant: Merchant) -> None:
        """Begin empty."""
        self.merchant = merchant
        self.sessions: dict[str, Session] = {}
        self.faults = Faults(OPERATIONS, money="pay", events="webhook")
        self.gate = Gate(merchant.api_key, self.faults, lambda: None, merchant.latency_ms / 1000)
        self.kept: dict[str, tuple[str, dict[str, Any]]] = {}  # idempotency key: what was asked, and answered

    def find(self, session_id: str) -> Session:
        """Return the session, or refuse: 404."""
        if session_id not in self.sessions:
            raise Refusal(404, "session_not_found")
        return self.sessions[session_id]

    def named(self, name: str) -> Session:
        """Return the newest session that goes by this order id, this idempotency key or this id."""
        for one in reversed(self.sessions.values()):
            if name in {one.order_id, one.key, one.id}:
                return one
        raise Refusal(404, "session_not_found")

    def replayed(self, key: str, operation: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what this key was answered before [docs: idempotent retries]. ASSUMED: 409 for another body."""
        if not key and self.merchant.key_required:
            raise Refusal(400, "idempotency_key_required", "Idempotency-Key")
        asked, told = self.kept.get(key, ("", None))
        if told is not None and asked != _asked(operation, body):
            raise Refusal(409, "idempotency_key_reused", "Idempotency-Key")
        return told

    def keep(self, key: str, operation: str, body: Mapping[str, Any], told: dict[str, Any]) -> None:
        """Remember an answer for its key."""
        if key:
            self.kept[key] = (_asked(operation, body), told)

    def create(self, key: str, body: Mapping[str, Any]) -> Session:
        """Make a session. The same order may have several: its key names the attempt [docs, quick start]."""
        _check(body, self.merchant.providers)
        planted = {name: PLANTED[name] for name in ("email", "phone", "name")}
        session = Session(
            order_id=body["merchantOrderId"],
            amount=body["amountMinor"],
            currency=body["currency"],
            provider=body["provider"],
            return_url=body["returnUrl"],
            customer=planted | dict(body.get("customer", {})),
            metadata=body.get("metadata", {}),
            key=key,
            expires_at=time.time() + self.merchant.session_seconds,
        )
        self.sessions[session.id] = session
        return session


def operation_of(method: str, path: str, merchant: Merchant) -> tuple[str, str]:
    """Return what is asked for, and about which session. 404: there is no such thing here."""
    fixed = {
        ("POST", "/v1/payment-sessions"): "create",
        ("GET", "/v1/capabilities"): "capabilities",
        ("GET", merchant.list_path): "list",
    }
    if (method, path) in fixed:
        return fixed[method, path], ""
    templates = (
        ("GET", merchant.lookup_path, "get"),
        ("POST", merchant.cancel_path, "cancel"),
        ("POST", merchant.refund_path, "refund"),
    )
    for wanted, template, operation in templates:
        head, _, tail = template.partition("{id}")
        middle = path.removeprefix(head).removesuffix(tail)
        if wanted == method and template and path == f"{head}{middle}{tail}" and middle and "/" not in middle:
            return operation, middle
    raise Refusal(404, "not_found")


def capabilities(merchant: Merchant) -> dict[str, Any]:
    """Return the matrix [docs]: booleans by provider, for PayLink, QR, refund, fiscalization and tokenization."""
    able = {
        "payLink": True,
        "qr": False,
        "refund": bool(merchant.refund_path),
        "fiscalization": bool(merchant.fiscal),
        "tokenization": False,
    }
    return {"providers": [{"provider": name, "capabilities": able} for name in merchant.providers]}


def _asked(operation: str, body: Mapping[str, Any]) -> str:
    return f"{operation} {json.dumps(body, sort_keys=True)}"


def _check(body: Mapping[str, Any], providers: tuple[str, ...]) -> None:
    """Refuse a wrong body. ASSUMED: 400 with the field, unknown fields too, and the bounds."""
    unknown = set(body) - _FIELDS
    if unknown:
        raise Refusal(400, "unknown_field", min(unknown))
    _need(body, "merchantOrderId", lambda value: isinstance(value, str) and 1 <= len(value) <= 128)
    _need(body, "amountMinor", lambda value: type(value) is int and 0 < value < 10**13)
    _need(body, "currency", lambda value: isinstance(value, str) and value in _CURRENCIES)
    _need(body, "provider", lambda value: isinstance(value, str) and value in providers)
    _need(body, "returnUrl", _is_url)
    customer, metadata = body.get("customer", {}), body.get("metadata", {})
    if not isinstance(customer, dict) or not set(customer) <= {"email", "phone", "name"}:
        raise Refusal(400, "invalid_field", "customer")
    if not all(isinstance(value, str) for value in customer.values()):
        raise Refusal(400, "invalid_field", "customer")
    if not isinstance(metadata, dict):
        raise Refusal(400, "invalid_field", "metadata")


def _need(body: Mapping[str, Any], name: str, is_right: Any) -> None:
    if name not in body:
        raise Refusal(400, "missing_field", name)
    if not is_right(body[name]):
        raise Refusal(400, "invalid_field", name)


def _is_url(value: object) -> bool:
    if not isinstance(value, str) or len(value) > 2048:
        return False
    parts = urlsplit(value)
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
