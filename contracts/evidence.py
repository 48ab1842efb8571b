"""What a provider says about one order when asked, in our words.

An adapter makes it from the provider's answer, or from a signed event that carries the same facts. Amounts are
minor units, times are aware UTC. Evidence is cumulative: it lists every transaction of the order so far, so that the
same evidence twice, or two in the wrong order, say nothing new.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.statuses import FiscalStatus, Proof


class OrderState(StrEnum):
    """How far the order itself got. What money moved stands in the transactions, never here alone."""

    OPEN = "open"
    PROCESSING = "processing"
    HELD = "held"
    PAID = "paid"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class TransactionKind(StrEnum):
    """What a movement of money is."""

    CAPTURE = "capture"
    REFUND = "refund"
    REVERSAL = "reversal"
    CHARGEBACK = "chargeback"


class ProviderTransaction(BaseModel):
    """Money that really moved. `amount_minor` is positive; the kind gives the direction.

    A `cumulative` one is all of its kind so far, from a provider that tells no single movements: what moved is the
    difference to what the ledger holds, and its id names the order and the kind alone.
    """

    model_config = ConfigDict(frozen=True)

    provider_transaction_id: str = Field(min_length=1, max_length=128)
    kind: TransactionKind
    amount_minor: int = Field(gt=0)
    currency: str
    occurred_at: AwareDatetime
    cumulative: bool = False


class ProviderReceipt(BaseModel):
    """The fiscal receipt that a provider made by itself, as far as it tells. Another thing than paid."""

    model_config = ConfigDict(frozen=True)

    status: FiscalStatus
    number: str | None = Field(default=None, max_length=64)


class Evidence(BaseModel):
    """The provider's whole word on one order."""

    model_config = ConfigDict(frozen=True)

    reference: str  # ours, given at creation
    provider_order_id: str
    state: OrderState
    retryable: bool = False  # DECLINED, but the customer may try again in the same order
    transactions: tuple[ProviderTransaction, ...] = ()
    provider_request_id: str | None = None  # for the provider's support desk
    proof: Proof = Proof.LOOK_UP
    receipt: ProviderReceipt | None = None
    asked_at: datetime
