"""What support does to a dead letter: each deed in one transaction with its row in the audit trail."""

from enum import StrEnum

from db import audit, dead_letters, invoices, message_store
from db.tx import Cause
from rules.verdicts import Reason
from runtime.deps import Deps
from workers.standing import clear_exception


class Deed(StrEnum):
    """What may be done to a dead letter; the word of the audit trail."""

    RETRIED = "retried"
    DISCARDED = "discarded"


def do(deps: Deps, message_id: str, deed: Deed, *, actor: str, reason: str) -> bool:
    """Retry or discard one dead letter; False: it is not dead (any more).

    The manager's exception ends with the last dead letter of its invoice.
    """
    with deps.database.read() as tx:
        message = message_store.find(tx, message_id)
    if message is None:
        return False
    cause = Cause(message.request_id, message.correlation, message.id)
    with deps.database.begin(cause) as tx:
        # The invoice before the message: the order of locks that everybody keeps.
        has_invoice = invoices.exists(tx, message.subject)
        if has_invoice:
            invoices.lock(tx, message.subject)
        done = (
            message_store.retry(tx, message_id)
            if deed is Deed.RETRIED
            else message_store.discard(tx, message_id, reason)
        )
        if not done:
            return False
        audit.write(
            tx,
            actor=actor,
            action=f"message.{deed}",
            subject=message.subject,
            reason=reason,
            message=message_id,
            type=message.type,
            failures=message.failures,
            group=message.error_group,
        )
        if has_invoice and dead_letters.is_last_of(tx, message.subject, message_id):
            clear_exception(tx, message.subject, Reason.DEAD_LETTER)
    return True
