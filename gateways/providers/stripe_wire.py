"""What Stripe answers, as it stands on the wire: the few fields that decide.

Source: https://docs.stripe.com/api (checkout/sessions, payment_intents, charges, refunds, disputes, events), version
2026-10-28.endive, and the types of stripe-python 16.1, which are generated from Stripe's OpenAPI description. Names,
addresses, e-mails and card data stand in these answers too: no field of ours holds them, so they reach no log, no
error and no ledger.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

# Our words in Stripe's metadata. A session without the first is not ours, whatever it is called.
REFERENCE = "paylinks_reference"
REFUND = "paylinks_refund"

# Later than the year 9999 no clock of ours goes.
_LAST_SECOND = 253_402_300_799

ItemT = TypeVar("ItemT", bound="Thing")


def _our_words(value: Any) -> dict[str, str]:
    """Keep what we wrote; the rest of a merchant's metadata is not ours to read."""
    given = value if isinstance(value, dict) else {}
    return {name: given[name] for name in (REFERENCE, REFUND) if isinstance(given.get(name), str)}


def _is_there(value: Any) -> bool:
    return value is not None


Id = Annotated[str, Field(min_length=1, max_length=100)]
Word = Annotated[str, Field(max_length=64)]
Amount = Annotated[StrictInt, Field(ge=0, le=10**15)]
Seconds = Annotated[StrictInt, Field(ge=0, le=_LAST_SECOND)]
Metadata = Annotated[dict[str, str], BeforeValidator(_our_words)]
# What matters is whether it is there: the thing itself holds card data.
IsThere = Annotated[bool, BeforeValidator(_is_there)]


class _Wire(BaseModel):
    """Fields that we do not know are ignored: Stripe adds them without a new version."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Thing(_Wire):
    """What has an id."""

    id: Id


class Refund(Thing):
    """Money that goes back, or went. Only "succeeded" moved."""

    status: Word | None
    amount: Amount
    currency: Word
    created: Seconds
    metadata: Metadata = Field(default_factory=dict)
    # It left our balance at Stripe; and it came back, as the customer's bank would not have it.
    left: IsThere = Field(default=False, alias="balance_transaction")
    came_back: IsThere = Field(default=False, alias="failure_balance_transaction")


class Page(_Wire, Generic[ItemT]):
    """One page of a list, newest first."""

    data: tuple[ItemT, ...]
    has_more: StrictBool


class Charge(Thing):
    """The last try of a payment. A payment has one that succeeds, at most."""

    status: Word
    captured: StrictBool
    amount: Amount
    amount_captured: Amount
    currency: Word
    created: Seconds
    disputed: StrictBool = False
    refunds: Page[Refund] | None = None


class Intent(Thing):
    """A PaymentIntent: what became of the money of one session."""

    status: Word
    currency: Word
    capture_method: Word
    latest_charge: Charge | Id | None = None
    failed_before: IsThere = Field(default=False, alias="last_payment_error")


class Session(Thing):
    """A Checkout Session: one page at which a customer may pay once."""

    status: Word | None
    payment_status: Word
    client_reference_id: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    livemode: StrictBool
    created: Seconds
    expires_at: Seconds
    amount_total: Amount | None = None
    currency: Word | None = None
    url: str | None = Field(default=None, max_length=8000, repr=False)
    payment_intent: Intent | Id | None = None
    was_converted: IsThere = Field(default=False, alias="currency_conversion")

    @property
    def our_reference(self) -> str | None:
        """Our reference, where this session is ours."""
        name = self.client_reference_id
        return name if name and self.metadata.get(REFERENCE) == name else None


class BalanceTransaction(Thing):
    """A movement of the merchant's balance: below zero it left."""

    amount: StrictInt
    currency: Word
    created: Seconds


class Dispute(Thing):
    """A question of the customer's bank. Money moved only where a balance transaction says so."""

    amount: Amount
    currency: Word
    balance_transactions: tuple[BalanceTransaction, ...]


class Paid(Thing):
    """A charge, refund or dispute as a statement needs it: the payment that it belongs to."""

    payment_intent: Id | None = None


def moment(seconds: int) -> datetime:
    """Return a time of Stripe's, which are seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)
