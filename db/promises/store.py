"""Promises 1 and 3 about messages: nothing is lost, nothing is done twice; and 11: nothing lies about."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Row, and_, exists, func, literal, or_, select, tuple_

from contracts.base import key_digest, key_of
from contracts.catalog import QUEUES, TYPES
from contracts.messages import IntakeRejected, InvoiceCreated
from db.promises.base import Bounds, Check, Finding, Suspect, Unchecked, broken_where, named, older_than
from db.schema import (
    invoice_versions,
    invoices,
    message_attempts,
    message_history,
    message_keys,
    messages,
    rejections,
)
from db.sealing import SealBroken
from db.tx import Tx

# Tries that left the message alive; every other outcome ended it.
_NOT_AN_END = ("failed", "not_yet", "given_back", "lapsed", "dead")


def _is_message(message_id: ColumnElement[Any]) -> ColumnElement[bool]:
    live = exists(literal(1)).where(messages.c.id == message_id)
    ended = exists(literal(1)).where(message_history.c.id == message_id)
    return or_(live, ended)


def _ends_of(message_id: ColumnElement[Any]) -> ColumnElement[int]:
    ends = select(func.count()).where(
        message_attempts.c.message_id == message_id, message_attempts.c.outcome.not_in(_NOT_AN_END)
    )
    return ends.scalar_subquery()


# --- nothing accepted is lost ---------------------------------------------------------------------------------------


def _unreadable(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
    """Live messages that no worker could read: a broken payload, or a seal that no configured key opens."""
    columns = (messages.c.id, messages.c.type, messages.c.payload, messages.c.sealed)
    for row in tx.execute(select(*columns).where(within)):
        model = TYPES.get(row.type)
        if model is None:
            yield Unchecked(f"messages of the type {row.type}: this program does not know it")
            continue
        try:
            fields = json.loads(row.payload)
            model.model_validate(fields | (tx.sealer.open_json(row.sealed) if row.sealed is not None else {}))
        except (ValidationError, ValueError, TypeError, SealBroken) as error:
            what = f"cannot be read as {row.type} ({type(error).__name__})"
            yield Suspect((row.id,), named(messages, (row.id,)), what)


def _accepted_without_invoice(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
    """Invoices of a CRM that were worked on to the end, and yet are not here."""
    history = message_history.c
    found = select(history.id, history.payload).where(
        within, history.type == InvoiceCreated.TYPE, history.outcome == "done"
    )
    wanted = {row.id: _crm_name(json.loads(row.payload)) for row in tx.execute(found)}
    columns = (invoices.c.crm, invoices.c.payable_type, invoices.c.external_id)
    present = {tuple(row) for row in tx.execute(select(*columns).where(tuple_(*columns).in_(set(wanted.values()))))}
    for message_id, name in wanted.items():
        if name not in present:
            what = f"was accepted, and there is no invoice {'/'.join(name)}"
            yield Suspect((message_id,), named(message_history, (message_id,)), what)


def _crm_name(payload: dict[str, Any]) -> tuple[str, str, str]:
    return payload["crm"], payload.get("type", "invoice"), payload["invoice_id"]


def _rejected_in_silence(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
    """Bodies from AMQP that were set aside without the announcement that tells their sender."""
    found = select(rejections.c.id).where(within, rejections.c.channel == "amqp")
    wanted = {id_: key_digest(key_of("intake.rejected", id_)) for id_ in tx.execute(found).scalars()}
    known = _messages_of_keys(tx, QUEUES[IntakeRejected].value, list(wanted.values()))
    for id_, digest in wanted.items():
        if digest not in known:
            yield Suspect((id_,), named(rejections, (id_,)), "was set aside, and its sender was never told")


LOST = (
    broken_where(
        1,
        "keys",
        message_keys,
        lambda _: ~_is_message(message_keys.c.message_id),
        "message {0} was accepted under this key and is neither live nor ended",
        message_keys.c.message_id,
    ),
    Check(1, "live messages", messages, _unreadable),
    Check(1, "ended messages", message_history, _accepted_without_invoice),
    broken_where(
        1,
        "invoices",
        invoices,
        lambda _: (
            ~exists(literal(1)).where(
                invoice_versions.c.invoice_id == invoices.c.id, invoice_versions.c.version == invoices.c.version
            )
        ),
        "version {0} is wanted, and what it said is not kept",
        invoices.c.version,
        invoice=invoices.c.id,
    ),
    broken_where(
        1,
        "invoice versions",
        invoice_versions,
        lambda _: ~_is_message(invoice_versions.c.message_id),
        "the message {0} that brought it is gone",
        invoice_versions.c.message_id,
        invoice=invoice_versions.c.invoice_id,
    ),
    broken_where(
        1,
        "rejections",
        rejections,
        lambda _: or_(
            rejections.c.state.not_in(("open", "replayed", "discarded")),
            and_(
                rejections.c.state == "replayed",
                or_(rejections.c.message_id.is_(None), ~_is_message(rejections.c.message_id)),
            ),
        ),
        "is {0}, and no message came of it",
        rejections.c.state,
    ),
    Check(1, "rejections", rejections, _rejected_in_silence),
)


# --- one effect -----------------------------------------------------------------------------------------------------


def _beside_its_key(table: Any) -> Any:
    def find(tx: Tx, within: ColumnElement[bool], bounds: Bounds) -> Iterator[Finding]:
        """Messages whose key leads to another message, or to none: the same wish was done beside its key."""
        rows = tx.execute(select(table.c.id, table.c.queue, table.c.type, table.c.dedup_key).where(within)).all()
        for home in {_home(row) for row in rows}:
            yield from _strays(tx, table, home, [row for row in rows if _home(row) == home])

    return find


def _home(row: Row[Any]) -> str:
    """Return the queue that a message's key is kept under: its kind's own, wherever it waits."""
    model = TYPES.get(row.type)
    return QUEUES[model].value if model is not None else str(row.queue)


def _strays(tx: Tx, table: Any, queue: str, rows: Sequence[Row[Any]]) -> Iterator[Finding]:
    digests = {row.id: key_digest(row.dedup_key) for row in rows}
    known = _messages_of_keys(tx, queue, list(digests.values()))
    for row in rows:
        first = known.get(digests[row.id])
        if first != row.id:
            what = f"has the key of message {first}" if first else "has no key: its repeat would be done again"
            yield Suspect((row.id,), named(table, (row.id,)), what)


def _messages_of_keys(tx: Tx, queue: str, digests: Sequence[bytes]) -> dict[bytes, str]:
    found = select(message_keys.c.digest, message_keys.c.message_id).where(
        message_keys.c.queue == queue, message_keys.c.digest.in_(digests)
    )
    return {bytes(row.digest): row.message_id for row in tx.execute(found)}


DONE_TWICE = (
    Check(3, "ended messages", message_history, _beside_its_key(message_history)),
    Check(3, "live messages", messages, _beside_its_key(messages)),
    broken_where(
        3,
        "ended messages",
        message_history,
        lambda _: _ends_of(message_history.c.id) > 1,
        "its work was concluded {0} times",
        _ends_of(message_history.c.id),
    ),
    broken_where(
        3,
        "live messages",
        messages,
        lambda _: or_(_ends_of(messages.c.id) > 0, exists(literal(1)).where(message_history.c.id == messages.c.id)),
        "was concluded, and is {0} again",
        messages.c.state,
    ),
)


# --- nothing waits for ever -----------------------------------------------------------------------------------------

LEFT_LYING = (
    broken_where(
        11,
        "live messages",
        messages,
        lambda bounds: and_(messages.c.state == "ready", older_than(messages.c.available_at, bounds.late_seconds)),
        "is due in {0} since {1:%Y-%m-%d %H:%M:%S}, and nobody took it",
        messages.c.queue,
        messages.c.available_at,
    ),
    broken_where(
        11,
        "live messages",
        messages,
        lambda bounds: and_(
            messages.c.state == "running", older_than(messages.c.lease_expires_at, bounds.lapsed_seconds)
        ),
        "its lease ended {0:%Y-%m-%d %H:%M:%S}, and nobody took it back",
        messages.c.lease_expires_at,
    ),
)
