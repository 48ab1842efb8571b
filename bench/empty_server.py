"""The web process's own server with nothing to do: python -m bench.empty_server handler|nothing PORT

handler   the framework as the web process has it, with one route whose handler answers at once
nothing   no framework at all: what the HTTP server itself takes
"""

import asyncio
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.build import build
from runtime.settings import load_settings
from web.app import make_server, rest_the_collector
from web.requests import RequestIds

BODY = b'{"received": true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def handle(request: Request) -> Response:
    """Answer at once."""
    return Response(BODY, media_type="application/json")


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, without a framework."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def _live(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def application(kind: str) -> ASGIApp:
    """Make what stands in for the web process's application."""
    if kind == "nothing":
        return answer
    return RequestIds(Starlette(routes=[Route("/webhooks/{account}", handle, methods=["POST"])]))


def main(kind: str, port: int) -> None:
    """Serve until a signal comes, with the settings of the real web process."""
    server = make_server(build(load_settings()), "127.0.0.1", port)
    server.config.app = application(kind)
    rest_the_collector()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
