"""The whole story of one invoice, in the order of time, for support: every row that has to do with it becomes entries.

Nothing personal and no token is here: payloads are read for a few harmless words, sealed parts are not opened.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Row, or_, select

from contracts.base import key_of
from contracts.messages import ProviderEventReceived
from contracts.money import display
from db import audit, dead_letters, invoices, link_views, receipts
from db.schema import (
    attempts,
    exceptions,
    intents,
    invoice_versions,
    links,
    message_attempts,
    message_conflicts,
    message_duplicates,
    message_history,
    messages,
    refunds,
    transactions,
    verdicts,
)
from db.schema import invoices as invoice_rows
from db.tx import Tx

# Words of a payload that may be shown: ids and counters, nothing that a sender wrote.
_HARMLESS = ("version", "revision", "check_no", "episode", "attempt", "link", "reason", "outcome")
_MAX_FOUND = 50
_MAX_VIEWS = 200
# Deeds that are told as what they are: the link went out.
SENDS = ("link.sent", "link.resent")
_COLONS_OF_A_CRM_NAME = 2  # crm:type:id, see contracts.base.key_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `text` is for people; `facts` say the same to a program."""

    at: datetime
    what: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """An invoice as it is now, and how it came there."""

    invoice: dict[str, Any]
    entries: list[Entry]


# --- which invoice is meant -----------------------------------------------------------------------------------------


def find(tx: Tx, name: str) -> list[str]:
    """Return the ids of the invoices that a name may mean, oldest first.

    A name is our id, the CRM's (also as crm/id or crm/type/id), or the id of a link, an attempt, a provider's order, a
    message, or a request.
    """
    for meant in (_by_id, _by_crm_name, _by_part, _by_message, _by_request):
        found = sorted(set(meant(tx, name)))
        if found:
            return found[:_MAX_FOUND]
    return []


def find_named(tx: Tx, name: str) -> list[str]:
    """Return the ids of the invoices that are called so themselves, by us or by a CRM."""
    return sorted({*_by_id(tx, name), *_by_crm_name(tx, name)})


def _by_id(tx: Tx, name: str) -> Iterable[str]:
    return tx.execute(select(invoice_rows.c.id).where(invoice_rows.c.id == name)).scalars()


def _by_crm_name(tx: Tx, name: str) -> Iterable[str]:
    table = invoice_rows.c
    crm, _, rest = name.partition("/")
    kind, _, external_id = rest.partition("/")
    meant = or_(
        table.external_id == name,
        (table.crm == crm) & (table.external_id == rest),
        (table.crm == crm) & (table.payable_type == kind) & (table.external_id == external_id),
    )
    return tx.execute(select(table.id).where(meant).limit(_MAX_FOUND)).scalars()


def _by_part(tx: Tx, name: str) -> Iterable[str]:
    of_link = select(links.c.invoice_id).where(links.c.id == name)
    of_attempt = select(attempts.c.invoice_id).where(
        or_(attempts.c.id == name, attempts.c.reference == name, attempts.c.provider_order_id == name)
    )
    of_money = select(transactions.c.invoice_id).where(
        transactions.c.provider_transaction_id == name, transactions.c.invoice_id.is_not(None)
    )
    of_refund = select(refunds.c.invoice_id).where(refunds.c.id == name, refunds.c.invoice_id.is_not(None))
    of_exception = select(exceptions.c.invoice_id).where(or_(exceptions.c.id == name, exceptions.c.task_id == name))
    for found in (of_link, of_attempt, of_money, of_refund, of_exception):
        yield from tx.execute(found).scalars()


def _by_message(tx: Tx, name: str) -> Iterable[str]:
    return _of_messages(tx, messages.c.id == name, message_history.c.id == name)


def _by_request(tx: Tx, name: str) -> Iterable[str]:
    yield from _of_messages(tx, messages.c.request_id == name, message_history.c.request_id == name)
    for table in (invoice_rows, exceptions, verdicts):
        of = table.c.id if table is invoice_rows else table.c.invoice_id
        yield from tx.execute(select(of).where(table.c.request_id == name).limit(_MAX_FOUND)).scalars()


def _of_messages(tx: Tx, live: Any, ended: Any) -> Iterator[str]:
    for table, condition in ((messages, live), (message_history, ended)):
        for subject in tx.execute(select(table.c.subject).where(condition).distinct().limit(_MAX_FOUND)).scalars():
            yield from _by_subject(tx, subject)


