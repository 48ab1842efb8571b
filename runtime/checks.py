"""Questions to the provider about one attempt: asked for by stages and by the customer's return, answered by a stage.

Every question is a wish of its own, so that none is swallowed as a duplicate; but nobody adds one while another waits
that nobody began. Scheduled ones wait on a queue of their own; one that somebody waits for leaves it.
"""

from contracts.catalog import QUEUES, Queue
from contracts.messages import AttemptCheck
from db import attempts, message_store
from db.tx import Record, Tx
from gateways.errors import Postponed
from runtime.deps import Deps
from runtime.gates import Gate

# So many of an account's due checks are put off in one transaction.
PUT_OFF_AT_ONCE = 500


def request_check(tx: Tx, attempt: Record) -> None:
    """Ask for one more look at the provider, unless one that nobody began already waits and can be hastened."""
    fresh = attempts.lock(tx, attempt.id)
    if fresh.check_message_id and message_store.hasten(tx, fresh.check_message_id, queue=QUEUES[AttemptCheck].value):
        return
    _add(tx, fresh, 0.0, QUEUES[AttemptCheck])


def schedule_check(tx: Tx, attempt: Record, *, delay_seconds: float) -> None:
    """Add the attempt's next check, among those that nobody waits for."""
    _add(tx, attempt, delay_seconds, Queue.STATUS_CHECKS)


def wait_for_turn(deps: Deps, account: str) -> None:
    """Let one scheduled check go. Raises Postponed until it is its turn; what else is due is put off along with it.

    Of a thousand that are due at once each would be claimed and given back by itself: seconds of work in which
    everything else waits, for nothing.
    """
    gate = deps.gates.get(account)
    if gate is None:
        return
    try:
        gate.wait_for_turn(deps.claim.id)
    except Postponed:
        with gate.putting_off:
            _put_off_others(deps, gate)
        raise


def _put_off_others(deps: Deps, gate: Gate) -> None:
    queue = Queue.STATUS_CHECKS.value
    with deps.database.read() as tx:
        due = attempts.due_checks(tx, gate.account, queue, limit=PUT_OFF_AT_ONCE)
    later = gate.turns_of(due)
    if later:
        with deps.database.begin() as tx:
            message_store.put_off(tx, queue, later)


def _add(tx: Tx, attempt: Record, delay_seconds: float, queue: Queue) -> None:
    check_no = attempts.next_check(tx, attempt.id)
    check = AttemptCheck(invoice=attempt.invoice_id, attempt=attempt.id, check_no=check_no)
    attempts.note_check(tx, attempt.id, tx.then(check, delay_seconds=delay_seconds, queue=queue.value))
