"""A CRM to try and test against: `python -m sandbox.crm --help`.

PUT  /invoices/{type}/{id}/payment     set the payment result of an invoice, a deal or an order
GET  /invoices/{type}/{id}             read the record with its last result
GET  /deals/{id}                       read a deal
POST /tasks                            make a task; every request makes one
GET  /tasks?key=                       find tasks
POST /tasks/{id}/close                 complete a task

POST /control/invoices                 create records (a list or JSON lines) and publish each
POST /control/invoices/{id}/cancel     cancel in the CRM and publish that
POST /control/invoices/{id}/edit       change the result by hand
GET  /control/invoices | tasks | stats dump and exact counts
POST /control/faults, GET, DELETE      faults for write, read, task, task_find, task_close (sandbox.faults)
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.amqp import AmqpLine
from sandbox.faults import Faults
from sandbox.publishing import CANCELLED, CREATED, AmqpCarrier, Carrier, HttpCarrier, NoCarrier, Outbox
from sandbox.records import Record, Records, Task
from sandbox.server import Gate, Refusal, json_body, listen, raw_body, refused, reply, require_key, serve
from sandbox.store import Store

CALLS = frozenset({"write", "read", "task", "task_find", "task_close"})


class CrmApi:
    """The CRM's HTTP interface."""

    def __init__(self, store: Store, options: argparse.Namespace) -> None:
        """Take up what an earlier process kept."""
        self._store = store
        self._options = options
        self._records = Records(store)
        self._outbox = Outbox(store, options.crm, republish_seconds=options.republish_seconds)
        self._gate = Gate(options.token, Faults(CALLS), self._flush, options.latency_ms / 1000)
        for document in store.load("counts"):
            self._gate.calls.update(document["calls"])
            self._gate.faults.struck.update(document["struck"])
            for rule in document["rules"]:
                self._gate.faults.add(rule)

    def app(self) -> Starlette:
        """Return the ASGI application. An id may hold slashes, as "2026/17" does."""
        routes = [
            Route("/readyz", _ready),
            Route("/control/invoices/{id:path}/cancel", self.cancel, methods=["POST"]),
            Route("/control/invoices/{id:path}/edit", self.edit, methods=["POST"]),
            Route("/control/invoices", self.publish, methods=["POST"]),
            Route("/control/invoices", self.dump_records, methods=["GET"]),
            Route("/control/tasks", self.dump_tasks, methods=["GET"]),
            Route("/control/stats", self.stats, methods=["GET"]),
            Route("/control/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/invoices/{type}/{id:path}/payment", self.write, methods=["PUT"]),
            Route("/invoices/{type}/{id:path}", self.read, methods=["GET"]),
            Route("/deals/{id:path}", self.read_deal, methods=["GET"]),
            Route("/tasks", self.add_task, methods=["POST"]),
            Route("/tasks", self.find_tasks, methods=["GET"]),
            Route("/tasks/{id}/close", self.close_task, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._outbox.load()
        carrier = self._carrier()
        task = asyncio.create_task(self._outbox.run(carrier))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await carrier.close()
        self._store.close()

    async def write(self, request: Request) -> Response:
        """Set the payment result, whatever stood there."""
        require_key(request, self._gate.api_key)
        kind, name, body = request.path_params["type"], request.path_params["id"], await json_body(request)

        def work() -> Response:
            record = self._records.record(kind, name)
            self._records.write(record, body)
            if body["status"] != "pending":
                self._outbox.cancellation_arrived(record)
            return reply(200, _shown(record))

        return await self._gate.pass_through(request, "write", name, work)

    async def read(self, request: Request) -> Response:
        """Read a record with its last result."""
        require_key(request, self._gate.api_key)
        kind, name = request.path_params["type"], request.path_params["id"]
        return await self._gate.pass_through(
            request, "read", name, lambda: reply(200, _shown(self._records.record(kind, name)))
        )

    async def read_deal(self, request: Request) -> Response:
        """Read a deal as its records make it."""
        require_key(request, self._gate.api_key)
        name = request.path_params["id"]
        return await self._gate.pass_through(request, "read", name, lambda: reply(200, self._records.deal(name)))

    async def add_task(self, request: Request) -> Response:
        """Make a task; every request makes one."""
        require_key(request, self._gate.api_key)
        body = await json_body(request)
        return await self._gate.pass_through(
            request, "task", str(body.get("key")), lambda: reply(201, _task_shown(self._records.add_task(body)))
        )

    async def find_tasks(self, request: Request) -> Response:
        """Find tasks by key, oldest first."""
        require_key(request, self._gate.api_key)
        key = request.query_params.get("key")

        def work() -> Response:
            return reply(200, {"tasks": [_task_shown(task) for task in self._records.tasks(key)]})

        return await self._gate.pass_through(request, "task_find", key, work)

    async def close_task(self, request: Request) -> Response:
        """Complete a task; a completed one stays so."""
        require_key(request, self._gate.api_key)
        task_id, body = request.path_params["id"], await json_body(request)

        def work() -> Response:
            return reply(200, _task_shown(self._records.close_task(task_id, str(body.get("note", "")))))

        return await self._gate.pass_through(request, "task_close", task_id, work)

    async def publish(self, request: Request) -> Response:
        """Create records from the `data` of invoice.created.v1 or from whole CloudEvents, and publish each."""
        require_key(request, self._options.control_key)
        lines = _lines(await raw_body(request))
        for line in lines:
            event = line if "specversion" in line else None
            data = {"crm": self._options.crm} | (line["data"] if event else line)
            self._outbox.announce(self._records.put(data), CREATED, data, event)
        self._flush()
        return reply(202, {"created": len(lines)})

    async def cancel(self, request: Request) -> Response:
        """Cancel a record in the CRM and publish invoice.cancelled.v1."""
        require_key(request, self._options.control_key)
        record, body = await self._controlled(request)
        self._records.cancel(record)
        data = {
            "crm": record.data.get("crm", self._options.crm),
            "invoice_id": record.id,
            "version": body.get("version", record.version),
            "type": record.type,
        }
        self._outbox.announce(record, CANCELLED, data)
        self._flush()
        return reply(202, {"cancelled": record.key})

    async def edit(self, request: Request) -> Response:
        """Change the result by hand, as a person would."""
        require_key(request, self._options.control_key)
        record, body = await self._controlled(request)
        payment = body.get("payment")
        self._records.edit(record, payment if isinstance(payment, dict) else None)
        self._flush()
        return reply(200, _shown(record))

    async def dump_records(self, request: Request) -> Response:
        """Return every record with its log of writes."""
        require_key(request, self._options.control_key)
        return reply(200, {"records": [_shown(record) | {"log": record.log} for record in self._records.all()]})

    async def dump_tasks(self, request: Request) -> Response:
        """Return every task."""
        require_key(request, self._options.control_key)
        return reply(200, {"tasks": [_task_shown(task) for task in self._records.tasks()]})

    async def stats(self, request: Request) -> Response:
        """Return exact counts."""
        require_key(request, self._options.control_key)
        gate = {"calls": {name: self._gate.calls[name] for name in sorted(CALLS)}, "faults": self._gate.faults.struck}
        return reply(200, {"crm": self._options.crm, **self._records.stats(), **self._outbox.stats(), **gate})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        require_key(request, self._options.control_key)
        if request.method == "DELETE":
            self._gate.faults.clear()
        elif request.method == "POST":
            try:
                self._gate.faults.add(await json_body(request))
            except ValueError as error:
                return reply(400, {"error": "invalid_request", "detail": str(error)})
        self._flush()
        return reply(200, {"faults": self._gate.faults.rules()})

    async def _controlled(self, request: Request) -> tuple[Record, dict[str, Any]]:
        body = await json_body(request)
        return self._records.record(str(body.get("type", "invoice")), request.path_params["id"]), body

    def _carrier(self) -> Carrier:
        """Choose the way to the other side by the address."""
        url: str = self._options.publish
        if not url:
            return NoCarrier()
        if url.startswith("http"):
            return HttpCarrier(url, self._options.api_key)
        line = AmqpLine(
            url,
            intake_exchange=self._options.intake_exchange,
            events_exchange=self._options.events_exchange,
            queue_name=f"sandbox-crm.{self._options.crm}.accepted",
        )
        return AmqpCarrier(line, self._outbox, self._options.crm)

    def _flush(self) -> None:
        """Write what changed, counts included."""
        document = {
            "calls": self._gate.calls,
            "struck": self._gate.faults.struck,
            "rules": self._gate.faults.rules(),
        }
        self._store.put("counts", "all", document)
        self._store.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the CRM until a signal comes."""
    options = _options().parse_args(argv)
    try:
        api = CrmApi(Store(Path(options.state) if options.state else None), options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sandbox crm: {error}\n")
        return 2
    serve(api.app(), listen(options.host, options.port), until_stdin_closes=options.until_stdin_closes)
    return 0


def _options() -> argparse.ArgumentParser:
    """Describe the command line. Secrets may come from the environment, so that no process list shows them."""
    given = os.environ.get
    parser = argparse.ArgumentParser(prog="sandbox crm", description="A CRM to test against.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8802, help="0 takes a free one; the first line of output tells it")
    add("--state", help="SQLite file that survives a restart; by default nothing is kept")
    add("--crm", default="sandbox", help="the CRM id that its invoices carry")
    add("--token", default=given("SANDBOX_TOKEN", ""), help="or SANDBOX_TOKEN")
    add("--control-key", default=given("SANDBOX_CONTROL_KEY", ""), help="or SANDBOX_CONTROL_KEY; empty: no control")
    add(
        "--publish",
        default=given("SANDBOX_PUBLISH", ""),
        help="or SANDBOX_PUBLISH: amqp://... or http://.../v1/invoices",
    )
    add("--api-key", default=given("SANDBOX_API_KEY", ""), help="or SANDBOX_API_KEY; sent when publishing by HTTP")
    add("--intake-exchange", default="paylinks.intake")
    add("--events-exchange", default="paylinks.events")
    add("--republish-seconds", type=float, default=15.0, help="until an unaccepted AMQP event is published again")
    add("--latency-ms", type=float, default=0.0, help="added to every call")
    add("--until-stdin-closes", action="store_true", help="end when whoever started this is gone")
    return parser


def _lines(raw: bytes) -> list[dict[str, Any]]:
    """Read a JSON list or JSON lines."""
    try:
        text = raw.decode("utf-8").strip()
        lines = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line]
    except ValueError:
        raise Refusal(400, "invalid_json") from None
    if not all(isinstance(line, dict) and isinstance(line.get("data", {}), dict) for line in lines):
        raise Refusal(400, "invalid_json")
    return lines


async def _ready(_: Request) -> Response:
    return reply(200, {"ready": True})


def _shown(record: Record) -> dict[str, Any]:
    return {
        "type": record.type,
        "id": record.id,
        "data": record.data,
        "payment": record.payment,
        "writes": record.writes,
        "cancelled": record.cancelled,
    }


def _task_shown(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "key": task.key,
        "invoice": task.invoice,
        "manager_id": task.manager_id,
        "title": task.title,
        "body": task.body,
        "open": task.is_open,
        "note": task.note,
    }


if __name__ == "__main__":
    sys.exit(main())
