"""A merchant's RESULT_URL for Idram, as small as one can be: the adapter reads what is posted, the test decides.

Like our own door it answers the literal word to what it keeps or agrees to, and an error to everything else.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from gateways.errors import Refused
from gateways.providers.base import Precheck, Provider
from tests.conformance.receiver import Received


@dataclass
class IdramDoor:
    """`agrees` decides about prechecks; `broken` answers 503 to every event, and keeps none."""

    provider: Provider | None = None
    agrees: Callable[[Precheck], bool] = lambda _: True
    broken: bool = False
    prechecks: list[Received] = field(default_factory=list)
    asked: list[Precheck] = field(default_factory=list)
    events: list[Received] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        door, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with lock:
                    status, words = door.answer(Received(self.path, headers, body, datetime.now(UTC)))
                self.send_response(status)
                self.send_header("content-type", "text/plain; charset=utf-8")
                self.send_header("content-length", str(len(words)))
                self.end_headers()
                self.wfile.write(words.encode())

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/wallet"

    def answer(self, received: Received) -> tuple[int, str]:
        assert self.provider is not None
        told = {
            "method": "POST",
            "query": urlsplit(received.path).query,
            "headers": received.headers,
            "body": received.body,
        }
        word = self.provider.capabilities.answer
        try:
            precheck = self.provider.parse_precheck(**told)  # type: ignore[arg-type]  # one dict for all
            if precheck is not None:
                self.prechecks.append(received)
                self.asked.append(precheck)
                return (200, word) if self.agrees(precheck) else (409, "no")
            if self.broken:
                return 503, "later"
            self.events.append(received)
            self.provider.check_event(**told, received_at=received.received_at)  # type: ignore[arg-type]
        except Refused as refusal:
            self.refusals.append(refusal.code)
            return 400, "refused"
        return 200, word
