"""Close a manager's task: the reason for it is gone.

Takes     exception.cleared, written when the exception closed.
Gives     nothing more.
Twice?    Safe: closing a closed task changes nothing. Overtaking its opening: the opening finds the case closed.
Gives up  After 14 tries over about 8 hours: dead letter.
"""

from datetime import timedelta

from contracts.messages import ExceptionCleared
from db import exceptions, intents, invoices
from runtime.deps import Deps
from workers.give_task import CREATE_TASK
from workers.stage import ALREADY_DONE, DONE, REFUSED, Outcome, Schedule, stage


@stage(ExceptionCleared, schedule=Schedule.growing(14, first=2, longest=3600), time_limit=timedelta(seconds=20))
def close_task(message: ExceptionCleared, deps: Deps) -> Outcome:
    """Close the one task of one exception."""
    with deps.begin() as tx:
        invoice = invoices.get(tx, message.invoice)
        exception = exceptions.lock(tx, message.exception)
        # Where the task is being made right now, its maker finds the case closed, and asks for this again.
        if exception.task_state == "none" and not intents.is_open(tx, CREATE_TASK, exception.id):
            exceptions.set_task(tx, exception.id, "skipped")
    if exception.task_state != "open":
        return ALREADY_DONE
    crm = deps.crms.get(invoice.crm)
    if crm is None:
        return REFUSED(f"no CRM named {invoice.crm} is configured here")
    crm.close_task(exception.task_id, f"Closed by itself: {exception.reason.replace('_', ' ')} is over.")

    with deps.concluding(message) as tx:
        exceptions.set_task(tx, exception.id, "closed")
    return DONE
