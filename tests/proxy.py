"""A TCP proxy that stands between our processes and a server, and can be cut at the worst moment."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.services.processes import free_port

CHUNK = 65_536
COMMIT = b"COMMIT"
# PostgreSQL's ReadyForQuery outside a transaction: the server has committed and answered.
READY = b"Z\x00\x00\x00\x05I"

T = TypeVar("T")


@dataclass(eq=False)
class _Line:
    """One client's connection, and ours to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_committing: bool = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards every connection to a port of this machine, until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.commits_lost = 0
        self.accepted = 0
        self._target = target_port
        self._refusing = False
        self._lines: set[_Line] = set()
        self._commits_to_lose = 0
        self._every = 1
        self._seen = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    def through(self, url: str) -> str:
        """The server's URL by way of this proxy."""
        return url.replace(f":{self._target}", f":{self.port}", 1)

    def cut(self, *, refusing: bool = False) -> int:
        """Break every connection at once; return how many there were. New ones are let through, or refused."""

        async def cut() -> int:
            self._refusing = refusing
            lines = list(self._lines)
            for line in lines:
                line.cut()
            return len(lines)

        return self._do(cut())

    def lose_commit_replies(self, times: int, *, every: int = 1) -> None:
        """Let the next COMMITs, or one of `every`, reach the server, and break the line before its answer arrives."""

        async def arm() -> None:
            self._commits_to_lose, self._every, self._seen = times, every, 0

        self._do(arm())

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._connected, "127.0.0.1", self.port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def close() -> None:
            if self._server is not None:
                self._server.close()
            for line in list(self._lines):
                line.cut()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._do(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(writer, server)
        self._lines.add(line)
        try:
            await asyncio.gather(self._ask(line, reader), self._answer(line, answers))
        except OSError:
            pass  # one of the two sides is gone, so the other one goes too
        finally:
            self._lines.discard(line)
            line.cut()

    async def _ask(self, line: _Line, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            if self._commits_to_lose and COMMIT in data:
                self._seen += 1
                if self._seen % self._every == 0:
                    self._commits_to_lose -= 1
                    line.is_committing = True
            line.server.write(data)
            await line.server.drain()
        line.cut()

    async def _answer(self, line: _Line, answers: asyncio.StreamReader) -> None:
        kept = b""
        while data := await answers.read(CHUNK):
            if not line.is_committing:
                line.client.write(data)
                await line.client.drain()
                continue
            kept += data
            if READY in kept:
                self.commits_lost += 1
                break
        line.cut()
