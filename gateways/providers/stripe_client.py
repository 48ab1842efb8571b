"""Calls to Stripe for one account: the key, the version, pages of lists, and how to find an order by its reference.

Sources: https://docs.stripe.com/api/authentication, /versioning, /pagination, /expanding_objects, /errors,
/idempotent_requests, and https://docs.stripe.com/error-low-level. What an error means:

    401                                         LoginRefused: the key, and no order, is to blame
    402 a card's refusal, 400, 403, 404         Refused
    409 another call with this key is running   Unavailable: asked again, the key gives its answer
    429 too many calls, or a lock               Unavailable
    5xx, or no answer                           Unavailable, where our key lets the call be repeated at any time; for a
                                                capture, a release or a cancel Unknown, when it was repeated at once

A key keeps the first answer for at least 24 hours, a 500 included. So a stored 500 is heard again until somebody looks
what became of it: `create_order` and `refund` do.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from contracts.ids import moment_of, new_id
from gateways.errors import LoginRefused, Refused, Unavailable, Unknown
from gateways.http import Answer, Call, HttpClient, segment
from gateways.providers.stripe_money import to_wire
from gateways.providers.stripe_wire import Charge, Dispute, Page, Refund, Session, Thing

ModelT = TypeVar("ModelT", bound=BaseModel)
ItemT = TypeVar("ItemT", bound=Thing)

VERSION = "2026-10-28.endive"
# One call tells session, payment, charge and refunds; four levels are the most that Stripe expands.
WHOLE = "payment_intent.latest_charge.refunds"
IDEMPOTENCY_ERROR = "idempotency_error"
_NO_SUCH_THING = "resource_missing"
_CONFLICT, _DEPENDENCY_FAILED = 409, 424
_NOTHING_HAPPENED = frozenset({"no_connection", "rate_limit", "lock_timeout", "http_429"})

_PAGE = "100"
_MOST_PAGES = 50
# Our clocks and Stripe's may differ by this.
_SKEW = timedelta(minutes=5)
# Most orders are made within this time of their reference; only then is the rest of time searched.
_SOON = timedelta(hours=1)
_LONG = timedelta(days=30)


class StripeClient:
    """The API's calls for one account. Raises Unavailable, Refused or Unknown, without a word of the body."""

    def __init__(
        self, name: str, base_url: str, api_key: str, livemode: bool | None, transport: httpx.BaseTransport | None
    ) -> None:
        """`livemode`: answers of the other mode are refused. Nothing connects before the first call."""
        self.name = name
        self._livemode = livemode
        headers = {"authorization": f"Bearer {api_key}", "stripe-version": VERSION}
        own_faults = frozenset({_CONFLICT, _DEPENDENCY_FAILED})
        self._http = HttpClient(
            name, base_url, headers=headers, error_code=_error_code, own_faults=own_faults, transport=transport
        )

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def get(self, operation: str, path: str, params: Mapping[str, str], model: type[ModelT]) -> Answer[ModelT]:
        """Read something."""
        return self._http.ask(Call(operation, "GET", path, idempotent=True, params=params), model)

    def post(
        self, operation: str, path: str, form: Mapping[str, str], model: type[ModelT], *, key: str
    ) -> Answer[ModelT]:
        """Change something, once per key: so that a call without an answer may be repeated with all its parameters."""
        headers = {"idempotency-key": key}
        return self._http.ask(Call(operation, "POST", path, idempotent=True, form=form, headers=headers), model)

    def move(self, operation: str, path: str, form: Mapping[str, str], model: type[ModelT]) -> Answer[ModelT]:
        """Move something from one state to the next. Its key lasts for this call; afterwards its state guards it."""
        try:
            return self.post(operation, path, form, model, key=new_id())
        except Unavailable as error:
            if nothing_happened(error):
                raise
            raise Unknown(error.detail, code=error.code, provider_request_id=error.provider_request_id) from error

    def every(self, operation: str, path: str, params: Mapping[str, str], model: type[Page[ItemT]]) -> Iterator[ItemT]:
        """Go through a list to its end, newest first. Unavailable when it has no end for us."""
        cursor: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            answer = self.get(operation, path, {"limit": _PAGE, **params, **cursor}, model).body
            yield from answer.data
            if not answer.has_more:
                return
            if not answer.data or answer.data[-1].id == cursor.get("starting_after"):
                break
            cursor = {"starting_after": answer.data[-1].id}
        raise Unavailable(f"{operation} at {self.name}: the list has no end", code="list_too_long")

    def session(self, operation: str, reference: str, session_id: str) -> Answer[Session] | None:
        """Ask about one session, with its payment, charge and refunds; None: Stripe says that it has none."""
        path = f"v1/checkout/sessions/{segment(session_id)}"
        try:
            answer = self.get(operation, path, {"expand[]": WHOLE}, Session)
        except Refused as refused:
            # Only this code means "no such session". A 404 of a wrong address must not look like it.
            if refused.code == _NO_SUCH_THING:
                return None
            raise
        self.require_same(operation, answer.body, reference, session_id)
        return answer

    def named(self, operation: str, reference: str) -> list[Session]:
        """Find the sessions of a reference among all that were made since it was: Stripe has no search for sessions.

        The reference's own digits say when that was; for one that is no id of ours a month is searched.
        """
        for since, until in _windows(reference):
            params = {"created[gte]": _seconds(since)} | ({"created[lt]": _seconds(until)} if until else {})
            listed = self.every(operation, "v1/checkout/sessions", params, Page[Session])
            found = [one for one in listed if one.client_reference_id == reference]
            if found:
                for one in found:
                    self.require_same(operation, one, reference, one.id)
                return found
        return []

    def of_payment(self, operation: str, payment_intent: str) -> Session | None:
        """Find the session of a payment; None: it came by no session."""
        params = {"payment_intent": payment_intent, "limit": "1", "expand[]": f"data.{WHOLE}"}
        listed = self.get(operation, "v1/checkout/sessions", params, Page[Session]).body
        return listed.data[0] if listed.data else None

    def refunds_of(self, operation: str, charge: Charge) -> tuple[Refund, ...]:
        """Return all refunds of a charge: those that came with it, or all pages where it has more."""
        if charge.refunds is not None and not charge.refunds.has_more:
            return charge.refunds.data
        return tuple(self.every(operation, "v1/refunds", {"charge": charge.id}, Page[Refund]))

    def disputes_of(self, operation: str, charge: Charge) -> tuple[Dispute, ...]:
        """Return the disputes of a charge; most have none, and say so."""
        if not charge.disputed:
            return ()
        return tuple(self.every(operation, "v1/disputes", {"charge": charge.id}, Page[Dispute]))

    def require_same(self, operation: str, session: Session, reference: str, session_id: str) -> None:
        """Facts about another order say nothing about ours, and play money is no money."""
        if session.client_reference_id != reference or session.id != session_id:
            raise self.unknown(operation, "the answer is about another order", "other_order")
        if self._livemode is not None and session.livemode is not self._livemode:
            raise Refused(f"{operation} at {self.name}: the answer is of the other mode", code="livemode")

    def money(self, operation: str, amount_minor: int, currency: str) -> tuple[int, str]:
        """Return amount and currency as Stripe counts them, or refuse what it would not take."""
        try:
            return to_wire(amount_minor, currency)
        except ValueError as error:
            raise self.invalid(operation, str(error)) from None

    def invalid(self, operation: str, field: str) -> Refused:
        """Make the refusal of a value that was never sent."""
        return Refused(f"{operation} at {self.name}: {field} is outside what Stripe takes", code="invalid_request")

    def refused(self, operation: str, why: str, code: str) -> Refused:
        """Make the refusal of a call that was never made."""
        return Refused(f"{operation} at {self.name}: {why}", code=code)

    def unknown(self, operation: str, why: str, code: str) -> Unknown:
        """Make the failure of a call whose outcome nobody knows."""
        return Unknown(f"{operation} at {self.name}: {why}", code=code)


def nothing_happened(error: Unavailable) -> bool:
    """Tell whether a call that may have been repeated surely changed nothing."""
    return isinstance(error, LoginRefused) or error.code in _NOTHING_HAPPENED


def _windows(reference: str) -> list[tuple[datetime, datetime | None]]:
    """Return where to search: first where the session should be, then all the rest."""
    now = datetime.now(UTC)
    made = moment_of(reference)
    if made is None or made > now:
        return [(now - _LONG, None)]
    middle = made + _SOON
    return [(made - _SKEW, middle), (middle, None)] if now > middle else [(made - _SKEW, None)]


def _seconds(when: datetime) -> str:
    return str(int(when.timestamp()))


def _error_code(body: Any) -> object:
    """Return the code; an error without one is told by its type, and so is a key that was used for something else."""
    error = body["error"]
    return error["type"] if error["type"] == IDEMPOTENCY_ERROR else error.get("code") or error["type"]
