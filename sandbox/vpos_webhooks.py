"""Webhooks of the simulated VPOS.am: made, signed, damaged on demand, repeated until somebody says 2xx.

The public pages say that lifecycle events are signed, and not how. ASSUMED: the body, the header, both schemes, the
tries and their pauses.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from typing import Any

import httpx

from sandbox.faults import Fault
from sandbox.vpos_merchants import Merchant
from sandbox.vpos_sessions import iso

TRIES = 6


def sign(scheme: str, secret: str, body: bytes, timestamp: int) -> str:
    """Return the header's value: hex HMAC-SHA256 of the raw body, or t=..,v1=.. over "t.body"."""
    if scheme == "t-v1":
        digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        return f"t={timestamp},v1={digest}"
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def event(event_type: str, session: dict[str, Any]) -> dict[str, Any]:
    """Return what is told about a change."""
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "type": event_type,
        "createdAt": iso(time.time()),
        "data": {"session": session},
    }


def hint(told: dict[str, Any]) -> dict[str, Any]:
    """Return the event without facts and without an id."""
    names = {name: told["data"]["session"].get(name) for name in ("id", "merchantOrderId")}
    return {"type": told["type"], "createdAt": told["createdAt"], "data": {"session": names}}


class Courier:
    """Delivers in the background."""

    def __init__(self, pause_seconds: float) -> None:
        """`pause_seconds` between tries."""
        self._pause = pause_seconds
        self._running: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(timeout=10.0, trust_env=False)

    def send(self, merchant: Merchant, told: dict[str, Any], fault: Fault | None, counts: Counter[str]) -> None:
        """Begin to deliver one event, once, twice or never."""
        name = fault.name if fault else ""
        if not merchant.webhook_url or name == "lost":
            return
        body = json.dumps(hint(told) if name == "hint_only" else told, ensure_ascii=False).encode()
        delay = fault.seconds if fault and name in {"late", "reordered"} else 0.0
        age = fault.seconds if fault and name == "stale" else 0.0
        for _ in range(2 if name == "duplicate" else 1):
            self._start(self._deliver(merchant, body, counts, delay, age))
        if name == "forged":
            self._start(self._forge(merchant, told, counts))

    async def close(self) -> None:
        """Stop what is being sent."""
        for task in self._running:
            task.cancel()
        await self._client.aclose()

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _deliver(
        self, merchant: Merchant, body: bytes, counts: Counter[str], delay: float, age_seconds: float
    ) -> None:
        await asyncio.sleep(delay)
        for number in range(TRIES):
            counts["tries"] += 1
            stamp = int(time.time() - age_seconds)
            if await self._post(merchant, body, sign(merchant.signature_scheme, merchant.webhook_secret, body, stamp)):
                counts["delivered"] += 1
                return
            if number + 1 < TRIES:
                await asyncio.sleep(self._pause)
        counts["failed"] += 1

    async def _forge(self, merchant: Merchant, told: dict[str, Any], counts: Counter[str]) -> None:
        """Say that the session was paid in full, signed with a secret that nobody has."""
        session = told["data"]["session"]
        invented = {"status": merchant.words.get("paid", "paid"), "paidAmountMinor": session.get("amountMinor")}
        body = json.dumps(told | {"data": {"session": session | invented}}, ensure_ascii=False).encode()
        signature = sign(merchant.signature_scheme, secrets.token_hex(16), body, int(time.time()))
        counts["forged"] += 1
        counts["forged_answered_2xx"] += await self._post(merchant, body, signature)

    async def _post(self, merchant: Merchant, body: bytes, signature: str) -> bool:
        headers = {"content-type": "application/json", merchant.signature_header: signature}
        try:
            answer = await self._client.post(merchant.webhook_url, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success
