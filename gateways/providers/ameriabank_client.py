"""Calls to Ameriabank's vPOS 3.1 for one account: the login, the money, and what an answer's body says of itself.

Sources: see ameriabank_wire. JSON by POST to {base}api/VPOS/{operation}. HTTP 200 says nothing: a wrong password is
answered with it (seen, 4.1). A code may mean several things, told apart only by free text (seen, 4.17 and 4.25):

    07           "system error", and also a plain no: too much to refund, nothing to undo
    550          "system error", a wrong password, and an order that nobody tried to pay
    20           a wrong password, and a permission that the account has not
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from contracts.money import CURRENCIES, major
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.http import Answer, Call, HttpClient
from gateways.providers.ameriabank_wire import Details, Named, Registered, Result, guid

ResultT = TypeVar("ResultT", bound=Result)

# Table 1. Codes after which nobody knows whether anything happened; "7" is "07" where codes are numbers.
_UNSURE = frozenset({"", "0-1", "07", "7", "500", "520", "550"})
_FAILED = "560"  # "Operation failed": seen from InitPayment as a plain no (CONVENTIONS.md, 13)
_DUPLICATE = frozenset({"01", "08204", "8204"})
_NO_SUCH_ORDER = "06"  # "Unregistered OrderId"
_LOGIN = "20"
# With these the bank answered, so nothing is on its way, and a look at the order tells what it meant.
ANSWERED = frozenset({"07", "7", _FAILED})

# OrderID is an "integer" in the documentation: ASSUMED of 32 bits, as such services have it.
_LARGEST_NUMBER = 2**31 - 1
_ASPNET_FAULT = frozenset({500})


class AmeriabankClient:
    """The bank's calls for one account. Raises Unavailable, Refused or Unknown, without a word of the body."""

    def __init__(
        self,
        name: str,
        base_url: str,
        client_id: str,
        user_name: str,
        password: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` ends with /VPOS. Nothing connects before the first call."""
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._login = {"Username": user_name, "Password": password}
        self._client_id = client_id
        self._http = HttpClient(name, base_url, error_code=_error_code, transport=transport)

    def close(self) -> None:
        """Release connections."""
        self._http.close()

    def page(self, payment_id: str, language: str) -> str:
        """Return where the customer pays (section 1, after InitPayment)."""
        return f"{self._base_url}/Payments/Pay?id={payment_id}&lang={language}"

    def register(self, order: Mapping[str, Any]) -> tuple[str, str | None]:
        """Make an order; return its PaymentID and the request's id. Unknown too when the number is taken."""
        body = {"ClientID": self._client_id, **order}
        try:
            answer = self.ask("create_order", "InitPayment", body, Registered)
        except Refused as refused:
            if refused.code in _DUPLICATE:
                raise self.unknown("create_order", "an order of this number exists", "duplicate_reference") from None
            raise _of_login(refused) from None
        payment_id = guid(answer.body.payment_id)
        if payment_id is None:
            raise self.unknown("create_order", "neither failure nor PaymentID in the answer", "unreadable")
        return payment_id, answer.request_id

    def payment_id(self, operation: str, reference: str) -> str | None:
        """Return the PaymentID of our number; None: the bank says that it has no such order. It proves the login."""
        body = {"ClientID": self._client_id, "OrderID": self.number(operation, reference)}
        try:
            answer = self.ask(operation, "GetPaymentId", body, Named, idempotent=True)
        except Refused as refused:
            if refused.code == _NO_SUCH_ORDER:
                return None
            raise _of_login(refused) from None
        if not answer.body.payment_id:
            return None
        payment_id = guid(answer.body.payment_id)
        if payment_id is None:
            raise self._unsure(operation, "an answer without a PaymentID", "unreadable", idempotent=True)
        return payment_id

    def details(self, operation: str, payment_id: str) -> Answer[Details]:
        """Ask about a payment, and return what was answered: the bank's fault and its failures are answers here."""
        call = self._call(operation, "GetPaymentDetails", {"PaymentID": payment_id}, idempotent=True)
        answer = self._http.ask(call, Details)
        if answer.status in _ASPNET_FAULT and not answer.body.is_fault:
            raise self._unsure(operation, f"HTTP {answer.status}", f"http_{answer.status}", idempotent=True)
        return answer

    def ask(
        self, operation: str, path: str, body: Mapping[str, Any], model: type[ResultT], *, idempotent: bool = False
    ) -> Answer[ResultT]:
        """Call and look into the body."""
        answer = self._http.ask(self._call(operation, path, body, idempotent=idempotent), model)
        if not answer.body.is_done:
            raise self.failure(operation, answer, idempotent=idempotent, may_fail=model is not Registered)
        return answer

    def failure(self, operation: str, answer: Answer[Any], *, idempotent: bool, may_fail: bool = True) -> GatewayError:
        """Make the failure that an answer's code means."""
        code = "" if answer.body.is_done else answer.body.response_code  # a success that lacks what it is about
        if code in _UNSURE or (code == _FAILED and may_fail):
            return self._unsure(operation, f"ResponseCode {code}", code or "unreadable", idempotent, answer.request_id)
        detail = f"{operation} at {self.name}: ResponseCode {code}"
        return Refused(detail, code=code, provider_request_id=answer.request_id)

    def number(self, operation: str, reference: str) -> int:
        """Return our reference as the integer that an OrderID is, or refuse it."""
        is_number = reference.isascii() and reference.isdigit() and len(reference) <= 10 and reference[0] != "0"
        if not is_number or int(reference) > _LARGEST_NUMBER:
            raise self.invalid(operation, "reference")
        return int(reference)

    def amount(self, operation: str, amount_minor: int, currency: str) -> str:
        """Return major units as a decimal text, which the bank takes (seen, 4.7) and no float spoils."""
        if amount_minor <= 0:
            raise self.invalid(operation, "amount")
        if currency not in CURRENCIES:
            raise self.invalid(operation, "currency")
        return f"{major(amount_minor, currency):f}"

    def invalid(self, operation: str, field: str) -> Refused:
        """Make the refusal of a value that was never sent."""
        return Refused(f"{operation} at {self.name}: {field} is outside what the bank takes", code="invalid_request")

    def refused(self, operation: str, why: str, code: str) -> Refused:
        """Make the refusal of what would surely be refused, or must not be done."""
        return Refused(f"{operation} at {self.name}: {why}", code=code)

    def unknown(self, operation: str, why: str, code: str) -> Unknown:
        """Make the failure of a call whose outcome nobody knows."""
        return Unknown(f"{operation} at {self.name}: {why}", code=code)

    def _call(self, operation: str, path: str, body: Mapping[str, Any], *, idempotent: bool) -> Call:
        answers = _ASPNET_FAULT if path == "GetPaymentDetails" else frozenset()
        json = {**self._login, **body}
        return Call(operation, "POST", f"api/VPOS/{path}", idempotent=idempotent, json=json, answers=answers)

    def _unsure(
        self, operation: str, why: str, code: str, idempotent: bool, request_id: str | None = None
    ) -> GatewayError:
        kind = Unavailable if idempotent else Unknown
        return kind(f"{operation} at {self.name}: {why}", code=code, provider_request_id=request_id)


def _of_login(refused: Refused) -> GatewayError:
    """Tell a refused login from a refused order. Who may neither make nor find orders is not let in either."""
    if refused.code != _LOGIN:
        return refused
    return LoginRefused(refused.detail, provider_request_id=refused.provider_request_id)


def _error_code(body: Any) -> object:
    return Result.model_validate(body).response_code or None
