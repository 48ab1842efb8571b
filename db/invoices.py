"""Invoices: one row per payable of a CRM, its versions, and the lease of the one writer of its CRM record.

Everything that changes an invoice holds the row's lock first (`lock`, `lock_named`); the order of locks is
invoice, link, attempt, message.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Float, Integer, Row, bindparam, func, insert, null, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.ids import new_id
from contracts.messages import InvoiceCreated
from contracts.statuses import FiscalStatus, Flag
from db.hot import Hot, Prepared
from db.schema import invoice_versions, invoices, tombstones
from db.tx import Tx
from db.types import db_after, db_now


def _is_named(table: Any) -> tuple[Any, ...]:
    return (
        table.c.crm == bindparam("of_crm"),
        table.c.payable_type == bindparam("of_type"),
        table.c.external_id == bindparam("named"),
    )


_is_it = invoices.c.id == bindparam("invoice_id")
_of_invoice = invoice_versions.c.invoice_id == bindparam("of_invoice")

_GET = Hot(select(invoices).where(_is_it))
_LOCK = Hot(select(invoices).where(_is_it).with_for_update())
_FIND = Hot(select(invoices).where(*_is_named(invoices)))
_LOCK_NAMED = Hot(select(invoices).where(*_is_named(invoices)).with_for_update())
# As text: libpq's answer to a function without a value is no row to read.
_LOCK_NAME = Prepared("SELECT pg_advisory_xact_lock(hashtextextended(%(name)s, 0))::text")
_VERSIONS = Hot(select(invoice_versions.c.version, invoice_versions.c.fingerprint).where(_of_invoice))
_NEWEST_MESSAGE = Hot(
    select(func.coalesce(func.max(invoice_versions.c.message_id), text("''")).label("newest")).where(_of_invoice)
)
_TOMBSTONE = Hot(select(tombstones.c.cancelled_through, tombstones.c.created_at).where(*_is_named(tombstones)))
_TAKE_LEASE = Hot(
    update(invoices)
    .where(
        _is_it,
        or_(
            invoices.c.crm_writer.is_(None),
            invoices.c.crm_writer == bindparam("writer"),
            invoices.c.crm_writer_until < db_now(),
        ),
    )
    .values(crm_writer=bindparam("writer"), crm_writer_until=db_after(bindparam("seconds", type_=Float)))
    .returning(*invoices.c)
)
_RELEASE_LEASE = Hot(
    update(invoices)
    .where(_is_it, invoices.c.crm_writer == bindparam("writer"))
    .values(
        crm_writer=null(),
        crm_writer_until=null(),
        crm_revision=func.coalesce(bindparam("written", type_=Integer), invoices.c.crm_revision),
    )
    .returning(invoices.c.id)
)
_RAISE_REVISION = Hot(
    update(invoices)
    .where(invoices.c.id == bindparam("invoice_id"))
    .values(revision=invoices.c.revision + 1)
    .returning(invoices.c.revision)
)


def _insert(tx: Tx, table: Any) -> Any:
    return postgres_insert(table) if tx.is_postgres else sqlite_insert(table)


def lock(tx: Tx, invoice_id: str) -> Any:
    """Lock one invoice and return it."""
    row = _LOCK.first(tx, invoice_id=invoice_id)
    if row is None:
        raise LookupError(f"no invoice {invoice_id}")
    return row


def get(tx: Tx, invoice_id: str) -> Row[Any]:
    """Return one invoice as it is now."""
    return _GET.one(tx, invoice_id=invoice_id)


def lock_name(tx: Tx, crm: str, payable_type: str, external_id: str) -> None:
    """Lock a payable's name until the end of the transaction, whether or not there is an invoice of that name yet.

    So an invoice and its cancellation that arrive in the same moment see each other. SQLite has one writer anyway.
    """
    if tx.is_postgres:
        _LOCK_NAME.rows(tx, {"name": f"{crm}\x1f{payable_type}\x1f{external_id}"})


def exists(tx: Tx, invoice_id: str) -> bool:
    """Tell whether this is the id of an invoice."""
    return tx.execute(select(invoices.c.id).where(invoices.c.id == invoice_id)).first() is not None


def find(tx: Tx, crm: str, external_id: str, payable_type: str = "invoice") -> Row[Any] | None:
    """Return the invoice that the CRM calls so, or None."""
    return _FIND.first(tx, of_crm=crm, of_type=payable_type, named=external_id)


def lock_named(tx: Tx, message: InvoiceCreated, *, account: str, version: int) -> tuple[Row[Any], bool]:
    """Lock the message's invoice; make it first when it is new. Return it and whether it is new."""
    made = tx.execute(
        _insert(tx, invoices)
        .values(
            id=new_id(),
            crm=message.crm,
            payable_type=message.type,
            external_id=message.invoice_id,
            version=version,
            status="pending",
            request_id=tx.cause.request_id,
            **_wanted(tx, message, account),
        )
        .on_conflict_do_nothing()
        .returning(invoices.c.id)
    ).first()
    locked = _LOCK_NAMED.one(tx, of_crm=message.crm, of_type=message.type, named=message.invoice_id)
    return locked, made is not None


def _wanted(tx: Tx, message: InvoiceCreated, account: str) -> dict[str, Any]:
    return {
        "kind": message.kind,
        "deal_id": message.deal_id,
        "amount_minor": message.amount_minor,
        "currency": message.currency,
        "purpose": message.purpose,
        "customer_sealed": tx.sealer.seal_json(message.customer.model_dump(mode="json", exclude_none=True)),
        "locale": message.customer.locale,
        "manager_id": message.manager.id if message.manager else None,
        "manager_name": message.manager.name if message.manager else None,
        "created_by": message.created_by,
        "account": account,
    }


