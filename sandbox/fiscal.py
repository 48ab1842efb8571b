"""A simulated fiscal device: `python -m sandbox.fiscal --help`. SIMULATED: no tax authority hears of its receipts.

Modelled on what is known in public of Armenia's e-HDM web service: every request carries a number that is one more than
the last, and only a successful one moves the counter on. The wire is the sandbox's own.

POST /{device}/v1/receipts         print: {seq, receipt, kind, amount_minor, currency, purpose, original_number}
GET  /{device}/v1/receipts/{seq}   what was printed under a number
GET  /{device}/v1/counter          the number that was used last

PUT  /control/{device}                     open a device or change its settings (`sandbox.fiscal_books.Device`)
POST /control/{device}/print               somebody at the device prints a receipt by hand: the counter moves on
GET  /control/{device}/receipts | stats    dump and exact counts
POST /control/{device}/faults, GET, DELETE faults on demand (sandbox.faults) for print, find, counter
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.fiscal_books import Books, Device, NotPrinted
from sandbox.server import Refusal, answer_faults, json_body, listen, refused, reply, require_key, serve


class FiscalService:
    """The HTTP interface of some simulated devices."""

    def __init__(self, *, control_key: str) -> None:
        """Begin without a device; an empty `control_key` opens no control."""
        self._control_key = control_key
        self._books: dict[str, Books] = {}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        device, control = "/{device}/v1", "/control/{device}"
        routes = [
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/print", self.print_by_hand, methods=["POST"]),
            Route(control + "/receipts", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route(device + "/receipts", self.print, methods=["POST"]),
            Route(device + "/receipts/{seq:int}", self.find, methods=["GET"]),
            Route(device + "/counter", self.counter, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused})

    def open(self, device: Device) -> None:
        """Open a device, or change its settings; its counter goes on."""
        known = self._books.get(device.name)
        if known is None:
            self._books[device.name] = Books(device)
        else:
            known.change(device)

    async def print(self, request: Request) -> Response:
        """Print a receipt, or say why not; a refusal moves no counter."""
        books, body = self._asked(request), await json_body(request)

        def work() -> Response:
            try:
                return reply(200, books.print(body).shown())
            except NotPrinted as error:
                return reply(error.status, {"error": error.code, "detail": error.detail})

        reference = body.get("receipt") if isinstance(body.get("receipt"), str) else None
        return await books.gate.pass_through(request, "print", reference, work)

    async def find(self, request: Request) -> Response:
        """Tell what was printed under a number."""
        books = self._asked(request)
        printed = books.receipts.get(request.path_params["seq"])

        def work() -> Response:
            return reply(404, {"error": "receipt_not_found"}) if printed is None else reply(200, printed.shown())

        return await books.gate.pass_through(request, "find", printed.receipt if printed else None, work)

    async def counter(self, request: Request) -> Response:
        """Tell the number that was used last."""
        books = self._asked(request)
        work = lambda: reply(200, {"last_seq": books.last_seq})  # noqa: E731 - one expression
        return await books.gate.pass_through(request, "counter", None, work)

    def _asked(self, request: Request) -> Books:
        books = self._books.get(request.path_params["device"])
        if books is None:
            raise Refusal(404, "unknown_device")
        require_key(request, books.device.api_key)
        return books

    # --- control ----------------------------------------------------------------------------------------------------

    async def configure(self, request: Request) -> Response:
        """Open a device, or change some of its settings."""
        require_key(request, self._control_key)
        name, body = request.path_params["device"], await json_body(request)
        unknown = set(body) - {one.name for one in fields(Device)}
        if unknown:
            return reply(400, {"error": "invalid_request", "detail": f"{min(unknown)}: no such setting"})
        known = self._books.get(name)
        self.open(replace(known.device, **body) if known else Device(**{**body, "name": name}))
        return reply(200, {"device": name})

    async def print_by_hand(self, request: Request) -> Response:
        """Print as somebody at the device does, past every program: the next number is taken."""
        return reply(200, self._controlled(request).print_by_hand().shown())

    async def dump(self, request: Request) -> Response:
        """Return every receipt, by its number."""
        return reply(200, {"receipts": [asdict(one) for one in self._controlled(request).receipts.values()]})

    async def stats(self, request: Request) -> Response:
        """Return exact counts: calls by operation, receipts by kind, refusals by code, faults that struck."""
        books = self._controlled(request)
        told: dict[str, Any] = {"last_seq": books.last_seq, "kinds": books.kinds(), "refused": dict(books.refused)}
        return reply(200, told | {"calls": dict(books.gate.calls), "struck": dict(books.faults.struck)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        return await answer_faults(request, self._controlled(request).faults)

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["device"])
        if books is None:
            raise Refusal(404, "unknown_device")
        return books


def main(argv: Sequence[str] | None = None) -> int:
    """Run the devices until a signal comes."""
    options = _options().parse_args(argv)
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        sys.stderr.write(f"sandbox fiscal: {error}\n")
        return 2
    service = FiscalService(control_key=options.control_key)
    if options.api_key:
        service.open(Device(options.device, options.api_key, last_seq=options.last_seq, repeat=options.repeat))
    serve(service.app(), listener, until_stdin_closes=options.until_stdin_closes)
    return 0


def _options() -> argparse.ArgumentParser:
    """Describe the command line. Secrets may come from the environment, so that no process list shows them."""
    secret = os.environ.get
    parser = argparse.ArgumentParser(prog="sandbox fiscal", description="A simulated fiscal device.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8810, help="0 takes a free one; the first line of output tells it")
    add("--control-key", default=secret("SANDBOX_CONTROL_KEY", ""), help="or SANDBOX_CONTROL_KEY; empty: no control")
    add("--device", default="till", help="its name in the address")
    add("--api-key", default=secret("SANDBOX_API_KEY", ""), help="or SANDBOX_API_KEY")
    add("--last-seq", type=int, default=0, help="where the counter stands at the beginning")
    add("--repeat", choices=("gives_first", "refused"), default="refused", help="the same number and content again")
    add("--until-stdin-closes", action="store_true", help="end when whoever started this is gone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
