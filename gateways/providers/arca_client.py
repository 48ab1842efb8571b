"""Calls to a gateway of the ArCa iPay / BPC family: the login, the money, and what an answer's body says of itself.

Source: https://dev.bpcbt.com/en/integration/api/rest.html, sections "Authentication" and "Errors": form-encoded POST;
HTTP 200 says nothing until the body is read, and 400 is a fault of theirs.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from contracts.money import CURRENCIES
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.http import Answer, Call, HttpClient
from gateways.providers.arca_wire import Result, Status

ResultT = TypeVar("ResultT", bound=Result)

# Of the error codes the documentation names 1 and 7; 6 is what the family answers about an order that it has not. 5 is
# "Access denied", and also a plain no: but a look-up, whose form we fill, is only refused because of the login.
DUPLICATE, ACCESS_DENIED, _NO_SUCH_ORDER, _SYSTEM_ERROR = "1", "5", "6", "7"


class ArcaClient:
    """The gateway's calls for one account. Raises Unavailable, Refused or Unknown, without a word of the body."""

    def __init__(
        self, name: str, base_url: str, user_name: str, password: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`base_url` ends with /payment/rest. Nothing connects before the first call."""
        self.name = name
        self._login = {"userName": user_name, "password": password}
        self._http = HttpClient(
            name, base_url, error_code=_error_code, own_faults=frozenset({400}), transport=transport
        )

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def ask(
        self, operation: str, path: str, form: Mapping[str, str], model: type[ResultT], *, idempotent: bool
    ) -> Answer[ResultT]:
        """Call and look into the body: HTTP 200 is no success. A system error says nothing about the outcome."""
        call = Call(operation, "POST", path, idempotent=idempotent, form={**self._login, **form})
        answer = self._http.ask(call, model)
        failure = answer.body.failure
        if failure is None or (isinstance(answer.body, Status) and answer.body.order_status is not None):
            return answer
        detail = f"{operation} at {self.name}: errorCode {failure}"
        kind: type[GatewayError] = Refused
        if failure == _SYSTEM_ERROR:
            kind = Unavailable if idempotent else Unknown
        raise kind(detail, code=failure, provider_request_id=answer.request_id)

    def status(
        self, operation: str, reference: str, provider_order_id: str | None
    ) -> tuple[Answer[Status], str] | None:
        """Ask by the gateway's id, else by our number; return the answer with the gateway's id."""
        named = {"orderId": provider_order_id} if provider_order_id else {"orderNumber": reference}
        try:
            answer = self.ask(operation, "getOrderStatusExtended.do", named, Status, idempotent=True)
        except Refused as refused:
            if refused.code == _NO_SUCH_ORDER:
                return None
            if refused.code == ACCESS_DENIED:
                raise LoginRefused(refused.detail, provider_request_id=refused.provider_request_id) from None
            raise
        status = answer.body
        if status.order_status is None:  # "missing if the order has not been found"
            return None
        order_id = status.order_id or provider_order_id
        same_id = provider_order_id is None or (order_id or "").lower() == provider_order_id.lower()
        if status.order_number != reference or not same_id or order_id is None:
            # Facts about another order say nothing about ours.
            raise self.unknown(operation, "the answer is about another order", "other_order")
        return answer, order_id

    def money(self, operation: str, amount_minor: int, currency: str) -> dict[str, str]:
        """Minor units and the numeric code; nothing and less is refused, as 0 would mean everything."""
        if amount_minor <= 0:
            raise self.invalid(operation, "amount")
        if currency not in CURRENCIES:
            raise self.invalid(operation, "currency")
        return {"amount": str(amount_minor), "currency": CURRENCIES[currency][0]}

    def short(self, operation: str, value: str, longest: int) -> str:
        """Return a name of ours that the gateway has room for, or refuse it."""
        if not 1 <= len(value) <= longest:
            raise self.invalid(operation, "reference")
        return value

    def invalid(self, operation: str, field: str) -> Refused:
        """Make the refusal of a value that was never sent."""
        return Refused(f"{operation} at {self.name}: {field} is outside what the gateway takes", code="invalid_request")

    def not_offered(self, operation: str) -> Refused:
        """Make the refusal of a call that this account has not."""
        return Refused(f"{operation} at {self.name}: not offered by this account", code="not_offered")

    def unknown(self, operation: str, why: str, code: str) -> Unknown:
        """Make the failure of a call whose outcome nobody knows."""
        return Unknown(f"{operation} at {self.name}: {why}", code=code)


def _error_code(body: Any) -> object:
    code = str(body["errorCode"])
    return code if code.isdigit() and len(code) <= 2 else None
