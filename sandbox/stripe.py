"""A simulated Stripe API, as far as Checkout Sessions need one: `python -m sandbox.stripe --help`.

Written from https://docs.stripe.com, the fixtures of stripe/openapi and stripe-python, and not from our adapter; driven
in its tests by Stripe's own SDK. It is SIMULATED: nobody compared it with an account of Stripe's.

GET, POST /v1/...                             `sandbox.stripe_calls`; a merchant is found by his secret key
GET, POST /c/pay/{session}                    the page where the customer pays

PUT  /control/{merchant}                      open a merchant or change his settings (`Merchant`)
POST /control/{merchant}/orders/{ref}/act     do what a customer, his bank or the time does (sandbox.stripe_actions);
                                              ref is client_reference_id, a session's id, or - for the merchant's own
GET  /control/{merchant}/orders | stats       dump and exact counts
POST /control/{merchant}/faults, GET, DELETE  faults on demand (sandbox.faults, but hint_only)

Documented, and often missed: a session has no PaymentIntent before the first try; a declined try leaves it open; its
url is null when it has ended; a list takes no client_reference_id; sessions cannot be searched; a search is up to a
minute late; Armenian is no locale; balance transactions are in the settlement currency; a key keeps a 500, and a 400
once the endpoint had begun, while a 429 comes before keys are looked at (https://docs.stripe.com/error-low-level).

ASSUMED or only observed by others, as the documentation leaves it open:
    an over-refund has no code; refusals for an object's state are kept under an idempotency key, 404 and those for
    parameters are not; 409 for a key in use has the type idempotency_error; words of messages in general
    error_500_before struck before the endpoint began and is not kept (setting keeps_errors_before), error_500_after is
    what a capture leaves is a refund OBJECT, counted in the charge's amount_refunded, that moves no balance; a hold let
    go too; a refund of a whole hold lets it go, one of a part is refused
    a hold leaves payment_status unpaid, its capture makes it paid
    a session that ends cancels its PaymentIntent with the reason automatic
    a pending refund counts as refunded; one that fails or is canceled counts no more
    a disputed charge cannot be refunded; a dispute moves the balance with no fee
    the balance of a delayed method moves when it succeeds, and its ids begin with py_ and pyr_
    upper-case currencies are refused; a cursor that is not there is 400; 429 carries Retry-After, which the SDK reads
    search finds an object as it is now once it is old enough

Not there: setup and subscription modes, catalogue prices, customers, payment methods as objects, Connect, multicapture,
conversion for minimum amounts, API versions before 2022-11-15, v2 and thin events.
"""

import argparse
import base64
import binascii
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields, replace
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sandbox import stripe_actions as actions
from sandbox import stripe_payments as payments
from sandbox.program import options_of, run, secret
from sandbox.server import Refusal, json_body, raw_body, refused, reply, require_key
from sandbox.stripe_books import Books, Merchant
from sandbox.stripe_calls import ENDPOINTS, OPERATIONS, Endpoint
from sandbox.stripe_events import API_VERSION
from sandbox.stripe_form import WireError, decode
from sandbox.stripe_objects import Object, new_id
from sandbox.stripe_page import delayed_method, page, success_url
from sandbox.stripe_run import Run, refusal

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.\w+)?")
_OLDEST_VERSION = "2022-11-15"


