"""What Ameriabank's vPOS 3.1 answers, as it stands on the wire.

Sources: "AmeriaBank vPOS 3.1, API Protocol Description", sections 1 to 5 and Table 1; the field names and types of
https://servicestest.ameriabank.am/VPOS/Help; and what was seen on the bank's test host, written down in
https://github.com/davit-vardanyan/ameriabank-vpos-php, CONVENTIONS.md (cited as "seen" with its section). Names, card
data and addresses stand in these answers too: no field of ours holds them.
"""

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contracts.money import exponent

# "00", "0-100", "0151019"; elsewhere in the bank's documentation "00 : Payment Successfully Completed".
_CODE = re.compile(r"([0-9]{1,8}(?:-[0-9]{1,8})?)(?: ?: .{0,300})?", re.DOTALL)
_GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_AMOUNT = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,6})?")
_LARGEST = Decimal(10**13)

# ASP.NET's page for an error that nobody handled, with HTTP 500; seen for an order that nobody tried to pay (4.2).
_FAULT = "An error has occurred."
_UNDOCUMENTED = -1

# Table 2: the same states by name and by number.
_STATES = {
    "payment_started": 0,
    "payment_approved": 1,
    "payment_deposited": 2,
    "payment_void": 3,
    "payment_refunded": 4,
    "payment_autoauthorized": 5,
    "payment_declined": 6,
}


def _code(value: Any) -> Any:
    """Read a response code: a number from InitPayment, a text elsewhere (seen, 4.3). It is compared whole.

    "01" stays "01": as a number it would be the 1 of a success.
    """
    if value is None:
        return ""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        found = _CODE.fullmatch(text.strip())
        return found.group(1) if found else ("unsuccessful" if text.strip() else "")
    raise ValueError("a response code")


def _number(value: Any) -> Any:
    """Read a small number, which the bank sends as a text too; what is none is a state that is not documented."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 100 else _UNDOCUMENTED
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 2
    return int(value) if is_number else _UNDOCUMENTED


def _amount(value: Any) -> Any:
    """Read an amount in major units exactly: a float's shortest text is what the bank wrote."""
    if value is None or value == "":
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _AMOUNT.fullmatch(value)):
        amount = Decimal(repr(value) if is_number else value)
        if 0 <= amount <= _LARGEST:
            return amount
    raise ValueError("an amount")


def _text(value: Any) -> Any:
    """Read a short text or a number as text; absent values come as empty texts, never as null (seen, 4.19)."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("a text")


Code = Annotated[str, BeforeValidator(_code)]
Amount = Annotated[Decimal | None, BeforeValidator(_amount)]
Text = Annotated[Annotated[str, Field(max_length=200)] | None, BeforeValidator(_text)]


class Result(BaseModel):
    """What every answer says of itself. Fields that we do not know are ignored."""

    model_config = ConfigDict(populate_by_name=True, hide_input_in_errors=True)

    response_code: Code = Field(default="", alias="ResponseCode")
    message: Any = Field(default=None, alias="Message", repr=False)

    @property
    def is_done(self) -> bool:
        """Whether it went well: "00" and nothing else, everywhere but in the answer to InitPayment."""
        return self.response_code == "00"


class Registered(Result):
    """The answer to InitPayment."""

    payment_id: Text = Field(default=None, alias="PaymentID")

    @property
    def is_done(self) -> bool:
        """Whether the order is made: the number 1."""
        return self.response_code == "1"


class Named(Result):
    """The answer to GetPaymentId, which alone spells it PaymentId (seen, 4.8)."""

    payment_id: Text = Field(default=None, alias="PaymentId")


class Details(Result):
    """The answer to GetPaymentDetails. It names the order by our number alone."""

    order_id: Text = Field(default=None, alias="OrderID")
    order_status: Annotated[int | None, BeforeValidator(_number)] = Field(default=None, alias="OrderStatus")
    payment_state: Text = Field(default=None, alias="PaymentState")
    approved: Amount = Field(default=None, alias="ApprovedAmount")
    deposited: Amount = Field(default=None, alias="DepositedAmount")
    refunded: Amount = Field(default=None, alias="RefundedAmount")
    currency: Text = Field(default=None, alias="Currency")
    date_time: Text = Field(default=None, alias="DateTime")
    opaque: Text = Field(default=None, alias="Opaque", repr=False)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.response_code and not self.is_fault:
            raise ValueError("neither a code nor the fault")
        return self

    @property
    def is_fault(self) -> bool:
        """Whether the bank's program broke over this question; that is no word about the money."""
        return self.message == _FAULT and not self.response_code

    @property
    def status(self) -> int | None:
        """The order's state as a number, however it is told; None where it is not."""
        named = _STATES.get((self.payment_state or "").strip().lower())
        return named if self.order_status is None else self.order_status

    @property
    def contradicts_itself(self) -> bool:
        """Whether number and name tell two states. Names that are not documented (as "Successful") say nothing."""
        named = _STATES.get((self.payment_state or "").strip().lower())
        return named is not None and self.order_status not in {None, named}


def guid(value: str | None) -> str | None:
    """Return an id as InitPayment writes it, in capitals; the bank uses both cases for one payment (seen, 4.12)."""
    return value.upper() if value and _GUID.fullmatch(value) else None


def minor(amount: Decimal, currency: str) -> int | None:
    """Return major units as minor ones; None where the currency has no coin so small."""
    scaled = amount.scaleb(exponent(currency))
    return int(scaled) if scaled == scaled.to_integral_value() else None


def moment(value: str | None, zone: tzinfo) -> datetime | None:
    """Read "26/08/2026 17:29:07", a local time that names no zone (seen, 4.19)."""
    try:
        return datetime.strptime((value or "").strip(), "%d/%m/%Y %H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
