"""`POST|GET /webhooks/{account}`: the thin receiver of provider events.

    bytes, bounded ──> signature, where the provider signs ──> one durable row ──> 2xx

An event is a hint: nothing of it is believed here, and the worker checks the signature again. 2xx comes only after the
commit, a duplicate's too; 503 with Retry-After when there is none, and the provider repeats.

Some providers ask before money moves. That is no event: it is answered from the database at once, and nothing is kept
of it. Whatever goes wrong is no yes. Some must hear a literal word, which their adapter names.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple

import structlog
from starlette.types import Message, Receive, Scope, Send

from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from db.database import Trouble, trouble_of
from db.message_store import Added
from db.sealing import Sealer
from db.tx import Cause, NewMessage, prepare
from gateways.errors import GatewayError, Refused
from gateways.providers.base import Provider
from rules.events import kind_of_refusal
from runtime.deps import Deps
from runtime.precheck import answer_precheck
from web.group_commit import Full, GroupCommit, Unwritten
from web.requests import request_id_of
from web.threads import Threads

PREFIX = "/webhooks/"
MAX_QUERY_BYTES = 8192
MAX_HEADERS_BYTES = 16 * 1024
BODY_SECONDS = 10.0
RETRY_AFTER_SECONDS = 5
MAX_RECEIPT = 160

# Credentials, the customer's or a proxy's address, and what belongs to the connection alone. The rest is kept, because
# each provider names its signature as it likes.
_LEFT_OUT = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key"}
    | {b"forwarded", b"via", b"x-real-ip", b"x-request-id", b"traceparent"}
    | {b"host", b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
    | {b"content-length", b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"pragma"}
)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider is told, and the word that it is counted under."""

    counted: str
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = b"application/json"


def _accepted(counted: str, word: str = "") -> Answer:
    """Answer with our JSON, or literally with the word that this provider must hear."""
    if word:
        return Answer(counted, 200, word.encode(), content_type=b"text/plain; charset=utf-8")
    return Answer(counted, 200, b'{"received": true}')


def _refused(counted: str, status: int, field: str, problem: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Make a problem document (RFC 9457), as the API's are."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{field}: {problem}",
        "errors": [{"field": field, "problem": problem}],
    }
    return Answer(counted, status, json.dumps(document).encode(), headers, b"application/problem+json")


_CLOSE = (b"connection", b"close")
_LATER = (b"retry-after", str(RETRY_AFTER_SECONDS).encode())

_FULL = _refused("full", 503, "server", "too much waits to be written; send the event again later", _LATER)
_UNWRITTEN = _refused("unwritten", 503, "server", "the event could not be stored; send it again later", _LATER)
_METHOD = _refused("method", 405, "method", "send events by POST or GET", (b"allow", b"GET, POST"))
_QUERY = _refused("too_large", 414, "query", f"larger than {MAX_QUERY_BYTES} bytes; send facts in the body")
_HEADERS = _refused("too_large", 431, "headers", f"larger than {MAX_HEADERS_BYTES} bytes in all")
_SLOW = _refused("slow", 408, "body", f"not complete within {BODY_SECONDS:g} seconds", _CLOSE)
_UNKNOWN = _refused(
    "unknown_account",
    404,
    "account",
    "no provider account of this name is configured here; compare the webhook address set at the provider",
)


class _Gone(Exception):
    """The client left before its body was complete."""


class _TooLarge(Exception):
    """The body is over the limit."""


class Arrived(NamedTuple):
    """One event as it came, with what is needed to turn it into a row."""

    provider: Provider
    account: str
    method: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    received_at: datetime
    request_id: str
    sealer: Sealer

    def prepare(self) -> NewMessage:
        """Check the signature and make the row. Refused: signed wrongly, and nothing is to be stored."""
        headers = kept_headers(self.headers)
        message = ProviderEventReceived(
            account=self.account,
            receipt=self._receipt(headers),
            received_at=self.received_at,
            method="GET" if self.method == "GET" else "POST",
            query=self.query.decode("latin-1"),
            headers=headers,
            body_base64=base64.b64encode(self.body).decode(),
        )
        return prepare(message, Cause(self.request_id, traceparent=_traceparent(self.headers)), self.sealer)

    def _receipt(self, headers: dict[str, str]) -> str:
        """Return the provider's own id of a checked event, else a fresh one: what is unchecked is no duplicate."""
        if not self.provider.capabilities.signed_events:
            return new_id()
        try:
            event_id = self.provider.check_event(
                method=self.method,
                query=self.query.decode("latin-1"),
                headers=headers,
                body=self.body,
                received_at=self.received_at,
            )
        except Refused:
            raise
        except Exception as error:
            # An adapter that stumbles loses no event: the worker stumbles too, and then it is a dead letter to see.
            log.warning("webhook.unchecked", account=self.account, error=type(error).__name__)
            return new_id()
        return _bounded(event_id) if event_id else new_id()


def kept_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return what is stored of an event's headers: lower-case names, repeated ones joined, never credentials."""
    kept: dict[str, str] = {}
    for raw_name, raw_value in headers:  # the server has lower-cased the names
        if raw_name in _LEFT_OUT or raw_name.startswith(b"x-forwarded-"):
            continue
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        kept[name] = f"{kept[name]}, {value}" if name in kept else value
    return kept


