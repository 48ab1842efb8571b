"""Attempts: one order at a provider each. At most one per link is open, by a unique index."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, bindparam, case, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.evidence import OrderState, TransactionKind
from contracts.ids import new_id
from contracts.statuses import OPEN_ATTEMPTS, AttemptState, InvoiceStatus, LinkState
from db.hot import Hot
from db.schema import attempts, exceptions, invoices, links, messages, order_numbers, transactions
from db.tx import Tx
from db.types import constant, db_now
from rules.links import ATTEMPT_MOVES, may_leave

_OPEN = tuple(sorted(state.value for state in OPEN_ATTEMPTS))
_UNOPENED = (AttemptState.RESERVED.value, AttemptState.UNKNOWN.value)


_is_open = attempts.c.state.in_([constant(state) for state in _OPEN])
_is_it = attempts.c.id == bindparam("attempt_id")
_of_invoice = attempts.c.invoice_id == bindparam("of_invoice")
_newest_state = select(attempts.c.state).where(_of_invoice).order_by(attempts.c.id.desc()).limit(1)

_GET = Hot(select(attempts).where(_is_it))
_LOCK = Hot(select(attempts).where(_is_it).with_for_update())
_OPEN_OF_INVOICE = Hot(select(attempts).where(_of_invoice, _is_open))
_BY_REFERENCE = Hot(
    select(attempts).where(attempts.c.account == bindparam("of_account"), attempts.c.reference == bindparam("given"))
)
_BY_ORDER = Hot(
    select(attempts).where(
        attempts.c.account == bindparam("of_account"), attempts.c.provider_order_id == bindparam("given")
    )
)
_PROCESSING_ELSEWHERE = Hot(
    select(attempts).where(
        _of_invoice,
        attempts.c.link_id != bindparam("this_link"),
        attempts.c.state == constant(AttemptState.PROCESSING),
    )
)
_NOTE_ANSWER = Hot(
    update(attempts)
    .where(_is_it)
    .values(
        provider_order_id=func.coalesce(attempts.c.provider_order_id, bindparam("learned")),
        told=bindparam("they_say"),
        told_at=db_now(),
    )
    .returning(attempts.c.id)
)
_told_open = or_(attempts.c.told.is_(None), attempts.c.told == constant(OrderState.OPEN))
_NOTE_STILL_OPEN = Hot(
    update(attempts)
    .where(_is_it, attempts.c.state == constant(AttemptState.OPEN), _told_open)
    .values(
        provider_order_id=func.coalesce(attempts.c.provider_order_id, bindparam("learned")),
        told=constant(OrderState.OPEN),
        told_at=db_now(),
    )
    .returning(attempts.c.id)
)
_LEARN_ORDER = Hot(
    update(attempts)
    .where(_is_it, attempts.c.provider_order_id.is_(None))
    .values(provider_order_id=bindparam("learned"))
    .returning(attempts.c.id)
)
_NEXT_CHECK = Hot(
    update(attempts).where(_is_it).values(check_no=attempts.c.check_no + 1).returning(attempts.c.check_no)
)
_NOTE_CHECK = Hot(update(attempts).where(_is_it).values(check_message_id=bindparam("noted")).returning(attempts.c.id))
_SUMMARY = Hot(
    select(
        func.coalesce(func.sum(case((_is_open, 1), else_=0)), 0).label("open"),
        _newest_state.scalar_subquery().label("last"),
    ).where(_of_invoice)
)
_STILL_WAITS = Hot(
    select(attempts.c.id)
    .join(invoices, invoices.c.id == attempts.c.invoice_id)
    .join(links, links.c.id == attempts.c.link_id)
    .where(
        _is_it,
        attempts.c.state == constant(AttemptState.OPEN),
        _told_open,
        links.c.state == constant(LinkState.ACTIVE),
        invoices.c.status == constant(InvoiceStatus.PENDING),
        invoices.c.flags == constant("[]"),
        ~exists().where(exceptions.c.invoice_id == attempts.c.invoice_id, exceptions.c.state == constant("open")),
        ~exists().where(transactions.c.invoice_id == attempts.c.invoice_id),
    )
)


def reserve(tx: Tx, link: Row[Any], account: str, *, visited: bool = False, reference: str | None = None) -> Row[Any]:
    """Make the link's next attempt, ours alone so far; the caller holds the invoice's lock and saw none open.

    Whoever makes it and why, it asks for what is left of the link's amount, and never for what is paid already.
    `visited`: a customer waits for its page. `reference` names it at the provider; none: its id does.
    """
    attempt_id = new_id()
    number = select(func.coalesce(func.max(attempts.c.number), 0) + 1).where(attempts.c.link_id == link.id)
    kept = select(invoices.c.paid_minor - invoices.c.refunded_minor).where(invoices.c.id == link.invoice_id)
    made = insert(attempts).values(
        id=attempt_id,
        invoice_id=link.invoice_id,
        link_id=link.id,
        number=number.scalar_subquery(),
        account=account,
        reference=reference or attempt_id,
        state=AttemptState.RESERVED.value,
        amount_minor=link.amount_minor - kept.scalar_subquery(),
        currency=link.currency,
        visited_at=db_now() if visited else None,
    )
    return tx.execute(made.returning(*attempts.c)).one()


def get(tx: Tx, attempt_id: str) -> Row[Any]:
    """Return one attempt."""
    return _GET.one(tx, attempt_id=attempt_id)


def still_waits(tx: Tx, attempt_id: str) -> bool:
    """Tell whether the order is open, its link is shown, and neither money nor a case is known of its invoice.

    Then a provider that calls it open says nothing new: no verdict, no exception and no change can follow.
    """
    return _STILL_WAITS.first(tx, attempt_id=attempt_id) is not None


def find(tx: Tx, attempt_id: str) -> Row[Any] | None:
    """Return one attempt, or None."""
    return tx.execute(select(attempts).where(attempts.c.id == attempt_id)).first()


def lock(tx: Tx, attempt_id: str) -> Row[Any]:
    """Lock one attempt and return it."""
    return _LOCK.one(tx, attempt_id=attempt_id)


def open_of_link(tx: Tx, link_id: str) -> Row[Any] | None:
    """Return the link's open attempt, or None."""
    return tx.execute(select(attempts).where(attempts.c.link_id == link_id, attempts.c.state.in_(_OPEN))).first()


