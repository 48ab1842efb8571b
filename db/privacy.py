"""What is held about one person: found, told to him, and erased.

Personal fields are sealed, and no index leads to them: an index by address would be personal data itself. So every seal
is opened, in portions, and the work grows with the database.

    find ──> Held ──> told      everything about him as one document
                └───> erase     one transaction: his fields go, money, keys and the audit trail stay
"""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Row, bindparam, delete, null, select, update

from contracts.base import key_of
from contracts.messages import ProviderEventReceived
from db import audit, invoices, link_views, rejections, timeline
from db.database import Database
from db.retention import ERASED
from db.schema import (
    attempts,
    exceptions,
    fiscal_receipts,
    invoice_versions,
    links,
    message_conflicts,
    message_history,
    messages,
    refunds,
    transactions,
    verdicts,
)
from db.schema import invoices as invoice_rows
from db.schema import link_views as view_rows
from db.schema import rejections as rejection_rows
from db.sealing import SealBroken
from db.tx import Tx
from rules.masking import masked
from rules.persons import Person, digits_of, looks_like_a_number, names_any

PORTION = 500
_CHUNK = 400


class Unclear(Exception):
    """The name does not say whom it means; the text says what to give instead."""


class InFlight(Exception):
    """Messages that still need his data are on their way."""

    def __init__(self, live: Sequence[Row[Any]]) -> None:
        super().__init__(", ".join(f"{row.type} {row.id} is {row.state}" for row in live))
        self.live = live


@dataclass(slots=True)
class Held:
    """Where something about a person was found."""

    person: Person
    # Our invoice id -> the sealed fields that were seen there, None where there are none any more.
    invoices: dict[str, bytes | None] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # our invoice id -> the CRM's name of it
    references: list[str] = field(default_factory=list)  # by which the provider knows his orders
    live: list[Row[Any]] = field(default_factory=list)
    ended: list[Row[Any]] = field(default_factory=list)
    conflicts: list[Row[Any]] = field(default_factory=list)
    rejected: list[Row[Any]] = field(default_factory=list)
    unopened: int = 0  # seals that no configured key opens: nobody can tell whose they are

    @property
    def is_personal(self) -> bool:
        """Tell whether anything is left to erase."""
        return any((*self.invoices.values(), self.live, self.ended, self.conflicts, self.rejected))

    @property
    def subjects(self) -> frozenset[str]:
        """What messages about his invoices name."""
        return frozenset((*self.invoices, *self.names.values()))

    def counts(self) -> dict[str, int]:
        """Count what would be erased."""
        return {
            "invoices": sum(sealed is not None for sealed in self.invoices.values()),
            "messages": len(self.ended),
            "conflicts": len(self.conflicts),
            "rejected_bodies": len(self.rejected),
        }


# --- finding --------------------------------------------------------------------------------------------------------


def find(database: Database, name: str, *, portion: int = PORTION) -> Held:
    """Find what is held about whoever is meant: an e-mail address, a telephone number, or the customer of an invoice.

    Raise Unclear.
    """
    with database.read() as tx:
        held = _meant(tx, name)
    for row, fields in _opened(database, held, invoice_rows.c.customer_sealed, portion):
        if row.id in held.invoices or held.person.is_in(fields):
            held.invoices[row.id] = row.sealed
    with database.read() as tx:
        held.names = {id_: _crm_name(invoices.get(tx, id_)) for id_ in held.invoices}
        held.references = _references(tx, list(held.invoices))
    # What is live first: it may end meanwhile, and is then found among what has ended, or twice.
    for column, found in (
        (messages.c.sealed, held.live),
        (message_history.c.sealed, held.ended),
        (message_conflicts.c.sealed, held.conflicts),
    ):
        for row, fields in _opened(database, held, column, portion):
            if _is_his(held, row, fields):
                found.append(row)
    for row, body in _opened(database, held, rejection_rows.c.body_sealed, portion):
        if held.person.is_in(body):
            held.rejected.append(row)
    return held


