"""The one outbound HTTP client: every provider and CRM adapter speaks through it.

    what happened                                    idempotent call    any other call
    no connection, no free connection                Unavailable        Unavailable
    408, 425, 429, 503                               Unavailable        Unavailable
    401                                              LoginRefused       LoginRefused
    other 4xx                                        Refused            Refused
    read time-out, broken or cut-off answer          Unavailable        Unknown
    other 5xx, a redirect, an answer we cannot read  Unavailable        Unknown

A call may name statuses that its other side means as answers: their bodies are read like those of 2xx.
Only idempotent calls are tried again here, and only for seconds; minutes and days belong to the message store. A login
that is refused is not: whoever tries too often is blocked.
Error texts name the operation, the account and the other side's short code: no body, no URL, no query.
"""

import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay

from gateways.errors import LoginRefused, Refused, Unavailable, Unknown

ModelT = TypeVar("ModelT", bound=BaseModel)
BodyT = TypeVar("BodyT")

_OVERLOADED = frozenset({408, 425, 429, 503})
_LOGIN_REFUSED = 401
_REQUEST_ID_HEADERS = ("request-id", "x-request-id", "x-correlation-id")
_SAFE_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SAFE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# What no short code has, and personal data may be: the digits of a card or a telephone, an address on the internet.
_LONG_NUMBER = re.compile(r"[0-9]{7}|[0-9]+(\.[0-9]+){3}")
_CARD_NUMBER = re.compile(r"[0-9]{13,19}")
_LONGEST_RETRY_AFTER_SECONDS = 86_400.0
_SHORTEST_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how much.

    With these defaults one try takes at most 1 s for a free connection, 3 s to connect, 1 s to send and 10 s to wait:
    what has not left us after 5 s never leaves. An idempotent call is tried at once, again after a pause of 0.2 to
    0.4 s, and again after 0.4 to 0.8 s more; a Retry-After of the other side replaces a pause. All that ends within
    15 s: the wait of a later try is cut to what is left. Only an answer that trickles in may take one wait longer.
    """

    pool_seconds: float = 1.0
    connect_seconds: float = 3.0
    send_seconds: float = 1.0
    read_seconds: float = 10.0
    deadline_seconds: float = 15.0
    tries: int = 3
    first_pause_seconds: float = 0.2
    connections: int = 32
    answer_bytes: int = 1_048_576

    @property
    def before_the_answer_seconds(self) -> float:
        """The longest time until a request has left us."""
        return self.pool_seconds + self.connect_seconds + self.send_seconds

    @property
    def last_start_seconds(self) -> float:
        """When the last try may begin: a later one could not be waited for."""
        return self.deadline_seconds - self.before_the_answer_seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `operation` is a static name that is safe in logs; the rest may hold personal data."""

    operation: str
    method: str
    path: str = field(repr=False)
    idempotent: bool
    json: Mapping[str, Any] | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    answers: frozenset[int] = frozenset()  # statuses beside 2xx that are no failures: the body says what they mean


@dataclass(frozen=True, slots=True)
class Answer(Generic[BodyT]):
    """An answer that was read, with the request id that the other side's support desk asks for."""

    status: int
    body: BodyT = field(repr=False)
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _Raw:
    status: int
    headers: httpx.Headers
    content: bytes | None  # None: longer than allowed, cut off, or encoded

    @property
    def request_id(self) -> str | None:
        for name in _REQUEST_ID_HEADERS:
            value: str = self.headers.get(name, "")
            if _SAFE_REQUEST_ID.fullmatch(value) and not _CARD_NUMBER.fullmatch(value):
                return value
        return None


