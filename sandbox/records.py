"""What the sandbox's CRM keeps: payable records with their payment result, deals, tasks.

It is as plain as real CRMs are: it writes whatever it is told, in whatever order, and makes a task for every request.
So what it counts shows whether its callers are careful.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.orders import iso, new_id
from sandbox.server import Refusal
from sandbox.store import Store


@dataclass
class Record:
    """One payable record: an invoice, a deal or an order. Its attributes are the document that the store keeps."""

    type: str
    id: str
    data: dict[str, Any]
    created_at: float
    payment: dict[str, Any] | None = None
    writes: int = 0
    went_back: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    edited_by_hand: int = 0

    @property
    def key(self) -> str:
        """The record's name among all types."""
        return f"{self.type}/{self.id}"

    @property
    def version(self) -> int:
        """The version that the CRM shows."""
        version = self.data.get("version")
        return version if isinstance(version, int) else 1


@dataclass
class Task:
    """One manager's task. Its attributes are the document that the store keeps."""

    id: str
    number: int
    key: str
    invoice: dict[str, Any]
    manager_id: str | None
    title: str
    body: str
    created_at: float
    is_open: bool = True
    note: str | None = None


class Records:
    """Every record and task of one CRM."""

    def __init__(self, store: Store) -> None:
        """Take up what an earlier process kept."""
        self._store = store
        kept = [Record(**document) for document in store.load("record")]
        self._records = {record.key: record for record in sorted(kept, key=lambda record: record.created_at)}
        tasks = [Task(**document) for document in store.load("task")]
        self._tasks = {task.id: task for task in sorted(tasks, key=lambda task: task.number)}

    def put(self, data: dict[str, Any]) -> Record:
        """Create a record from an invoice's data, or give an existing one new data."""
        kind, name = data.get("type") or "invoice", data.get("invoice_id")
        if not isinstance(kind, str) or not isinstance(name, str) or not name:
            raise Refusal(400, "invalid_request", "invoice_id")
        record = self._records.get(f"{kind}/{name}")
        if record is None:
            record = Record(kind, name, data, created_at=time.time())
            self._records[record.key] = record
        record.data = data
        self._save(record)
        return record

    def record(self, kind: str, name: str) -> Record:
        """Return a record, or refuse."""
        record = self._records.get(f"{kind}/{name}")
        if record is None:
            raise Refusal(404, "record_not_found")
        return record

    def all(self) -> list[Record]:
        """Return every record, oldest first."""
        return list(self._records.values())

    def write(self, record: Record, payment: dict[str, Any]) -> None:
        """Set the payment result, whatever stood there."""
        revision = payment.get("revision")
        if isinstance(revision, bool) or not isinstance(revision, int) or not isinstance(payment.get("status"), str):
            raise Refusal(400, "invalid_request", "revision, status")
        if record.log and revision < record.log[-1]["revision"]:
            record.went_back += 1
        record.payment = payment
        record.writes += 1
        record.log.append({"at": iso(time.time()), "revision": revision, "status": payment["status"]})
        self._save(record)

    def edit(self, record: Record, payment: dict[str, Any] | None) -> None:
        """Change the payment result as a person would: no write of ours, and not counted as one."""
        record.payment = payment
        record.edited_by_hand += 1
        self._save(record)

    def cancel(self, record: Record) -> None:
        """Mark the record as cancelled in the CRM."""
        record.cancelled = True
        self._save(record)

    def add_task(self, body: Mapping[str, Any]) -> Task:
        """Make a task, also when one with this key exists: real CRMs have no such key."""
        key, title = body.get("key"), body.get("title")
        if not isinstance(key, str) or not key or not isinstance(title, str) or not title:
            raise Refusal(400, "invalid_request", "key, title")
        task = Task(
            id=new_id("task"),
            number=len(self._tasks) + 1,
            key=key,
            invoice=dict(body.get("invoice") or {}),
            manager_id=body.get("manager_id"),
            title=title,
            body=str(body.get("body", "")),
            created_at=time.time(),
        )
        self._tasks[task.id] = task
        self._store.put("task", task.id, vars(task))
        return task

    def close_task(self, task_id: str, note: str) -> Task:
        """Complete a task; a completed one keeps its first note."""
        task = self._tasks.get(task_id)
        if task is None:
            raise Refusal(404, "task_not_found")
        if task.is_open:
            task.is_open, task.note = False, note
            self._store.put("task", task.id, vars(task))
        return task

    def tasks(self, key: str | None = None) -> list[Task]:
        """Return every task, or those with a key, oldest first."""
        return [task for task in self._tasks.values() if key is None or task.key == key]

    def deal(self, deal_id: str) -> dict[str, Any]:
        """Return a deal as its records make it: won when all of them are paid."""
        parts = [record for record in self._records.values() if record.data.get("deal_id") == deal_id]
        if not parts:
            raise Refusal(404, "deal_not_found")
        is_won = all((record.payment or {}).get("status") == "paid" for record in parts)
        return {"id": deal_id, "stage": "won" if is_won else "open", "records": [record.key for record in parts]}

    def stats(self) -> dict[str, Any]:
        """Return exact counts."""
        return {
            "invoices": {record.key: _record_stats(record) for record in self._records.values()},
            "writes": sum(record.writes for record in self._records.values()),
            "statuses": Counter((record.payment or {}).get("status", "none") for record in self._records.values()),
            "tasks": {
                "per_key": Counter(task.key for task in self._tasks.values()),
                "open_per_key": Counter(task.key for task in self._tasks.values() if task.is_open),
                "open": sum(task.is_open for task in self._tasks.values()),
                "closed": sum(not task.is_open for task in self._tasks.values()),
            },
        }

    def _save(self, record: Record) -> None:
        self._store.put("record", record.key, vars(record))


def _record_stats(record: Record) -> dict[str, Any]:
    return {
        "writes": record.writes,
        "distinct_revisions": len({entry["revision"] for entry in record.log}),
        "went_back": record.went_back,
        "revision": (record.payment or {}).get("revision"),
        "status": (record.payment or {}).get("status"),
        "edited_by_hand": record.edited_by_hand,
    }
