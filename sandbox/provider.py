"""A payment provider to try and test against: `python -m sandbox.provider --help`.

POST /{account}/v1/orders                          create
GET  /{account}/v1/orders?reference=               look up by the merchant's reference
GET  /{account}/v1/orders?since=&until=&cursor=    list orders with a transaction in [since, until)
GET  /{account}/v1/orders/{id}                     look up
POST /{account}/v1/orders/{id}/cancel              cancel, 409 when paid or closed
POST /{account}/v1/orders/{id}/refunds             refund, once per refund_reference
GET  /pay/{id}/{token}                             the page where the customer pays

PUT  /control/{account}                            open an account or change its settings
POST /control/{account}/orders/{reference}/act     do what a customer, his bank or the time does
GET  /control/{account}/orders | stats             dump and exact counts
GET  /control/{account}/calls                      when the last 100,000 calls of a merchant came
POST /control/{account}/faults, GET, DELETE        faults on demand (sandbox.faults)
"""

import argparse
import contextlib
import hmac
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox import checkout
from sandbox.accounts import Account, Family, Settings, amount, reference, settings_from
from sandbox.orders import Order, facts
from sandbox.server import Refusal, json_body, listen, raw_body, refused, reply, require_key, serve, url_of
from sandbox.service import ProviderService
from sandbox.store import Store
from sandbox.webhooks import DEFAULT_PAUSES, DEFAULT_TRIES

_PAGE_SIZE = 200