def open_of_invoice(tx: Tx, invoice_id: str) -> list[Row[Any]]:
    """Return every attempt of the invoice that may still take money, by whatever link."""
    return _OPEN_OF_INVOICE.rows(tx, of_invoice=invoice_id)


def of_invoice(tx: Tx, invoice_id: str) -> list[Row[Any]]:
    """Return all attempts of an invoice, oldest first."""
    found = select(attempts).where(attempts.c.invoice_id == invoice_id)
    return list(tx.execute(found.order_by(attempts.c.id)).all())


def by_order(tx: Tx, account: str, reference: str | None, provider_order_id: str | None) -> Row[Any] | None:
    """Find the attempt that a provider speaks of: by our reference, else by its own order id."""
    found: Row[Any] | None = None
    if reference:
        found = _BY_REFERENCE.first(tx, of_account=account, given=reference)
    if found is None and provider_order_id:
        found = _BY_ORDER.first(tx, of_account=account, given=provider_order_id)
    return found


def by_payment(tx: Tx, account: str, payment: str) -> Row[Any] | None:
    """Find the attempt that a capture came by: by the provider's id of it, or of a total that it is a part of."""
    its = transactions.c.provider_transaction_id
    found = (
        select(attempts)
        .join(transactions, transactions.c.attempt_id == attempts.c.id)
        .where(
            transactions.c.account == account,
            transactions.c.kind == TransactionKind.CAPTURE.value,
            or_(its == payment, and_(its >= f"{payment}:", its < f"{payment};")),
        )
    )
    return tx.execute(found.limit(1)).first()


