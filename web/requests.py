"""What every request gets at the door: a request id, on the answer too, and an answer whatever happens inside.

Plain ASGI, since the receiver's speed is decided by what stands around it. The path is never logged: a link's path is
its secret.
"""

import json
import re
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.ids import new_id

HEADER = b"x-request-id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{8,64}")

log = structlog.get_logger()


class RequestIds:
    """Middleware. A caller's own X-Request-Id is kept when it is well formed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given(scope["headers"]) or new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        value = request_id.encode()
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (HEADER, value)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log.exception("web.error", request_id=request_id, route=_route(scope), error=type(error).__name__)
            if not started:
                await _answer_500(send_with_id, request_id)


def request_id_of(scope: Scope) -> str:
    """Return the id of a request, for causes and error pages."""
    request_id: str = scope["state"]["request_id"]
    return request_id


def _given(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == HEADER:
            return value.decode() if _WELL_FORMED.fullmatch(value) else None
    return None


def _route(scope: Scope) -> str:
    """Name the route by its pattern."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")


async def _answer_500(send: Send, request_id: str) -> None:
    """Answer with a problem document (RFC 9457)."""
    problem = "a fault of ours; try again, and name the request id to support"
    document = {"type": "about:blank", "title": "Internal Server Error", "status": 500, "detail": problem}
    body = json.dumps(document | {"request_id": request_id}).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
