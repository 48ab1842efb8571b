"""What stands in for Acme Pay in tests: its API, version 1, as a small server with one merchant. SIMULATED.

    POST /v1/orders                      merchant_reference, amount, currency, description, return_url, lifetime_seconds
    GET  /v1/orders?merchant_reference=  the order, or 404 order_not_found
    POST /v1/orders/{id}/cancel          closes an open one, or 409 not_open
    POST /v1/orders/{id}/refunds         amount, currency: gives the movement, or 409 too_much

Amounts are minor units. With the same `idempotency-key` the first answer comes again, for another body 409 key_reused.
An event is POSTed with `acme-time` (unix seconds) and `acme-signature`: hex HMAC-SHA256 of that time, a dot, the body.
"""

import hmac
import itertools
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from sandbox.faults import Faults

PLANTED = ("Anahit Testyan", "4111111111111111")  # whom they name as the payer: nothing of it may be kept
NEXT = itertools.count(1)
Json = dict[str, Any]


class No(Exception):
    """A status and a code."""


class AcmeThere:
    """The server; `with` runs it. `orders` are by our reference; `status` and `move` are what happens to one."""

    def __init__(self, api_key: str, secret: str, webhook_url: str) -> None:
        self.api_key, self.secret, self.webhook_url = api_key, secret, webhook_url
        self.orders: dict[str, Json] = {}
        self.calls: Counter[str] = Counter()
        self.faults = Faults(frozenset({"create", "look_up", "cancel", "refund"}))
        self._first: dict[str, tuple[Json, Json]] = {}
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"there": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "AcmeThere":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def status(self, reference: str, status: str) -> None:
        self.orders[reference]["status"] = status
        event = {"id": f"e-{next(NEXT)}", "type": f"order.{status}", "merchant_reference": reference}
        body, now = json.dumps({**event, "payer": PLANTED}).encode(), str(int(time.time()))
        signature = hmac.digest(self.secret.encode(), f"{now}.".encode() + body, "sha256").hex()
        signed = {"acme-time": now, "acme-signature": signature}
        httpx.post(self.webhook_url, content=body, headers=signed, trust_env=False).raise_for_status()

    def move(self, reference: str, kind: str, amount: int) -> Json:
        order, now = self.orders[reference], datetime.now(UTC).isoformat()
        moved = {"id": f"m-{next(NEXT)}", "kind": kind, "amount": amount, "currency": order["currency"], "at": now}
        order["movements"].append(moved)
        self.status(reference, "paid")
        return moved

    def answer(self, operation: str, order: str, body: Json, key: str) -> Json:
        with self._lock:
            asked, first = self._first.get(key, (body, None))  # once for each key
            if asked != body:
                raise No(409, "key_reused")
            said: Json = first or getattr(self, operation)(order, body)
            self._first[key] = (body, said)
            return dict(said)

    def create(self, _: str, body: Json) -> Json:
        reference, name = body["merchant_reference"], f"o-{next(NEXT)}"
        is_possible = 0 < len(reference) <= 64 and 0 < body["amount"] <= 10**11
        if not is_possible or body["currency"] not in {"AMD", "USD", "JPY"}:
            raise No(422, "invalid")
        ends = datetime.now(UTC) + timedelta(seconds=body["lifetime_seconds"])
        order = {**body, "id": name, "status": "open", "page_url": f"{self.url}/pay/{name}", "movements": []}
        return self.orders.setdefault(reference, order | {"expires_at": ends.isoformat(), "payer": PLANTED})

    def cancel(self, order: str, _: Json) -> Json:
        found = self.look_up(order)
        if found["status"] != "open":
            raise No(409, "not_open")
        self.status(found["merchant_reference"], "cancelled")
        return found

    def refund(self, order: str, body: Json) -> Json:
        found = self.look_up(order)
        left = sum(one["amount"] * (1 if one["kind"] == "capture" else -1) for one in found["movements"])
        if body["amount"] > left or body["currency"] != found["currency"]:
            raise No(409, "too_much")
        return self.move(found["merchant_reference"], "refund", body["amount"])

    def look_up(self, name: str, body: Json | None = None) -> Json:
        for order in self.orders.values():
            if name in {order["id"], order["merchant_reference"]}:
                return order
        raise No(404, "order_not_found")


class _Handler(BaseHTTPRequestHandler):
    there: AcmeThere

    def do_GET(self) -> None:
        self._serve("look_up", parse_qs(urlsplit(self.path).query)["merchant_reference"][0], {})

    def do_POST(self) -> None:
        parts = [*self.path.split("/"), "", ""]  # /v1/orders/{id}/cancel
        operation = {"": "create", "cancel": "cancel", "refunds": "refund"}[parts[4]]
        self._serve(operation, parts[3], json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}"))

    def _serve(self, operation: str, order: str, body: Json) -> None:
        there, fault = self.there, self.there.faults.pick(operation, None)
        there.calls[operation] += 1
        struck, seconds = (fault.name, fault.seconds) if fault else ("", 0.0)
        status, said = 200, {"error": struck}
        if struck not in {"timeout_before", "error_500_before", "rate_limited_429"}:
            try:
                if self.headers["authorization"] != f"Bearer {there.api_key}":
                    raise No(401, "unauthorized")
                said = there.answer(operation, order, body, self.headers["idempotency-key"] or str(next(NEXT)))
            except No as no:
                status, said = no.args[0], {"error": no.args[1]}
        self._send(struck, seconds, status, json.dumps(said).encode())

    def _send(self, struck: str, seconds: float, status: int, content: bytes) -> None:
        if struck.startswith(("timeout", "slow")):
            time.sleep(seconds)
        if struck.startswith("timeout"):
            return
        self.send_response(500 if "500" in struck else 429 if "429" in struck else status)
        self.send_header("retry-after", str(int(seconds)))
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if struck == "truncated" else content)

    def log_message(self, *args: object) -> None:
        pass