def change_version(tx: Tx, invoice_id: str, message: InvoiceCreated, *, account: str, version: int) -> None:
    """Replace what is wanted by a newer version."""
    tx.execute(
        update(invoices)
        .where(invoices.c.id == invoice_id, invoices.c.version < version)
        .values(version=version, request_id=tx.cause.request_id, **_wanted(tx, message, account))
    )


def versions(tx: Tx, invoice_id: str) -> dict[int, bytes]:
    """Return the fingerprint of every known version."""
    return {row.version: row.fingerprint for row in _VERSIONS.rows(tx, of_invoice=invoice_id)}


def newest_message(tx: Tx, invoice_id: str) -> str:
    """Return the id of the message that gave the newest version; ids sort by time."""
    return str(_NEWEST_MESSAGE.one(tx, of_invoice=invoice_id).newest)


def add_version(
    tx: Tx, invoice_id: str, message: InvoiceCreated, *, version: int, content: bytes, message_id: str
) -> None:
    """Remember what a version said."""
    tx.execute(
        insert(invoice_versions).values(
            invoice_id=invoice_id,
            version=version,
            fingerprint=content,
            amount_minor=message.amount_minor,
            currency=message.currency,
            purpose=message.purpose,
            message_id=message_id,
        )
    )


def cancelled_through(tx: Tx, crm: str, payable_type: str, external_id: str) -> int:
    """Return the version up to which the CRM cancelled, 0 for none."""
    found = _TOMBSTONE.first(tx, of_crm=crm, of_type=payable_type, named=external_id)
    return found.cancelled_through if found else 0


def cancelled_at(tx: Tx, invoice: Row[Any]) -> datetime | None:
    """Return when the CRM cancelled the invoice's version, or None."""
    found = _TOMBSTONE.first(tx, of_crm=invoice.crm, of_type=invoice.payable_type, named=invoice.external_id)
    return found.created_at if found and found.cancelled_through >= invoice.version else None


def cancel_through(tx: Tx, crm: str, payable_type: str, external_id: str, version: int) -> None:
    """Remember that everything up to a version is cancelled, also when the invoice has not come yet."""
    row = _insert(tx, tombstones).values(
        crm=crm, payable_type=payable_type, external_id=external_id, cancelled_through=version
    )
    tx.execute(
        row.on_conflict_do_update(
            index_elements=["crm", "payable_type", "external_id"],
            set_={"cancelled_through": row.excluded.cancelled_through, "created_at": db_now()},
            where=tombstones.c.cancelled_through < row.excluded.cancelled_through,
        )
    )


def set_standing(
    tx: Tx,
    invoice_id: str,
    *,
    status: str,
    flags: Iterable[Flag],
    paid_minor: int,
    refunded_minor: int,
    paid_at: datetime | None,
    provider_reference: str | None,
    paid_account: str | None,
    paid_proof: str | None,
) -> None:
    """Write where the invoice stands; the caller holds its lock."""
    tx.execute(
        update(invoices)
        .where(invoices.c.id == invoice_id)
        .values(
            status=status,
            flags=json.dumps([flag.value for flag in flags]),
            paid_minor=paid_minor,
            refunded_minor=refunded_minor,
            paid_at=paid_at,
            provider_reference=provider_reference,
            paid_account=paid_account,
            paid_proof=paid_proof,
        )
    )


def set_fiscal(tx: Tx, invoice_id: str, status: FiscalStatus) -> None:
    """Write where the fiscal receipt stands; the caller holds the invoice's lock."""
    tx.execute(update(invoices).where(invoices.c.id == invoice_id).values(fiscal_status=status.value))


def settle_elsewhere(tx: Tx, invoice_id: str, *, at: datetime | None) -> None:
    """Note when the invoice was paid past its link; without a time, now."""
    noted = update(invoices).where(invoices.c.id == invoice_id)
    tx.execute(noted.values(settled_elsewhere_at=db_now() if at is None else at))


def forget_settlement(tx: Tx, invoice_id: str) -> None:
    """Forget that it was paid past its link: its CRM cancelled it, and a next version begins anew."""
    tx.execute(update(invoices).where(invoices.c.id == invoice_id).values(settled_elsewhere_at=None))


def flags_of(invoice: Row[Any]) -> tuple[Flag, ...]:
    """Return the flags of an invoice row."""
    return tuple(Flag(flag) for flag in json.loads(invoice.flags))


def raise_revision(tx: Tx, invoice_id: str) -> int:
    """Count one more change that the CRM must see; return the new revision."""
    return int(_RAISE_REVISION.one(tx, invoice_id=invoice_id).revision)


# --- the one writer of the CRM's record -----------------------------------------------------------------------------


def take_crm_lease(tx: Tx, invoice_id: str, writer: str, *, seconds: float) -> Row[Any] | None:
    """Become the one writer of the invoice's CRM record; None: somebody else is."""
    return _TAKE_LEASE.first(tx, invoice_id=invoice_id, writer=writer, seconds=seconds)


def release_crm_lease(tx: Tx, invoice_id: str, writer: str, *, written_revision: int | None = None) -> bool:
    """Stop being the writer; note the revision that was written and read back. False: the lease was lost."""
    released = _RELEASE_LEASE.rows(tx, invoice_id=invoice_id, writer=writer, written=written_revision)
    return bool(released)


def next_crm_check(tx: Tx, invoice_id: str) -> int:
    """Count one more look at the CRM's record."""
    raised = update(invoices).where(invoices.c.id == invoice_id).values(crm_check_no=invoices.c.crm_check_no + 1)
    return int(tx.execute(raised.returning(invoices.c.crm_check_no)).scalar_one())
