"""Fiscal receipts, and the devices that print them: a counter with one writer each.

Receipts change under their invoice's lock, a device's counter with its lease held. Order of locks: invoice, device,
receipt, message.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, case, exists, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.fiscal import ReceiptKind
from contracts.ids import new_id
from db.schema import fiscal_devices, fiscal_receipts, transactions
from db.tx import Tx
from db.types import db_after, db_now
from rules.fiscal import ReceiptState, Slip

_WANTED, _SENT = ReceiptState.WANTED.value, ReceiptState.SENT.value
_original = fiscal_receipts.alias()
_ISSUED, _FAILED = ReceiptState.ISSUED.value, ReceiptState.FAILED.value


def find(tx: Tx, receipt_id: str) -> Row[Any] | None:
    """Return one receipt, or None."""
    return tx.execute(select(fiscal_receipts).where(fiscal_receipts.c.id == receipt_id)).first()


def lock(tx: Tx, receipt_id: str) -> Row[Any]:
    """Lock one receipt, after its invoice and its device, and return it."""
    return tx.execute(select(fiscal_receipts).where(fiscal_receipts.c.id == receipt_id).with_for_update()).one()


def of_invoice(tx: Tx, invoice_id: str) -> list[Row[Any]]:
    """Return all receipts of an invoice, oldest first."""
    found = select(fiscal_receipts).where(fiscal_receipts.c.invoice_id == invoice_id)
    return list(tx.execute(found.order_by(fiscal_receipts.c.id)).all())


def slips(tx: Tx, invoice_id: str) -> list[Slip]:
    """Return the invoice's receipts as decisions need them, oldest first."""
    found = (
        select(fiscal_receipts, transactions.c.attempt_id)
        .join(transactions, transactions.c.id == fiscal_receipts.c.transaction_id)
        .where(fiscal_receipts.c.invoice_id == invoice_id)
    )
    return [
        Slip(
            id=row.id,
            device=row.device,
            kind=ReceiptKind(row.kind),
            state=ReceiptState(row.state),
            amount_minor=row.amount_minor,
            currency=row.currency,
            attempt=row.attempt_id,
            original=row.original_id,
        )
        for row in tx.execute(found.order_by(fiscal_receipts.c.id))
    ]


def money(tx: Tx, invoice_id: str, *, but: Iterable[str] = ()) -> list[Row[Any]]:
    """Return the invoice's transactions, oldest first, but for those that are named."""
    found = select(transactions).where(transactions.c.invoice_id == invoice_id, transactions.c.id.not_in(list(but)))
    return list(tx.execute(found.order_by(transactions.c.created_at, transactions.c.id)).all())


# --- from the wish to the number ------------------------------------------------------------------------------------


def want(tx: Tx, receipt_id: str, **values: Any) -> bool:
    """Keep the wish for a receipt; False: there is one of this kind for this money already."""
    row = _insert(tx, fiscal_receipts).values(id=receipt_id, state=_WANTED, request_id=tx.cause.request_id, **values)
    added = row.on_conflict_do_nothing(index_elements=["transaction_id", "kind"]).returning(fiscal_receipts.c.id)
    return tx.execute(added).first() is not None


def head(tx: Tx, device: str) -> Row[Any] | None:
    """Return the receipt whose turn it is: one whose end nobody knows, else the oldest that is wanted.

    A return has no turn before the receipt that it returns is issued.
    """
    is_undecided = _is_undecided()
    is_ready = or_(
        fiscal_receipts.c.original_id.is_(None),
        exists().where(_original.c.id == fiscal_receipts.c.original_id, _original.c.state == _ISSUED),
    )
    waiting = or_(is_undecided, and_(fiscal_receipts.c.state == _WANTED, is_ready))
    found = select(fiscal_receipts).where(fiscal_receipts.c.device == device, waiting)
    order = (case((is_undecided, 0), else_=1), fiscal_receipts.c.id)
    return tx.execute(found.order_by(*order).limit(1)).first()


def _is_undecided() -> ColumnElement[bool]:
    return and_(fiscal_receipts.c.seq.is_not(None), fiscal_receipts.c.state != _ISSUED)


def sent(tx: Tx, receipt_id: str, seq: int) -> None:
    """Note, before the call, under which number it is sent."""
    _set(tx, receipt_id, state=_SENT, seq=seq, sent_at=db_now(), error=None)