def _meant(tx: Tx, name: str) -> Held:
    if not name.isprintable() or not name.strip():
        raise Unclear("holds characters that no name has")
    name = name.strip()
    if "@" in name:
        return Held(Person(emails=frozenset([name.casefold()])))
    is_number = looks_like_a_number(name)
    found = timeline.find_named(tx, name) if is_number else timeline.find(tx, name)
    if len(found) > 1:
        raise Unclear(f"names {len(found)} invoices; write it as crm/ID, or give our id")
    if found:
        sealed = invoices.get(tx, found[0]).customer_sealed
        return Held(Person.of(tx.sealer.open_json(sealed)) if sealed else Person(), {found[0]: None})
    if is_number:
        return Held(Person(phones=frozenset([digits_of(name)])))
    raise Unclear("is no e-mail address, no telephone number, and no invoice that is known here")


def _references(tx: Tx, ids: Sequence[str]) -> list[str]:
    found: list[str] = []
    for some in _chunks(ids):
        found += tx.execute(select(attempts.c.reference).where(attempts.c.invoice_id.in_(some))).scalars()
    return found


def _is_his(held: Held, row: Row[Any], fields: dict[str, Any]) -> bool:
    """Tell whether a message is about him; an event of the provider may not have been led to its invoice."""
    if row.subject in held.subjects or held.person.is_in(fields):
        return True
    return row.type == ProviderEventReceived.TYPE and names_any(fields, held.references)


def _crm_name(invoice: Row[Any]) -> str:
    return key_of(invoice.crm, invoice.payable_type, invoice.external_id)


def _opened(database: Database, held: Held, sealed: ColumnElement[Any], portion: int) -> Iterator[tuple[Row[Any], Any]]:
    """Walk through a table in portions; give every row with the content of its seal."""
    table: Any = sealed.table
    shown = [table.c[name] for name in ("id", "type", "subject", "state", "outcome") if name in table.c]
    is_body = table is rejection_rows
    after = ""
    while True:
        found = select(*shown, sealed.label("sealed")).where(table.c.id > after).order_by(table.c.id).limit(portion)
        with database.read() as tx:
            rows = tx.execute(found).all()
        for row in rows:
            if row.sealed is None:
                continue
            try:
                yield row, (database.sealer.open if is_body else database.sealer.open_json)(bytes(row.sealed))
            except SealBroken:
                held.unopened += 1
        if len(rows) < portion:
            return
        after = rows[-1].id


# --- erasing --------------------------------------------------------------------------------------------------------


def erase(database: Database, held: Held, *, actor: str, reason: str) -> dict[str, int]:
    """Erase what was found, and write it down; return what was erased. Raise InFlight.

    What came since it was found stays: fewer invoices are counted then, and it is found the next time.
    """
    if held.live:
        raise InFlight(held.live)
    with database.begin() as tx:
        for invoice_id in sorted(held.invoices):
            invoices.lock(tx, invoice_id)
        _refuse_what_is_live(tx, held)
        counts = held.counts() | _erase_rows(tx, held)
        _erase_bodies(tx, held, actor=actor, reason=reason)
        _write_down(tx, held, "privacy.erased", actor=actor, reason=reason, counts=counts)
    return counts


def _refuse_what_is_live(tx: Tx, held: Held) -> None:
    """Look again under the locks: a stage that waits for one of them may need what is about to go."""
    live = select(messages.c.id, messages.c.type, messages.c.state).where(
        messages.c.subject.in_(sorted(held.subjects)), messages.c.sealed.is_not(None)
    )
    found = tx.execute(live).all()
    if found:
        raise InFlight(found)


def _erase_rows(tx: Tx, held: Held) -> dict[str, int]:
    """Erase the fields of invoices, messages and conflicts, and views of links; count what may be less than found."""
    changed = 0
    for invoice_id, sealed in held.invoices.items():
        # Only what was seen: a newer version may have brought somebody else.
        seen = bindparam("seen", sealed, LargeBinary)
        its = update(invoice_rows).where(invoice_rows.c.id == invoice_id, invoice_rows.c.customer_sealed == seen)
        changed += tx.execute(its.values(customer_sealed=null())).rowcount
    for table, rows in ((message_history, held.ended), (message_conflicts, held.conflicts)):
        for ids in _chunks([row.id for row in rows]):
            tx.execute(update(table).where(table.c.id.in_(ids)).values(sealed=null()))
    views = 0
    for ids in _chunks(list(held.invoices)):
        of_his = select(links.c.id).where(links.c.invoice_id.in_(ids))
        views += tx.execute(delete(view_rows).where(view_rows.c.link_id.in_(of_his))).rowcount
    return {"invoices": changed, "views": views}


