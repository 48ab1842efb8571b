"""Provider transactions and verdicts: the money that moved, and what we said it means. Rows are only ever added."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contracts.evidence import ProviderTransaction, TransactionKind
from contracts.ids import new_id
from contracts.statuses import LinkState, Proof
from db.hot import Hot
from db.schema import attempts, links, refunds, transactions, unmatched, verdicts
from db.tx import Tx
from db.types import constant, db_now
from rules.verdicts import Money, Verdict, link_then

_MONEY = Hot(
    select(transactions, links.c.state, links.c.closed_at, links.c.expires_at, links.c.id.label("link_id"))
    .join(attempts, attempts.c.id == transactions.c.attempt_id)
    .join(links, links.c.id == attempts.c.link_id)
    .where(transactions.c.invoice_id == bindparam("of_invoice"))
)
_LAST_CAPTURE = Hot(
    select(transactions)
    .where(
        transactions.c.invoice_id == bindparam("of_invoice"),
        transactions.c.kind == constant(TransactionKind.CAPTURE),
    )
    .order_by(transactions.c.occurred_at.desc())
    .limit(1)
)
_KNOWN_RULES = Hot(
    select(verdicts.c.rule_id).where(
        verdicts.c.attempt_id == bindparam("of_attempt"), verdicts.c.evidence_digest == bindparam("of_evidence")
    )
)


def record(
    tx: Tx,
    account: str,
    moved: Iterable[ProviderTransaction],
    *,
    invoice_id: str | None,
    attempt_id: str | None,
    unmatched_id: str | None = None,
    proof: Proof = Proof.LOOK_UP,
) -> int:
    """Keep transactions that are new; without an invoice they lie in the inbox. Return how many were new."""
    made = 0
    for transaction in told(tx, account, moved):
        values = {
            "id": new_id(),
            "account": account,
            "provider_transaction_id": transaction.provider_transaction_id,
            "kind": transaction.kind.value,
            "amount_minor": transaction.amount_minor,
            "currency": transaction.currency,
            "occurred_at": transaction.occurred_at,
            "invoice_id": invoice_id,
            "attempt_id": attempt_id,
            "unmatched_id": unmatched_id,
            "proof": proof.value,
        }
        into = postgres_insert(transactions) if tx.is_postgres else sqlite_insert(transactions)
        added = tx.execute(into.values(**values).on_conflict_do_nothing().returning(transactions.c.id)).first()
        made += 1 if added is not None else _adopt(tx, values)
    return made


def told(tx: Tx, account: str, moved: Iterable[ProviderTransaction]) -> list[ProviderTransaction]:
    """Return single movements: of a total so far, those that we hold already and the rest of it."""
    single: list[ProviderTransaction] = []
    for transaction in moved:
        single += _parts(tx, account, transaction) if transaction.cumulative else [transaction]
    return single


def _parts(tx: Tx, account: str, total: ProviderTransaction) -> list[ProviderTransaction]:
    """Split a total; the caller holds the lock that its order's money is written under."""
    begins = f"{total.provider_transaction_id}:"
    held = select(transactions).where(
        transactions.c.account == account,
        transactions.c.kind == total.kind.value,
        # All that begin so, by their order: ";" comes after ":", and words compare by bytes.
        transactions.c.provider_transaction_id >= begins,
        transactions.c.provider_transaction_id < f"{total.provider_transaction_id};",
    )
    parts = [
        ProviderTransaction(
            provider_transaction_id=row.provider_transaction_id,
            kind=TransactionKind(row.kind),
            amount_minor=row.amount_minor,
            currency=row.currency,
            occurred_at=row.occurred_at,
        )
        for row in tx.execute(held.order_by(transactions.c.created_at, transactions.c.id))
    ]
    held_minor = sum(part.amount_minor for part in parts)
    for end in [*_ends_of_refunds(tx, account, begins, held_minor, total.amount_minor), total.amount_minor]:
        if end > held_minor:
            named = {"provider_transaction_id": f"{begins}{end}", "amount_minor": end - held_minor, "cumulative": False}
            parts.append(total.model_copy(update=named))
            held_minor = end
    return parts