def _by_subject(tx: Tx, subject: str) -> Iterable[str]:
    """Lead a message's subject to its invoice: our id, or the CRM's name of it."""
    found = list(_by_id(tx, subject))
    if found or subject.count(":") != _COLONS_OF_A_CRM_NAME:
        return found
    crm, kind, external_id = map(unquote, subject.split(":"))
    invoice = invoices.find(tx, crm, external_id, kind)
    return [invoice.id] if invoice is not None else []


def _crm_name(invoice: Row[Any]) -> str:
    return key_of(invoice.crm, invoice.payable_type, invoice.external_id)


# --- its story ------------------------------------------------------------------------------------------------------


def of(tx: Tx, invoice_id: str) -> Story:
    """Tell everything about one invoice."""
    invoice = invoices.get(tx, invoice_id)
    told = [
        *_invoice(tx, invoice),
        *_links(tx, invoice),
        *_views(tx, invoice_id),
        *_attempts(tx, invoice_id),
        *_messages(tx, invoice),
        *_money(tx, invoice_id),
        *_refunds(tx, invoice_id),
        *_receipts(tx, invoice_id),
        *_exceptions(tx, invoice_id),
        *_deeds(tx, invoice),
    ]
    return Story(_head(invoice), sorted(told, key=lambda entry: entry.at))


def _head(invoice: Row[Any]) -> dict[str, Any]:
    shown = (
        *("id", "crm", "payable_type", "external_id", "version", "kind", "deal_id", "amount_minor", "currency"),
        *("purpose", "status", "fiscal_status", "paid_minor", "refunded_minor", "paid_at", "paid_proof", "account"),
        *("provider_reference", "revision", "crm_revision", "manager_id", "request_id", "created_at"),
    )
    return {name: invoice._mapping[name] for name in shown} | {
        "flags": [flag.value for flag in invoices.flags_of(invoice)],
        "customer": "[sealed]" if invoice.customer_sealed else None,
    }


def _invoice(tx: Tx, invoice: Row[Any]) -> Iterator[Entry]:
    yield Entry(invoice.created_at, "invoice", f"first heard of from {invoice.crm}", request_id=invoice.request_id)
    found = select(invoice_versions).where(invoice_versions.c.invoice_id == invoice.id)
    for row in tx.execute(found.order_by(invoice_versions.c.version)):
        text = f"version {row.version}: {display(row.amount_minor, row.currency)}, {row.purpose}"
        yield Entry(row.created_at, "version", text, _facts(row, "version", "amount_minor", "currency", "message_id"))


def _links(tx: Tx, invoice: Row[Any]) -> Iterator[Entry]:
    for row in tx.execute(select(links).where(links.c.invoice_id == invoice.id).order_by(links.c.number)):
        facts = _facts(row, "id", "number", "invoice_version", "state", "amount_minor", "currency", "expires_at")
        asks = display(row.amount_minor, row.currency)
        ends = f"{row.expires_at:%Y-%m-%d %H:%M}"
        text = f"link {row.number} ({row.id}) for version {row.invoice_version}: {asks}, until {ends}"
        yield Entry(row.created_at, "link", text, facts)
        if row.sent_at:
            yield Entry(row.sent_at, "link", f"link {row.number} left us: its amount is fixed for ever", facts)
        if row.closed_at:
            yield Entry(row.closed_at, "link", f"link {row.number} {row.state}", facts)


