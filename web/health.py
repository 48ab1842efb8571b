"""`/livez`: this process runs. `/readyz`: it may be sent requests, because the database answers and has our schema.

Liveness asks nobody: a database that is away must not make a supervisor restart every process.
"""

import asyncio
from functools import cache

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from db import customer_pages, migrate
from db.database import Database, trouble_of
from web.threads import Threads

PROBE_SECONDS = 3.0
_HEADERS = {"cache-control": "no-store"}


class Health:
    """The two routes."""

    def __init__(self, database: Database, threads: Threads) -> None:
        self._database = database
        self._threads = threads
        self._probing = False

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/livez", self._livez), Route("/readyz", self._readyz)]

    async def _livez(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"}, headers=_HEADERS)

    async def _readyz(self, request: Request) -> Response:
        reason = await self._why_not()
        if reason is None:
            return JSONResponse({"status": "ok"}, headers=_HEADERS)
        return JSONResponse({"status": "unavailable", "reason": reason}, 503, _HEADERS)

    async def _why_not(self) -> str | None:
        """Return why no requests should come here; None: they may."""
        if self._probing:
            return "the database has not answered the last question yet"
        self._probing = True
        asking = asyncio.ensure_future(self._threads.probe(self._probe))
        asking.add_done_callback(self._probed)
        try:
            return await asyncio.wait_for(asyncio.shield(asking), PROBE_SECONDS)
        except TimeoutError:
            return f"the database did not answer within {PROBE_SECONDS:g} seconds"

    def _probed(self, asked: asyncio.Future[str | None]) -> None:
        self._probing = False
        if not asked.cancelled():
            asked.exception()

    def _probe(self) -> str | None:
        try:
            with self._database.read() as tx:
                customer_pages.now(tx)
            current = migrate.current(self._database)
        except Exception as error:
            if trouble_of(error) is None:
                raise
            return "the database does not answer"
        if current is not None and current != _head():
            return f"the database is at revision {current}, this program needs {_head()}: run paylinks migrate"
        return None


@cache
def _head() -> str:
    """Read the migrations once; they do not change while a program runs."""
    return migrate.head()
