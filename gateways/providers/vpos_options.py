"""The settings of an account at VPOS.am: what its public pages leave open, and what this account may do.

Sources: https://api.vpos.am/docs and https://api.vpos.am/openapi.yaml (version 0.1.0). Every default of a name, a word
or a path below is ASSUMED, but for those of the request, which are public.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator

from contracts.evidence import OrderState
from contracts.money import CURRENCIES
from contracts.statuses import FiscalStatus

Text = Annotated[str, Field(min_length=1, max_length=200)]
Duration = Annotated[timedelta, Field(ge=timedelta(0))]

# Ours -> theirs. A name with dots leads into objects: `payment.amountMinor`.
FIELDS = {
    "id": "id",
    "order": "merchantOrderId",
    "amount": "amountMinor",
    "currency": "currency",
    "status": "status",
    "page": "checkoutUrl",
    "expires_at": "expiresAt",
    "paid_at": "paidAt",
    "paid_amount": "paidAmountMinor",
    "paid_currency": "paidCurrency",
    "refunded_amount": "refundedAmountMinor",
    "fiscal": "fiscalStatus",
    "fiscal_number": "fiscalReceiptNumber",
}
# "pending" is a normal part of a session's life in their articles, and decides nothing.
STATUSES = {
    "created": OrderState.OPEN,
    "pending": OrderState.PROCESSING,
    "processing": OrderState.PROCESSING,
    "paid": OrderState.PAID,
    "failed": OrderState.DECLINED,
    "expired": OrderState.EXPIRED,
    "cancelled": OrderState.CANCELLED,
    "partially_refunded": OrderState.PAID,
    "refunded": OrderState.PAID,
}
# Of the receipt that VPOS.am makes; a word that is not among them says nothing.
FISCAL_STATUSES = {
    "pending": FiscalStatus.PENDING,
    "issued": FiscalStatus.ISSUED,
    "failed": FiscalStatus.FAILED,
    "returned": FiscalStatus.RETURNED,
}
_REFUND_WORDS = ("partially_refunded", "refunded")


class Scheme(StrEnum):
    """How the account's events are signed."""

    HMAC = "hmac-sha256-hex"  # of the raw body; no time is signed
    STAMPED = "t-v1"  # t=<unix seconds>,v1=<hex of HMAC-SHA256 of "t.body">, several v1 while a secret is replaced
    OFF = "off"  # this account has no events


class Options(BaseModel):
    """One account's options, as a settings file writes them."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: Text  # of the request: which of VPOS.am's own providers takes the money
    metadata: dict[str, str] = {"source": "paylinks"}
    decimals: dict[str, StrictInt] = {}  # of a currency, where VPOS.am counts fewer than ISO 4217

    statuses: dict[str, OrderState] = STATUSES  # their words -> ours; replaces all of them
    fiscal_statuses: dict[str, FiscalStatus] = FISCAL_STATUSES  # the same of receipts; empty: they are not read
    refund_words: tuple[str, ...] = ()  # those which say that money went back; by default the assumed ones
    fields: dict[str, Text] = {}  # replaces single names of FIELDS

    session_path: Text = "v1/payment-sessions/{id}"
    find_path: str = ""  # an empty path: this account has no such call
    find_param: Text = "merchantOrderId"
    find_list: Text = "sessions"
    cancel_path: str = ""
    refund_path: str = ""
    not_found_codes: tuple[Text, ...] = ("session_not_found",)

    signature_scheme: Scheme = Scheme.HMAC
    signature_header: str = Field(default="x-vpos-signature", pattern=r"^[A-Za-z0-9-]{1,64}$")
    timestamp_tolerance: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=5)
    event_session: str = "data"  # where in an event the session stands; empty: the event is the session
    event_id: str = "id"  # where its own id stands, which no other event has; empty: it has none

    payment_flag: Text = "payLink"  # in the matrix of capabilities
    refund_flag: Text = "refund"
    capabilities_life: Duration = timedelta(minutes=5)  # zero: the matrix is not read

    session_life: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=30)
    settle: Duration = timedelta(seconds=30)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        self._check_words()
        for option in ("session_path", "cancel_path", "refund_path"):
            path: str = getattr(self, option)
            _require(path.count("{id}") == 1 or not (path or option == "session_path"), f"{option} has one {{id}}")
        for currency, count in self.decimals.items():
            most = CURRENCIES.get(currency, ("", -1))[1]
            _require(0 <= count <= most, f"decimals of {currency}: a known currency, and no more than ISO 4217 has")
        is_sessions = not self.event_session and self.event_id == self.names["id"]
        _require(not is_sessions, "event_id names the session, which has many events")
        unknown = set(self.fields) - set(FIELDS)
        _require(not unknown, f"fields has {min(unknown, default='')}; use {', '.join(sorted(FIELDS))}")
        return self

    def _check_words(self) -> None:
        _require(OrderState.PAID in self.statuses.values(), "statuses maps no word to paid")
        for word in self.refund_words:
            _require(self.statuses.get(word) is OrderState.PAID, f"refund_words has {word}: statuses maps it to paid")

    @property
    def words_of_refunds(self) -> frozenset[str]:
        """The status words which say that money went back."""
        return frozenset(self.refund_words or (word for word in _REFUND_WORDS if word in self.statuses))

    @property
    def names(self) -> dict[str, str]:
        """The name of each field in an answer."""
        return FIELDS | self.fields


def read_options(name: str, given: Mapping[str, Any]) -> Options:
    """Check what a settings file says. ValueError names the account, the option and what is wrong with it."""
    try:
        return Options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"provider {name}: {where}{': ' if where else ''}{first['msg']}") from None


def _require(is_right: bool, problem: str) -> None:
    if not is_right:
        raise ValueError(problem)