def _ends_of_refunds(tx: Tx, account: str, begins: str, above: int, below: int) -> list[int]:
    """Return the totals between these that refunds of ours made: each of those is a movement of its own."""
    named = select(refunds.c.provider_transaction_id).where(
        refunds.c.account == account,
        refunds.c.provider_transaction_id >= begins,
        refunds.c.provider_transaction_id < f"{begins[:-1]};",
    )
    ends = (name.removeprefix(begins) for name in tx.execute(named).scalars())
    return sorted(int(end) for end in ends if end.isdecimal() and above < int(end) < below)


def _adopt(tx: Tx, values: dict[str, Any]) -> int:
    """Give a transaction of nobody its invoice once we know it; so its inbox entry is over."""
    if values["invoice_id"] is None:
        return 0
    found = update(transactions).where(
        transactions.c.account == values["account"],
        transactions.c.kind == values["kind"],
        transactions.c.provider_transaction_id == values["provider_transaction_id"],
        transactions.c.invoice_id.is_(None),
    )
    theirs = {"invoice_id": values["invoice_id"], "attempt_id": values["attempt_id"]}
    row = tx.execute(found.values(**theirs).returning(transactions.c.unmatched_id)).first()
    if row is None:
        return 0
    entry = update(unmatched).where(unmatched.c.id == row.unmatched_id, unmatched.c.state != "assigned")
    tx.execute(entry.values(state="assigned", invoice_id=values["invoice_id"], closed_at=db_now()))
    return 1


def money_of(tx: Tx, invoice_id: str, newest_link_id: str | None) -> list[Money]:
    """Return all money of an invoice, with the state of the link that each came by."""
    return [
        Money(
            kind=TransactionKind(row.kind),
            amount_minor=row.amount_minor,
            currency=row.currency,
            occurred_at=row.occurred_at,
            attempt_id=row.attempt_id,
            link_was=link_then(LinkState(row.state), row.closed_at, row.occurred_at),
            link_expires_at=row.expires_at,
            link_current=row.link_id == newest_link_id,
            link_id=row.link_id,
            found_at=row.created_at,
        )
        for row in _MONEY.rows(tx, of_invoice=invoice_id)
    ]


def last_capture(tx: Tx, invoice_id: str) -> Row[Any] | None:
    """Return the capture that the CRM is told about: the newest one."""
    return _LAST_CAPTURE.first(tx, of_invoice=invoice_id)


def write_verdicts(
    tx: Tx,
    given: Iterable[Verdict],
    *,
    invoice_id: str,
    attempt_id: str,
    status: str,
    evidence_digest: str,
    provider_request_id: str | None,
    message_id: str | None,
) -> None:
    """Keep what was decided and by which rule; the same decision on the same evidence is kept once."""
    known = {row.rule_id for row in _KNOWN_RULES.rows(tx, of_attempt=attempt_id, of_evidence=evidence_digest)}
    for verdict in given:
        if verdict.rule_id not in known:
            known.add(verdict.rule_id)
            tx.execute(
                insert(verdicts).values(
                    id=new_id(),
                    invoice_id=invoice_id,
                    attempt_id=attempt_id,
                    rule_id=verdict.rule_id,
                    verdict=verdict.meaning,
                    status=status,
                    evidence_digest=evidence_digest,
                    request_id=tx.cause.request_id,
                    provider_request_id=provider_request_id,
                    message_id=message_id,
                )
            )


def rules_of(tx: Tx, invoice_id: str) -> frozenset[str]:
    """Return the ids of the rules that ever decided about an invoice."""
    found = select(verdicts.c.rule_id).where(verdicts.c.invoice_id == invoice_id)
    return frozenset(tx.execute(found).scalars())


def last_rules(tx: Tx, attempt_id: str) -> frozenset[str]:
    """Return the ids of the rules that decided on an attempt's newest evidence."""
    of_attempt = verdicts.c.attempt_id == attempt_id
    newest = select(verdicts.c.evidence_digest).where(of_attempt).order_by(verdicts.c.id.desc()).limit(1)
    found = select(verdicts.c.rule_id).where(of_attempt, verdicts.c.evidence_digest == newest.scalar_subquery())
    return frozenset(tx.execute(found).scalars())


def rules_seen(tx: Tx) -> frozenset[str]:
    """Return the ids of the rules that ever decided here, also about money of nobody; reads every verdict."""
    about_invoices = tx.execute(select(verdicts.c.rule_id).distinct()).scalars()
    about_nobody = tx.execute(select(unmatched.c.rule_id).distinct()).scalars()
    return frozenset({*about_invoices, *about_nobody})