def not_printed(tx: Tx, receipt_id: str) -> None:
    """Take the number back: it surely was not printed under it."""
    _set(tx, receipt_id, state=_WANTED, seq=None, sent_at=None)


def issued(tx: Tx, receipt_id: str, *, seq: int | None, number: str | None, provider_request_id: str | None) -> None:
    """Note that it was printed. Without a number of the counter: elsewhere, as a person says."""
    told = {"number": number, "provider_request_id": provider_request_id}
    _set(tx, receipt_id, state=_ISSUED, seq=seq, error=None, ended_at=db_now(), **told)


def failed(tx: Tx, receipt_id: str, error: str) -> None:
    """Note that it could not be printed; a number that it has stays undecided."""
    _set(tx, receipt_id, state=_FAILED, error=error, ended_at=db_now())


def again(tx: Tx, receipt_id: str, *, message_id: str | None = None) -> None:
    """Let a failed one be tried again: what was sent is asked for first."""
    state = case((fiscal_receipts.c.seq.is_(None), _WANTED), else_=_SENT)
    renewed = {} if message_id is None else {"message_id": message_id}
    _set(tx, receipt_id, state=state, error=None, ended_at=None, **renewed)


def waived(tx: Tx, receipt_id: str) -> None:
    """Note that none is needed, as a person says."""
    _set(tx, receipt_id, state=ReceiptState.WAIVED.value, seq=None, ended_at=db_now())


def belongs_to(tx: Tx, receipt_id: str, message_id: str | None) -> None:
    """Note the message that has it printed; None: nothing does."""
    _set(tx, receipt_id, message_id=message_id)


def _set(tx: Tx, receipt_id: str, **values: Any) -> None:
    tx.execute(update(fiscal_receipts).where(fiscal_receipts.c.id == receipt_id).values(**values))


def foreign(tx: Tx, device: str, seq: int, number: str | None) -> None:
    """Explain a number that was used past us."""
    tx.execute(
        insert(fiscal_receipts).values(
            id=new_id(),
            device=device,
            kind=ReceiptKind.FOREIGN.value,
            state=_ISSUED,
            amount_minor=0,
            currency="",
            purpose="",
            seq=seq,
            number=number,
            request_id=tx.cause.request_id,
            ended_at=db_now(),
        )
    )


# --- the device -----------------------------------------------------------------------------------------------------


def take(tx: Tx, device: str, holder: str, *, seconds: float) -> Row[Any] | None:
    """Become the one worker that talks to the device; None: somebody else does."""
    tx.execute(_insert(tx, fiscal_devices).values(name=device).on_conflict_do_nothing(index_elements=["name"]))
    is_free = or_(fiscal_devices.c.holder.is_(None), fiscal_devices.c.holder_until < db_now())
    taken = update(fiscal_devices).where(
        fiscal_devices.c.name == device, or_(is_free, fiscal_devices.c.holder == holder)
    )
    taken = taken.values(holder=holder, holder_until=db_after(seconds))
    return tx.execute(taken.returning(*fiscal_devices.c)).first()


def release(tx: Tx, device: str, holder: str) -> None:
    """Let the next worker talk to the device."""
    mine = update(fiscal_devices).where(fiscal_devices.c.name == device, fiscal_devices.c.holder == holder)
    tx.execute(mine.values(holder=None, holder_until=None))


def begin_counting(tx: Tx, device: str, last_seq: int) -> None:
    """Note where the counter stands when we first meet the device."""
    new = update(fiscal_devices).where(fiscal_devices.c.name == device, fiscal_devices.c.last_seq.is_(None))
    tx.execute(new.values(base_seq=last_seq, last_seq=last_seq))


def count(tx: Tx, device: str, seq: int) -> bool:
    """Move the counter on by one, to a number that was surely used; False: it stands elsewhere."""
    moved = update(fiscal_devices).where(fiscal_devices.c.name == device, fiscal_devices.c.last_seq == seq - 1)
    return tx.execute(moved.values(last_seq=seq)).rowcount == 1


def last_seq(tx: Tx, device: str) -> int | None:
    """Return the number that was surely used last; None: we never met the device."""
    return tx.execute(select(fiscal_devices.c.last_seq).where(fiscal_devices.c.name == device)).scalar()


def _insert(tx: Tx, table: Any) -> Any:
    return postgres_insert(table) if tx.is_postgres else sqlite_insert(table)