class ProviderApi:
    """The provider's HTTP interface."""

    def __init__(self, service: ProviderService, *, control_key: str, public_url: str) -> None:
        """`public_url` is where customers reach the checkout page."""
        self._service = service
        self._control_key = control_key
        self._public_url = public_url.rstrip("/")

    def app(self) -> Starlette:
        """Return the ASGI application."""
        v1, control = "/{account}/v1/orders", "/control/{account}"
        routes = [
            Route("/readyz", _ready),
            Route("/pay/{order_id}/{token}", self.show_page, methods=["GET"]),
            Route("/pay/{order_id}/{token}", self.press_button, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{reference}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/calls", self.calls, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route(v1, self.create, methods=["POST"]),
            Route(v1, self.look_up_or_list, methods=["GET"]),
            Route(v1 + "/{order_id}", self.look_up, methods=["GET"]),
            Route(v1 + "/{order_id}/cancel", self.cancel, methods=["POST"]),
            Route(v1 + "/{order_id}/refunds", self.refund, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._service.start()
        yield
        await self._service.stop()

    async def create(self, request: Request) -> Response:
        """Create an order, 201; or what the family answers the second time."""
        account = self._merchant(request)
        body = await json_body(request)
        named = str(body.get("reference"))
        asked = account.asked_fault("create", named, body.get("amount_minor"), body.get("metadata"))

        def work() -> Response:
            order, is_new = self._service.create(account, body)
            return reply(201 if is_new else 200, facts(order) | {"pay_url": self._pay_url(order)})

        return await account.gate.pass_through(request, "create", named, work, asked)

    async def look_up_or_list(self, request: Request) -> Response:
        """Look one order up by `reference`, or list those with a transaction between `since` and `until`."""
        account = self._merchant(request)
        named = request.query_params.get("reference")
        if named is None:
            return await account.gate.pass_through(request, "list", None, partial(_listed, account, request))
        return await account.gate.pass_through(
            request, "lookup", named, lambda: self._looked_up(account, lambda: account.order_of(named))
        )

    async def look_up(self, request: Request) -> Response:
        """Look one order up by the provider's id."""
        account, order_id = self._merchant(request), request.path_params["order_id"]
        return await account.gate.pass_through(
            request,
            "lookup",
            account.reference_of(order_id),
            lambda: self._looked_up(account, lambda: account.order(order_id)),
        )

    async def cancel(self, request: Request) -> Response:
        """Close an unpaid order."""
        account, order_id = self._merchant(request), request.path_params["order_id"]

        def work() -> Response:
            order = account.order(order_id)
            self._service.cancel(account, order)
            return reply(200, facts(order))

        return await account.gate.pass_through(request, "cancel", account.reference_of(order_id), work)

    async def refund(self, request: Request) -> Response:
        """Give captured money back."""
        account, order_id = self._merchant(request), request.path_params["order_id"]
        body = await json_body(request)

        def work() -> Response:
            order, name = account.order(order_id), reference(body, "refund_reference")
            entry = self._service.refund(account, order, name, amount(body))
            return reply(200, {"refund_reference": name, "transaction_id": entry["id"], **_money(entry)})

        return await account.gate.pass_through(request, "refund", account.reference_of(order_id), work)

    async def show_page(self, request: Request) -> Response:
        """Show the checkout page; looking changes nothing."""
        return checkout.page(self._customers_order(request)[1])

    async def press_button(self, request: Request) -> Response:
        """Do what the customer pressed, then send him back to the merchant."""
        account, order = self._customers_order(request)
        action = parse_qs((await raw_body(request)).decode("ascii", "replace")).get("action", [""])[0]
        if action not in {"pay", "decline", "pay_later", "abandon"}:
            raise Refusal(400, "invalid_request", "action")
        if not order.is_payable and action != "abandon":
            # A second press, or a page from before: nothing more is charged, and the page says how it stands.
            return checkout.page(order, 200 if order.status in {"paid", "processing"} else 409)
        self._service.act(account, order, action)
        account.flush()
        return RedirectResponse(checkout.back_url(order), 303, {"cache-control": "no-store"})

    async def configure(self, request: Request) -> Response:
        """Open an account, or change some settings of an open one."""
        require_key(request, self._control_key)
        name, body = request.path_params["account"], await json_body(request)
        try:
            base = self._service.account(name).settings
        except Refusal:
            base = None
        try:
            account = self._service.configure(settings_from(body | {"name": name}, base))
        except ValueError as error:
            return reply(400, {"error": "invalid_request", "detail": str(error)})
        account.flush()
        return reply(200, {"account": name, "family": account.settings.family})

    async def act(self, request: Request) -> Response:
        """Do one of the actions of sandbox.service without a browser."""
        account, body = self._controlled(request), await json_body(request)
        order = account.order_of(request.path_params["reference"])
        self._service.act(account, order, str(body.get("action")), body)
        account.flush()
        return reply(200, facts(order) | {"pay_url": self._pay_url(order)})

    async def dump(self, request: Request) -> Response:
        """Return every order with its page."""
        account = self._controlled(request)
        return reply(200, {"orders": [facts(order) | {"pay_url": self._pay_url(order)} for order in account.orders()]})

    async def stats(self, request: Request) -> Response:
        """Return exact counts."""
        return reply(200, self._service.stats(self._controlled(request)))

    async def calls(self, request: Request) -> Response:
        """Return when the merchant's calls came, since the start of this process."""
        return reply(200, {"called_at": list(self._controlled(request).gate.called_at)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        account = self._controlled(request)
        if request.method == "DELETE":
            account.faults.clear()
        elif request.method == "POST":
            try:
                account.faults.add(await json_body(request))
            except ValueError as error:
                return reply(400, {"error": "invalid_request", "detail": str(error)})
        account.flush()
        return reply(200, {"faults": account.faults.rules()})

    def _merchant(self, request: Request) -> Account:
        account = self._service.account(request.path_params["account"])
        require_key(request, account.settings.api_key)
        return account

    def _controlled(self, request: Request) -> Account:
        require_key(request, self._control_key)
        return self._service.account(request.path_params["account"])

    def _customers_order(self, request: Request) -> tuple[Account, Order]:
        account, order = self._service.find(request.path_params["order_id"])
        if not hmac.compare_digest(request.path_params["token"].encode(), order.pay_token.encode()):
            raise Refusal(404, "order_not_found")
        return account, order

    def _looked_up(self, account: Account, find: Callable[[], Order]) -> Response:
        account.require_lookup()
        order = find()
        page = {"pay_url": self._pay_url(order)} if account.gives_page_again else {}
        return reply(200, facts(order) | page)

    def _pay_url(self, order: Order) -> str:
        return f"{self._public_url}/pay/{order.id}/{order.pay_token}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the provider until a signal comes."""
    options = _options().parse_args(argv)
    try:
        store = Store(Path(options.state) if options.state else None)
        service = ProviderService(store, pauses=options.webhook_pauses, tries=options.webhook_tries)
        service.load(_accounts(options))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sandbox provider: {error}\n")
        return 2
    listener = listen(options.host, options.port)
    api = ProviderApi(service, control_key=options.control_key, public_url=options.public_url or url_of(listener))
    serve(api.app(), listener, until_stdin_closes=options.until_stdin_closes)
    return 0


def _options() -> argparse.ArgumentParser:
    """Describe the command line. Secrets may come from the environment, so that no process list shows them."""
    secret = os.environ.get
    parser = argparse.ArgumentParser(prog="sandbox provider", description="A payment provider to test against.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8801, help="0 takes a free one; the first line of output tells it")
    add("--public-url", help="where customers reach the checkout page; by default the listening address")
    add("--state", help="SQLite file that survives a restart; by default nothing is kept")
    add("--control-key", default=secret("SANDBOX_CONTROL_KEY", ""), help="or SANDBOX_CONTROL_KEY; empty: no control")
    add("--accounts", help="JSON file: a list of accounts with name, api_key, family, webhook_url, webhook_secret, ...")
    add("--account", default="main", help="name of the one account, where there is no --accounts")
    add("--api-key", default=secret("SANDBOX_API_KEY", ""), help="or SANDBOX_API_KEY")
    add("--family", default="idempotent", choices=[family.value for family in Family])
    add("--webhook-url", default="")
    add("--webhook-secret", default=secret("SANDBOX_WEBHOOK_SECRET", ""), help="or SANDBOX_WEBHOOK_SECRET")
    add("--session-minutes", type=float, default=20.0, help="the longest life of an order")
    add("--latency-ms", type=float, default=0.0, help="added to every call of a merchant")
    add("--pay-later-seconds", type=float, default=5.0, help="until a payment that comes later is there")
    add("--auto-pay-seconds", type=float, help="every order pays itself after so long (benchmarks)")
    add("--magic-amounts", action="store_true", help="the last four digits of an amount may ask for a fault")
    add("--webhook-pauses", type=_pauses, default=DEFAULT_PAUSES, help="seconds between tries, as 0.2,0.5,1")
    add("--webhook-tries", type=int, default=DEFAULT_TRIES)
    add("--until-stdin-closes", action="store_true", help="end when whoever started this is gone")
    return parser


def _accounts(options: argparse.Namespace) -> list[Settings]:
    if options.accounts:
        return [settings_from(document) for document in json.loads(Path(options.accounts).read_text("utf-8"))]
    if not options.api_key:
        return []
    return [
        Settings(
            name=options.account,
            api_key=options.api_key,
            family=Family(options.family),
            webhook_url=options.webhook_url,
            webhook_secret=options.webhook_secret,
            session_minutes=options.session_minutes,
            latency_ms=options.latency_ms,
            pay_later_seconds=options.pay_later_seconds,
            auto_pay_seconds=options.auto_pay_seconds,
            magic_amounts=options.magic_amounts,
        )
    ]


def _pauses(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


async def _ready(_: Request) -> Response:
    return reply(200, {"ready": True})


def _money(entry: dict[str, Any]) -> dict[str, Any]:
    return {"amount_minor": entry["amount_minor"], "currency": entry["currency"]}


def _listed(account: Account, request: Request) -> Response:
    """Page through the orders that have a transaction in [since, until), oldest order first."""
    account.require_lookup()
    since, until = _moment(request, "since"), _moment(request, "until")
    begin = request.query_params.get("cursor", "0")
    if not begin.isdecimal():
        raise Refusal(400, "invalid_request", "cursor")
    every = account.orders()
    found: list[Order] = []
    for position in range(int(begin), len(every)):
        if any(since <= entry["at"] < until for entry in every[position].told):
            if len(found) == _PAGE_SIZE:
                return reply(200, {"orders": [facts(order) for order in found], "next_cursor": str(position)})
            found.append(every[position])
    return reply(200, {"orders": [facts(order) for order in found], "next_cursor": None})


def _moment(request: Request, name: str) -> float:
    try:
        moment = datetime.fromisoformat(request.query_params.get(name, ""))
    except ValueError:
        raise Refusal(400, "invalid_request", name) from None
    if moment.tzinfo is None:
        raise Refusal(400, "invalid_request", name)
    return moment.timestamp()


if __name__ == "__main__":
    sys.exit(main())