def _bounded(event_id: str) -> str:
    return event_id if len(event_id) <= MAX_RECEIPT else hashlib.sha256(event_id.encode()).hexdigest()


def _traceparent(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"traceparent":
            text = value.decode("latin-1")
            return text if _TRACEPARENT.fullmatch(text) else None
    return None


class Receiver:
    """The ASGI endpoint for every path under /webhooks/."""

    def __init__(self, deps: Deps, commits: GroupCommit, threads: Threads) -> None:
        self._deps = deps
        self._threads = threads
        self._providers: Mapping[str, Provider] = deps.providers
        self._sealer = deps.database.sealer
        self._max_bytes = deps.settings.webhook_max_bytes
        self._too_large = _refused(
            "too_large", 413, "body", f"larger than {self._max_bytes} bytes; no event of a provider is", _CLOSE
        )
        self._commits = commits
        # (account, what became of it) -> how often, since the process began; EventTally writes them down.
        self.counts: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one event."""
        account = scope["path"][len(PREFIX) :]
        try:
            answer = await self._take(account, scope, receive)
        except _Gone:
            self.counts[account, "gone"] += 1
            return
        # A name that we do not know is not kept: others could fill the memory with names.
        self.counts[account if account in self._providers else "?", answer.counted] += 1
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", b"%d" % len(answer.body)),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _take(self, account: str, scope: Scope, receive: Receive) -> Answer:
        provider = self._providers.get(account)
        if provider is None:
            return _UNKNOWN
        early = self._refuse_early(scope)
        if early is not None:
            return early
        try:
            body = await self._read(receive)
        except _TooLarge:
            return self._too_large
        except TimeoutError:
            return _SLOW
        arrived = Arrived(
            provider,
            account,
            scope["method"],
            scope["query_string"],
            scope["headers"],
            body,
            datetime.now(UTC),
            request_id_of(scope),
            self._sealer,
        )
        if provider.capabilities.precheck:
            answered = await self._answer_precheck(arrived)
            if answered is not None:
                return answered
        return await self._store(arrived)

    async def _answer_precheck(self, arrived: Arrived) -> Answer | None:
        """Say whether money may move; None: it was an event."""
        try:
            precheck = arrived.provider.parse_precheck(
                method=arrived.method,
                query=arrived.query.decode("latin-1"),
                headers=kept_headers(arrived.headers),
                body=arrived.body,
            )
        except Refused as error:
            log.info("precheck.unreadable", account=arrived.account, code=error.code, request_id=arrived.request_id)
            return _event_refused("precheck_unreadable", error)
        if precheck is None:
            return None
        try:
            refusal = await self._threads.press(
                lambda: answer_precheck(self._deps, arrived.account, precheck, request_id=arrived.request_id)
            )
        except Exception as error:
            if trouble_of(error) not in (Trouble.OUTAGE, Trouble.BUSY):
                raise
            refusal = "unavailable"
        log.info("precheck.answered", account=arrived.account, refusal=refusal, request_id=arrived.request_id)
        if refusal is not None:
            return _refused("precheck_refused", 409, "order", refusal)
        return _accepted("precheck_agreed", arrived.provider.capabilities.answer)

    def _refuse_early(self, scope: Scope) -> Answer | None:
        """Refuse what needs no look at the body."""
        if scope["method"] not in ("POST", "GET"):
            return _METHOD
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            return _QUERY
        size = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"content-length" and value.isdigit() and int(value) > self._max_bytes:
                return self._too_large
        return _HEADERS if size > MAX_HEADERS_BYTES else None

    async def _read(self, receive: Receive) -> bytes:
        """Read the body, which is almost always there in one piece; the rest of one must come in time."""
        piece = await receive()
        if piece["type"] == "http.request" and not piece.get("more_body"):
            body: bytes = piece.get("body", b"")
            if len(body) > self._max_bytes:
                raise _TooLarge
            return body
        async with asyncio.timeout(BODY_SECONDS):
            return await self._read_on(piece, receive)

    async def _read_on(self, piece: Message, receive: Receive) -> bytes:
        read = bytearray()
        while True:
            if piece["type"] == "http.disconnect":
                raise _Gone
            read += piece.get("body", b"")
            if len(read) > self._max_bytes:
                raise _TooLarge
            if not piece.get("more_body"):
                return bytes(read)
            piece = await receive()

    async def _store(self, arrived: Arrived) -> Answer:
        try:
            result = await self._commits.submit(arrived.prepare)
        except Refused as error:
            log.info("webhook.refused", account=arrived.account, code=error.code, request_id=arrived.request_id)
            return _event_refused(kind_of_refusal(error.code), error)
        except Full:
            return _FULL
        except Unwritten:
            return _UNWRITTEN
        counted = "accepted" if isinstance(result, Added) else "duplicate"
        return _accepted(counted, arrived.provider.capabilities.answer)


def _event_refused(counted: str, error: GatewayError) -> Answer:
    return _refused(counted, 400, "event", error.detail)
