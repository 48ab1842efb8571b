"""Give the manager a task for an exception.

Takes     exception.raised, written with the exception.
Gives     one task in the CRM, found again by our key after a lost answer.
Twice?    Safe: by intent; a task is looked up before it could be made a second time. Closed before it began: no task.
Gives up  After 14 tries over about 8 hours: dead letter.
"""

from datetime import timedelta

from contracts.messages import ExceptionCleared, ExceptionRaised
from contracts.money import display
from db import exceptions, intents, invoices
from db.intents import Earlier
from db.tx import Record
from gateways.crms.base import Crm, TaskRequest
from gateways.errors import Refused, Unavailable, Unknown
from runtime import points
from runtime.deps import Deps
from workers.stage import ALREADY_DONE, DONE, NOT_YET, REFUSED, Outcome, Schedule, stage
from workers.update_crm import payable_of

CREATE_TASK = "create_task"
CALL_SECONDS = 15.0
SETTLE_SECONDS = 5.0


@stage(ExceptionRaised, schedule=Schedule.growing(14, first=2, longest=3600), time_limit=timedelta(seconds=20))
def give_task(message: ExceptionRaised, deps: Deps) -> Outcome:
    """Create the one task of one exception."""
    with deps.begin() as tx:
        invoice = invoices.get(tx, message.invoice)
        exception = exceptions.lock(tx, message.exception)
        if exception.task_state != "none":
            return ALREADY_DONE
        if invoice.crm not in deps.crms:
            return REFUSED(f"no CRM named {invoice.crm} is configured here")
        earlier = intents.declare(tx, CREATE_TASK, exception.id, deps.claim, call_seconds=CALL_SECONDS)
        if earlier is None and exception.state == "closed":
            intents.resolve(tx, CREATE_TASK, exception.id, "not_done")
            exceptions.set_task(tx, exception.id, "skipped")
            return ALREADY_DONE
    points.reach(f"{deps.claim.queue}.{points.INTENT}")

    crm = deps.crms[invoice.crm]
    task_id = crm.find_task(exception.id) if earlier else _create(deps, crm, invoice, exception)
    if task_id is None:
        return _not_found(deps, exception, earlier)
    points.reach(f"{deps.claim.queue}.{points.CALLED}")

    with deps.concluding(message) as tx:
        now = exceptions.lock(tx, exception.id)
        intents.resolve(tx, CREATE_TASK, exception.id, "done")
        exceptions.set_task(tx, exception.id, "open", task_id)
        if now.state == "closed":  # it ended while the task was being made
            tx.then(ExceptionCleared(**message.model_dump(), late=True))
    return DONE


def _create(deps: Deps, crm: Crm, invoice: Record, exception: Record) -> str:
    try:
        return crm.create_task(_task(invoice, exception))
    except (Unavailable, Refused):
        _forget(deps, exception, (deps.claim.id, deps.claim.claim_no))
        raise
    except Unknown:
        with deps.begin() as tx:
            intents.ended_unheard(tx, CREATE_TASK, exception.id, (deps.claim.id, deps.claim.claim_no))
        raise


def _not_found(deps: Deps, exception: Record, earlier: Earlier | None) -> Outcome:
    """The CRM has no such task: believe it only when the lost call must have ended."""
    if earlier is not None:
        left = (earlier.deadline - earlier.now).total_seconds() + SETTLE_SECONDS
        if left > 0:
            return NOT_YET(max(left, 0.5), "a lost call may still make the task")
        _forget(deps, exception, earlier.by)
    return NOT_YET(0.0, "the lost call never made the task: make it now")


def _forget(deps: Deps, exception: Record, by: tuple[str, int]) -> None:
    with deps.begin() as tx:
        intents.resolve(tx, CREATE_TASK, exception.id, "not_done", by=by)


def _task(invoice: Record, exception: Record) -> TaskRequest:
    asked = display(invoice.amount_minor, invoice.currency)
    paid = display(invoice.paid_minor, invoice.currency)
    return TaskRequest(
        key=exception.id,
        payable=payable_of(invoice),
        manager_id=invoice.manager_id,
        title=f"{invoice.external_id}: {exception.reason.replace('_', ' ')}",
        body=f"{exception.detail}. Asked {asked}, paid {paid}. Request id {exception.request_id}.",
    )
