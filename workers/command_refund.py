"""Take, agree to, or refuse a wish to give money back.

Takes     payment.refund, refund.approve and refund.reject, written by intake.
Gives     refund.make, which calls the provider; command.answered; a manager's task where a second person is needed.
Twice?    Safe: a wish is kept once, under the invoice's lock; pending refunds and what is back never exceed what came.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from contracts.commands import PaymentRefund, RefundApprove, RefundReject
from contracts.messages import RefundMake
from contracts.money import display
from db import audit, exceptions, intents, refunds
from db.tx import Record, Tx
from rules.refunds import MAKE_REFUND, Payment, RefundState, choose, is_another_person
from rules.verdicts import Reason
from runtime.deps import Deps
from workers.commanding import LIMIT, SCHEDULE, Declined, Target, carry_out
from workers.stage import Outcome, stage
from workers.standing import raise_exception

_NOTHING_TO_DECIDE = "no refund of this id waits for a decision here: `paylinks invoice show` names those that do"


@stage(PaymentRefund, schedule=SCHEDULE, time_limit=LIMIT)
def refund_payment(message: PaymentRefund, deps: Deps) -> Outcome:
    """Keep the wish, and begin it, or wait for a second person."""

    def do(tx: Tx, target: Target) -> str | Declined:
        payment = choose(
            refunds.payments_of(tx, target.invoice.id),
            amount_minor=message.amount_minor,
            currency=message.currency,
            named=message.payment,
        )
        if isinstance(payment, str):
            return Declined(payment)
        in_the_way = _cannot_refund(deps, payment)
        if in_the_way is not None:
            return Declined(in_the_way)
        amount = message.amount_minor or payment.left_minor
        limit = deps.settings.refund_limit(message.crm, payment.currency)
        needs_two = limit is not None and amount > limit
        refund = refunds.create(
            tx,
            payment,
            invoice_id=target.invoice.id,
            amount_minor=amount,
            state=RefundState.WAITING if needs_two else RefundState.PENDING,
            requested_by=message.author(),
        )
        _write(tx, message, refund, "refund.asked")
        money = display(amount, payment.currency)
        if needs_two:
            detail = f"a refund of {money} waits for a second person: approve or reject {refund.id}"
            raise_exception(tx, target.invoice.id, Reason.REFUND_WAITS, detail)
            return f"refund {refund.id} of {money} waits for a second person to approve it"
        tx.then(RefundMake(refund=refund.id, about=target.invoice.id))
        return f"refund {refund.id} of {money} is on its way"

    return carry_out(message, deps, do)


@stage(RefundApprove, schedule=SCHEDULE, time_limit=LIMIT)
def approve_refund(message: RefundApprove, deps: Deps) -> Outcome:
    """Let a refund go that waited for a second person, or try one again whose outcome nobody knows."""

    def do(tx: Tx, target: Target) -> str | Declined:
        refund = _undecided(tx, message.refund, target)
        if refund is None:
            return Declined(_NOTHING_TO_DECIDE)
        if not is_another_person(refund.requested_by, message.author()):
            return Declined("who asks for a refund does not approve it: another person must")
        if refund.state == RefundState.UNKNOWN:  # a person knows: the lost call did nothing
            intents.resolve(tx, MAKE_REFUND, refund.id, "not_done")
        refunds.move(tx, refund.id, RefundState.PENDING, decided_by=message.author())
        _write(tx, message, refund, "refund.approved")
        _no_more_waiting(tx, target, refund)
        tx.then(RefundMake(refund=refund.id, about=target.invoice.id, decision=deps.claim.id))
        return f"refund {refund.id} is on its way"

    return carry_out(message, deps, do)


@stage(RefundReject, schedule=SCHEDULE, time_limit=LIMIT)
def reject_refund(message: RefundReject, deps: Deps) -> Outcome:
    """End a refund that waits, or one of which a person knows that it never happened."""

    def do(tx: Tx, target: Target) -> str | Declined:
        refund = _undecided(tx, message.refund, target)
        if refund is None:
            return Declined(_NOTHING_TO_DECIDE)
        intents.resolve(tx, MAKE_REFUND, refund.id, "not_done")
        refunds.move(tx, refund.id, RefundState.REJECTED, decided_by=message.author())
        _write(tx, message, refund, "refund.rejected")
        _no_more_waiting(tx, target, refund)
        return f"refund {refund.id} is rejected; no money moves"

    return carry_out(message, deps, do)


def _cannot_refund(deps: Deps, payment: Payment) -> str | None:
    provider = deps.providers.get(payment.account)
    if provider is None:
        return f"the account {payment.account} is not configured here any more: give the money back at the provider"
    if not provider.capabilities.refund:
        then = "verify the payment then" if provider.capabilities.lookup else "its statement will tell"
        return f"{payment.account} gives no money back by a call: do it there, and {then}"
    return None


def _undecided(tx: Tx, refund_id: str, target: Target) -> Record | None:
    found = refunds.find(tx, refund_id)
    if found is None or found.invoice_id != target.invoice.id:
        return None
    refund = refunds.lock(tx, refund_id)
    return refund if refunds.is_undecided(tx, refund) else None


def _no_more_waiting(tx: Tx, target: Target, refund: Record) -> None:
    reason = Reason.REFUND_WAITS if refund.state == RefundState.WAITING else Reason.REFUND_FAILED
    if reason is Reason.REFUND_FAILED or not refunds.is_waiting(tx, target.invoice.id):
        exceptions.clear(tx, target.invoice.id, reason)


def _write(tx: Tx, message: PaymentRefund | RefundApprove | RefundReject, refund: Record, action: str) -> None:
    audit.write(
        tx,
        actor=message.author(),
        action=action,
        subject=refund.invoice_id,
        reason=message.reason,
        refund=refund.id,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
        order=refund.provider_order_id,
    )