class StripeApi:
    """The API, its page and its control interface."""

    def __init__(self, *, control_key: str, public_url: str, pause_seconds: float) -> None:
        """`public_url` is where customers reach the page; `pause_seconds` lie between the tries of an event."""
        self._control_key = control_key
        self._public_url = public_url
        self._pause = pause_seconds
        self._books: dict[str, Books] = {}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        control, customer = "/control/{merchant}", "/c/pay/{session}"
        routes = [
            Route("/v1/{path:path}", self.call, methods=["GET", "POST", "DELETE"]),
            Route(customer, self.show_page, methods=["GET"]),
            Route(customer, self.press_button, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{reference:path}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        for books in self._books.values():
            await books.sender.close()

    def open(self, merchant: Merchant) -> None:
        """Open a merchant, or change his settings. ValueError: his secret key is another's."""
        if any(
            one.merchant.password == merchant.password for name, one in self._books.items() if name != merchant.name
        ):
            raise ValueError("password: another merchant has this secret key")
        known = self._books.get(merchant.name)
        if known is None:
            self._books[merchant.name] = Books(merchant, OPERATIONS, self._pause)
        else:
            known.merchant = merchant
            known.gate.latency_seconds = merchant.latency_ms / 1000

    async def call(self, request: Request) -> Response:
        """Carry out one call of a merchant."""
        raw = await raw_body(request)
        try:
            books = self._authenticated(request)
            endpoint, id_ = _routed(request)
            if endpoint.name in books.merchant.forbidden:
                message = "The provided key does not have the required permissions for this endpoint."
                raise WireError(message, status=403, code="permission_denied")  # ASSUMED: the code
            params = _params(request, raw)
        except WireError as error:
            return refusal(error, new_id("req", 14))
        return await Run(books, endpoint, id_, request.path_params["path"], params, self._public_url).answer(request)

    def _authenticated(self, request: Request) -> Books:
        """Return the merchant whose secret key came, as bearer or as the name of basic authentication."""
        key = _given_key(request.headers.get("authorization", ""))
        if not key:
            raise WireError("You did not provide an API key.", status=401)
        if key.startswith("pk_"):  # ASSUMED: the status
            message = "This API call cannot be made with a publishable API key."
            raise WireError(message, status=401, code="secret_key_required")
        found = next((one for one in self._books.values() if one.merchant.password == key), None)
        if found is None:
            raise WireError(f"Invalid API Key provided: {key[:8]}****{key[-4:]}", status=401)
        version = request.headers.get("stripe-version", API_VERSION)
        if not _VERSION.fullmatch(version) or version < _OLDEST_VERSION:
            raise WireError(f"Invalid Stripe API version here: from {_OLDEST_VERSION} on.")
        return found

    async def show_page(self, request: Request) -> Response:
        """Show the page; looking changes nothing."""
        return page(self._customers(request)[1])

    async def press_button(self, request: Request) -> Response:
        """Do what the customer pressed, then send him back to the merchant."""
        books, session = self._customers(request)
        pressed = parse_qs((await raw_body(request)).decode("ascii", "replace")).get("action", [""])[0]
        if session["status"] != "open":
            return page(session)
        if pressed == "abandon" and session["cancel_url"]:
            return RedirectResponse(session["cancel_url"], 303, {"cache-control": "no-store"})
        if pressed == "decline":
            payments.decline(books, session)
            return page(session, declined=True)
        method = {"pay": "card", "pay_later": delayed_method(session)}.get(pressed)
        if method:
            payments.pay(books, session, {"method": method})
            return RedirectResponse(success_url(session), 303, {"cache-control": "no-store"})
        return page(session)

    def _customers(self, request: Request) -> tuple[Books, Object]:
        for books in self._books.values():
            session = books.seen(request.path_params["session"])
            if session is not None and session["object"] == "checkout.session":
                payments.lapse(books)
                return books, session
        raise Refusal(404, "not_found")

    async def configure(self, request: Request) -> Response:
        """Open a merchant, or change some of his settings."""
        require_key(request, self._control_key)
        name, body = request.path_params["merchant"], await json_body(request)
        unknown = set(body) - {one.name for one in fields(Merchant)}
        if unknown:
            return reply(400, {"error": "invalid_request", "detail": f"{min(unknown)}: no such setting"})
        known = self._books.get(name)
        try:
            self.open(replace(known.merchant, **body) if known else Merchant(**{**body, "name": name}))
        except (TypeError, ValueError) as error:
            return reply(409, {"error": "invalid_request", "detail": str(error)})
        return reply(200, {"merchant": name})

    async def act(self, request: Request) -> Response:
        """Do one of `ACTIONS` without a browser."""
        books, told = self._controlled(request), await json_body(request)
        action, reference = str(told.get("action")), request.path_params["reference"]
        try:
            if reference == "-":
                return reply(200, actions.act_for_merchant(books, action))
            session = actions.act(books, reference, action, told)
            return reply(200, actions.dumped(books, session, self._public_url))
        except WireError as error:
            return reply(409, {"error": error.body()["error"].get("code", "refused"), "detail": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            return reply(400, {"error": "invalid_request", "detail": f"an option of {action}: {error!r}"})

    async def dump(self, request: Request) -> Response:
        """Return every session with its page and all that came of it."""
        books = self._controlled(request)
        payments.lapse(books)
        return reply(
            200, {"orders": [actions.dumped(books, one, self._public_url) for one in books.all("checkout.session")]}
        )

    async def stats(self, request: Request) -> Response:
        """Return exact counts: calls by operation with replays, deliveries of events, faults that struck."""
        books = self._controlled(request)
        counts = {"calls": dict(books.gate.calls), "webhooks": dict(books.sender.counts)}
        return reply(200, counts | {"struck": dict(books.faults.struck)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        books = self._controlled(request)
        if request.method == "DELETE":
            books.faults.clear()
        elif request.method == "POST":
            body = await json_body(request)
            try:
                if body.get("fault") == "hint_only":
                    raise ValueError("fault: Stripe's events have an id and an object")
                books.faults.add(body)
            except ValueError as error:
                return reply(400, {"error": "invalid_request", "detail": str(error)})
        return reply(200, {"faults": books.faults.rules()})

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["merchant"])
        if books is None:
            raise Refusal(404, "unknown_merchant")
        return books


def _given_key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0] if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _routed(request: Request) -> tuple[Endpoint, str]:
    path = request.path_params["path"]
    for endpoint in ENDPOINTS:
        id_ = endpoint.match(request.method, path)
        if id_ is not None:
            return endpoint, id_
    raise WireError(f"Unrecognized request URL ({request.method}: /v1/{path}).", status=404)


def _params(request: Request, raw: bytes) -> dict[str, Any]:
    if request.method != "POST":
        return decode(request.url.query)
    kind = request.headers.get("content-type", "").partition(";")[0]
    if raw and kind != "application/x-www-form-urlencoded":
        raise WireError("Invalid request (check that your POST content type is application/x-www-form-urlencoded).")
    return decode(raw.decode("utf-8", "replace"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the API until a signal comes."""
    options = _options().parse_args(argv)

    def make(public_url: str) -> ASGIApp:
        api = StripeApi(
            control_key=options.control_key,
            public_url=public_url,
            pause_seconds=options.webhook_pause_seconds,
        )
        if options.password:
            api.open(
                Merchant(
                    name=options.merchant,
                    password=options.password,
                    webhook_url=options.webhook_url,
                    webhook_secret=options.webhook_secret,
                )
            )
        return api.app()

    return run("stripe", options, make)


def _options() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = options_of("stripe", "A simulated Stripe API for Checkout Sessions.", port=8803)
    add = parser.add_argument
    add("--merchant", default="main", help="the first merchant's name in the control interface")
    add("--password", default=secret("API_KEY"), help="his secret key, or SANDBOX_API_KEY")
    add("--webhook-url", default="")
    add("--webhook-secret", default=secret("WEBHOOK_SECRET"), help="or SANDBOX_WEBHOOK_SECRET")
    add("--webhook-pause-seconds", type=float, default=30.0, help="between the four tries of an event")
    return parser


if __name__ == "__main__":
    sys.exit(main())
