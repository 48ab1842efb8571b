"""Questions to the provider about one attempt: asked for by stages and by the customer's return, answered by a stage.

Every question is a wish of its own, so that none is swallowed as a duplicate; but nobody adds one while another waits
that nobody began. Scheduled ones wait on a queue of their own; one that somebody waits for leaves it.
"""

from contracts.catalog import QUEUES, Queue
from contracts.messages import AttemptCheck
from db import attempts, message_store
from db.tx import Record, Tx


def request_check(tx: Tx, attempt: Record) -> None:
    """Ask for one more look at the provider, unless one that nobody began already waits and can be hastened."""
    fresh = attempts.lock(tx, attempt.id)
    if fresh.check_message_id and message_store.hasten(tx, fresh.check_message_id, queue=QUEUES[AttemptCheck].value):
        return
    _add(tx, fresh, 0.0, QUEUES[AttemptCheck])


def schedule_check(tx: Tx, attempt: Record, *, delay_seconds: float) -> None:
    """Add the attempt's next check, among those that nobody waits for."""
    _add(tx, attempt, delay_seconds, Queue.STATUS_CHECKS)


def _add(tx: Tx, attempt: Record, delay_seconds: float, queue: Queue) -> None:
    check_no = attempts.next_check(tx, attempt.id)
    check = AttemptCheck(invoice=attempt.invoice_id, attempt=attempt.id, check_no=check_no)
    attempts.note_check(tx, attempt.id, tx.then(check, delay_seconds=delay_seconds, queue=queue.value))
