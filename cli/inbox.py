"""What a person does with money that is nobody's: each deed in one transaction with its row in the audit trail."""

from contracts.evidence import Evidence
from contracts.ids import new_id
from contracts.messages import RefundMake
from contracts.money import display
from db import attempts, audit, inbox, intents, invoices, links, refunds
from db.tx import Cause, Record, Tx
from rules.refunds import MAKE_REFUND, RefundState, is_another_person
from runtime.checks import request_check
from runtime.deps import Deps
from workers.standing import apply_evidence

_CLOSED = "it is not open (any more): see `paylinks money show`"


class NotPossible(Exception):
    """The deed cannot be done: the text says what is in the way, and what to do instead."""


def assign(deps: Deps, entry_id: str, invoice_id: str, *, actor: str, reason: str) -> str:
    """Give the money to an invoice; the provider is asked again, and its answer decides what the money means there."""
    with deps.database.begin(Cause.new(None)) as tx:
        invoice = invoices.lock(tx, invoice_id)
        entry = _open(tx, entry_id)
        link = links.newest(tx, invoice.id)
        if link is None:
            raise NotPossible("the invoice never had a link: its CRM cancelled it first, so send a new version of it")
        if refunds.hold_unmatched(tx, entry.id):
            raise NotPossible("a refund of it waits or is on its way: reject it first, or wait for its end")
        attempt = inbox.assign(tx, entry, link)
        if attempt is None:
            raise NotPossible(f"the reference {entry.reference} is that of another order here: refund it instead")
        detail = {"unmatched": entry.id, "account": entry.account, "order": entry.provider_order_id}
        audit.write(tx, actor=actor, action="money.assigned", subject=invoice.id, reason=reason, **detail)
        _find_out(tx, deps, entry, attempt)
    return f"assigned to {invoice.external_id} of {invoice.crm}; the provider is asked what the money means there"


def _find_out(tx: Tx, deps: Deps, entry: Record, attempt: Record) -> None:
    provider = deps.providers.get(entry.account)
    if provider is not None and provider.capabilities.lookup:
        request_check(tx, attempts.get(tx, attempt.id))
    else:  # nobody can be asked: its signed event is what we know
        evidence = Evidence.model_validate_json(entry.evidence)
        apply_evidence(tx, deps.settings, attempt, evidence, message_id=entry.message_id)


def refund(deps: Deps, entry_id: str, *, actor: str, reason: str) -> str:
    """Give all of the money back; above a limit a second person must agree."""
    with deps.database.begin(Cause.new(None)) as tx:
        entry = _open(tx, entry_id)
        provider = deps.providers.get(entry.account)
        if provider is None or not provider.capabilities.refund:
            raise NotPossible(f"{entry.account} gives no money back by a call: do it at the provider")
        left = {currency: amount for currency, amount in refunds.left_of_unmatched(tx, entry.id).items() if amount > 0}
        if not left:
            raise NotPossible("nothing is left of it that is not on its way back already")
        told = [
            _begin(tx, deps, entry, currency, amount, actor=actor, reason=reason)
            for currency, amount in sorted(left.items())
        ]
    return "; ".join(told)


def _begin(tx: Tx, deps: Deps, entry: Record, currency: str, amount: int, *, actor: str, reason: str) -> str:
    limit = deps.settings.refund_limit(None, currency)
    waits = limit is not None and amount > limit
    state = RefundState.WAITING if waits else RefundState.PENDING
    author = f"operator:{actor}"
    made = refunds.create_for_unmatched(
        tx, entry, amount_minor=amount, currency=currency, state=state, requested_by=author
    )
    _write(tx, made, "refund.asked", author, reason)
    if waits:
        return f"refund {made.id} of {display(amount, currency)} waits: another person runs `paylinks money approve`"
    tx.then(RefundMake(refund=made.id, about=entry.id))
    return f"refund {made.id} of {display(amount, currency)} is on its way"


def approve(deps: Deps, refund_id: str, *, actor: str, reason: str) -> str:
    """Agree to a refund of money of nobody that somebody else asked for."""
    author = f"operator:{actor}"
    with deps.database.begin(Cause.new(None)) as tx:
        made = _waiting(tx, refund_id)
        if not is_another_person(made.requested_by, author):
            raise NotPossible("who asks for a refund does not approve it: another person must")
        if made.state == RefundState.UNKNOWN:  # a person knows: the lost call did nothing
            intents.resolve(tx, MAKE_REFUND, made.id, "not_done")
        refunds.move(tx, made.id, RefundState.PENDING, decided_by=author)
        _write(tx, made, "refund.approved", author, reason)
        tx.then(RefundMake(refund=made.id, about=made.unmatched_id, decision=new_id()))
    return f"refund {made.id} is on its way"


def reject(deps: Deps, refund_id: str, *, actor: str, reason: str) -> str:
    """Refuse a refund of money of nobody; it stays in the inbox."""
    author = f"operator:{actor}"
    with deps.database.begin(Cause.new(None)) as tx:
        made = _waiting(tx, refund_id)
        intents.resolve(tx, MAKE_REFUND, made.id, "not_done")
        refunds.move(tx, made.id, RefundState.REJECTED, decided_by=author)
        _write(tx, made, "refund.rejected", author, reason)
    return f"refund {made.id} is rejected; no money moves"


def _open(tx: Tx, entry_id: str) -> Record:
    entry = inbox.lock(tx, entry_id)
    if entry is None:
        raise NotPossible("no entry of the inbox has this id: see `paylinks money list`")
    if entry.state != inbox.OPEN:
        raise NotPossible(_CLOSED)
    return entry


def _waiting(tx: Tx, refund_id: str) -> Record:
    found = refunds.find(tx, refund_id)
    if found is None or found.unmatched_id is None:
        raise NotPossible("no refund of the inbox has this id; one of an invoice is approved by `paylinks link`")
    made = refunds.lock(tx, refund_id)
    if not refunds.is_undecided(tx, made):
        raise NotPossible(f"it waits for nobody: it is {made.state}")
    return made


def _write(tx: Tx, made: Record, action: str, author: str, reason: str) -> None:
    detail = {"refund": made.id, "amount_minor": made.amount_minor, "currency": made.currency}
    audit.write(tx, actor=author, action=action, subject=made.unmatched_id, reason=reason, **detail)
