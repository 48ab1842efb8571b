"""Events of the simulated Stripe API: signed, tried four times, damaged on demand.

https://docs.stripe.com/webhooks: `t` and a `v1` for each secret that is active (two while one is rolled), and a `v0`
that verifies nothing in test mode; a new time and signature with every try; three retries in a sandbox; no promise of
an order; the same event may come twice, and two events may tell the same.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from sandbox.faults import Fault
from sandbox.stripe_objects import Object, new_id, now

TRIES = 4
API_VERSION = "2026-10-28.endive"


def signature(body: bytes, active: Sequence[str], moment: int) -> str:
    """Return the header Stripe-Signature."""
    signed = f"{moment}.".encode() + body
    ours = [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in active]
    return ",".join([f"t={moment}", *ours, f"v0={secrets.token_hex(32)}"])


def event(kind: str, told: Object, cause: Object, previous: Object | None, endpoints: int) -> Object:
    """Return a snapshot event."""
    data = {"object": told} | ({"previous_attributes": previous} if previous is not None else {})
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": now(),
        "data": data,
        "livemode": False,
        "pending_webhooks": endpoints,
        "request": dict(cause),
        "type": kind,
    }


class Sender:
    """Sends events to one merchant's endpoint in the background."""

    def __init__(self, pause_seconds: float) -> None:
        """`pause_seconds` between tries; hours there."""
        self._pause = pause_seconds
        self._running: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None
        self._arrived = asyncio.Condition()
        self.counts: Counter[str] = Counter()

    def send(self, url: str, active: Sequence[str], told: Object, fault: Fault | None) -> None:
        """Begin to send one event, as a fault of sandbox.faults has it."""
        name, seconds = (fault.name, fault.seconds) if fault else ("", 0.0)
        if name == "lost":
            self.counts["lost"] += 1
            return
        age = seconds if name == "stale" else 0.0
        copies = 2 if name == "duplicate" else 1
        for _ in range(copies):
            self._begin(url, active, told, age, seconds if name == "late" else 0.0, waits=name == "reordered")
        if name == "forged":
            self._begin(url, [secrets.token_hex(16)], _invented(told), 0.0, 0.0, waits=False)

    async def close(self) -> None:
        """Stop what is being sent."""
        for task in self._running:
            task.cancel()
        if self._client is not None:
            await self._client.aclose()

    def _begin(self, url: str, active: Sequence[str], told: Object, age: float, delay: float, *, waits: bool) -> None:
        coroutine = self._deliver(url, list(active), told, age, delay, waits=waits)
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _deliver(
        self, url: str, active: list[str], told: Object, age: float, delay: float, *, waits: bool
    ) -> None:
        body = json.dumps({name: one for name, one in told.items() if not name.startswith("_")}, indent=2).encode()
        if waits:
            await self._later_one()
        await asyncio.sleep(delay)
        for number in range(TRIES):
            self.counts["tries"] += 1
            if await self._once(url, active, body, age):
                self.counts["delivered"] += 1
                told["pending_webhooks"] = 0
                return
            if number + 1 < TRIES:
                await asyncio.sleep(self._pause)
        self.counts["given_up"] += 1

    async def _once(self, url: str, active: list[str], body: bytes, age: float) -> bool:
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": signature(body, active, int(time.time() - age)),
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        self._client = self._client or httpx.AsyncClient(timeout=10.0, trust_env=False)
        try:
            answer = await self._client.post(url, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        if answer.is_success:
            async with self._arrived:
                self._arrived.notify_all()
        return answer.is_success

    async def _later_one(self) -> None:
        """Wait until another event has arrived, three seconds at most."""
        with_limit = asyncio.timeout(3.0)
        try:
            async with with_limit, self._arrived:
                await self._arrived.wait()
        except TimeoutError:
            return


def _invented(told: Object) -> Object:
    data: Any = json.loads(json.dumps(told["data"]))
    data["object"] |= {"payment_status": "paid", "status": "complete"}
    return told | {"id": new_id("evt"), "type": "checkout.session.completed", "data": data}