def opened(
    tx: Tx,
    attempt_id: str,
    *,
    provider_order_id: str,
    pay_url: str,
    expires_at: datetime | None,
    pay_fields: Mapping[str, str] | None = None,
) -> bool:
    """Note that the order exists and where the customer pays; False: the attempt went elsewhere meanwhile.

    `pay_fields` are what his browser posts there; none: it simply goes there.
    """
    moved = (
        update(attempts)
        # A check that overtook this answer may have moved it already; the page is known only here.
        .where(attempts.c.id == attempt_id, attempts.c.state.in_(_OPEN), attempts.c.pay_url_sealed.is_(None))
        .values(
            state=case((attempts.c.state.in_(_UNOPENED), AttemptState.OPEN.value), else_=attempts.c.state),
            provider_order_id=provider_order_id,
            pay_url_sealed=tx.sealer.seal(pay_url.encode()),
            pay_fields_sealed=tx.sealer.seal(json.dumps(dict(pay_fields)).encode()) if pay_fields else None,
            expires_at=expires_at,
            opened_at=db_now(),
        )
    )
    return bool(tx.execute(moved).rowcount)


def refused(tx: Tx, attempt_id: str, error: str) -> bool:
    """End an attempt that the provider would not open; False: a second opener had it opened, or it ended."""
    moved = update(attempts).where(attempts.c.id == attempt_id, attempts.c.state.in_(_UNOPENED))
    return bool(tx.execute(moved.values(state=AttemptState.FAILED.value, error=error, ended_at=db_now())).rowcount)


def note_visit(tx: Tx, attempt: Row[Any]) -> None:
    """Note that a customer goes to its page, or comes from there: a decline of before says nothing about this try."""
    if attempt.visited_at is None or attempt.declined_at is not None:
        seen = {"visited_at": func.coalesce(attempts.c.visited_at, db_now()), "declined_at": None}
        tx.execute(update(attempts).where(attempts.c.id == attempt.id).values(seen))


def note_precheck(tx: Tx, attempt_id: str) -> None:
    """Note that its provider was told, now, that it may take the money."""
    tx.execute(update(attempts).where(attempts.c.id == attempt_id).values(prechecked_at=db_now()))


def note_decline(tx: Tx, attempt_id: str) -> None:
    """Note that the customer was declined, and may try again on the same page."""
    tx.execute(update(attempts).where(attempts.c.id == attempt_id, _is_open).values(declined_at=db_now()))


def processing_elsewhere(tx: Tx, invoice_id: str, link_id: str) -> Row[Any] | None:
    """Return an attempt by another link of the invoice whose money is on its way, or None."""
    return _PROCESSING_ELSEWHERE.first(tx, of_invoice=invoice_id, this_link=link_id)


def learn_order(tx: Tx, attempt_id: str, provider_order_id: str) -> None:
    """Keep the provider's order id when evidence tells it first."""
    _LEARN_ORDER.rows(tx, attempt_id=attempt_id, learned=provider_order_id)


def note_answer(tx: Tx, attempt_id: str, *, provider_order_id: str, told: str) -> None:
    """Keep what the provider said last, and its order's id where evidence tells it first."""
    _NOTE_ANSWER.rows(tx, attempt_id=attempt_id, learned=provider_order_id, they_say=told)


def note_still_open(tx: Tx, attempt_id: str, *, provider_order_id: str) -> None:
    """Keep that the provider called the order open once more, unless anybody heard otherwise in the meantime."""
    _NOTE_STILL_OPEN.rows(tx, attempt_id=attempt_id, learned=provider_order_id)


