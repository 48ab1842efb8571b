"""What all commands share: find the invoice under its lock, ask the rules, do it, and answer, in one transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from contracts.commands import Command, CommandAnswered
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import attempts, customer_pages, exceptions, invoices, links
from db.tx import Record, Tx
from rules.commands import Facts, refusal
from rules.policy import LinkPolicy
from runtime.deps import Conclusion, Deps
from workers.stage import DONE, Outcome, Schedule

# Commands ask nobody outside, and a person waits for them.
LIMIT = timedelta(milliseconds=1800)
SCHEDULE = Schedule.growing(10, first=1, longest=600)

# Of several open attempts the one nearest to money decides.
_NEAREST = (AttemptState.PROCESSING, AttemptState.UNKNOWN, AttemptState.OPEN, AttemptState.RESERVED)


@dataclass(frozen=True, slots=True)
class Target:
    """The invoice that a command is about, locked, and its newest link."""

    invoice: Record
    link: Record
    policy: LinkPolicy


@dataclass(frozen=True, slots=True)
class Declined:
    """What a command asks for cannot be: `why` says what is in the way, and what to do instead. Nothing was written."""

    why: str


def carry_out(message: Command, deps: Deps, do: Callable[[Tx, Target], "str | Declined"]) -> Outcome:
    """Carry a command out, or refuse it; either way its sender is answered. `do` returns what was done."""
    with deps.deciding(message) as (tx, conclusion):
        target = _find(tx, message)
        conclusion.outcome = "refused"
        if isinstance(target, str):
            conclusion.detail = target
        else:
            conclusion.subject = target.invoice.id
            conclusion.detail = refusal(message, _facts(tx, target))
            if conclusion.detail is None:
                done = do(tx, target)
                conclusion.outcome = "refused" if isinstance(done, Declined) else "done"
                conclusion.detail = done.why if isinstance(done, Declined) else done
        tx.then(_answer(tx, deps, message, conclusion))
    return DONE


def _find(tx: Tx, message: Command) -> Target | str:
    """Return what the command is about, or why there is nothing."""
    invoice = invoices.find(tx, message.crm, message.invoice_id, message.type)
    if invoice is None:
        return "no invoice of this name is known here: compare crm, type and invoice_id, or send the invoice first"
    invoice = invoices.lock(tx, invoice.id)
    link = links.newest(tx, invoice.id)
    if link is None:
        return "the invoice never had a link: its CRM cancelled it first, so send a new version of it"
    return Target(invoice, link, LinkPolicy.kept(link.policy))


def _facts(tx: Tx, target: Target) -> Facts:
    invoice = target.invoice
    opened = {AttemptState(attempt.state) for attempt in attempts.open_of_invoice(tx, invoice.id)}
    return Facts(
        now=customer_pages.now(tx),
        amount_minor=invoice.amount_minor,
        currency=invoice.currency,
        status=InvoiceStatus(invoice.status),
        cancelled_by_crm=invoices.cancelled_at(tx, invoice) is not None,
        partly_paid=invoice.paid_minor > invoice.refunded_minor,
        link=LinkState(target.link.state),
        attempt=next((state for state in _NEAREST if state in opened), None),
        policy=target.policy,
        open_cases=frozenset(exceptions.open_reasons(tx, invoice.id)),
    )


def _answer(tx: Tx, deps: Deps, message: Command, conclusion: Conclusion) -> CommandAnswered:
    link = links.newest(tx, conclusion.subject) if conclusion.subject else None
    is_done = conclusion.outcome == "done"
    return CommandAnswered(
        command=message.TYPE,
        crm=message.crm,
        type=message.type,
        invoice_id=message.invoice_id,
        actor=message.actor,
        outcome="done" if is_done else "refused",
        detail=conclusion.detail or "",
        link=link.id if is_done and link is not None and link.state == LinkState.ACTIVE else None,
        request_id=tx.cause.request_id,
        causation=deps.claim.id,
    )
