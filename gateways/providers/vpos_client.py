"""Calls to VPOS.am for one account: the token, what an answer is about, and what the account may do.

Source: https://api.vpos.am/docs and https://api.vpos.am/openapi.yaml (version 0.1.0): JSON with a bearer token, an
`Idempotency-Key` for order and attempt, `GET /v1/capabilities` for what is offered; 401, 403, 429. What 409 means is
not public: the key may be in use, or was used for something else, so it says nothing about the outcome (ASSUMED).
"""

import time
from collections.abc import Mapping

import httpx

from gateways.errors import GatewayError, Refused, Unavailable, Unknown
from gateways.http import Answer, Call, HttpClient, Limits, segment
from gateways.providers.vpos_options import Options
from gateways.providers.vpos_wire import Body, Fields, Session, dig, error_code

# The matrix is read before a create, and both must be over before whoever called believes that no call is on its way.
_BRIEF = Limits(pool_seconds=0.5, connect_seconds=1.0, send_seconds=0.5, read_seconds=2.0, deadline_seconds=4.0)
_AGAIN_SECONDS = 60.0


class VposClient:
    """One account's calls. Raises Unavailable, Refused or Unknown, without a word of the body."""

    def __init__(
        self,
        name: str,
        base_url: str,
        token: str,
        options: Options,
        fields: Fields,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` is the host alone. Nothing connects before the first call."""

        def client(*, limits: Limits | None = None, own_faults: frozenset[int] = frozenset()) -> HttpClient:
            return HttpClient(
                name,
                base_url,
                headers={"authorization": f"Bearer {token}"},
                limits=limits,
                error_code=error_code,
                own_faults=own_faults,
                transport=transport,
            )

        self.name = name
        self._plain = client()
        self._keyed = client(own_faults=frozenset({409}))
        self._brief = client(limits=_BRIEF)
        self._options = options
        self._fields = fields
        self._matrix: tuple[float, Mapping[str, object] | None] = (0.0, None)  # holds until; what is told of us

    def close(self) -> None:
        """Release connections."""
        for client in (self._plain, self._keyed, self._brief):
            client.close()

    def create(self, operation: str, key: str, body: Mapping[str, object]) -> tuple[Session, str | None]:
        """Create a session under a key. It is not repeated here: the caller asks again under the same key."""
        call = Call(
            operation, "POST", "v1/payment-sessions", idempotent=False, json=body, headers={"idempotency-key": key}
        )
        answer = self._keyed.ask(call, Body)
        try:
            return self._fields.read(answer.body.root), answer.request_id
        except ValueError as error:
            raise self.unknown(operation, f"no session in the answer: {error}", "unreadable") from None

    def find(self, operation: str, reference: str, session_id: str | None) -> tuple[Session, str | None] | None:
        """Ask by the session's id, else by our order id; None: VPOS.am says that it has none."""
        if session_id is not None:
            answer = self._asked(operation, _at(self._options.session_path, session_id), None)
            body: object = None if answer is None else answer.body.root
        elif self._options.find_path:
            answer = self._asked(operation, self._options.find_path, {self._options.find_param: reference})
            body = None if answer is None else self._only(operation, answer)
        else:
            # Not None: the session may well exist, and whoever hears "none" lets the customer pay again.
            why = "the session's id is not known, and find_path is not set"
            raise Refused(f"{operation} at {self.name}: {why}", code="session_unknown")
        if answer is None or body is None:
            return None
        return self._about(operation, answer, body, reference, session_id), answer.request_id

    def tell(self, operation: str, path: str, session_id: str) -> None:
        """Post a wish about a session; 2xx is the whole answer."""
        self._plain.tell(Call(operation, "POST", _at(path, session_id), idempotent=False, json={}))

    def refund(self, session_id: str, key: str, body: Mapping[str, object]) -> None:
        """Give money back under a key; 2xx is the whole answer."""
        path = _at(self._options.refund_path, session_id)
        headers = {"idempotency-key": key}
        self._keyed.tell(Call("refund", "POST", path, idempotent=False, json=body, headers=headers))

    def allow(self, operation: str, *, refund: bool = False) -> None:
        """Refuse what the matrix denies. A matrix that cannot be read denies nothing: the call itself will tell."""
        told = self._told_of_us()
        if told is None:
            return
        if told.get(self._options.refund_flag if refund else self._options.payment_flag) is False:
            what = "refunds" if refund else "payments"
            detail = f"{operation} at {self.name}: its capabilities deny {what} by this provider"
            raise Refused(detail, code="capability_denied")

    def _told_of_us(self) -> Mapping[str, object] | None:
        until, told = self._matrix
        life = self._options.capabilities_life.total_seconds()
        if time.monotonic() < until or not life:
            return told
        try:
            body = self._brief.ask(Call("capabilities", "GET", "v1/capabilities", idempotent=False), Body).body.root
        except GatewayError:
            self._matrix = (time.monotonic() + min(_AGAIN_SECONDS, life), None)
            return None
        told = self._entry(body)
        self._matrix = (time.monotonic() + life, told)
        return told

    def _entry(self, body: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return the flags of our provider from providers[].capabilities; None where the matrix is not like that.

        ASSUMED: an entry names its provider in `provider`, `id`, `code` or `name`; one that is not listed among others
        is not offered.
        """
        entries = body.get("providers")
        named: dict[str, object] = {}
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, Mapping):
                names = [entry[key] for key in ("provider", "id", "code", "name") if isinstance(entry.get(key), str)]
                named |= dict.fromkeys(names, entry.get("capabilities"))
        if not named:
            return None
        nothing = {self._options.payment_flag: False, self._options.refund_flag: False}
        flags = named.get(self._options.provider, nothing)
        return flags if isinstance(flags, Mapping) else None

    def _asked(self, operation: str, path: str, params: Mapping[str, str] | None) -> Answer[Body] | None:
        try:
            return self._plain.ask(Call(operation, "GET", path, idempotent=True, params=params), Body)
        except Refused as refused:
            # Only these codes mean "no such session". A 404 of a wrong address must not look like it.
            if refused.code in self._options.not_found_codes:
                return None
            raise

    def _only(self, operation: str, answer: Answer[Body]) -> object:
        """Return the one session of a list; None of an empty one."""
        found = dig(answer.body.root, self._options.find_list)
        if not isinstance(found, list):
            raise Unavailable(f"{operation} at {self.name}: no list of sessions in the answer", code="unreadable")
        if len(found) > 1:
            # Each attempt has an order id of its own: nobody may choose for us which one was meant.
            raise Refused(f"{operation} at {self.name}: several sessions of one order", code="several_sessions")
        return found[0] if found else None

    def _about(
        self, operation: str, answer: Answer[Body], body: object, reference: str, session_id: str | None
    ) -> Session:
        try:
            session = self._fields.read(body)
        except ValueError as error:
            detail = f"{operation} at {self.name}: no session in the answer: {error}"
            raise Unavailable(detail, code="unreadable", provider_request_id=answer.request_id) from None
        if session.order != reference or session_id not in {None, session.id}:
            # Facts about another session say nothing about ours.
            raise self.unknown(operation, "the answer is about another session", "other_order")
        return session

    def invalid(self, operation: str, field: str) -> Refused:
        """Make the refusal of a value that was never sent."""
        return Refused(f"{operation} at {self.name}: {field} is outside what is taken there", code="invalid_request")

    def not_offered(self, operation: str) -> Refused:
        """Make the refusal of a call that this account has not."""
        return Refused(f"{operation} at {self.name}: not offered by this account", code="not_offered")

    def unknown(self, operation: str, why: str, code: str) -> Unknown:
        """Make the failure of a call whose outcome nobody knows."""
        return Unknown(f"{operation} at {self.name}: {why}", code=code)


def _at(path: str, session_id: str) -> str:
    return path.replace("{id}", segment(session_id))