def move(tx: Tx, attempt_id: str, to: AttemptState, *, error: str | None = None) -> bool:
    """Move an attempt if the table of moves allows; False: nothing moved."""
    ended = None if to in OPEN_ATTEMPTS else db_now()
    moved = (
        update(attempts)
        .where(attempts.c.id == attempt_id, attempts.c.state.in_(may_leave(ATTEMPT_MOVES, to)))
        .values(state=to.value, ended_at=ended, error=func.coalesce(error, attempts.c.error))
    )
    return bool(tx.execute(moved).rowcount)


def next_check(tx: Tx, attempt_id: str) -> int:
    """Count one more question to the provider about this attempt."""
    return int(_NEXT_CHECK.one(tx, attempt_id=attempt_id).check_no)


def note_check(tx: Tx, attempt_id: str, message_id: str) -> None:
    """Remember the message of the newest check, so that an event can hasten it."""
    _NOTE_CHECK.rows(tx, attempt_id=attempt_id, noted=message_id)


def due_checks(tx: Tx, account: str, queue: str, *, limit: int) -> list[str]:
    """Return the messages that ask about an account's attempts on a queue, due and unclaimed, oldest first."""
    found = (
        select(messages.c.id)
        .join(attempts, (attempts.c.invoice_id == messages.c.subject) & (attempts.c.check_message_id == messages.c.id))
        .where(messages.c.queue == queue, messages.c.state == "ready", messages.c.available_at <= db_now())
        .where(attempts.c.account == account)
        .order_by(messages.c.available_at, messages.c.id)
        .limit(limit)
    )
    return list(tx.execute(found).scalars())


def next_close(tx: Tx, attempt_id: str) -> int:
    """Count one more wish to close this attempt at the provider."""
    raised = update(attempts).where(attempts.c.id == attempt_id).values(close_no=attempts.c.close_no + 1)
    return int(tx.execute(raised.returning(attempts.c.close_no)).scalar_one())


def note_close(tx: Tx, attempt_id: str, message_id: str) -> None:
    """Remember the message of the newest wish to close, so that it is not wished twice at a time."""
    tx.execute(update(attempts).where(attempts.c.id == attempt_id).values(close_message_id=message_id))


def next_hold(tx: Tx, attempt_id: str) -> int:
    """Count one more wish about the money that is held for this attempt."""
    raised = update(attempts).where(attempts.c.id == attempt_id).values(hold_no=attempts.c.hold_no + 1)
    return int(tx.execute(raised.returning(attempts.c.hold_no)).scalar_one())


def note_hold(tx: Tx, attempt_id: str, message_id: str) -> None:
    """Remember the message of the newest such wish, so that it is not wished twice at a time."""
    tx.execute(update(attempts).where(attempts.c.id == attempt_id).values(hold_message_id=message_id))


def pay_url(tx: Tx, attempt: Row[Any]) -> str | None:
    """Return the provider's page of an open attempt."""
    return tx.sealer.open(attempt.pay_url_sealed).decode() if attempt.pay_url_sealed else None


def pay_fields(tx: Tx, attempt: Row[Any]) -> dict[str, str]:
    """Return the form fields that the customer's browser posts to the page; empty: it simply goes there."""
    sealed = attempt.pay_fields_sealed
    fields: dict[str, str] = json.loads(tx.sealer.open(sealed)) if sealed else {}
    return fields


def next_number(tx: Tx, account: str, first: int) -> int:
    """Count one more order of an account whose provider takes numbers alone; never one twice, never below `first`.

    The row stays locked until the transaction ends, so take it late.
    """
    into = postgres_insert(order_numbers) if tx.is_postgres else sqlite_insert(order_numbers)
    made = into.values(account=account, last=first)
    counted = made.on_conflict_do_update(
        index_elements=["account"],
        set_={"last": case((order_numbers.c.last < first, first), else_=order_numbers.c.last + 1)},
    )
    return int(tx.execute(counted.returning(order_numbers.c.last)).scalar_one())


def summary(tx: Tx, invoice_id: str) -> Row[Any]:
    """Return how many attempts are open, and the newest one's state."""
    return _SUMMARY.one(tx, of_invoice=invoice_id)
