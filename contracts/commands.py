"""What a person wants done with the link of an invoice, by AMQP, HTTP or the command line: one frozen model per wish.

    link.resend  link.sent  link.cancel  link.reissue  link.retry  link.extend
    payment.verify  payment.capture  payment.release  payment.refund  refund.approve  refund.reject
    invoice.settled_elsewhere  invoice.review  invoice.resolve  fiscal.status_changed
    command.answered    what became of each, to outside

Each names who and why. The same wish sent again (the event's id, or the Idempotency-Key) is one wish.
"""

from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from contracts.base import Identifier, Message, ShortText, Slug, key_of
from contracts.messages import PayableType, sane_lifetime
from contracts.money import AmountMinor, Currency
from contracts.statuses import FiscalStatus

Why = Annotated[ShortText, Field(min_length=1)]
Lifetime = Annotated[timedelta, AfterValidator(sane_lifetime)]
_SAME = ("crm", "type", "invoice_id", "actor", "reason")


class Command(Message):
    """A wish about the newest link of one payable."""

    FINGERPRINT: ClassVar[tuple[str, ...]] = _SAME

    crm: Slug
    invoice_id: Identifier
    type: PayableType = "invoice"
    actor: Identifier
    reason: Why
    # Set by intake, never by the sender: which wish this is, and whether a CRM's user or an operator of ours has it.
    wish: SkipJsonSchema[Annotated[str, Field(max_length=400)]] = ""
    by: SkipJsonSchema[Literal["crm", "operator"]] = "crm"

    def key(self) -> str:
        """One wish of one sender."""
        return key_of(self.TYPE, self.crm, self.type, self.invoice_id, self.wish)

    def subject(self) -> str:
        """The CRM's own name."""
        return key_of(self.crm, self.type, self.invoice_id)

    def author(self) -> str:
        """Name who wants it, for the audit trail."""
        return f"operator:{self.actor}" if self.by == "operator" else f"crm:{self.crm}:{self.actor}"


class LinkResend(Command):
    """Send the same link again: nothing about it changes, and it is written down."""

    TYPE: ClassVar[str] = "link.resend.v1"


class LinkSent(Command):
    """The link was sent to somebody; by whom, which way and when."""

    TYPE: ClassVar[str] = "link.sent.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "channel", "recipient", "sent_at")
    SEALED: ClassVar[frozenset[str]] = frozenset({"recipient"})

    reason: ShortText = ""
    channel: Literal["email", "sms", "messenger", "phone", "paper", "other"]
    recipient: ShortText | None = None
    sent_at: AwareDatetime | None = None


class LinkCancel(Command):
    """Close the link: nobody may pay by it any more. The invoice itself stays as it is in the CRM."""

    TYPE: ClassVar[str] = "link.cancel.v1"


class LinkReissue(Command):
    """Close the link, at the provider too, and make a new one for the same version of the invoice."""

    TYPE: ClassVar[str] = "link.reissue.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "expires_in")

    expires_in: Lifetime | None = None


class LinkRetry(Command):
    """Let the customer begin a new payment under the same link: an order that is open is closed first."""

    TYPE: ClassVar[str] = "link.retry.v1"


class LinkExtend(Command):
    """Let the link live longer, or shorter, from now on."""

    TYPE: ClassVar[str] = "link.extend.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "expires_in")

    expires_in: Lifetime


class PaymentVerify(Command):
    """Somebody says that he paid: ask the provider now."""

    TYPE: ClassVar[str] = "payment.verify.v1"


class PaymentRefund(Command):
    """Give money of the invoice back, through the provider that took it: all that is left, or a part.

    Where money came by several payments, `payment` says which.
    """

    TYPE: ClassVar[str] = "payment.refund.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "amount_minor", "currency", "payment")

    amount_minor: AmountMinor | None = None
    currency: Currency | None = None
    payment: ShortText | None = None

    @model_validator(mode="after")
    def _an_amount_has_a_currency(self) -> Self:
        if (self.amount_minor is None) is not (self.currency is None):
            raise ValueError("amount_minor and currency go together; leave both out to give back all that is left")
        return self


class PaymentCapture(Command):
    """Capture the money that is held for the invoice: what its order asked for, or a part. What is left is let go."""

    TYPE: ClassVar[str] = "payment.capture.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "amount_minor", "currency")

    amount_minor: AmountMinor | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _an_amount_has_a_currency(self) -> Self:
        if (self.amount_minor is None) is not (self.currency is None):
            raise ValueError("amount_minor and currency go together; leave both out to capture all that was asked for")
        return self


class PaymentRelease(Command):
    """Let the money go that is held for the invoice: nothing of it is captured."""

    TYPE: ClassVar[str] = "payment.release.v1"


class RefundApprove(Command):
    """A second person agrees to a refund that waits for one."""

    TYPE: ClassVar[str] = "refund.approve.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "refund")

    refund: Identifier


class RefundReject(Command):
    """A person refuses a refund that waits for a second one; no money moves."""

    TYPE: ClassVar[str] = "refund.reject.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "refund")

    refund: Identifier


class InvoiceSettledElsewhere(Command):
    """The invoice was paid past the link, by bank transfer or in cash: nobody may pay by it any more."""

    TYPE: ClassVar[str] = "invoice.settled_elsewhere.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (
        *(*_SAME, "amount_minor", "currency", "method", "reference", "settled_at"),
    )

    amount_minor: AmountMinor
    currency: Currency
    method: Literal["bank_transfer", "cash", "terminal", "other"]
    reference: ShortText | None = None
    settled_at: AwareDatetime | None = None


class InvoiceReview(Command):
    """A person must look at this invoice: until he has, nobody pays it."""

    TYPE: ClassVar[str] = "invoice.review.v1"


class InvoiceResolve(Command):
    """A person has decided about an open exception of the invoice."""

    TYPE: ClassVar[str] = "invoice.resolve.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "case")

    case: Slug


class FiscalStatusChanged(Command):
    """Where the fiscal receipt stands, as the CRM, the ERP or a person says; never derived from the payment's state."""

    TYPE: ClassVar[str] = "fiscal.status_changed.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (*_SAME, "status", "receipt_no")

    reason: ShortText = ""
    status: FiscalStatus
    receipt_no: ShortText | None = None


COMMANDS: tuple[type[Command], ...] = (
    LinkResend,
    LinkSent,
    LinkCancel,
    LinkReissue,
    LinkRetry,
    LinkExtend,
    PaymentVerify,
    PaymentCapture,
    PaymentRelease,
    PaymentRefund,
    RefundApprove,
    RefundReject,
    InvoiceSettledElsewhere,
    InvoiceReview,
    InvoiceResolve,
    FiscalStatusChanged,
)


class CommandAnswered(Message):
    """A command was carried out, or refused for a reason that its sender can mend."""

    TYPE: ClassVar[str] = "command.answered.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("command", "outcome")

    command: str
    crm: Slug
    type: PayableType
    invoice_id: Identifier
    actor: Identifier
    outcome: Literal["done", "refused"]
    detail: str
    link: str | None = None
    link_url: str | None = None
    request_id: str
    causation: str

    def key(self) -> str:
        """One answer per command."""
        return key_of("command.answered", self.causation)

    def subject(self) -> str:
        """The CRM's own name."""
        return key_of(self.crm, self.type, self.invoice_id)