def _views(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    """Tell in which minutes somebody looked: the newest ones, and none before the link was made."""
    for row in link_views.of_invoice(tx, invoice_id, limit=_MAX_VIEWS):
        at = max(row.viewed_at, row.created_at)
        yield Entry(at, "view", f"somebody opened link {row.number}", _facts(row, "link_id", "viewed_at"))


def _attempts(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    for row in tx.execute(select(attempts).where(attempts.c.invoice_id == invoice_id).order_by(attempts.c.id)):
        facts = _facts(
            row, "id", "number", "link_id", "account", "reference", "state", "provider_order_id", "error", "check_no"
        )
        state = "" if row.ended_at else f"; it is {row.state} now"
        yield Entry(row.created_at, "attempt", f"attempt {row.number} ({row.id}) at {row.account}{state}", facts)
        if row.opened_at:
            text = f"attempt {row.number} opened: the provider's order is {row.provider_order_id}"
            yield Entry(row.opened_at, "attempt", text, facts)
        if row.ended_at:
            yield Entry(row.ended_at, "attempt", f"attempt {row.number} {row.state}{_because(row.error)}", facts)
        yield from _intents(tx, row)


def _intents(tx: Tx, attempt: Row[Any]) -> Iterator[Entry]:
    for row in tx.execute(select(intents).where(intents.c.reference == attempt.id)):
        end = f"{row.result} at {row.resolved_at:%H:%M:%S}" if row.result else "no known end"
        facts = _facts(row, "operation", "reference", "message_id", "claim_no", "result", "deadline")
        yield Entry(row.created_at, "intent", f"{row.operation} under {row.reference}: {end}", facts)


def _money(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    shown = ("id", "account", "provider_transaction_id", "kind", "amount_minor", "currency", "attempt_id", "created_at")
    for row in tx.execute(select(transactions).where(transactions.c.invoice_id == invoice_id)):
        facts = _facts(row, *shown)
        text = f"{row.kind} {display(row.amount_minor, row.currency)} ({row.provider_transaction_id} at {row.account})"
        yield Entry(row.occurred_at, "money", text, facts)
    for row in tx.execute(select(verdicts).where(verdicts.c.invoice_id == invoice_id).order_by(verdicts.c.id)):
        facts = _facts(row, "rule_id", "verdict", "status", "attempt_id", "message_id", "provider_request_id")
        asked = f", provider's request {row.provider_request_id}" if row.provider_request_id else ""
        text = f"rule {row.rule_id}: {row.verdict}; status {row.status}{asked}"
        yield Entry(row.created_at, "verdict", text, facts, row.request_id)


def _refunds(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    shown = (
        *("id", "state", "amount_minor", "currency", "provider_order_id", "attempt_id", "requested_by", "decided_by"),
        *("provider_transaction_id", "error"),
    )
    for row in tx.execute(select(refunds).where(refunds.c.invoice_id == invoice_id).order_by(refunds.c.id)):
        facts = _facts(row, *shown)
        money = display(row.amount_minor, row.currency)
        text = f"refund {row.id} of {money} from {row.provider_order_id}, asked for by {row.requested_by}"
        yield Entry(row.created_at, "refund", text, facts, row.request_id)
        if row.ended_at:
            yield Entry(row.ended_at, "refund", f"refund {row.id} {row.state}{_because(row.error)}", facts)


def _receipts(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    shown = ("id", "device", "kind", "state", "amount_minor", "currency", "seq", "number", "error", "transaction_id")
    for row in receipts.of_invoice(tx, invoice_id):
        facts = _facts(row, *shown, "provider_request_id")
        text = f"{row.kind} receipt {row.id} of {display(row.amount_minor, row.currency)} wanted from {row.device}"
        yield Entry(row.created_at, "receipt", text, facts, row.request_id)
        if row.ended_at:
            number = f" as {row.number}" if row.number else ""
            text = f"{row.kind} receipt {row.id} {row.state}{number}{_because(row.error)}"
            yield Entry(row.ended_at, "receipt", text, facts, row.request_id)


def _exceptions(tx: Tx, invoice_id: str) -> Iterator[Entry]:
    for row in tx.execute(select(exceptions).where(exceptions.c.invoice_id == invoice_id).order_by(exceptions.c.id)):
        facts = _facts(row, "id", "reason", "episode", "state", "detail", "task_state", "task_id")
        task = f"task {row.task_id} {row.task_state}" if row.task_id else f"task: {row.task_state}"
        text = f"{row.reason} (episode {row.episode}): {row.detail}; {task}"
        yield Entry(row.created_at, "exception", text, facts, row.request_id)
        if row.closed_at:
            text = f"{row.reason} (episode {row.episode}) closed"
            yield Entry(row.closed_at, "exception", text, facts, row.request_id)


def _deeds(tx: Tx, invoice: Row[Any]) -> Iterator[Entry]:
    for row in audit.of_subject(tx, invoice.id, _crm_name(invoice)):
        facts = {"actor": row.actor, "action": row.action, "reason": row.reason, **json.loads(row.detail)}
        is_send = row.action in SENDS
        text = f"{row.action} by {row.actor}{_way(facts) if is_send else ''}{_because(row.reason)}"
        yield Entry(row.created_at, "send" if is_send else "audit", text, facts, row.request_id)


def _way(sent: dict[str, Any]) -> str:
    """Say which way a link went and to whom, masked, as far as its sender told."""
    channel, recipient = sent.get("channel"), sent.get("recipient")
    return (f", {channel}" if channel else "") + (f" to {recipient}" if recipient else "")


# --- messages -------------------------------------------------------------------------------------------------------


def _messages(tx: Tx, invoice: Row[Any]) -> Iterator[Entry]:
    subjects = (invoice.id, _crm_name(invoice))
    live = tx.execute(select(messages).where(messages.c.subject.in_(subjects))).all()
    ended = tx.execute(select(message_history).where(message_history.c.subject.in_(subjects))).all()
    for row in live:
        yield _asked(row, f"now {row.state}{_because(row.error)}")
    for row in ended:
        yield _asked(row, f"ended as {row.outcome}{_because(row.detail)}")
        if row.outcome == "discarded":
            yield Entry(row.finished_at, "message", f"{_name(row)} discarded{_because(row.detail)}", {"id": row.id})
    named = {row.id: row for row in (*live, *ended)}
    yield from _tries(tx, named)
    yield from _repeats(tx, named)


def _asked(row: Row[Any], now: str) -> Entry:
    facts = _facts(row, "id", "queue", "type", "failures", "lapses", "waits", "causation") | _words(row)
    facts |= {"state": row._mapping.get("state"), "outcome": row._mapping.get("outcome")}
    text = f"{_name(row)} ({row.id}) in {row.queue}: {now}"
    if row.type == ProviderEventReceived.TYPE:
        facts["raw"] = dead_letters.ERASED if dead_letters.is_erased(row) else dead_letters.SEALED
        text += f"; raw event {facts['raw']}"
    return Entry(row.created_at, "message", text, facts, row.request_id)


def _tries(tx: Tx, named: dict[str, Row[Any]]) -> Iterator[Entry]:
    table = message_attempts
    for ids in _portions(named):
        found = select(table).where(table.c.message_id.in_(ids)).order_by(table.c.message_id, table.c.number)
        for row in tx.execute(found):
            facts = _facts(
                row, "message_id", "number", "started_at", "ended_at", "outcome", "error_class", "error", "worker"
            ) | {"provider_request_id": row.provider_request_id}
            asked = f", provider's request {row.provider_request_id}" if row.provider_request_id else ""
            error = f": {row.error_class}: {row.error}" if row.error_class else ""
            message = named[row.message_id]
            text = f"try {row.number} of {_name(message)}: {row.outcome}{error}{_took(row)} by {row.worker}{asked}"
            yield Entry(row.ended_at, "try", text, facts, message.request_id)


def _took(row: Row[Any]) -> str:
    return f" after {(row.ended_at - row.started_at).total_seconds():.3f} s" if row.started_at else ""


def _repeats(tx: Tx, named: dict[str, Row[Any]]) -> Iterator[Entry]:
    for ids in _portions(named):
        for row in tx.execute(select(message_duplicates).where(message_duplicates.c.message_id.in_(ids))):
            text = f"repeat of {_name(named[row.message_id])} ignored: the first was {row.first_state}"
            yield Entry(row.created_at, "duplicate", text, _facts(row, "message_id", "first_state"), row.request_id)
        for row in tx.execute(select(message_conflicts).where(message_conflicts.c.message_id.in_(ids))):
            text = f"{_name(named[row.message_id])} came again with other content, which is kept aside"
            yield Entry(row.created_at, "conflict", text, _facts(row, "id", "message_id", "type"), row.request_id)


def _name(row: Row[Any]) -> str:
    words = _words(row)
    telling = ("version", "revision", "check_no", "episode", "reason")
    shown = [f"{name} {words[name]}" for name in telling if name in words]
    return " ".join([row.type, *shown]).replace("check_no", "check")


def _words(row: Row[Any]) -> dict[str, Any]:
    payload = json.loads(row.payload)
    return {name: payload[name] for name in _HARMLESS if name in payload}


def _portions(named: dict[str, Row[Any]], size: int = 400) -> Iterator[list[str]]:
    ids = sorted(named)
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _facts(row: Row[Any], *names: str) -> dict[str, Any]:
    return {name: row._mapping[name] for name in names}


def _because(text: str | None) -> str:
    return f": {text}" if text else ""
