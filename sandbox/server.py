"""What both sandbox programs share as servers: keys, JSON, request ids, faults, start and stop."""

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.faults import Fault, Faults

_MAX_BODY_BYTES = 16 * 1024 * 1024
_TRANSPORT = "sandbox.transport"
_CALLS_REMEMBERED = 100_000


class Refusal(Exception):
    """An answer that is not 2xx: {"error": code, "field": name}."""

    def __init__(self, status: int, code: str, field_name: str | None = None) -> None:
        """Keep the answer."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.field_name = field_name


@dataclass
class Gate:
    """What stands before every call of one account: its key, its slowness, its faults."""

    api_key: str
    faults: Faults
    flush: Callable[[], None]
    latency_seconds: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    called_at: deque[float] = field(default_factory=lambda: deque(maxlen=_CALLS_REMEMBERED))

    async def pass_through(
        self,
        request: Request,
        operation: str,
        reference: str | None,
        work: Callable[[], Response],
        asked: str | None = None,
    ) -> Response:
        """Do the work of one call and answer, unless a fault says otherwise. What is answered is written first."""
        self.calls[operation] += 1
        self.called_at.append(time.time())
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        fault = self.faults.pick(operation, reference, request.headers.get("sandbox-fault") or asked)
        instead = await _before(fault)
        if instead is not None:
            self.flush()
            return instead
        response = _answered(work)
        self.flush()
        return await _after(fault, response) or response


class DroppedConnection(Response):
    """No answer: the connection is held for a while, then broken."""

    def __init__(self, hold_seconds: float) -> None:
        """Hold for this long, or until the other side hangs up."""
        super().__init__()
        self._hold_seconds = hold_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, then break the connection without a byte."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hold_seconds):
                await _hung_up(receive)
        scope[_TRANSPORT].abort()
        await _hung_up(receive)


def reply(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer with a request id of its own."""
    return Response(
        json.dumps(body, ensure_ascii=False),
        status,
        {"request-id": f"req_{secrets.token_hex(8)}", **(headers or {})},
        "application/json",
    )


def refused(_: Request, error: Exception) -> Response:
    """Turn a Refusal into its answer."""
    if not isinstance(error, Refusal):
        raise error
    body = {"error": error.code} | ({"field": error.field_name} if error.field_name else {})
    return reply(error.status, body)


def require_key(request: Request, key: str) -> None:
    """Refuse a caller without the bearer key. An empty key opens nothing."""
    given = request.headers.get("authorization", "")
    if not key or not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise Refusal(401, "unauthorized")


async def raw_body(request: Request) -> bytes:
    """Return the body, or refuse a too large one."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > _MAX_BODY_BYTES:
            raise Refusal(413, "body_too_large")
    return bytes(content)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object. No body counts as an empty object."""
    raw = await raw_body(request)
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json") from None
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json")
    return body


async def answer_faults(request: Request, faults: Faults) -> Response:
    """Add a fault, list those that may still strike, or drop all."""
    if request.method == "DELETE":
        faults.clear()
    elif request.method == "POST":
        try:
            faults.add(await json_body(request))
        except ValueError as error:
            return reply(400, {"error": "invalid_request", "detail": str(error)})
    return reply(200, {"faults": faults.rules()})


def serve(app: ASGIApp, listener: socket.socket, *, until_stdin_closes: bool = False) -> None:
    """Answer on a bound socket until a signal comes, or until whoever started us is gone."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
        backlog=1024,
    )
    sys.stdout.write(f"listening on {url_of(listener)}\n")
    sys.stdout.flush()
    if until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket; port 0 takes a free one."""
    return socket.create_server((host, port), backlog=1024)


def url_of(listener: socket.socket) -> str:
    """Return the address of a bound socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope: a fault must be able to break the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[_TRANSPORT] = self.transport  # type: ignore[literal-required]  # a key of our own


async def _before(fault: Fault | None) -> Response | None:
    match fault:
        case Fault(name="timeout_before"):
            return DroppedConnection(fault.seconds)
        case Fault(name="error_500_before"):
            return reply(500, {"error": "internal"})
        case Fault(name="rate_limited_429"):
            return reply(429, {"error": "rate_limited"}, {"retry-after": f"{fault.seconds:.0f}"})
        case Fault(name="slow"):
            await asyncio.sleep(fault.seconds)
    return None


async def _after(fault: Fault | None, response: Response) -> Response | None:
    match fault:
        case Fault(name="slow_after"):
            await asyncio.sleep(fault.seconds)
        case Fault(name="timeout_after"):
            return DroppedConnection(fault.seconds)
        case Fault(name="error_500_after"):
            return reply(500, {"error": "internal"})
        case Fault(name="truncated"):
            return Response(bytes(response.body)[: len(response.body) // 2], response.status_code)
    return None


def _answered(work: Callable[[], Response]) -> Response:
    try:
        return work()
    except Refusal as refusal:
        body = {"error": refusal.code} | ({"field": refusal.field_name} if refusal.field_name else {})
        return reply(refusal.status, body)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _stop_with_stdin() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
