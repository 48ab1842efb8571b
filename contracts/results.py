"""The one normalised result that a CRM gets: never a raw provider answer."""

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.statuses import FiscalStatus, Flag, InvoiceStatus, Proof


class PaymentResult(BaseModel):
    """The state of one invoice at one revision. Later revisions replace earlier ones."""

    model_config = ConfigDict(frozen=True)

    revision: int
    status: InvoiceStatus
    flags: tuple[Flag, ...] = ()
    amount_minor: int  # what was asked
    paid_minor: int = 0  # captured so far
    refunded_minor: int = 0  # given back so far, of what was captured
    currency: str
    provider: str | None = None
    provider_reference: str | None = None
    paid_at: AwareDatetime | None = None
    proof: Proof | None = None  # how the newest payment was proven
    fiscal_status: FiscalStatus = FiscalStatus.NOT_REQUIRED
    link_url: str | None = None
    request_id: str
