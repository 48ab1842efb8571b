"""Take a provider's word, and settle by ourselves what it holds, where the account is set so."""

from contracts.evidence import Evidence, OrderState
from contracts.messages import AttemptHold
from db import attempts, exceptions, message_store
from db.tx import Record, Tx
from rules.verdicts import Reason, Standing
from runtime.deps import Deps
from workers.standing import apply_evidence


def take_word(tx: Tx, deps: Deps, attempt: Record, evidence: Evidence) -> Standing:
    """Apply evidence; held money is captured or let go at once, unless a person must say so or already has to."""
    ours = _settles_holds(deps, attempt.account)
    standing = apply_evidence(tx, deps.settings, attempt, evidence, message_id=deps.claim.id, holds_are_ours=ours)
    is_held = evidence.state is OrderState.HELD
    if ours and is_held and Reason.HELD not in exceptions.open_reasons(tx, attempt.invoice_id):
        wish_hold(tx, attempt)
    return standing


def wish_hold(tx: Tx, attempt: Record, *, wanted: str = "decide", amount_minor: int | None = None) -> bool:
    """Wish that held money is settled; False: such a wish already waits, and nothing was added."""
    fresh = attempts.lock(tx, attempt.id)
    if message_store.is_waiting(tx, fresh.hold_message_id):
        return False
    wish = AttemptHold.parse(
        {
            "invoice": attempt.invoice_id,
            "attempt": attempt.id,
            "hold_no": attempts.next_hold(tx, attempt.id),
            "wanted": wanted,
            "amount_minor": amount_minor,
        }
    )
    attempts.note_hold(tx, attempt.id, tx.then(wish))
    return True


def _settles_holds(deps: Deps, account: str) -> bool:
    provider, settings = deps.providers.get(account), deps.settings.accounts.get(account)
    by_command = settings is not None and settings.capture == "by_command"
    return provider is not None and provider.capabilities.capture and not by_command
