"""What the customer's page shows, in one statement each: a look at a page must never wait for anything.

Only verified facts: what our own rows say. None of these statements locks or writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select

from contracts.evidence import TransactionKind
from contracts.statuses import AttemptState, FiscalStatus, Flag, InvoiceStatus, LinkState
from db.hot import Hot
from db.invoices import flags_of
from db.schema import attempts, invoices, links, transactions
from db.tx import Tx
from db.types import constant, db_now
from rules.pages import AttemptFacts, PageFacts
from rules.policy import LinkPolicy

_newest = (
    select(attempts.c.id)
    .where(attempts.c.link_id == links.c.id)
    .order_by(attempts.c.number.desc())
    .limit(1)
    .scalar_subquery()
    .correlate(links)
)
_others = attempts.alias("others")
_processing_elsewhere = (
    select(_others.c.id)
    .where(
        _others.c.invoice_id == links.c.invoice_id,
        _others.c.link_id != links.c.id,
        _others.c.state == constant(AttemptState.PROCESSING),
    )
    .correlate(links)
    .exists()
)
_by_this_link = attempts.alias("by_this_link")
_paid_here = (
    select(transactions.c.id)
    .join(_by_this_link, _by_this_link.c.id == transactions.c.attempt_id)
    .where(
        transactions.c.invoice_id == links.c.invoice_id,
        transactions.c.kind == constant(TransactionKind.CAPTURE),
        _by_this_link.c.link_id == links.c.id,
    )
    .correlate(links)
    .exists()
)
_newer = links.alias("newer")
_has_newer = (
    select(_newer.c.id)
    .where(_newer.c.invoice_id == links.c.invoice_id, _newer.c.number > links.c.number)
    .correlate(links)
    .exists()
)
_refunded_at = (
    select(func.max(transactions.c.occurred_at))
    .where(
        transactions.c.invoice_id == links.c.invoice_id,
        transactions.c.kind.in_([constant(TransactionKind.REFUND), constant(TransactionKind.REVERSAL)]),
    )
    .correlate(links)
    .scalar_subquery()
)
_BY_TOKEN = Hot(
    select(
        links.c.id.label("link_id"),
        links.c.invoice_id,
        links.c.state.label("link_state"),
        links.c.expires_at.label("link_expires_at"),
        links.c.amount_minor,
        links.c.currency,
        links.c.policy,
        invoices.c.crm,
        invoices.c.external_id,
        invoices.c.payable_type,
        invoices.c.purpose,
        invoices.c.status,
        invoices.c.flags,
        invoices.c.locale,
        invoices.c.paid_minor,
        invoices.c.refunded_minor,
        invoices.c.paid_at,
        invoices.c.provider_reference,
        invoices.c.fiscal_status,
        attempts.c.id.label("attempt_id"),
        attempts.c.state.label("attempt_state"),
        attempts.c.number.label("attempt_number"),
        attempts.c.expires_at.label("attempt_expires_at"),
        attempts.c.opened_at.label("attempt_opened_at"),
        attempts.c.visited_at.label("attempt_visited_at"),
        attempts.c.declined_at.label("attempt_declined_at"),
        _processing_elsewhere.label("processing_elsewhere"),
        _paid_here.label("paid_here"),
        _refunded_at.label("refunded_at"),
        _has_newer.label("has_newer"),
        db_now().label("now"),
    )
    .select_from(
        links.join(invoices, invoices.c.id == links.c.invoice_id).outerjoin(attempts, attempts.c.id == _newest)
    )
    .where(links.c.token_hash == bindparam("token_hash"))
)
_NOW = Hot(select(db_now().label("now")))


@dataclass(frozen=True, slots=True)
class CustomerView:
    """One link as its customer sees it. Nothing personal: a link is forwarded."""

    link_id: str
    invoice_id: str
    attempt_id: str | None
    facts: PageFacts
    amount_minor: int
    currency: str
    expires_at: datetime
    external_id: str
    payable_type: str
    purpose: str
    locale: str
    paid_at: datetime | None
    crm: str = ""
    paid_minor: int = 0  # what is with the merchant now
    refunded_minor: int = 0
    refunded_at: datetime | None = None
    payment_number: str | None = None  # the provider's, of the newest money
    fiscal: FiscalStatus = FiscalStatus.NOT_REQUIRED

    @property
    def remaining_minor(self) -> int:
        """What is still to be paid."""
        return max(self.amount_minor - self.paid_minor, 0)


def by_token_hash(tx: Tx, token_hash: bytes) -> CustomerView | None:
    """Return what the page of this link shows; None: there is no such link."""
    row = _BY_TOKEN.first(tx, token_hash=token_hash)
    if row is None:
        return None
    return CustomerView(
        link_id=row.link_id,
        invoice_id=row.invoice_id,
        attempt_id=row.attempt_id,
        facts=_facts(row),
        amount_minor=row.amount_minor,
        currency=row.currency,
        expires_at=row.link_expires_at,
        external_id=row.external_id,
        payable_type=row.payable_type,
        purpose=row.purpose,
        locale=row.locale,
        paid_at=row.paid_at,
        crm=row.crm,
        paid_minor=max(row.paid_minor - row.refunded_minor, 0),
        refunded_minor=row.refunded_minor,
        refunded_at=row.refunded_at,
        payment_number=row.provider_reference,
        fiscal=FiscalStatus(row.fiscal_status),
    )


def _facts(row: Any) -> PageFacts:
    attempt = None
    if row.attempt_state is not None:
        attempt = AttemptFacts(
            AttemptState(row.attempt_state),
            row.attempt_expires_at,
            has_page=row.attempt_opened_at is not None,
            visited=row.attempt_visited_at is not None,
            declined=row.attempt_declined_at is not None,
        )
    policy = LinkPolicy.kept(row.policy)
    return PageFacts(
        link=LinkState(row.link_state),
        expires_at=row.link_expires_at,
        now=row.now,
        status=InvoiceStatus(row.status),
        partly_paid=row.paid_minor > row.refunded_minor,
        processing_elsewhere=bool(row.processing_elsewhere),
        attempt=attempt,
        paid_here=bool(row.paid_here),
        attempts_left=(row.attempt_number or 0) < policy.attempts,
        is_short=Flag.PARTIAL in flags_of(row),
        takes_rest=policy.partial == "collect",
        has_newer=bool(row.has_newer),
    )


def newest_attempts(tx: Tx, link_ids: Sequence[str]) -> tuple[datetime, dict[str, AttemptFacts]]:
    """Return the database's time and the newest attempt of each of these links that has one."""
    found = select(
        attempts.c.link_id, attempts.c.state, attempts.c.expires_at, attempts.c.opened_at, db_now().label("now")
    ).where(attempts.c.link_id.in_(link_ids))
    rows = tx.execute(found.order_by(attempts.c.number)).all()
    newest = {
        row.link_id: AttemptFacts(AttemptState(row.state), row.expires_at, has_page=row.opened_at is not None)
        for row in rows
    }
    return (rows[0].now if rows else now(tx)), newest


def newest_attempt(tx: Tx, link_id: str) -> Any:
    """Return the newest attempt of a link, or None."""
    found = select(attempts).where(attempts.c.link_id == link_id).order_by(attempts.c.number.desc()).limit(1)
    return tx.execute(found).first()


def now(tx: Tx) -> datetime:
    """Return the database's time."""
    at: datetime = _NOW.one(tx).now
    return at
