"""Signed webhooks of the sandbox's provider: made, damaged on demand, repeated until somebody says 2xx."""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.faults import Fault
from sandbox.orders import Order, facts, iso, new_id
from sandbox.posting import Poster, PostError
from sandbox.schedule import Schedule
from sandbox.store import Store

SIGNATURE_HEADER = "Sandbox-Signature"
DEFAULT_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
DEFAULT_TRIES = 14


class Address(Protocol):
    """Where an account's webhooks go, how they are signed, and where they are counted."""

    webhooks: Counter[str]

    @property
    def webhook_url(self) -> str:
        """Where to post; empty: nowhere."""

    @property
    def webhook_secret(self) -> str:
        """What to sign with."""

    def flush(self) -> None:
        """Write the counts."""


@dataclass
class Parcel:
    """One webhook on its way. Its attributes are the document that the store keeps."""

    id: str
    account: str
    order_id: str
    body: str
    due_at: float
    tries: int = 0
    forged: bool = False
    stale_seconds: float = 0.0
    waits_for_later: bool = False


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """Return the header: t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def parcels_for(order: Order, event_type: str, fault: Fault | None, now: float) -> list[Parcel]:
    """Return what is sent about one event: usually one parcel; none when it gets lost, two when doubled or forged."""
    body = _body(order, event_type, now)
    match fault:
        case None:
            return [_parcel(order, body, now)]
        case Fault(name="lost"):
            return []
        case Fault(name="duplicate"):
            return [_parcel(order, body, now), _parcel(order, body, now)]
        case Fault(name="forged"):
            return [_parcel(order, body, now), _parcel(order, _invented(order, now), now, forged=True)]
        case Fault(name="hint_only"):
            return [_parcel(order, _hint(order, event_type, now), now)]
        case Fault(name="stale"):
            return [_parcel(order, body, now, stale_seconds=fault.seconds)]
        case Fault(name="reordered"):
            return [_parcel(order, body, now + fault.seconds, waits_for_later=True)]
    return [_parcel(order, body, now + fault.seconds)]


class Courier:
    """Delivers parcels in the background, growing pauses between tries. What waits survives a restart."""

    def __init__(
        self,
        store: Store,
        address_of: Callable[[str], Address],
        *,
        pauses: tuple[float, ...] = DEFAULT_PAUSES,
        tries: int = DEFAULT_TRIES,
    ) -> None:
        """Pauses are seconds after each failed try; the last one repeats until `tries` are used up."""
        self._store = store
        self._address_of = address_of
        self._pauses = pauses
        self._tries = tries
        self._waiting: dict[str, Parcel] = {}
        self._held_back: dict[str, list[Parcel]] = {}
        self._schedule: Schedule[tuple[Parcel, float]] = Schedule()
        self._running: set[asyncio.Task[None]] = set()
        self._poster = Poster()
        self._lanes: dict[str, asyncio.Semaphore] = {}

    def load(self) -> None:
        """Take up what an earlier process left. Call inside the event loop."""
        for document in self._store.load("parcel"):
            self._accept(Parcel(**document))

    def post(self, parcel: Parcel) -> None:
        """Accept a parcel for delivery."""
        self._store.put("parcel", parcel.id, vars(parcel))
        self._accept(parcel)

    def waiting(self, account: str) -> int:
        """Return how many parcels of an account are still on their way."""
        return sum(parcel.account == account for parcel in self._waiting.values())

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            parcel, due_at = await self._schedule.next()
            if parcel.id in self._waiting and parcel.due_at == due_at:
                task = asyncio.create_task(self._deliver(parcel))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Stop what is being delivered; it stays in the store."""
        for task in self._running:
            task.cancel()
        self._poster.close()

    def _accept(self, parcel: Parcel) -> None:
        self._waiting[parcel.id] = parcel
        if parcel.waits_for_later:
            self._held_back.setdefault(parcel.order_id, []).append(parcel)
        self._plan(parcel, parcel.due_at)

    def _plan(self, parcel: Parcel, due_at: float) -> None:
        parcel.due_at = due_at
        self._schedule.add(due_at - time.time(), (parcel, due_at))

    async def _deliver(self, parcel: Parcel) -> None:
        address = self._address_of(parcel.account)
        async with self._lanes.setdefault(parcel.account, asyncio.Semaphore(16)):
            arrived = await _send(self._poster, address, parcel)
        self._record(address, parcel, arrived)
        address.flush()

    def _record(self, address: Address, parcel: Parcel, arrived: bool) -> None:
        parcel.tries += 1
        address.webhooks["tries"] += 1
        if parcel.forged:
            address.webhooks["forged"] += 1
            address.webhooks["forged_answered_2xx"] += arrived
            self._forget(parcel)
        elif arrived:
            address.webhooks["delivered"] += 1
            self._forget(parcel)
            self._release_earlier(parcel)
        elif parcel.tries >= self._tries:
            address.webhooks["failed"] += 1
            self._forget(parcel)
        else:
            pause = self._pauses[min(parcel.tries, len(self._pauses)) - 1]
            self._plan(parcel, time.time() + pause)
            self._store.put("parcel", parcel.id, vars(parcel))

    def _forget(self, parcel: Parcel) -> None:
        self._waiting.pop(parcel.id, None)
        self._store.drop("parcel", parcel.id)

    def _release_earlier(self, later: Parcel) -> None:
        """Send what was held back so that it comes after a later event of its order."""
        for parcel in self._held_back.pop(later.order_id, ()):
            parcel.waits_for_later = False
            if parcel.id in self._waiting and not parcel.tries:
                self._plan(parcel, time.time())


async def _send(poster: Poster, address: Address, parcel: Parcel) -> bool:
    body = parcel.body.encode()
    secret = secrets.token_hex(16) if parcel.forged else address.webhook_secret
    signature = sign(secret, body, int(time.time() - parcel.stale_seconds))
    headers = {"content-type": "application/json", SIGNATURE_HEADER: signature}
    try:
        return 200 <= await poster.post(address.webhook_url, body, headers) < 300
    except PostError:
        return False


def _parcel(
    order: Order,
    body: dict[str, Any],
    due_at: float,
    *,
    forged: bool = False,
    stale_seconds: float = 0.0,
    waits_for_later: bool = False,
) -> Parcel:
    return Parcel(
        id=new_id("parcel"),
        account=order.account,
        order_id=order.id,
        body=json.dumps(body, ensure_ascii=False),
        due_at=due_at,
        forged=forged,
        stale_seconds=stale_seconds,
        waits_for_later=waits_for_later,
    )


def _body(order: Order, event_type: str, now: float) -> dict[str, Any]:
    return {
        "id": new_id("evt"),
        "type": event_type,
        "created": iso(now),
        "account": order.account,
        "data": {"order": facts(order)},
    }


def _hint(order: Order, event_type: str, now: float) -> dict[str, Any]:
    order_names = {"id": order.id, "reference": order.reference}
    return {"type": event_type, "created": iso(now), "account": order.account, "data": {"order": order_names}}


def _invented(order: Order, now: float) -> dict[str, Any]:
    """Say that the order was paid in full, which it may not have been."""
    body = _body(order, "payment.captured", now)
    capture = {
        "id": new_id("txn"),
        "kind": "capture",
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "occurred_at": iso(now),
    }
    body["data"]["order"] |= {"status": "paid", "retryable": False, "transactions": [capture]}
    return body
