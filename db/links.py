"""Links: our own stable URLs. At most one per invoice is active, by a unique index.

The token itself is never here: only its hash, and the id of the key that makes it again.
"""

from typing import Any

from sqlalchemy import Row, bindparam, exists, func, insert, select, update

from contracts.statuses import LinkState
from db.hot import Hot
from db.schema import attempts, invoices, links
from db.tx import Tx
from db.types import db_after, db_now
from rules.links import LINK_MOVES, may_leave

_GET = Hot(select(links).where(links.c.id == bindparam("link_id")))
_NEWEST = Hot(
    select(links).where(links.c.invoice_id == bindparam("of_invoice")).order_by(links.c.number.desc()).limit(1)
)
_NOTE_SENT = Hot(
    update(links)
    .where(links.c.id == bindparam("link_id"), links.c.sent_at.is_(None))
    .values(sent_at=db_now())
    .returning(links.c.id)
)


def create(
    tx: Tx,
    invoice: Row[Any],
    *,
    link_id: str,
    key_id: str,
    token_hash: bytes,
    policy: str,
    lifetime_seconds: float,
) -> Row[Any]:
    """Make the invoice's next link, active; the caller holds the invoice's lock and closed the one before."""
    number = select(func.coalesce(func.max(links.c.number), 0) + 1).where(links.c.invoice_id == invoice.id)
    made = insert(links).values(
        id=link_id,
        invoice_id=invoice.id,
        number=number.scalar_subquery(),
        invoice_version=invoice.version,
        key_id=key_id,
        generation=1,
        token_hash=token_hash,
        state=LinkState.ACTIVE.value,
        amount_minor=invoice.amount_minor,
        currency=invoice.currency,
        policy=policy,
        expires_at=db_after(lifetime_seconds),
    )
    return tx.execute(made.returning(*links.c)).one()


def amend(tx: Tx, link_id: str, invoice: Row[Any], *, policy: str, lifetime_seconds: float) -> bool:
    """Let an active link that nobody was shown ask what the invoice's newest version asks; False: it was shown.

    A link under which an order was begun is one that somebody was shown.
    """
    unused = ~exists().where(attempts.c.link_id == links.c.id)
    unseen = (links.c.id == link_id, links.c.state == LinkState.ACTIVE.value, links.c.sent_at.is_(None), unused)
    amended = update(links).where(*unseen)
    return bool(
        tx.execute(
            amended.values(
                invoice_version=invoice.version,
                amount_minor=invoice.amount_minor,
                currency=invoice.currency,
                policy=policy,
                expires_at=db_after(lifetime_seconds),
            )
        ).rowcount
    )


def get(tx: Tx, link_id: str) -> Row[Any]:
    """Return one link."""
    return _GET.one(tx, link_id=link_id)


def newest(tx: Tx, invoice_id: str) -> Row[Any] | None:
    """Return the invoice's newest link, or None."""
    return _NEWEST.first(tx, of_invoice=invoice_id)


def by_token_hash(tx: Tx, token_hash: bytes) -> Row[Any] | None:
    """Return the link of a token, with its invoice's id, or None."""
    return tx.execute(select(links).where(links.c.token_hash == token_hash)).first()


def move(tx: Tx, link_id: str, to: LinkState) -> bool:
    """Move a link if the table of moves allows; False: it was first moved elsewhere."""
    moved = (
        update(links)
        .where(links.c.id == link_id, links.c.state.in_(may_leave(LINK_MOVES, to)))
        .values(state=to.value, closed_at=func.coalesce(links.c.closed_at, db_now()))
    )
    return bool(tx.execute(moved).rowcount)


def move_active(tx: Tx, invoice_id: str, to: LinkState) -> bool:
    """Move the invoice's active link, if it has one."""
    moved = update(links).where(links.c.invoice_id == invoice_id, links.c.state == LinkState.ACTIVE.value)
    return bool(tx.execute(moved.values(state=to.value, closed_at=db_now())).rowcount)


def move_end(tx: Tx, link_id: str, seconds: float) -> None:
    """Let an active link end so many seconds from now."""
    moved = update(links).where(links.c.id == link_id, links.c.state == LinkState.ACTIVE.value)
    tx.execute(moved.values(expires_at=db_after(seconds)))


def some_active(tx: Tx, *, limit: int) -> list[Row[Any]]:
    """Return a few links that can still be paid, the newest first."""
    found = select(links).where(links.c.state == LinkState.ACTIVE.value)
    return list(tx.execute(found.order_by(links.c.id.desc()).limit(limit)).all())


def note_sent(tx: Tx, link_id: str) -> None:
    """Note when the URL first left us; from then on the amount is out of our hands."""
    _NOTE_SENT.rows(tx, link_id=link_id)


def invoice_of(tx: Tx, link: Row[Any]) -> Row[Any]:
    """Return the invoice of a link."""
    return tx.execute(select(invoices).where(invoices.c.id == link.invoice_id)).one()
