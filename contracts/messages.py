"""Every message that travels, one frozen model per type, with its deduplication key beside it.

    from outside   invoice.created  invoice.cancelled  provider.event
    between stages link.create  link.expire  link.wanted  checkout.start  attempt.check  attempt.close
                   refund.make  receipt.issue  crm.update  crm.check  exception.raised  exception.cleared
    to outside     invoice.accepted  intake.rejected  payment.status_changed  money.unmatched

Ids and small facts only. A breaking change is a new version beside the old one, never an edit.
"""

from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, StrictInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from contracts.base import Identifier, Message, Part, ShortText, Slug, key_of
from contracts.money import AmountMinor, Currency, exponent
from contracts.results import PaymentResult

PayableType = Literal["invoice", "deal", "order"]
Locale = Literal["hy", "ru", "en"]
Version = Annotated[StrictInt, Field(ge=1, le=2_000_000_000)]
Counter = Annotated[int, Field(ge=1)]

MIN_LIFETIME = timedelta(minutes=5)
MAX_LIFETIME = timedelta(days=366)


def sane_lifetime(value: timedelta) -> timedelta:
    """Refuse the lifetime of a link that nobody can mean."""
    if not MIN_LIFETIME <= value <= MAX_LIFETIME:
        raise ValueError("out of range; use an ISO 8601 duration from PT5M to P366D")
    return value


# --- from outside ---------------------------------------------------------------------------------------------------


class Customer(Part):
    """Who pays. Personal: encrypted wherever it is kept."""

    name: ShortText | None = None
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    phone: Annotated[str, Field(pattern=r"^\+?[0-9 ()\-]{5,24}$")] | None = None
    locale: Locale = "en"


class Manager(Part):
    """Who answers for the invoice in the CRM."""

    id: Identifier
    name: ShortText | None = None


class Policy(Part):
    """What may be said about the link of an invoice; what is left out is the CRM's or the deployment's to say."""

    expires_in: Annotated[timedelta, AfterValidator(sane_lifetime)] | None = None
    partial: Literal["review", "accept", "collect"] | None = None
    over: Literal["review", "accept"] | None = None
    late: Literal["review", "accept"] | None = None
    old_link: Literal["review", "accept"] | None = None
    unsent: Literal["amend", "replace"] | None = None
    attempts: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    resend: bool | None = None
    cancel: bool | None = None
    reissue: bool | None = None
    retry: bool | None = None
    extend: bool | None = None


class InvoiceCreated(Message):
    """The CRM wants an invoice paid; a higher version replaces what was wanted before."""

    TYPE: ClassVar[str] = "invoice.created.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = (
        *("crm", "type", "invoice_id", "version", "kind", "deal_id", "amount_minor", "currency"),
        *("purpose", "customer", "manager", "policy", "account"),
    )
    SEALED: ClassVar[frozenset[str]] = frozenset({"customer"})

    crm: Slug
    invoice_id: Identifier
    # None: the CRM has no versions, and intake assigns the next one when business fields changed.
    version: Version | None = None
    type: PayableType = "invoice"
    kind: Literal["invoice", "prepayment"] = "invoice"
    deal_id: Identifier | None = None
    amount_minor: AmountMinor
    currency: Currency
    # Only to catch a sender who counts otherwise: when given, it must be the currency's own.
    currency_exponent: StrictInt | None = None
    purpose: Annotated[ShortText, Field(min_length=1)]
    customer: Customer = Customer()
    manager: Manager | None = None
    created_by: Identifier | None = None
    policy: Policy = Policy()
    account: Slug | None = None  # a provider account by name; else the deployment's routing decides
    # Set by intake, never by the sender: what makes this a wish of its own where the version cannot.
    wish: SkipJsonSchema[Annotated[str, Field(max_length=400)]] = ""

    @model_validator(mode="after")
    def _exponent_is_the_currencys(self) -> Self:
        if self.currency_exponent is not None and self.currency_exponent != exponent(self.currency):
            raise ValueError(
                f"currency_exponent does not fit: {self.currency} has {exponent(self.currency)} decimals (ISO 4217); "
                "send amount_minor in that unit"
            )
        return self

    def key(self) -> str:
        """One version of one payable; without a version, one event of the sender."""
        version = "none" if self.version is None else self.version
        return key_of("invoice", self.crm, self.type, self.invoice_id, version, self.wish)

    def subject(self) -> str:
        """The CRM's own name."""
        return key_of(self.crm, self.type, self.invoice_id)


