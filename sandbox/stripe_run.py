"""One call of the simulated Stripe API on its way: its parameters, its idempotency key, the faults, its endpoint."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sandbox import stripe_payments as payments
from sandbox.server import reply
from sandbox.stripe_books import NO_CAUSE, Books
from sandbox.stripe_calls import Call, Endpoint
from sandbox.stripe_events import API_VERSION
from sandbox.stripe_form import WireError
from sandbox.stripe_objects import new_id


class Run:
    """One call of a merchant who is known, at an endpoint that is there."""

    def __init__(
        self, books: Books, endpoint: Endpoint, id_: str, path: str, params: Mapping[str, Any], public_url: str
    ) -> None:
        """`params` as they came, `id_` what the path names."""
        self._books = books
        self._endpoint = endpoint
        self._id = id_
        self._path = path
        self._params = params
        self._public_url = public_url
        self._request_id = new_id("req", 14)
        self._key = ""
        self._instead: Response | None = None
        self._executed: Response | None = None

    async def answer(self, request: Request) -> Response:
        """Do what is asked, unless a fault, the key or the parameters say otherwise."""
        self._key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        call = self._checked()
        holds_key = bool(self._key) and self._instead is None
        response: Response | None = None
        try:
            gate, reference = self._books.gate, self._reference()
            passed = await gate.pass_through(request, self._endpoint.name, reference, lambda: self._work(call))
            response = _in_shape(passed, self._request_id)
        finally:
            if holds_key:
                self._books.keys.end(self._key, self._to_keep(response))
        response.headers["stripe-version"] = request.headers.get("stripe-version", API_VERSION)
        return response

    def _checked(self) -> Call:
        """Check the parameters, then the key: [idempotent requests], nothing is kept where validation fails."""
        asked: Mapping[str, Any] = {}
        try:
            asked = self._endpoint.check(self._params)
            kept = self._books.keys.begin(self._key, self._path, self._params) if self._key else None
            self._instead = _replay(kept, self._request_id) if kept else None
        except WireError as error:
            self._instead = refusal(error, self._request_id)
        return Call(self._books, self._id, self._path, asked, self._public_url)

    def _work(self, call: Call) -> Response:
        if self._instead is not None:
            return self._instead
        self._books.cause = {"id": self._request_id, "idempotency_key": self._key or None}
        payments.lapse(self._books)
        try:
            answered = reply(200, self._endpoint.work(call), {"request-id": self._request_id})
            self._executed = answered
        except WireError as error:
            answered = refusal(error, self._request_id)
            self._executed = answered if error.executed else None
        self._books.cause = NO_CAUSE
        return answered

    def _reference(self) -> str | None:
        """Return the order that the call is about, for faults that name one."""
        new = self._params.get("client_reference_id")
        known = self._id or self._params.get("payment_intent") or self._params.get("charge")
        if isinstance(new, str):
            return new
        return self._books.reference_of(known) if isinstance(known, str) else None

    def _to_keep(self, response: Response | None) -> Response | None:
        """Return what the key keeps: what was executed, but a 500 if that was answered."""
        is_500 = response is not None and response.status_code == 500
        if is_500 and (self._executed or self._books.merchant.keeps_errors_before):
            return response
        return self._executed


def refusal(error: WireError, request_id: str) -> Response:
    """Answer an error; a header tells the SDK that a conflict may be tried again (observed)."""
    headers = {"request-id": request_id} | ({"stripe-should-retry": "true"} if error.status == 409 else {})
    return reply(error.status, error.body(), headers)


def _replay(kept: Response, request_id: str) -> Response:
    """Answer what the key keeps; observed: the first request's id is told too."""
    headers = {"request-id": request_id, "idempotent-replayed": "true", "original-request": kept.headers["request-id"]}
    return Response(kept.body, kept.status_code, headers, "application/json")


def _in_shape(response: Response, request_id: str) -> Response:
    """Put the faults' answers into Stripe's shape: https://docs.stripe.com/error-handling, /rate-limits."""
    if response.status_code == 500 and response.body == b'{"error": "internal"}':
        return refusal(WireError("An unknown error occurred.", status=500, type_="api_error"), request_id)
    if response.status_code == 429:
        told = refusal(WireError("Request rate limit exceeded.", status=429, code="rate_limit"), request_id)
        told.headers["retry-after"] = response.headers["retry-after"]
        told.headers["stripe-rate-limited-reason"] = "global-rate"
        return told
    return response