def _erase_bodies(tx: Tx, held: Held, *, actor: str, reason: str) -> None:
    """Erase kept bodies. One that still waits for a person is discarded: nothing is left to replay."""
    table = rejection_rows
    for found in held.rejected:
        row = tx.execute(select(table.c.state).where(table.c.id == found.id).with_for_update()).one()
        if row.state == "open":
            rejections.resolve(tx, found.id, "discarded", actor=actor, reason=reason)
        tx.execute(update(table).where(table.c.id == found.id).values(body_sealed=tx.sealer.seal(ERASED)))


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]


def _write_down(tx: Tx, held: Held, action: str, *, actor: str, reason: str, counts: dict[str, int]) -> None:
    """Write one row for each thing that it was about: our invoice ids, else what the message or body is called."""
    others = {row.subject for row in (*held.live, *held.ended, *held.conflicts)} - held.subjects
    for subject in sorted({*held.invoices, *others, *(row.id for row in held.rejected)}):
        audit.write(tx, actor=actor, action=action, subject=subject, reason=reason, **counts)


# --- telling --------------------------------------------------------------------------------------------------------

_INVOICE = (
    *("id", "crm", "payable_type", "external_id", "version", "kind", "deal_id", "amount_minor", "currency", "purpose"),
    *("locale", "status", "flags", "fiscal_status", "paid_minor", "refunded_minor", "paid_at", "provider_reference"),
    *("settled_elsewhere_at", "created_at"),
)
_VERSION = ("version", "amount_minor", "currency", "purpose", "created_at")
_LINK = (
    *("id", "number", "invoice_version", "state", "amount_minor", "currency", "expires_at", "sent_at", "closed_at"),
    "created_at",
)
_ATTEMPT = (
    *("id", "number", "link_id", "account", "reference", "state", "provider_order_id", "amount_minor", "currency"),
    *("error", "opened_at", "ended_at", "created_at"),
)
_TRANSACTION = ("account", "provider_transaction_id", "kind", "amount_minor", "currency", "occurred_at")
_REFUND = ("amount_minor", "currency", "state", "provider_transaction_id", "created_at", "ended_at")
_RECEIPT = ("device", "kind", "state", "amount_minor", "currency", "purpose", "number", "created_at", "ended_at")
_VERDICT = ("rule_id", "verdict", "status", "created_at")
_CASE = ("reason", "episode", "state", "detail", "created_at", "closed_at")
_MAX_VIEWS = 10_000

# Addresses may open a payment, and a token always opens one; also as JSON and forms write them.
_ADDRESS = re.compile(r"""https?(?::|%3A)(?:\\?/|%2F){2}(?:\\/|[^\s"'<>\\])*|/l/[A-Za-z0-9_-]{43}""", re.IGNORECASE)
LEFT_OUT = "[left out]"


def tell(database: Database, held: Held, *, actor: str, reason: str, secrets: Sequence[str] = ()) -> dict[str, Any]:
    """Write down that somebody asked, and return everything that is held.

    Nothing of it opens a payment, none of `secrets` is in it, and no fields of another person.
    """
    with database.begin() as tx:
        _write_down(tx, held, "privacy.exported", actor=actor, reason=reason, counts=held.counts())
    with database.read() as tx:
        about = [_invoice(tx, held, invoice_id, secrets) for invoice_id in sorted(held.invoices)]
        own = held.subjects
        others = [row for row in _once(held) if row.subject not in own]
        return {
            "invoices": about,
            "other_messages": list(_messages(tx, held, others, secrets)),
            "rejected_bodies": [_rejected(tx, row, secrets) for row in held.rejected],
        }