class InvoiceCancelled(Message):
    """The CRM does not want the invoice paid any more, up to and including `version`."""

    TYPE: ClassVar[str] = "invoice.cancelled.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("crm", "type", "invoice_id", "version")

    crm: Slug
    invoice_id: Identifier
    version: Version
    type: PayableType = "invoice"
    cancelled_by: Identifier | None = None
    reason: ShortText | None = None

    def key(self) -> str:
        """One cancellation of everything up to a version."""
        return key_of("invoice-cancel", self.crm, self.type, self.invoice_id, self.version)

    def subject(self) -> str:
        """The CRM's own name."""
        return key_of(self.crm, self.type, self.invoice_id)


class ProviderEventReceived(Message):
    """Raw bytes from a provider: a hint that something happened, not yet believed."""

    TYPE: ClassVar[str] = "provider.event.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("account", "receipt")
    SEALED: ClassVar[frozenset[str]] = frozenset({"query", "headers", "body_base64"})

    account: Slug
    # Both are set by intake or receiver. The receipt is the provider's own event id where its signature has been
    # checked, else one of ours: never dropped unread.
    receipt: SkipJsonSchema[Annotated[str, Field(min_length=1, max_length=160)]]
    received_at: SkipJsonSchema[AwareDatetime]
    method: Literal["GET", "POST"] = "POST"
    query: Annotated[str, Field(max_length=8192)] = ""
    headers: dict[str, str] = Field(default_factory=dict)
    body_base64: str = ""

    def key(self) -> str:
        """One event of one account."""
        return key_of("event", self.account, self.receipt)

    def subject(self) -> str:
        """The account: whose invoice it is, nobody knows yet."""
        return self.account


# --- between stages -------------------------------------------------------------------------------------------------


class LinkCreate(Message):
    """Make the provider order of a link at once, where sessions live for days."""

    TYPE: ClassVar[str] = "link.create.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("link", "attempt")

    invoice: str
    link: str
    attempt: str

    def key(self) -> str:
        """One early attempt of one link."""
        return key_of("link.create", self.link, self.attempt)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class CheckoutStart(Message):
    """A customer pressed Pay and waits: open this attempt at the provider."""

    TYPE: ClassVar[str] = "checkout.start.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("attempt",)

    invoice: str
    link: str
    attempt: str

    def key(self) -> str:
        """One attempt."""
        return key_of("checkout", self.attempt)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class AttemptCheck(Message):
    """Ask the provider what happened to an attempt. Every check is a wish of its own."""

    TYPE: ClassVar[str] = "attempt.check.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("attempt", "check_no")

    invoice: str
    attempt: str
    check_no: Counter

    def key(self) -> str:
        """The n-th question about one attempt."""
        return key_of("verify", self.attempt, self.check_no)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class AttemptClose(Message):
    """Close an attempt at the provider too, because its link was settled, cancelled or replaced."""

    TYPE: ClassVar[str] = "attempt.close.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("attempt", "close_no")

    invoice: str
    attempt: str
    close_no: Counter = 1
    reason: str

    def key(self) -> str:
        """The n-th wish to close one attempt: a refused one may be wished again."""
        return key_of("attempt.close", self.attempt, self.close_no)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class AttemptHold(Message):
    """Capture money that a provider holds for us, or let it go."""

    TYPE: ClassVar[str] = "attempt.hold.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("attempt", "hold_no", "wanted", "amount_minor")

    invoice: str
    attempt: str
    hold_no: Counter
    # decide: captured while the invoice still wants the money, else let go.
    wanted: Literal["decide", "capture", "release"] = "decide"
    amount_minor: AmountMinor | None = None  # to capture; none: what the order asked for

    def key(self) -> str:
        """The n-th wish about what one order holds."""
        return key_of("attempt.hold", self.attempt, self.hold_no)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class LinkExpire(Message):
    """The lifetime of a link is over: ask a last time, then close it."""

    TYPE: ClassVar[str] = "link.expire.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("link", "extension")

    invoice: str
    link: str
    extension: str = ""  # the command that moved the end; none: the first one

    def key(self) -> str:
        """One end per link, and one more for each time that it was moved."""
        return key_of("link.expire", self.link, *([self.extension] if self.extension else []))

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class RefundMake(Message):
    """Give money back at the provider, as it was asked for and agreed to."""

    TYPE: ClassVar[str] = "refund.make.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("refund", "decision")

    refund: str
    about: str
    decision: str = ""  # the command that agreed to it, or wants it tried again; none: the wish itself

    def key(self) -> str:
        """One refund, and once more for each decision of a person."""
        return key_of("refund", self.refund, *([self.decision] if self.decision else []))

    def subject(self) -> str:
        """Our invoice, or the inbox entry of money that is nobody's."""
        return self.about


