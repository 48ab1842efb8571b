"""A simulated gateway of the ArCa iPay / BPC family: `python -m sandbox.arca --help`.

Written from BPC's public documentation, https://dev.bpcbt.com/en/integration/api/rest.html, and not from our adapter.
It is no bank's gateway: nobody compared it with one.

POST /payment/rest/{register,registerPreAuth,getOrderStatusExtended,deposit,reverse,refund,decline}.do
GET  /payment/merchants/{user}/payment_{language}.html?mdOrder=      the page where the customer pays

PUT  /control/{user}                          open a merchant or change his settings (`Merchant`)
POST /control/{user}/orders/{number}/act      do what a customer, his bank or the time does (`_ACTIONS`)
GET  /control/{user}/orders | stats           dump and exact counts
POST /control/{user}/faults, GET, DELETE      faults on demand (sandbox.faults)

ASSUMED, as the documentation leaves it open:
    errorCode 6 about an order that is not there, with no orderStatus; 4 for parameters that are wrong or missing, and
    3 for a currency; 5 for operations that an order's state does not allow
    a declined try leaves the order registered, with the try's action code, while tries are left
    a merchant's decline.do leaves action code 4005; an unanswered processing shows status 6 with 151019
    a refund of a part shows status 4 like a full one; a reversal leaves nothing deposited
    expirationDate and the dates of refunds are local times of Yerevan
    a chargeback changes no amount; a failed try is called back as deposited (approved in two phases) with status 0
"""

import argparse
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox import arca_orders as orders
from sandbox.arca_callbacks import Caller, creation_date, parameters
from sandbox.arca_merchants import OPERATIONS, Books, Merchant
from sandbox.arca_orders import Order, WireError
from sandbox.arca_page import back_url, page
from sandbox.program import options_of, run, secret
from sandbox.server import (
    Refusal,
    answer_faults,
    json_body,
    raw_body,
    refused,
    reply,
    require_key,
)


