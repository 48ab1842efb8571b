"""What a gateway of the ArCa iPay / BPC family answers, as it stands on the wire.

Source: BPC, Merchant API, https://dev.bpcbt.com/en/integration/api/rest.html, sections "Errors", "Order registration",
"Order status" and "Refund". Card data, names and addresses stand in
these answers too: no field of ours holds them, so they reach no log, no error and no ledger.

Which fields an answer has depends on a version that the bank sets for the merchant: amounts come from version 3,
single refunds from 5, chargebacks from 6, the moment of the capture from 10. What is not told is never invented.
"""

from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

_DONE = frozenset({"", "0", "00", "000"})


def _whole(value: Any) -> Any:
    """Let whole numbers through, as numbers or as digits: true, 1.0 and " 1" are no amounts."""
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15
    if value is None or is_text or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError("a whole number")


def _code(value: Any) -> Any:
    """Read a short code, which comes as a number or as a text."""
    if value is None:
        return ""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and len(text) <= 8:
        return text.strip()
    raise ValueError("a short code")


def _listed(value: Any) -> Any:
    """Read a list that the documentation calls an object: one entry may come without its list."""
    return [] if value is None else [value] if isinstance(value, dict) else value


Whole = Annotated[Annotated[int, Field(ge=0, le=10**15)] | None, BeforeValidator(_whole)]
Code = Annotated[str, BeforeValidator(_code)]


class _Wire(BaseModel):
    """Fields that we do not know are ignored: new ones are announced as no break."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True)


class Result(_Wire):
    """What every answer says of itself: HTTP 200 alone means nothing."""

    error_code: Code = ""
    success: bool | None = None

    @property
    def failure(self) -> str | None:
        """The code of a failure; None: it went well. `success` overrides `errorCode` where both are there."""
        failed = self.error_code not in _DONE if self.success is None else not self.success
        if not failed:
            return None
        known = self.error_code.isascii() and self.error_code.isdigit() and self.error_code not in _DONE
        return self.error_code if known and len(self.error_code) <= 2 else "unsuccessful"


class Registered(Result):
    """The answer to register.do. After a failure it has neither id nor page."""

    order_id: str | None = Field(default=None, max_length=36)
    form_url: str | None = Field(default=None, max_length=512, repr=False)


class _Amounts(_Wire):
    approved_amount: Whole = None
    deposited_amount: Whole = None
    refunded_amount: Whole = None


class Refund(_Wire):
    """One refund. The reference number is given when it is complete."""

    amount: Whole = None
    action_code: Code = ""
    reference_number: str | None = Field(default=None, max_length=40)
    external_refund_id: str | None = Field(default=None, max_length=64)
    date: str | int | None = None

    @property
    def is_done(self) -> bool:
        """Whether money went: not one that failed or is in progress."""
        return self.action_code in _DONE and bool(self.amount)


class Status(Result):
    """The answer to getOrderStatusExtended.do."""

    order_number: str | None = None
    order_status: Whole = None
    action_code: Code = ""
    amount: Whole = None
    currency: Code = ""
    date: Whole = None
    auth_date_time: Whole = None
    deposited_date: Whole = None
    refunded_date: Whole = None
    reversed_date: Whole = None
    chargeback: bool | None = None
    payment_amount_info: _Amounts | None = None
    refunds: Annotated[tuple[Refund, ...], BeforeValidator(_listed)] = ()
    attributes: Any = Field(default=None, repr=False)

    @property
    def order_id(self) -> str | None:
        """The gateway's own id of the order (mdOrder)."""
        for entry in self.attributes if isinstance(self.attributes, list) else ():
            named = isinstance(entry, dict) and entry.get("name") == "mdOrder"
            value = entry.get("value") if named else None
            if isinstance(value, str) and 0 < len(value) <= 36:
                return value
        return None

    @property
    def deposited(self) -> int | None:
        """What is deposited now: refunds lower it."""
        return self.payment_amount_info.deposited_amount if self.payment_amount_info else None

    @property
    def approved(self) -> int | None:
        """What was held or charged at first."""
        return self.payment_amount_info.approved_amount if self.payment_amount_info else None

    @property
    def refunded(self) -> int:
        """What went back in all."""
        total = self.payment_amount_info.refunded_amount if self.payment_amount_info else None
        return sum(one.amount or 0 for one in self.refunds if one.is_done) if total is None else total

    def refund_entries(self, zone: tzinfo) -> list[tuple[str, Refund]]:
        """Return completed refunds with ids that never change: by reference number, else by place in time.

        Unfinished and failed ones keep their place, so that one that completes later moves no other.
        """
        placed = sorted(self.refunds, key=lambda one: moment(one.date, zone) or _EPOCH)
        return [(one.reference_number or str(place), one) for place, one in enumerate(placed, 1) if one.is_done]


_EPOCH = datetime.fromtimestamp(0, UTC)


def moment(value: str | int | None, zone: tzinfo) -> datetime | None:
    """Read a time: milliseconds since 1970, or ISO 8601, in the account's zone where it names none."""
    if value is None:
        return None
    text = str(value).strip()
    if text.isascii() and text.isdigit():
        return first_moment(int(text)) if len(text) <= 15 else None
    try:
        told = datetime.fromisoformat(text)
        return (told if told.tzinfo else told.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def first_moment(*milliseconds: int | None) -> datetime | None:
    """Return the first of these times that is told, in milliseconds since 1970."""
    for told in milliseconds:
        if told and told < 253_402_300_800_000:  # the year 10000
            return datetime.fromtimestamp(told / 1000, UTC)
    return None