class ReceiptIssue(Message):
    """Have a fiscal receipt printed for money that moved."""

    TYPE: ClassVar[str] = "receipt.issue.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("fiscal_receipt", "decision")

    invoice: str
    fiscal_receipt: str
    decision: str = ""  # the command that wants it tried again; none: the wish itself

    def key(self) -> str:
        """One receipt, and once more for each decision of a person."""
        return key_of("receipt.issue", self.fiscal_receipt, *([self.decision] if self.decision else []))

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class LinkWanted(Message):
    """A customer whose link takes no payment any more asks for a new one."""

    TYPE: ClassVar[str] = "link.wanted.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("link", "day")

    invoice: str
    link: str
    day: str

    def key(self) -> str:
        """One request per link and day, however often he asks."""
        return key_of("link.wanted", self.link, self.day)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class CrmUpdate(Message):
    """The invoice changed: write its current revision to the CRM."""

    TYPE: ClassVar[str] = "crm.update.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "revision")

    invoice: str
    revision: Counter

    def key(self) -> str:
        """One write per revision."""
        return key_of("crm.update", self.invoice, self.revision)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class CrmCheck(Message):
    """A write to the CRM was lost on the way: look later whether a stale one arrived after all."""

    TYPE: ClassVar[str] = "crm.check.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "check_no")

    invoice: str
    check_no: Counter

    def key(self) -> str:
        """The n-th look at one record."""
        return key_of("crm.check", self.invoice, self.check_no)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class ExceptionRaised(Message):
    """A case that no rule may close alone: give the manager one task."""

    TYPE: ClassVar[str] = "exception.raised.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "reason", "episode")

    invoice: str
    exception: str
    reason: str
    episode: Counter

    def key(self) -> str:
        """One task per episode of a reason; a reason that returns is a new episode."""
        return key_of("exception", self.invoice, self.reason, self.episode)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class ExceptionCleared(Message):
    """The reason is gone: close the manager's task."""

    TYPE: ClassVar[str] = "exception.cleared.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "reason", "episode")

    invoice: str
    exception: str
    reason: str
    episode: Counter
    late: bool = False  # the task was still being made when the reason went

    def key(self) -> str:
        """One closing per episode, and one more for a task that came late."""
        return key_of("exception.cleared", self.invoice, self.reason, self.episode, *(["late"] if self.late else []))

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


# --- to outside -----------------------------------------------------------------------------------------------------


class InvoiceAccepted(Message):
    """We keep this version of the invoice: its sender may stop repeating it."""

    TYPE: ClassVar[str] = "invoice.accepted.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("crm", "type", "invoice_id", "version")

    crm: Slug
    type: PayableType
    invoice_id: Identifier
    version: Version
    sent_version: Version | None = None  # what the sender called it; None: he has no versions
    # accepted, unchanged (sent before), superseded (a newer version is known), cancelled, conflict (other content)
    outcome: Literal["accepted", "unchanged", "superseded", "cancelled", "conflict"]
    request_id: str
    causation: str  # the message that this answers, so that every answer is sent

    def key(self) -> str:
        """One answer per message that asked."""
        return key_of("invoice.accepted", self.causation)

    def subject(self) -> str:
        """The CRM's own name."""
        return key_of(self.crm, self.type, self.invoice_id)


class IntakeRejected(Message):
    """A body that we could not read is kept for review; nothing of it was done."""

    TYPE: ClassVar[str] = "intake.rejected.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("rejection",)

    rejection: str
    source: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    problems: tuple[str, ...]

    def key(self) -> str:
        """One announcement per kept body."""
        return key_of("intake.rejected", self.rejection)

    def subject(self) -> str:
        """The kept body."""
        return self.rejection


class PaymentStatusChanged(Message):
    """The same normalised result that the CRM gets, for ERP and website."""

    TYPE: ClassVar[str] = "payment.status_changed.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("invoice", "revision")

    invoice: str
    revision: Counter
    crm: Slug
    type: PayableType
    invoice_id: Identifier
    deal_id: Identifier | None = None
    result: PaymentResult

    def key(self) -> str:
        """One event per revision."""
        return key_of("payment.status_changed", self.invoice, self.revision)

    def subject(self) -> str:
        """Our invoice."""
        return self.invoice


class MoneyUnmatched(Message):
    """Money came by an order that is no invoice's: it is kept until a person assigns or refunds it."""

    TYPE: ClassVar[str] = "money.unmatched.v1"
    FINGERPRINT: ClassVar[tuple[str, ...]] = ("unmatched",)

    unmatched: str
    account: Slug
    provider_order_id: str
    amount_minor: int
    currency: str
    request_id: str

    def key(self) -> str:
        """One order."""
        return key_of("money.unmatched", self.unmatched)

    def subject(self) -> str:
        """The inbox entry."""
        return self.unmatched
