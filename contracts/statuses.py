"""The normalised words that the CRM sees. Moves between them are a table in rules/."""

from enum import StrEnum


class InvoiceStatus(StrEnum):
    """What an invoice is, for the CRM, the manager and the customer."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    MANUAL_REVIEW = "manual_review"


class Flag(StrEnum):
    """Stands beside the status: a status alone never hides that the money is odd."""

    PARTIAL = "partial"
    OVERPAID = "overpaid"
    LATE = "late"
    OLD_LINK = "old_link"
    DUPLICATE = "duplicate"
    PARTIALLY_REFUNDED = "partially_refunded"
    CHARGEBACK = "chargeback"
    SETTLED_ELSEWHERE = "settled_elsewhere"  # by bank transfer or in cash: somebody said so, no provider did


class Proof(StrEnum):
    """How we know that money came. Never a redirect, an e-mail or an unsigned event."""

    LOOK_UP = "look_up"  # the provider was asked
    SIGNED_EVENT = "signed_event"  # its signed confirmation alone: it offers no look-up, or its account trusts them


class FiscalStatus(StrEnum):
    """The receipt's own state; never derived from the payment's."""

    NOT_REQUIRED = "not_required"
    PENDING = "pending"
    ISSUED = "issued"
    FAILED = "failed"
    RETURNED = "returned"


class LinkState(StrEnum):
    """What our own link may still do."""

    ACTIVE = "active"
    SETTLED = "settled"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class AttemptState(StrEnum):
    """What one order at a provider is, as far as we know."""

    RESERVED = "reserved"  # ours alone; the provider has not been asked
    UNKNOWN = "unknown"  # asked, no answer: it may exist
    OPEN = "open"  # the customer may pay it
    PROCESSING = "processing"  # the customer acted; the result is not final
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    CLOSED = "closed"  # cancelled by us, at the provider too where that is possible


# An attempt in one of these may still take the customer's money by our doing; a link has at most one.
OPEN_ATTEMPTS = frozenset({AttemptState.RESERVED, AttemptState.UNKNOWN, AttemptState.OPEN, AttemptState.PROCESSING})