class ArcaGateway:
    """The gateway's HTTP interface."""

    def __init__(self, *, control_key: str, public_url: str, pause_seconds: float) -> None:
        """`public_url` is where customers reach the page; `pause_seconds` lie between the tries of a callback."""
        self._control_key = control_key
        self._public_url = public_url
        self._pause = pause_seconds
        self._books: dict[str, Books] = {}
        self._caller: Caller | None = None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        control, payment = "/control/{user}", "/payment/merchants/{user}/payment_{language}.html"
        routes = [
            Route("/payment/rest/{operation}.do", self.call, methods=["POST"]),
            Route(payment, self.show_page, methods=["GET"]),
            Route(payment, self.press_button, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{number}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._caller = Caller(self._pause)
        yield
        await self._caller.close()

    def open(self, merchant: Merchant) -> None:
        """Open a merchant, or change his settings."""
        known = self._books.get(merchant.user)
        if known is None:
            self._books[merchant.user] = Books(merchant)
        else:
            known.merchant = merchant
            known.gate.latency_seconds = merchant.latency_ms / 1000

    async def call(self, request: Request) -> Response:
        """Carry out one call of a merchant. HTTP 200 whatever comes of it [Errors]."""
        operation = request.path_params["operation"]
        if operation not in OPERATIONS:
            return Response(status_code=404)  # [Errors]: URL is incorrect
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return reply(400, {"errorCode": "4", "errorMessage": "not form-encoded"})
        pairs = parse_qs((await raw_body(request)).decode("utf-8", "replace"), keep_blank_values=True)
        form = {name: values[0] for name, values in pairs.items()}
        books = self._books.get(form.get("userName", ""))
        if books is None or form.get("password") != books.merchant.password:
            return reply(200, {"errorCode": "5", "errorMessage": "Access denied"})
        number = form.get("orderNumber") or next(
            (one.number for one in books.orders.values() if one.id == form.get("orderId")), None
        )

        def work() -> Response:
            try:
                return reply(200, self._carried_out(operation, books, form))
            except WireError as error:
                return reply(200, {"errorCode": error.code, "errorMessage": error.message})

        return await books.gate.pass_through(request, operation, number, work)

    def _carried_out(self, operation: str, books: Books, form: Mapping[str, str]) -> dict[str, Any]:
        if operation in {"register", "registerPreAuth"}:
            return self._register(books, form, two_phase=operation == "registerPreAuth")
        order = books.find(form)
        if orders.lapse(order):
            self._call_back(books, order, "declinedByTimeout")
        if operation == "getOrderStatusExtended":
            told = orders.answer(order, books.merchant.version) | dict(books.merchant.changed_answer)
            return {name: value for name, value in told.items() if value is not None}
        self._call_back(books, order, books.change(operation, order, form))
        return {"errorCode": 0, "errorMessage": "Success"}  # a number here, a text elsewhere, as in the examples

    def _register(self, books: Books, form: Mapping[str, str], *, two_phase: bool) -> dict[str, Any]:
        order = books.register(form, two_phase=two_phase)
        return {"orderId": order.id, "formUrl": self._form_url(books, order)}

    def _form_url(self, books: Books, order: Order) -> str:
        path = f"payment/merchants/{books.merchant.user}/payment_{order.language}.html"
        return f"{self._public_url}/{path}?mdOrder={order.id}"

    def _call_back(self, books: Books, order: Order, operation: str | None, *, done: bool = True) -> None:
        merchant = books.merchant
        if operation is None or self._caller is None:
            return
        told = parameters(
            order.id,
            order.number,
            operation,
            done=done,
            extra={"callbackCreationDate": creation_date()} if merchant.callback_date else {},
            secret=merchant.callback_secret,
            private_key=merchant.callback_private_key,
        )
        self._caller.send(order.callback_url or merchant.callback_url, told, method=merchant.callback_method)

    async def show_page(self, request: Request) -> Response:
        """Show the page; looking changes nothing."""
        return page(self._customers(request)[1])

    async def press_button(self, request: Request) -> Response:
        """Do what the customer pressed, then send him back to the merchant."""
        books, order = self._customers(request)
        action = parse_qs((await raw_body(request)).decode("ascii", "replace")).get("action", [""])[0]
        if action in {"pay", "decline"} and order.is_payable:
            self._act(books, order, action, {})
            if action == "decline" and order.is_payable:
                return page(order)  # the page stays while tries are left
        return RedirectResponse(back_url(order), 303, {"cache-control": "no-store"})

    def _customers(self, request: Request) -> tuple[Books, Order]:
        books = self._books.get(request.path_params["user"])
        if books is None:
            raise Refusal(404, "not_found")
        try:
            order = books.find({"orderId": request.query_params.get("mdOrder", "-")})
        except WireError:
            raise Refusal(404, "not_found") from None
        if orders.lapse(order):
            self._call_back(books, order, "declinedByTimeout")
        return books, order

    async def configure(self, request: Request) -> Response:
        """Open a merchant, or change some of his settings."""
        require_key(request, self._control_key)
        user, body = request.path_params["user"], await json_body(request)
        unknown = set(body) - {one.name for one in fields(Merchant)}
        if unknown:
            return reply(400, {"error": "invalid_request", "detail": f"{min(unknown)}: no such setting"})
        known = self._books.get(user)
        self.open(replace(known.merchant, **body) if known else Merchant(**{**body, "user": user}))
        return reply(200, {"user": user})

    async def act(self, request: Request) -> Response:
        """Do one of `_ACTIONS` without a browser."""
        books, body = self._controlled(request), await json_body(request)
        try:
            order = books.find({"orderNumber": request.path_params["number"]})
            self._act(books, order, str(body.get("action")), body)
        except WireError as error:
            return reply(409, {"error": error.code, "detail": error.message})
        return reply(200, orders.answer(order, 99))

    def _act(self, books: Books, order: Order, action: str, options: Mapping[str, Any]) -> None:
        if action not in _ACTIONS:
            raise WireError("4", f"action is one of {', '.join(sorted(_ACTIONS))}")
        if action not in {"settle", "expire"} and orders.lapse(order):
            self._call_back(books, order, "declinedByTimeout")
        self._call_back(books, order, _ACTIONS[action](order, options), done=action != "decline")

    async def dump(self, request: Request) -> Response:
        """Return every order with its page and all that is known of it."""
        books = self._controlled(request)
        told = [
            asdict(one) | {"reference": one.number, "pay_url": self._form_url(books, one)}
            for one in books.orders.values()
        ]
        return reply(200, {"orders": told})

    async def stats(self, request: Request) -> Response:
        """Return exact counts: calls by operation, callbacks of all merchants, faults that struck."""
        books = self._controlled(request)
        called = dict(self._caller.counts) if self._caller else {}
        return reply(200, {"calls": dict(books.gate.calls), "callbacks": called, "struck": dict(books.faults.struck)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        return await answer_faults(request, self._controlled(request).faults)

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["user"])
        if books is None:
            raise Refusal(404, "unknown_user")
        return books


def _state(status: int, action_code: str) -> Callable[[Order, Mapping[str, Any]], None]:
    def put(order: Order, _: Mapping[str, Any]) -> None:
        order.status, order.action_code = status, action_code

    return put


def _charge_back(order: Order, _: Mapping[str, Any]) -> None:
    order.chargeback = True  # [chargeback, version 6]


def _expire(order: Order, _: Mapping[str, Any]) -> str | None:
    order.expires_at = time.time() - 1
    return "declinedByTimeout" if orders.lapse(order) else None


# What a customer, his bank, the merchant at his bank's own desk, or the time does. `amount_minor` where it says amount.
_ACTIONS: dict[str, Callable[[Order, Mapping[str, Any]], str | None]] = {
    "pay": lambda order, told: orders.pay(order, told.get("amount_minor")),  # amount
    "settle": lambda order, _: orders.pay(order, late=True),  # a payment that was under way when the session ended
    "decline": lambda order, told: orders.decline(order, str(told.get("code", orders.INSUFFICIENT_FUNDS))),
    "acs": _state(orders.IN_ACS, orders.NO_TRY),
    "pending": _state(orders.PENDING, "-30001"),
    "unknown": _state(orders.DECLINED, orders.NO_ANSWER),
    "expire": _expire,
    "deposit": lambda order, told: orders.deposit(order, told.get("amount_minor", 0), several=True),  # amount
    "reverse": lambda order, _: orders.reverse(order),
    "refund": lambda order, told: orders.refund(order, told.get("amount_minor", 0)),  # amount
    "chargeback": _charge_back,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway until a signal comes."""
    options = _options().parse_args(argv)

    def make(public_url: str) -> ASGIApp:
        gateway = ArcaGateway(
            control_key=options.control_key,
            public_url=public_url,
            pause_seconds=options.callback_pause_seconds,
        )
        if options.password:
            gateway.open(
                Merchant(
                    user=options.user,
                    password=options.password,
                    version=options.version,
                    callback_url=options.callback_url,
                    callback_secret=options.callback_secret,
                )
            )
        return gateway.app()

    return run("arca", options, make)


def _options() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = options_of("arca", "A simulated ArCa iPay / BPC gateway.", port=8806)
    add = parser.add_argument
    add("--user", default="shop-api", help="the merchant's API user")
    add("--password", default=secret("API_KEY"), help="or SANDBOX_API_KEY")
    add("--version", type=int, default=12, help="of getOrderStatusExtended: which fields an answer has")
    add("--callback-url", default="")
    add("--callback-secret", default=secret("WEBHOOK_SECRET"), help="or SANDBOX_WEBHOOK_SECRET")
    add("--callback-pause-seconds", type=float, default=30.0, help="between the three tries of a callback")
    return parser


if __name__ == "__main__":
    sys.exit(main())