class HttpClient:
    """Calls to one account of one provider or CRM. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        error_code: Callable[[Any], object] | None = None,
        own_faults: frozenset[int] = frozenset(),
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """`error_code` picks the other side's short code out of a decoded error body; by default its "error".

        `own_faults` are 4xx that the other side means as faults of its own, so that they say nothing about the outcome.
        A `transport` is a test's own other side: before it nothing is waited for, unless `sleep` says how.
        ValueError when `base_url` is no web address.
        """
        _require_web_address(name, base_url)
        self.name = name
        self._limits = limits or Limits()
        self._error_code = error_code or _code_in_error_field
        self._own_faults = own_faults
        self._sleep = sleep or (time.sleep if transport is None else _no_pause)
        self._client = httpx.Client(
            base_url=base_url.rstrip("/") + "/",
            # An encoded answer could be far larger than what was read, so none is asked for.
            headers={"accept": "application/json", "accept-encoding": "identity", **(headers or {})},
            transport=transport,
            verify=_authorities(),
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Shorter than the usual five seconds of a server, so that we rarely write into a closing connection.
            limits=httpx.Limits(
                max_connections=self._limits.connections,
                max_keepalive_connections=self._limits.connections,
                keepalive_expiry=4.0,
            ),
        )

    def ask(self, call: Call, model: type[ModelT]) -> Answer[ModelT]:
        """Send and return the 2xx answer as `model`. An answer of another shape counts as one we cannot read."""
        return self._with_retries(call, lambda raw: _validated(self._content(call, raw), model))

    def tell(self, call: Call) -> Answer[None]:
        """Send a call whose 2xx is the whole answer."""
        return self._with_retries(call, lambda raw: None)

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _with_retries(self, call: Call, read: Callable[[_Raw], BodyT]) -> Answer[BodyT]:
        deadline = time.monotonic() + self._limits.deadline_seconds
        if not call.idempotent:
            return self._once(call, read, deadline)
        retrying = Retrying(
            retry=retry_if_exception(_passes_by_itself),
            stop=stop_after_attempt(self._limits.tries) | stop_before_delay(self._limits.last_start_seconds),
            wait=self._pause,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._once, call, read, deadline)

    def _pause(self, state: RetryCallState) -> float:
        """Return the pause that the other side asked for, else one that doubles, spread by the clock's fraction."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unavailable) and error.retry_after_seconds is not None:
            return error.retry_after_seconds
        spread = 1 + time.monotonic() % 1
        return float(self._limits.first_pause_seconds * 2 ** (state.attempt_number - 1) * spread)

    def _once(self, call: Call, read: Callable[[_Raw], BodyT], deadline: float) -> Answer[BodyT]:
        raw = self._exchange(call, deadline)
        if not 200 <= raw.status < 300 and raw.status not in call.answers:
            self._fail(call, raw)
        try:
            body = read(raw)
        except ValueError as error:
            # The message of a validation error quotes the input, so only its class is told.
            self._lost(call, f"unreadable answer ({type(error).__name__})", raw)
        return Answer(status=raw.status, body=body, request_id=raw.request_id)

    def _exchange(self, call: Call, deadline: float) -> _Raw:
        try:
            request = self._client.build_request(
                call.method,
                call.path.lstrip("/"),
                json=call.json,
                data=call.form,
                params=call.params,
                headers=call.headers,
                timeout=self._timeout(deadline),
            )
            response = self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise Unavailable(self._text(call, type(error).__name__), code="no_connection") from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise Refused(self._text(call, "the request cannot be sent"), code="bad_request_url") from error
        except httpx.TransportError as error:
            self._lost(call, type(error).__name__)
        try:
            return _Raw(response.status_code, response.headers, self._read(response, deadline))
        finally:
            response.close()

    def _timeout(self, deadline: float) -> httpx.Timeout:
        limits = self._limits
        left = deadline - time.monotonic() - limits.before_the_answer_seconds
        return httpx.Timeout(
            pool=limits.pool_seconds,
            connect=limits.connect_seconds,
            write=limits.send_seconds,
            read=min(limits.read_seconds, max(left, _SHORTEST_WAIT_SECONDS)),
        )

    def _read(self, response: httpx.Response, deadline: float) -> bytes | None:
        """Return the body, or None when it is encoded, too long, too slow or cut off."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return None
        if response.is_stream_consumed:  # a test's transport may hand over a whole body
            return response.content if len(response.content) <= self._limits.answer_bytes else None
        content = bytearray()
        try:
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > self._limits.answer_bytes or time.monotonic() > deadline:
                    return None
        except httpx.TransportError:
            return None
        return bytes(content)

    def _content(self, call: Call, raw: _Raw) -> bytes:
        if raw.content is None:
            self._lost(call, "answer cut off, too slow, too long or encoded", raw)
        return raw.content

    def _fail(self, call: Call, raw: _Raw) -> NoReturn:
        code = self._code(raw)
        if raw.status in _OVERLOADED:
            raise Unavailable(
                self._text(call, f"HTTP {raw.status} {code}"),
                code=code,
                provider_request_id=raw.request_id,
                retry_after_seconds=_retry_after_seconds(raw.headers),
            )
        if raw.status == _LOGIN_REFUSED:
            raise LoginRefused(self._text(call, f"HTTP {raw.status} {code}"), provider_request_id=raw.request_id)
        if 400 <= raw.status < 500 and raw.status not in self._own_faults:
            raise Refused(self._text(call, f"HTTP {raw.status} {code}"), code=code, provider_request_id=raw.request_id)
        self._lost(call, f"HTTP {raw.status} {code}", raw, code)

    def _lost(self, call: Call, why: str, raw: _Raw | None = None, code: str = "no_answer") -> NoReturn:
        """Raise what a call without a usable answer means: harmless when it may be repeated, else unknown."""
        failure = Unavailable if call.idempotent else Unknown
        raise failure(self._text(call, why), code=code, provider_request_id=raw.request_id if raw else None)

    def _code(self, raw: _Raw) -> str:
        try:
            code = self._error_code(decode_json(raw.content or b""))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            code = None
        if isinstance(code, str) and _SAFE_CODE.fullmatch(code) and not _LONG_NUMBER.search(code):
            return code
        return f"http_{raw.status}"

    def _text(self, call: Call, why: str) -> str:
        return f"{call.operation} at {self.name}: {why}"


def _no_pause(seconds: float) -> None:
    """Begin the next try at once."""


def segment(value: str) -> str:
    """Return an identifier as one path segment, whatever it holds: "2026/17" and ".." name no other path."""
    quoted = quote(value, safe="")
    return quoted.replace(".", "%2E") if quoted in {".", ".."} else quoted


def decode_json(raw: bytes) -> Any:
    """Decode JSON from outside. ValueError for what no strict reader and no database can hold.

    Refused: invalid UTF-8, NaN and Infinity, numbers of thousands of digits, nesting too deep for the parser, and
    text with NUL or a lone surrogate, which is legal JSON and no legal text.
    """
    decoded = from_json(raw, allow_inf_nan=False)
    if b"\\u0000" in raw and "\\u0000" in json.dumps(decoded, ensure_ascii=False).replace("\\\\", ""):
        raise ValueError("text with NUL")
    return decoded


@cache
def _authorities() -> ssl.SSLContext:
    """Read the certificate authorities once for the whole process: it takes 50 ms, and every adapter has a client."""
    return httpx.create_ssl_context()


def _require_web_address(name: str, base_url: str) -> None:
    parts = urlsplit(base_url)
    # Reading the port raises ValueError where it is no port.
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0 or parts.query or parts.fragment:
        raise ValueError(f"base_url of {name}: use http(s)://host[:port][/path]")


def _passes_by_itself(error: BaseException) -> bool:
    """Tell whether the same call may go well in a second."""
    return isinstance(error, Unavailable) and not isinstance(error, LoginRefused)


def _validated(raw: bytes, model: type[ModelT]) -> ModelT:
    try:
        return model.model_validate(decode_json(raw))
    except ValidationError as error:
        raise ValueError(error.title) from None


def _code_in_error_field(body: Any) -> object:
    return body["error"]


def _retry_after_seconds(headers: httpx.Headers) -> float | None:
    """Read Retry-After, in seconds or as a date (RFC 9110, 10.2.3); nonsense counts as absent."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return min(float(value), _LONGEST_RETRY_AFTER_SECONDS)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_RETRY_AFTER_SECONDS)
