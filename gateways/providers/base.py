"""What every payment provider adapter offers, and what it declares that it cannot do.

Amounts are minor units of an ISO 4217 alphabetic code, times are aware UTC, `reference` is the attempt's own
reference, unique for ever. Every method raises only Unavailable, Refused or Unknown (gateways.errors).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from contracts.evidence import Evidence


class CreateMode(StrEnum):
    """What a second create under the same reference does."""

    IDEMPOTENT = "idempotent"  # gives the first order again
    UNIQUE = "unique"  # is refused, and does not tell the first order's page
    OVERWRITES = "overwrites"  # gives the same order id, with the second call's parameters


class References(StrEnum):
    """What an order may be called by us."""

    TEXT = "text"  # any text: the attempt's id
    NUMBER = "number"  # decimal digits only: the core counts them, for each account, and never uses one twice


class Opens(StrEnum):
    """When the order is made: sessions of days at once, sessions of minutes when the customer presses Pay."""

    EARLY = "early"
    AT_PAY = "at_pay"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the core must know to live without what a provider has not."""

    create: CreateMode
    opens: Opens
    session_life: timedelta
    settle: timedelta  # after a lost create, "there is no such order" counts only when this has passed
    lookup: bool  # can be asked about an order at all
    lookup_gives_page: bool  # and the answer still tells the page where the customer pays
    cancel: bool
    refund_idempotent: bool
    signed_events: bool
    push: bool = True  # it tells of changes by itself
    refund: bool = True  # money can be given back by a call
    capture: bool = False  # money may be held first, and is captured by a call
    statement: bool = True  # it lists the orders of a day
    amount_unit: str = "minor"  # on the wire; the adapter converts, nobody else
    currency_code: str = "alphabetic"  # on the wire: alphabetic or numeric (ISO 4217)
    reference: References = References.TEXT
    precheck: bool = False  # it asks before money moves, and takes no for an answer (`parse_precheck`)
    answer: str = ""  # what it must hear, literally, when an event is kept or a precheck agreed to; empty: any 2xx
    receipt: bool = False  # its evidence tells of the fiscal receipt that it made by itself
    calls_per_second: float = 10.0  # for all workers together; an account's settings may say another number
    burst: int = 20  # calls that may come at once after a pause


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order to create. The description holds no personal data: providers print it on statements."""

    reference: str
    amount_minor: int
    currency: str
    description: str
    return_url: str
    expires_in: timedelta
    locale: str = "en"


@dataclass(frozen=True, slots=True)
class ProviderOrder:
    """An order that exists at the provider. `pay_url` is None where a look-up cannot tell it any more.

    `pay_fields`: the customer's browser must POST these form fields to `pay_url`; empty: it simply goes there.
    """

    reference: str
    provider_order_id: str
    pay_url: str | None = field(repr=False)
    expires_at: datetime | None
    provider_request_id: str | None = None
    pay_fields: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Give back `amount_minor` of one captured transaction; `refund_reference` is ours and unique per wish."""

    refund_reference: str
    reference: str
    provider_order_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """A refund that the provider accepted."""

    refund_reference: str
    provider_transaction_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A hint that something happened. `evidence` only where the signed body carries complete facts.

    `payment`: the provider's id of a capture, where the event names no order (a dispute does at some): the books know
    whose it is.
    """

    event_id: str | None
    event_type: str
    reference: str | None
    provider_order_id: str | None
    evidence: Evidence | None = None
    payment: str | None = None


@dataclass(frozen=True, slots=True)
class Precheck:
    """A provider asks whether this order may be paid with this money, before the money moves. It proves nothing."""

    reference: str
    amount_minor: int
    currency: str


class Provider(Protocol):
    """One account at one provider.

    Made with name, base_url, api_key, webhook_secrets and the account's options as keywords. ValueError says what is
    wrong with an option, beginning with "provider {name}: ", and shows no value.
    """

    name: str
    capabilities: Capabilities

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        """Create the order. Unknown when the call left us and no answer came back."""

    def find_order(self, reference: str) -> ProviderOrder | None:
        """Look an order up by our reference; None: the provider says that it has none."""

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        """Ask what happened to the order; None: the provider says that it has none."""

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        """Close an unpaid order. Refused when it is paid or already closed: ask for evidence then."""

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        """Capture money that is held. Refused where this provider holds none, or nothing is held any more."""

    def release_order(self, reference: str, provider_order_id: str) -> None:
        """Let a hold go. Refused where this provider holds none, or nothing is held any more."""

    def refund(self, request: RefundRequest) -> ProviderRefund:
        """Give money back."""

    def check_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> str | None:
        """Check signature and age alone, cheaply, for the door; return the event's own id if it has one.

        Refuses what `parse_event` refuses for its signature or age. Only called where events are signed.
        """

    def parse_event(
        self, *, method: str, query: str, headers: dict[str, str], body: bytes, received_at: datetime
    ) -> ProviderEvent:
        """Check signature and age against the receive time, then parse, and ask nobody. Refused names what is wrong.

        `headers` have lower-case names; `query` is the raw query string; `body` the raw bytes.
        """

    def parse_precheck(self, *, method: str, query: str, headers: dict[str, str], body: bytes) -> Precheck | None:
        """Read a question before money moves; None: this is no such question. Refused names what is wrong.

        Only called where `capabilities.precheck` says so.
        """

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        """List every order with a transaction in [since, until), for reconciliation."""

    def close(self) -> None:
        """Release connections."""
