"""The doors: one ASGI application, and the server that runs it in one process.

    request ──> request id ──┬── /webhooks/{account}   the receiver, past everything that it does not need
                             └── /l/...  /v1/...  /livez  /readyz

`serve` ends on SIGTERM and SIGINT: it takes no more requests, answers those it has, and writes what waits.
"""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from runtime.deps import Deps
from web import api
from web.event_tally import EventTally
from web.group_commit import GroupCommit
from web.guesses import Guesses
from web.health import Health
from web.pages import Pages
from web.receiver import PREFIX, Receiver
from web.requests import RequestIds
from web.threads import Threads
from web.view_log import ViewLog

SHUTDOWN_SECONDS = 15
KEEP_ALIVE_SECONDS = 30


def build_app(deps: Deps, *, clock: Callable[[], float] = time.time) -> Starlette:
    """Build the application. Nothing starts before its lifespan does. `clock` counts the minutes of who guesses."""
    return Doors(deps, clock)


class Doors(Starlette):
    """Starlette, with the receiver in front of its routing and middleware: they cost as much as the rest of it."""

    def __init__(self, deps: Deps, clock: Callable[[], float]) -> None:
        self._threads = Threads(deps.settings.pool_size)
        self._commits = GroupCommit(deps.database, limit=deps.settings.webhook_waiting_limit)
        self._views = ViewLog(deps.database)
        settings = deps.settings
        self._guesses = Guesses(settings.guess_limit, settings.redis_url, prefix=settings.queue_prefix, clock=clock)
        self.receiver = Receiver(deps, self._commits, self._threads)
        self._tally = EventTally(deps.database, self.receiver.counts)
        super().__init__(
            routes=[
                *Health(deps.database, self._threads).routes(),
                *Pages(deps, self._threads, self._guesses, self._views).routes(),
                *api.routes(deps),
            ],
            exception_handlers={HTTPException: _refuse},
            lifespan=self._run,
        )
        # A redirect to a path with or without a slash would repeat a link's token.
        self.router.redirect_slashes = False
        self._outermost = RequestIds(self._dispatch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        await self._outermost(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self.receiver(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _run(self, app: Any) -> AsyncIterator[None]:
        self._threads.bound_the_rest()
        self._commits.start()
        self._views.start()
        self._tally.start()
        try:
            yield
        finally:
            await self._commits.stop()
            await self._views.stop()
            await self._tally.stop()
            await self._guesses.close()
            self._threads.close()


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer for a path or method that does not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    problem = {404: "there is nothing at this address", 405: "this method is not allowed here"}.get(status, "refused")
    document = {"type": "about:blank", "title": problem, "status": status}
    return JSONResponse(document, status, headers, media_type="application/problem+json")


def serve(deps: Deps, host: str, port: int, *, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve until a signal comes. Port 0 takes a free one; `on_listening` is told the address."""
    server = make_server(deps, host, port, on_listening=on_listening)
    rest_the_collector()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve())


def rest_the_collector() -> None:
    """Let the garbage collector look rarely: it costs a request as much as its signature.

    What was imported and built stays for good, and requests leave no cycles behind unless they fail.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def make_server(deps: Deps, host: str, port: int, *, on_listening: Callable[[str], None] | None = None) -> "Server":
    """Prepare a server: for a thread of one's own, which ends when `should_exit` is set."""
    config = uvicorn.Config(
        build_app(deps),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        # Paths hold the links' tokens: nobody writes them down.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return Server(config, on_listening)


class Server(uvicorn.Server):
    """Uvicorn's server, which says where it listens, and leaves the process to its caller after a signal."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: Any = None) -> None:
        """Start, then tell the address."""
        await super().startup(sockets)
        if self._on_listening is not None and self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on a signal, and do not raise it again: the caller still has connections to close."""
        loop = asyncio.get_running_loop()
        numbers: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
        try:
            for number in numbers:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        except (RuntimeError, ValueError):
            # Not the main thread: whoever started it sets should_exit.
            numbers = ()
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
