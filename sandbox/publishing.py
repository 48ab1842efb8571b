"""How the sandbox's CRM announces its invoices: again and again, until the other side has taken them.

By HTTP, a 2xx is the acceptance. By AMQP, the broker's confirm is only the broker's word: the CRM also listens for
`invoice.accepted` and publishes again what nobody accepted. An event keeps its id and bytes over all tries.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.amqp import AmqpLine, Report
from sandbox.orders import iso, new_id
from sandbox.posting import Poster, PostError
from sandbox.records import Record
from sandbox.schedule import Schedule
from sandbox.store import Store

CONTENT_TYPE = "application/cloudevents+json"
CREATED = "invoice.created"
CANCELLED = "invoice.cancelled"

_UNFINISHED = frozenset({"waiting", "confirmed"})
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
# Answers that repeating the same bytes will not change. A wrong key or address may be put right meanwhile.
_FINAL_REFUSALS = frozenset({400, 409, 413, 415, 422})


@dataclass
class Announcement:
    """One event on its way. Its attributes are the document that the store keeps."""

    id: str
    type: str
    record: str
    invoice_id: str
    version: int
    body: str
    number: int
    due_at: float
    tries: int = 0
    confirmed: int = 0
    state: str = "waiting"


class Carrier(Protocol):
    """A way to the other side."""

    async def carry(self, announcement: Announcement) -> str:
        """Send once: "accepted", "confirmed" (sent, acceptance comes later), "failed" or "rejected"."""

    async def close(self) -> None:
        """Release connections."""


class Outbox:
    """Every announcement, and the task that sends what is due."""

    def __init__(self, store: Store, crm: str, *, republish_seconds: float) -> None:
        """What stays unaccepted so long after a confirm is published again, with growing pauses."""
        self._store = store
        self._crm = crm
        self._republish_seconds = republish_seconds
        self._schedule: Schedule[tuple[Announcement, float]] = Schedule()
        self._announcements: dict[str, Announcement] = {}
        self._by_invoice: dict[str, list[Announcement]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._lanes = asyncio.Semaphore(64)

    def load(self) -> None:
        """Take up what an earlier process left. Call inside the event loop."""
        kept = [Announcement(**document) for document in self._store.load("announcement")]
        for announcement in sorted(kept, key=lambda kept_one: kept_one.number):
            self._keep(announcement)
            if announcement.state in _UNFINISHED:
                self._plan(announcement, announcement.due_at)

    def announce(
        self, record: Record, type_: str, data: Mapping[str, Any], event: Mapping[str, Any] | None = None
    ) -> None:
        """Queue an event about a record; `event` is a ready CloudEvent to be sent as it is."""
        body = event or self._envelope(type_, data)
        announcement = Announcement(
            id=str(body["id"]),
            type=type_,
            record=record.key,
            invoice_id=record.id,
            version=record.version,
            body=json.dumps(body, ensure_ascii=False),
            number=len(self._announcements),
            due_at=time.time(),
        )
        self._keep(announcement)
        self._plan(announcement, announcement.due_at)
        self._save(announcement)

    def accepted(self, invoice_id: str, version: int | None) -> None:
        """Note what the other side said that it took: that version, and with it every older one."""
        for announcement in self._by_invoice.get(invoice_id, ()):
            if announcement.type == CREATED and (version is None or announcement.version <= version):
                self._finish(announcement, "accepted")

    def rejected(self, event_id: str | None) -> None:
        """Note what the other side could not read: repeating the same bytes would not help."""
        announcement = self._announcements.get(event_id or "")
        if announcement is not None:
            self._finish(announcement, "rejected")

    def cancellation_arrived(self, record: Record) -> None:
        """Note that a cancellation had its effect: a final status was written back. Nothing else announces it.

        What never left us had none: that status came of something else.
        """
        for announcement in self._by_invoice.get(record.id, ()):
            is_out = announcement.type == CANCELLED and announcement.state == "confirmed"
            if is_out and announcement.record == record.key:
                self._finish(announcement, "accepted")

    async def run(self, carrier: Carrier) -> None:
        """Send what is due until cancelled."""
        while True:
            announcement, due_at = await self._schedule.next()
            if announcement.due_at == due_at and announcement.state in _UNFINISHED:
                await self._lanes.acquire()
                task = asyncio.create_task(self._send(carrier, announcement))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def stats(self) -> dict[str, Any]:
        """Return exact counts."""
        states = Counter(announcement.state for announcement in self._announcements.values())
        waiting = [
            announcement.record for announcement in self._announcements.values() if announcement.state in _UNFINISHED
        ]
        return {
            "announced": len(self._announcements),
            "publishes": sum(announcement.tries for announcement in self._announcements.values()),
            "confirms": sum(announcement.confirmed for announcement in self._announcements.values()),
            "accepted": states["accepted"],
            "rejected": states["rejected"],
            "unaccepted": len(waiting),
            "unaccepted_records": waiting,
        }

    async def _send(self, carrier: Carrier, announcement: Announcement) -> None:
        try:
            outcome = await carrier.carry(announcement)
        finally:
            self._lanes.release()
        announcement.tries += 1
        match outcome:
            case "accepted" | "rejected":
                self._finish(announcement, outcome)
            case "confirmed":
                announcement.confirmed += 1
                if announcement.state == "waiting":
                    announcement.state = "confirmed"
                pause = self._republish_seconds * min(2.0 ** (announcement.confirmed - 1), 8.0)
                self._plan(announcement, time.time() + pause)
            case _:
                pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(announcement.tries - 1, 10), _LONGEST_PAUSE_SECONDS)
                self._plan(announcement, time.time() + pause)
        self._save(announcement)
        self._store.flush()

    def _finish(self, announcement: Announcement, state: str) -> None:
        if announcement.state in _UNFINISHED:
            announcement.state = state
            self._save(announcement)

    def _keep(self, announcement: Announcement) -> None:
        self._announcements[announcement.id] = announcement
        self._by_invoice.setdefault(announcement.invoice_id, []).append(announcement)

    def _plan(self, announcement: Announcement, due_at: float) -> None:
        announcement.due_at = due_at
        self._schedule.add(due_at - time.time(), (announcement, due_at))

    def _save(self, announcement: Announcement) -> None:
        self._store.put("announcement", announcement.id, vars(announcement))

    def _envelope(self, type_: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": new_id("crm"),
            "source": f"/crm/{self._crm}",
            "type": f"{type_}.v1",
            "subject": str(data["invoice_id"]),
            "time": iso(time.time()),
            "datacontenttype": "application/json",
            "data": dict(data),
        }


class NoCarrier:
    """A CRM that announces nothing: every event waits for ever."""

    async def carry(self, announcement: Announcement) -> str:
        """Send nothing."""
        return "failed"

    async def close(self) -> None:
        """Nothing to release."""


class HttpCarrier:
    """Posts events to an intake address; 2xx is the acceptance."""

    def __init__(self, url: str, api_key: str) -> None:
        """`url` is the whole address, as https://paylinks.example/v1/invoices."""
        self._url = url
        self._headers = {"content-type": CONTENT_TYPE} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._poster = Poster()

    async def carry(self, announcement: Announcement) -> str:
        """Post once."""
        try:
            status = await self._poster.post(self._url, announcement.body.encode(), self._headers)
        except PostError:
            return "failed"
        if 200 <= status < 300:
            return "accepted"
        return "rejected" if status in _FINAL_REFUSALS else "failed"

    async def close(self) -> None:
        """Release connections."""
        self._poster.close()


class AmqpCarrier:
    """Publishes through a thread that owns the broker's connection, as pika wants it."""

    def __init__(self, line: AmqpLine, outbox: Outbox, crm: str) -> None:
        """Listen to the line's reports in the running event loop."""
        self._line = line
        self._outbox = outbox
        self._crm = crm
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, asyncio.Future[str]] = {}
        line.start(self._from_thread)

    async def carry(self, announcement: Announcement) -> str:
        """Publish once and wait for the broker's confirm."""
        answer = self._asked[announcement.id] = self._loop.create_future()
        self._line.waiting.put((announcement.id, announcement.type, announcement.body.encode()))
        return str(await answer)

    async def close(self) -> None:
        """End the thread."""
        await asyncio.to_thread(self._line.stop)

    def _from_thread(self, report: Report) -> None:
        # The loop may be closed already when a last report comes.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, report)

    def _take(self, report: Report) -> None:
        if report.outcome == "rejected":
            self._outbox.rejected(report.event_id)
        elif report.event_id is not None:
            answer = self._asked.pop(report.event_id, None)
            if answer is not None and not answer.done():
                answer.set_result(report.outcome)
        elif report.invoice_id is not None and report.crm == self._crm:
            self._outbox.accepted(report.invoice_id, report.version)
