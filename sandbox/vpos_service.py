"""The HTTP interface of the simulated VPOS.am: a merchant's calls, the checkout, and the control interface.

Sources and guesses are listed in sandbox.vpos.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox import vpos_sessions as sessions
from sandbox.server import Refusal, answer_faults, json_body, raw_body, refused, reply, require_key
from sandbox.vpos_actions import ACTIONS
from sandbox.vpos_merchants import ASSUMED, Books, Merchant, capabilities, operation_of
from sandbox.vpos_page import back_url, page
from sandbox.vpos_sessions import Session
from sandbox.vpos_webhooks import Courier, event

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class VposService:
    """The service's HTTP interface."""

    def __init__(self, *, control_key: str, public_url: str, pause_seconds: float) -> None:
        """`public_url` is where buyers reach the checkout; `pause_seconds` lie between the tries of a webhook."""
        self._control_key = control_key
        self._public_url = public_url
        self._pause = pause_seconds
        self._books: dict[str, Books] = {}
        self._webhooks: dict[str, Counter[str]] = {}
        self._courier: Courier | None = None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        control = "/control/{merchant}"
        routes = [
            Route("/api/health", self.health, methods=_METHODS),
            Route("/v1/{rest:path}", self.call, methods=_METHODS),
            Route("/checkout/{id}", self.show_page, methods=["GET"]),
            Route("/checkout/{id}", self.press_button, methods=["POST"]),
            Route(control, self.configure, methods=["PUT"]),
            Route(control + "/orders/{name}/act", self.act, methods=["POST"]),
            Route(control + "/orders", self.dump, methods=["GET"]),
            Route(control + "/stats", self.stats, methods=["GET"]),
            Route(control + "/faults", self.faults, methods=["GET", "POST", "DELETE"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refusal: refused}, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._courier = Courier(self._pause)
        yield
        await self._courier.close()

    def open(self, merchant: Merchant) -> None:
        """Open a merchant, or change his settings. ValueError: another one has his key."""
        taken = [one for one in self._books.values() if one.merchant.api_key == merchant.api_key]
        if any(one.merchant.name != merchant.name for one in taken):
            raise ValueError("api_key: another merchant has it")
        known = self._books.get(merchant.name)
        if known is None:
            self._books[merchant.name] = Books(merchant)
        else:
            known.merchant = merchant
            known.gate.latency_seconds = merchant.latency_ms / 1000

    async def health(self, request: Request) -> Response:
        """Tell that it runs [openapi, getApiHealth]: 200 or 405. The blockers' text is no contract [docs]."""
        if request.method not in {"GET", "HEAD"}:
            return reply(405, {"error": "method_not_allowed"})
        return reply(200, {"status": "ok", "ready": True, "blockers": ["simulated: no provider is connected"]})

    async def call(self, request: Request) -> Response:
        """Carry out one call of a merchant."""
        books = self._merchant_of(request)
        operation, session_id = operation_of(request.method, request.url.path, books.merchant)
        body = await json_body(request)
        session = books.sessions.get(session_id)
        reference = session.order_id if session else body.get("merchantOrderId")

        def work() -> Response:
            return self._carried_out(operation, books, session_id, request, body)

        return await books.gate.pass_through(request, operation, reference, work)

    def _merchant_of(self, request: Request) -> Books:
        """Return whose key this is: 401 without one, 403 from a page that is not trusted [openapi, responses]."""
        given = request.headers.get("authorization", "")
        books = next((one for one in self._books.values() if given == f"Bearer {one.merchant.api_key}"), None)
        if books is None:
            raise Refusal(401, "invalid_token")
        origin = request.headers.get("origin")
        if origin is not None and origin not in books.merchant.trusted_origins:
            raise Refusal(403, "origin_not_trusted")
        return books

    def _carried_out(
        self, operation: str, books: Books, session_id: str, request: Request, body: Mapping[str, Any]
    ) -> Response:
        if operation == "capabilities":
            return reply(200, capabilities(books.merchant))
        if operation == "list":
            return reply(200, self._listed(books, request.query_params))
        if operation == "get":
            return reply(200, self._told(books, self._current(books, books.find(session_id))))
        if operation == "cancel":
            session = self._current(books, books.find(session_id))
            sessions.cancel(session)
            self._announce(books, session)
            return reply(200, self._told(books, session))
        return self._once(operation, books, session_id, request.headers.get("idempotency-key", ""), body)

    def _once(self, operation: str, books: Books, session_id: str, key: str, body: Mapping[str, Any]) -> Response:
        """Create or refund, once for a key."""
        scope = f"{operation} {session_id}"
        told = books.replayed(key, scope, body)
        if told is None:
            if operation == "create":
                told = self._told(books, books.create(key, body))
            else:
                told = self._refund(books, self._current(books, books.find(session_id)), body)
            books.keep(key, scope, body, told)
        return reply(201, told)

    def _refund(self, books: Books, session: Session, body: Mapping[str, Any]) -> dict[str, Any]:
        if not set(body) <= {"amountMinor", "reason"}:
            raise Refusal(400, "unknown_field", min(set(body) - {"amountMinor", "reason"}))
        amount = body.get("amountMinor")
        if type(amount) is not int or amount <= 0:
            raise Refusal(400, "invalid_field", "amountMinor")
        made = sessions.refund(session, amount, str(body.get("reason", "")), books.merchant.fiscal or None)
        self._announce(books, session)
        return sessions.refund_answer(made) | {"sessionId": session.id}

    def _listed(self, books: Books, query: Mapping[str, str]) -> dict[str, Any]:
        """List by order id, or by the time of creation, from a moment until before another (ISO 8601)."""
        found = [self._current(books, one) for one in books.sessions.values()]
        if "merchantOrderId" in query:
            found = [one for one in found if one.order_id == query["merchantOrderId"]]
        since, until = query.get("from", ""), query.get("to", "9999")
        return {"sessions": [self._told(books, one) for one in found if since <= sessions.iso(one.created_at) < until]}

    def _current(self, books: Books, session: Session) -> Session:
        if sessions.lapse(session):
            self._announce(books, session)
        return session

    def _told(self, books: Books, session: Session) -> dict[str, Any]:
        merchant = books.merchant
        told = sessions.answer(session, merchant.words, self._page_url(session)) | dict(merchant.changed_answer)
        return {merchant.names.get(name, name): value for name, value in told.items() if value is not None}

    def _page_url(self, session: Session) -> str:
        return f"{self._public_url}/checkout/{session.id}"

    def _announce(self, books: Books, session: Session) -> None:
        told = self._told(books, session)
        word = session.odd_word or books.merchant.words.get(session.state, session.state)
        counts = self._webhooks.setdefault(books.merchant.name, Counter())
        fault = books.faults.pick("webhook", session.order_id)
        if self._courier is not None:
            sent = event(books.merchant.event_type.replace("{status}", word), told)
            self._courier.send(books.merchant, sent, fault, counts)

    async def show_page(self, request: Request) -> Response:
        """Show the checkout; looking changes nothing."""
        return page(self._buyers(request)[1])

    async def press_button(self, request: Request) -> Response:
        """Do what the buyer pressed, then send him back to the merchant."""
        books, session = self._buyers(request)
        action = parse_qs((await raw_body(request)).decode("ascii", "replace")).get("action", [""])[0]
        if action in {"pay", "decline"} and session.is_open:
            self._act(books, session, action, {})
        word = books.merchant.words.get(session.state, session.state)
        return RedirectResponse(back_url(session, word), 303, {"cache-control": "no-store"})

    def _buyers(self, request: Request) -> tuple[Books, Session]:
        for books in self._books.values():
            if request.path_params["id"] in books.sessions:
                return books, self._current(books, books.sessions[request.path_params["id"]])
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
            self.open(replace(known.merchant, **body) if known else Merchant(**{"api_key": "", **body, "name": name}))
        except ValueError as error:
            return reply(400, {"error": "invalid_request", "detail": str(error)})
        return reply(200, {"merchant": name})

    async def act(self, request: Request) -> Response:
        """Do one of vpos_actions.ACTIONS without a browser."""
        books, body = self._controlled(request), await json_body(request)
        session = books.named(request.path_params["name"])
        self._act(books, session, str(body.get("action")), body)
        return reply(200, self._dumped(books, session))

    def _act(self, books: Books, session: Session, action: str, options: Mapping[str, Any]) -> None:
        if action not in ACTIONS:
            raise Refusal(409, f"action is one of {', '.join(sorted(ACTIONS))}")
        if action not in {"settle_late", "expire", "odd_status"}:
            self._current(books, session)
        ACTIONS[action](books, session, options)
        self._announce(books, session)

    async def dump(self, request: Request) -> Response:
        """Return every session with all that is known of it, and the guesses that were made for it."""
        books = self._controlled(request)
        guessed = {name: getattr(books.merchant, name) for name in ASSUMED}
        told = [self._dumped(books, one) for one in books.sessions.values()]
        return reply(200, {"orders": told, "ASSUMED": guessed})

    def _dumped(self, books: Books, session: Session) -> dict[str, Any]:
        word = session.odd_word or books.merchant.words.get(session.state, session.state)
        return asdict(session) | {"reference": session.order_id, "pay_url": self._page_url(session), "status": word}

    async def stats(self, request: Request) -> Response:
        """Return exact counts: calls by operation, webhooks, faults that struck."""
        books = self._controlled(request)
        told = dict(self._webhooks.get(books.merchant.name, {}))
        return reply(200, {"calls": dict(books.gate.calls), "webhooks": told, "struck": dict(books.faults.struck)})

    async def faults(self, request: Request) -> Response:
        """Add a fault, list those that may still strike, or drop all."""
        return await answer_faults(request, self._controlled(request).faults)

    def _controlled(self, request: Request) -> Books:
        require_key(request, self._control_key)
        books = self._books.get(request.path_params["merchant"])
        if books is None:
            raise Refusal(404, "unknown_merchant")
        return books
