"""POST and read the status, over kept connections: what webhooks and announcements need, and nothing else.

A full HTTP client costs ten times the processor time, which a benchmark would charge to the system under test.
"""

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

_SECONDS = 10.0
_MAX_ANSWER_BYTES = 1_048_576

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PostError(Exception):
    """No status came back: no connection, no answer in time, or no HTTP."""


class Poster:
    """Posts to any number of addresses. Lives in one event loop."""

    def __init__(self) -> None:
        """Begin without connections."""
        self._idle: dict[tuple[str, str], list[_Connection]] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer, or raise PostError."""
        try:
            parts = urlsplit(url)
            async with asyncio.timeout(_SECONDS):
                return await self._exchange(parts, _request(parts, body, headers))
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise PostError(type(error).__name__) from error

    def close(self) -> None:
        """Close what is kept open."""
        for kept in self._idle.values():
            for _, writer in kept:
                writer.close()
        self._idle.clear()

    async def _exchange(self, parts: SplitResult, request: bytes) -> int:
        reader, writer = self._kept(parts) or await _connect(parts)
        keep = False
        try:
            writer.write(request)
            status, keep = await _answer(reader)
            return status
        finally:
            if keep:
                self._idle.setdefault((parts.scheme, parts.netloc), []).append((reader, writer))
            else:
                writer.close()

    def _kept(self, parts: SplitResult) -> _Connection | None:
        """Return a connection that the other side has not closed meanwhile."""
        kept = self._idle.get((parts.scheme, parts.netloc), [])
        while kept:
            reader, writer = kept.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None


async def _connect(parts: SplitResult) -> _Connection:
    is_secure = parts.scheme == "https"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not a web address")
    context = ssl.create_default_context() if is_secure else None
    return await asyncio.open_connection(parts.hostname, parts.port or (443 if is_secure else 80), ssl=context)


def _request(parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc.rpartition('@')[2]}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header would break the request")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one answer; True when the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, status = head[0].split(" ")[:2]
    if not version.startswith("HTTP/1."):
        raise ValueError("not HTTP")
    fields = dict(_field(line) for line in head[1:] if line)
    length = "0" if status == "204" else fields.get("content-length")
    if length is None or int(length) > _MAX_ANSWER_BYTES:
        return int(status), False
    await reader.readexactly(int(length))
    return int(status), version == "HTTP/1.1" and fields.get("connection", "").lower() != "close"


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
