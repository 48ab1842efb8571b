"""Promises about links and attempts: 2 one live link, 6 the lock holds, 9 settled is closed, 11 nothing waits."""

from sqlalchemy import ColumnElement, and_, exists, literal, or_

from contracts.messages import AttemptCheck, AttemptClose, CheckoutStart, LinkCreate, LinkExpire
from contracts.statuses import OPEN_ATTEMPTS, InvoiceStatus, LinkState
from db.promises.base import IN_A_PERSONS_HANDS, broken_where, is_live, older_than
from db.schema import attempts, exceptions, invoice_versions, invoices, links

_OPEN = tuple(sorted(state.value for state in OPEN_ATTEMPTS))
_SETTLED = (InvoiceStatus.PAID.value, InvoiceStatus.REFUNDED.value)
_ATTEMPT_WORK = (AttemptCheck.TYPE, AttemptClose.TYPE, CheckoutStart.TYPE, LinkCreate.TYPE)


def _settled(invoice_id: ColumnElement[str]) -> ColumnElement[bool]:
    return exists(literal(1)).where(invoices.c.id == invoice_id, invoices.c.status.in_(_SETTLED))


def _worked_on() -> ColumnElement[bool]:
    return is_live(attempts.c.invoice_id, *_ATTEMPT_WORK, naming=attempts.c.id)


def _collects_the_rest() -> ColumnElement[bool]:
    """True where the link's policy lets a further order take what is left."""
    return links.c.policy.contains('"partial":"collect"', autoescape=True)


_other_link = links.alias()
_other_attempt = attempts.alias()

ONE_LIVE = (
    broken_where(
        2,
        "links",
        links,
        lambda _: and_(
            links.c.state == LinkState.ACTIVE.value,
            exists(literal(1)).where(
                _other_link.c.invoice_id == links.c.invoice_id,
                _other_link.c.state == LinkState.ACTIVE.value,
                _other_link.c.id != links.c.id,
            ),
        ),
        "invoice {0} has another active link",
        links.c.invoice_id,
        invoice=links.c.invoice_id,
    ),
    broken_where(
        2,
        "attempts",
        attempts,
        lambda _: and_(
            attempts.c.state.in_(_OPEN),
            exists(literal(1)).where(
                _other_attempt.c.link_id == attempts.c.link_id,
                _other_attempt.c.state.in_(_OPEN),
                _other_attempt.c.id != attempts.c.id,
            ),
        ),
        "link {0} has another open attempt",
        attempts.c.link_id,
        invoice=attempts.c.invoice_id,
    ),
    broken_where(
        2,
        "attempts",
        attempts,
        lambda _: (
            ~exists(literal(1)).where(links.c.id == attempts.c.link_id, links.c.invoice_id == attempts.c.invoice_id)
        ),
        "its link {0} is another invoice's",
        attempts.c.link_id,
        invoice=attempts.c.invoice_id,
    ),
)

THE_LOCK = (
    broken_where(
        6,
        "links",
        links,
        lambda _: (
            ~exists(literal(1)).where(
                invoice_versions.c.invoice_id == links.c.invoice_id,
                invoice_versions.c.version == links.c.invoice_version,
                invoice_versions.c.amount_minor == links.c.amount_minor,
                invoice_versions.c.currency == links.c.currency,
            )
        ),
        "asks {0} {1} (minor units), and version {2} of its invoice does not",
        links.c.amount_minor,
        links.c.currency,
        links.c.invoice_version,
        invoice=links.c.invoice_id,
    ),
    broken_where(
        6,
        "attempts",
        attempts,
        lambda _: (
            ~exists(literal(1)).where(
                links.c.id == attempts.c.link_id,
                or_(
                    links.c.amount_minor == attempts.c.amount_minor,
                    and_(_collects_the_rest(), links.c.amount_minor > attempts.c.amount_minor),
                ),
                links.c.currency == attempts.c.currency,
            )
        ),
        "asks {0} {1} (minor units), and its link does not",
        attempts.c.amount_minor,
        attempts.c.currency,
        invoice=attempts.c.invoice_id,
    ),
    broken_where(
        6,
        "invoices",
        invoices,
        lambda _: exists(literal(1)).where(
            invoice_versions.c.invoice_id == invoices.c.id,
            invoice_versions.c.version == invoices.c.version,
            or_(
                invoice_versions.c.amount_minor != invoices.c.amount_minor,
                invoice_versions.c.currency != invoices.c.currency,
            ),
        ),
        "wants {0} {1} (minor units), and its version {2} does not",
        invoices.c.amount_minor,
        invoices.c.currency,
        invoices.c.version,
        invoice=invoices.c.id,
    ),
)

CLOSED_WHEN_SETTLED = (
    broken_where(
        9,
        "links",
        links,
        lambda _: and_(links.c.state == LinkState.ACTIVE.value, _settled(links.c.invoice_id)),
        "invoice {0} is settled, and this link can still be paid",
        links.c.invoice_id,
        invoice=links.c.invoice_id,
    ),
    broken_where(
        9,
        "attempts",
        attempts,
        lambda _: and_(attempts.c.state.in_(_OPEN), _settled(attempts.c.invoice_id), ~_worked_on()),
        "invoice {0} is settled, this attempt is {1}, and nobody is about to close it",
        attempts.c.invoice_id,
        attempts.c.state,
        invoice=attempts.c.invoice_id,
    ),
)

FORGOTTEN = (
    broken_where(
        11,
        "attempts",
        attempts,
        lambda bounds: and_(
            attempts.c.state.in_(_OPEN),
            older_than(attempts.c.created_at, bounds.late_seconds),
            ~_worked_on(),
            ~exists(literal(1)).where(
                exceptions.c.invoice_id == attempts.c.invoice_id,
                exceptions.c.state == "open",
                exceptions.c.reason.in_(IN_A_PERSONS_HANDS),
            ),
        ),
        "is {0}: nobody will ask about it, and no person was told",
        attempts.c.state,
        invoice=attempts.c.invoice_id,
    ),
    broken_where(
        11,
        "links",
        links,
        lambda bounds: and_(
            links.c.state == LinkState.ACTIVE.value,
            older_than(links.c.expires_at, bounds.late_seconds),
            ~is_live(links.c.invoice_id, LinkExpire.TYPE, naming=links.c.id),
        ),
        "its life was over {0:%Y-%m-%d %H:%M}, and nothing ends it",
        links.c.expires_at,
        invoice=links.c.invoice_id,
    ),
)
