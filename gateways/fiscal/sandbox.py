"""The sandbox's fiscal device (`paylinks sandbox fiscal`). SIMULATED: no tax authority hears of its receipts.

Also the example for an adapter of a real one: one file, one conformance test. POST /v1/receipts prints, GET
/v1/receipts/{seq} and GET /v1/counter look.
"""

from datetime import timedelta
from typing import Any

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from contracts.fiscal import MONEY_CAME
from gateways.errors import Refused, Unknown
from gateways.fiscal.base import OUT_OF_STEP, Capabilities, FiscalDevice, PrintedReceipt, ReceiptRequest, Repeat
from gateways.http import Answer, Call, HttpClient

_NOT_FOUND = "receipt_not_found"
# Two words of the device for one thing: the number was used, and this request printed nothing.
_USED = frozenset({"seq_out_of_step", "already_printed"})


class _Receipt(BaseModel):
    seq: int = Field(ge=1)
    number: str = Field(min_length=1, max_length=64)
    receipt: str | None = None


class _Counter(BaseModel):
    last_seq: int = Field(ge=0)


class SandboxFiscalDevice:
    """One device of the sandbox. Satisfies `gateways.fiscal.base.FiscalDevice`."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str,
        lookup: bool = True,
        repeat: Repeat | str = Repeat.REFUSED,
        settle: timedelta | str = timedelta(seconds=5),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`base_url` ends with the device's name there. ValueError says what is wrong.

        `lookup=False` plays a device that answers no questions; `repeat` says what the device is set to do.
        """
        self.name = name
        headers = {"authorization": f"Bearer {api_key}"}
        self._http = HttpClient(name, base_url, headers=headers, error_code=_error_code, transport=transport)
        self.capabilities = Capabilities(lookup=lookup, repeat=Repeat(repeat), settle=_duration(settle))

    def print_sale(self, request: ReceiptRequest) -> PrintedReceipt:
        """Print a sale or an advance. Never tried again within the call: the counter may have moved on."""
        if request.kind not in MONEY_CAME:
            raise Refused(f"print_sale at {self.name}: {request.kind} is not for money that came", code="wrong_kind")
        return self._print("print_sale", request)

    def print_return(self, request: ReceiptRequest) -> PrintedReceipt:
        """Print a return of a sale or of an advance."""
        if request.kind in MONEY_CAME or request.original_number is None:
            raise Refused(f"print_return at {self.name}: a return names what it returns", code="wrong_kind")
        return self._print("print_return", request)

    def _print(self, operation: str, request: ReceiptRequest) -> PrintedReceipt:
        body = {
            "seq": request.seq,
            "receipt": request.receipt,
            "kind": request.kind.value,
            "amount_minor": request.amount_minor,
            "currency": request.currency,
            "purpose": request.purpose,
            "original_number": request.original_number,
        }
        answer = self._http.ask(Call(operation, "POST", "v1/receipts", idempotent=False, json=body), _Receipt)
        if (answer.body.seq, answer.body.receipt) != (request.seq, request.receipt):
            raise Unknown(
                f"{operation} at {self.name}: the answer is about another receipt",
                code="answer_mismatch",
                provider_request_id=answer.request_id,
            )
        return _printed(answer)

    def find(self, seq: int) -> PrintedReceipt | None:
        """Return what was printed under a number; None: the device says that nothing was."""
        self._require_lookup("find")
        try:
            answer = self._http.ask(Call("find", "GET", f"v1/receipts/{seq:d}", idempotent=True), _Receipt)
        except Refused as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        if answer.body.seq != seq:
            raise Unknown(f"find at {self.name}: the answer is about another receipt", code="answer_mismatch")
        return _printed(answer)

    def last_seq(self) -> int:
        """Return the number that the device used last; 0 before the first."""
        self._require_lookup("last_seq")
        return self._http.ask(Call("last_seq", "GET", "v1/counter", idempotent=True), _Counter).body.last_seq

    def _require_lookup(self, operation: str) -> None:
        if not self.capabilities.lookup:
            raise Refused(f"{operation} at {self.name}: it answers no questions", code="not_offered")

    def close(self) -> None:
        """Release connections."""
        self._http.close()


_ADAPTER: type[FiscalDevice] = SandboxFiscalDevice  # checked by the type checker, method by method


def _error_code(body: Any) -> object:
    return OUT_OF_STEP if body["error"] in _USED else body["error"]


def _printed(answer: Answer[_Receipt]) -> PrintedReceipt:
    return PrintedReceipt(answer.body.seq, answer.body.number, answer.body.receipt, answer.request_id)


def _duration(value: timedelta | str) -> timedelta:
    try:
        return TypeAdapter(timedelta).validate_python(value)
    except ValidationError:
        raise ValueError("settle: use an ISO 8601 duration, as PT5S") from None
