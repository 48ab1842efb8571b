"""What the customer's page says about a link, from verified facts alone. A provider's redirect is no fact.

Money and people decide first, then the link, then the newest attempt.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contracts.statuses import AttemptState, InvoiceStatus, LinkState


class PageState(StrEnum):
    """One page each."""

    READY = "ready"
    IN_PROGRESS = "in_progress"  # somebody was led to the provider's page: here, in another tab, on another device
    PROCESSING = "processing"  # the customer acted, the provider has not said what came of it
    PAID = "paid"
    PAID_ELSEWHERE = "paid_elsewhere"  # by another link, or past every link
    FAILED = "failed"  # the last try failed, another may be made
    EXHAUSTED = "exhausted"  # the newest attempt is over, and the policy allows no other
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    REFUNDED = "refunded"
    REVIEW = "review"
    PARTLY_PAID = "partly_paid"  # the rest is not for this link to take
    REST = "rest"  # a part is paid, and this link takes the rest


class Opening(StrEnum):
    """How far the newest attempt is from the provider's page."""

    NONE = "none"
    COMING = "coming"  # reserved, being opened, or being asked about because its session lapsed
    OPEN = "open"  # the provider's page may be visited
    OVER = "over"


# Where a new link may be asked for.
OVER = frozenset({PageState.EXPIRED, PageState.EXHAUSTED})
# Where Pay is offered.
PAYABLE = frozenset({PageState.READY, PageState.IN_PROGRESS, PageState.FAILED, PageState.REST})


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """The newest attempt of a link."""

    state: AttemptState
    expires_at: datetime | None
    has_page: bool
    visited: bool = False  # somebody was led to the provider's page
    declined: bool = False  # and declined there, and may try again on the same page

    def opening(self, now: datetime) -> Opening:
        """Tell whether the provider's page may be visited."""
        if self.state in (AttemptState.RESERVED, AttemptState.UNKNOWN):
            return Opening.COMING
        if self.state is not AttemptState.OPEN:
            return Opening.OVER
        lapsed = self.expires_at is not None and now >= self.expires_at
        return Opening.COMING if lapsed or not self.has_page else Opening.OPEN


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What a page's state is decided from."""

    link: LinkState
    expires_at: datetime
    now: datetime
    status: InvoiceStatus
    partly_paid: bool  # more was captured than given back, and the invoice is not paid
    processing_elsewhere: bool  # money is on its way by another link of the invoice
    attempt: AttemptFacts | None
    attempts_left: bool = True  # the policy allows one more
    paid_here: bool = True  # money came by this very link
    is_short: bool = False  # what is under review is that a part is missing
    takes_rest: bool = False  # the policy lets this link take what is missing
    has_newer: bool = False  # the invoice has a newer link

    @property
    def opening(self) -> Opening:
        """How far the newest attempt is."""
        return self.attempt.opening(self.now) if self.attempt else Opening.NONE


_BY_STATUS = {
    InvoiceStatus.PAID: PageState.PAID,
    InvoiceStatus.REFUNDED: PageState.REFUNDED,
    InvoiceStatus.MANUAL_REVIEW: PageState.REVIEW,
    InvoiceStatus.CANCELLED: PageState.CANCELLED,
}
_BY_LINK = {
    LinkState.CANCELLED: PageState.CANCELLED,
    LinkState.SUPERSEDED: PageState.REPLACED,
    LinkState.EXPIRED: PageState.EXPIRED,
    # Settled, and yet neither paid nor refunded: the invoice moved on, and a person looks at it.
    LinkState.SETTLED: PageState.REVIEW,
}


def page_state(facts: PageFacts) -> PageState:
    """Decide what the page says."""
    if facts.status is InvoiceStatus.PAID and not facts.paid_here:
        return PageState.PAID_ELSEWHERE
    if facts.status is InvoiceStatus.MANUAL_REVIEW and facts.is_short and facts.paid_here:
        return PageState.PARTLY_PAID
    decided = _BY_STATUS.get(facts.status) or _by_link(facts)
    if decided is not None:
        return decided
    if not facts.partly_paid:
        return _by_attempt(facts)
    state = _by_attempt(facts) if facts.takes_rest else PageState.PARTLY_PAID
    return PageState.REST if state is PageState.READY else state


def _by_link(facts: PageFacts) -> PageState | None:
    """Whatever ended this link: where a newer one can be paid, that is what the customer wants to know."""
    is_over = facts.link in (LinkState.EXPIRED, LinkState.CANCELLED)
    return PageState.REPLACED if is_over and facts.has_newer else _BY_LINK.get(facts.link)


def _by_attempt(facts: PageFacts) -> PageState:
    state = facts.attempt.state if facts.attempt else None
    # A paid attempt is none that runs: its money decided above, or went back.
    if facts.processing_elsewhere or state is AttemptState.PROCESSING:
        return PageState.PROCESSING
    if facts.now >= facts.expires_at and facts.opening in (Opening.NONE, Opening.OVER):
        return PageState.EXPIRED
    if not facts.attempts_left and facts.opening in (Opening.NONE, Opening.OVER):
        return PageState.EXHAUSTED
    if state is AttemptState.FAILED:
        return PageState.FAILED
    return _at_the_provider(facts.attempt) if facts.attempt and facts.opening is Opening.OPEN else PageState.READY


def _at_the_provider(attempt: AttemptFacts) -> PageState:
    if attempt.declined:
        return PageState.FAILED
    return PageState.IN_PROGRESS if attempt.visited else PageState.READY