def _once(held: Held) -> list[Row[Any]]:
    """Give messages, one that ended meanwhile once, and what came in conflict with them."""
    return [*{row.id: row for row in (*held.live, *held.ended)}.values(), *held.conflicts]


def _invoice(tx: Tx, held: Held, invoice_id: str, secrets: Sequence[str]) -> dict[str, Any]:
    row = invoices.get(tx, invoice_id)
    names = (invoice_id, held.names[invoice_id])
    seen = link_views.of_invoice(tx, invoice_id, limit=_MAX_VIEWS)
    return {name: row._mapping[name] for name in _INVOICE} | {
        "flags": [flag.value for flag in invoices.flags_of(row)],
        "customer": tx.sealer.open_json(bytes(row.customer_sealed)) if row.customer_sealed else None,
        "versions": _all(tx, invoice_versions, _VERSION, invoice_id),
        "links": _all(tx, links, _LINK, invoice_id),
        "opened": [{"link": view.link_id, "minute": view.viewed_at} for view in seen],
        "sends": [_send(deed) for deed in audit.of_subject(tx, *names) if deed.action in timeline.SENDS],
        "attempts": _all(tx, attempts, _ATTEMPT, invoice_id),
        "transactions": _all(tx, transactions, _TRANSACTION, invoice_id),
        "refunds": _all(tx, refunds, _REFUND, invoice_id),
        "fiscal_receipts": _all(tx, fiscal_receipts, _RECEIPT, invoice_id),
        "verdicts": _all(tx, verdicts, _VERDICT, invoice_id),
        "cases": _all(tx, exceptions, _CASE, invoice_id),
        "messages": list(_messages(tx, held, [one for one in _once(held) if one.subject in names], secrets)),
    }


def _all(tx: Tx, table: Any, shown: Sequence[str], invoice_id: str) -> list[dict[str, Any]]:
    found = select(*(table.c[name] for name in shown)).where(table.c.invoice_id == invoice_id)
    return [dict(row._mapping) for row in tx.execute(found.order_by(table.c.created_at))]


def _send(deed: Row[Any]) -> dict[str, Any]:
    said = json.loads(deed.detail)
    return {"at": deed.created_at, "what": deed.action, "link": said.get("link")} | {
        name: said[name] for name in ("channel", "recipient", "sent_at") if name in said
    }


def _messages(tx: Tx, held: Held, rows: Sequence[Row[Any]], secrets: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        personal = _personal(tx, held, row, secrets)
        if personal:
            ended = row._mapping.get("outcome") or row._mapping.get("state") or "kept aside"
            yield {"id": row.id, "type": row.type, "about": row.subject, "state": ended} | personal


def _personal(tx: Tx, held: Held, row: Row[Any], secrets: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a message that are his; nothing where they are another person's."""
    fields = tx.sealer.open_json(bytes(row.sealed))
    told: dict[str, Any] = {}
    customer = fields.get("customer")
    if customer and (held.person.is_in(customer) or not Person.of(customer).is_known):
        told["customer"] = customer
    if "recipient" in fields:
        told["recipient"] = (
            fields["recipient"] if held.person.is_in(fields["recipient"]) else masked(fields["recipient"])
        )
    if "body_base64" in fields:
        # Headers and query hold signatures, and with some providers passwords.
        told["body"] = _readable(base64.b64decode(fields["body_base64"]), secrets)
    return told


def _rejected(tx: Tx, found: Row[Any], secrets: Sequence[str]) -> dict[str, Any]:
    table = rejection_rows
    row = tx.execute(select(table).where(table.c.id == found.id)).one()
    shown = ("id", "channel", "event_source", "event_id", "event_type", "state", "created_at")
    body = _readable(tx.sealer.open(bytes(row.body_sealed)), secrets)
    return {name: row._mapping[name] for name in shown} | {"body": body}


def _readable(body: bytes, secrets: Sequence[str]) -> str:
    text = _ADDRESS.sub(LEFT_OUT, body.decode("utf-8", "replace"))
    for secret in secrets:
        text = text.replace(secret, LEFT_OUT) if secret else text
    return text
