"""What a person decides where no rule may: each names who and why, in the audit trail, in one transaction."""

from contracts.statuses import AttemptState
from db import attempts, audit, exceptions, intents, invoices
from db.tx import Cause, Record, Tx
from rules.verdicts import Reason
from runtime.deps import Deps
from workers.opening import CREATE_ORDER
from workers.standing import restand


def give_up_attempt(deps: Deps, attempt_id: str, *, actor: str, reason: str) -> bool:
    """Close an attempt of which nobody can be asked how it ended; False: it is no such one.

    Either its creation had no known end, or its provider may have taken the money, and confirmed nothing. The customer
    may press Pay again. Should the lost order be paid after all, its signed event still finds the invoice.
    """
    with deps.database.begin(Cause.new()) as tx:
        attempt = attempts.find(tx, attempt_id)
        if attempt is None:
            return False
        invoices.lock(tx, attempt.invoice_id)
        if not _has_no_known_end(tx, attempts.lock(tx, attempt.id)):
            return False
        if not attempts.move(tx, attempt.id, AttemptState.CLOSED, error="given up by a person"):
            return False
        intents.resolve(tx, CREATE_ORDER, attempt.id, "given_up")
        exceptions.clear(tx, attempt.invoice_id, Reason.OUTCOME_UNKNOWN)
        audit.write(
            tx, actor=actor, action="attempt.given_up", subject=attempt.invoice_id, reason=reason, attempt=attempt.id
        )
        restand(tx, attempt.invoice_id)
    return True


def _has_no_known_end(tx: Tx, attempt: Record) -> bool:
    unconfirmed = attempt.state == AttemptState.OPEN and attempt.prechecked_at is not None
    told = Reason.OUTCOME_UNKNOWN in exceptions.open_reasons(tx, attempt.invoice_id)
    return attempt.state == AttemptState.UNKNOWN or (unconfirmed and told)
