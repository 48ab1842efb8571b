"""Capture what is held for an invoice, or let it go, on a person's word.

Takes     payment.capture and payment.release, written by intake.
Gives     attempt.hold, which calls the provider; command.answered.
Twice?    Safe: one wish at a time for each order, and the provider is called by intent.
Gives up  After 10 tries over about 25 minutes: dead letter.
"""

from contracts.commands import PaymentCapture, PaymentRelease
from contracts.evidence import OrderState
from contracts.money import display
from contracts.statuses import AttemptState
from db import attempts, audit
from db.tx import Record, Tx
from runtime.deps import Deps
from workers.commanding import LIMIT, SCHEDULE, Declined, Target, carry_out
from workers.holding import wish_hold
from workers.stage import Outcome, stage

_NOTHING_HELD = "no money is held for this invoice: verify the payment to see how it stands"
_UNDER_WAY = "what is held is being settled already: look again in a minute"


@stage(PaymentCapture, schedule=SCHEDULE, time_limit=LIMIT)
def capture_payment(message: PaymentCapture, deps: Deps) -> Outcome:
    """Have held money captured, all that was asked for or a part."""

    def do(tx: Tx, target: Target) -> str | Declined:
        held = _held(tx, deps, target)
        if isinstance(held, Declined):
            return held
        amount = message.amount_minor or held.amount_minor
        money = display(held.amount_minor, held.currency)
        if (message.currency or held.currency) != held.currency or amount > held.amount_minor:
            return Declined(f"{money} was asked for: capture so much or less, in this currency")
        return _wish(tx, message, held, "capture", amount) or f"{display(amount, held.currency)} is being captured"

    return carry_out(message, deps, do)


@stage(PaymentRelease, schedule=SCHEDULE, time_limit=LIMIT)
def release_payment(message: PaymentRelease, deps: Deps) -> Outcome:
    """Have held money let go."""

    def do(tx: Tx, target: Target) -> str | Declined:
        held = _held(tx, deps, target)
        if isinstance(held, Declined):
            return held
        return _wish(tx, message, held, "release", None) or "what is held is being let go"

    return carry_out(message, deps, do)


def _held(tx: Tx, deps: Deps, target: Target) -> Record | Declined:
    for attempt in attempts.open_of_invoice(tx, target.invoice.id):
        if (attempt.state, attempt.told) == (AttemptState.PROCESSING, OrderState.HELD):
            provider = deps.providers.get(attempt.account)
            if provider is None or not provider.capabilities.capture:
                return Declined(
                    f"{attempt.account} captures nothing by a call: do it there, and verify the payment then"
                )
            return attempt
    return Declined(_NOTHING_HELD)


def _wish(
    tx: Tx, message: PaymentCapture | PaymentRelease, held: Record, wanted: str, amount_minor: int | None
) -> Declined | None:
    if not wish_hold(tx, held, wanted=wanted, amount_minor=amount_minor):
        return Declined(_UNDER_WAY)
    audit.write(
        tx,
        actor=message.author(),
        action=f"hold.{wanted}_asked",
        subject=held.invoice_id,
        reason=message.reason,
        attempt=held.id,
        amount_minor=amount_minor or held.amount_minor,
        currency=held.currency,
    )
    return None
