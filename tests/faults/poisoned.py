"""A worker application for `dramatiq tests.faults.poisoned:set_up`: one invoice's update kills whoever works on it.

It stands for a crash in a library below Python: no exception, no log line, no outcome.
"""

import os
import signal
from datetime import timedelta

from contracts.messages import CrmUpdate
from db import invoices
from runtime.deps import Deps
from workers import app
from workers.stage import Outcome, stage, stages_of
from workers.update_crm import update_crm

POISON = "POISON"


def set_up() -> None:
    """Put the poisoned stage in the place of the real one, with a short lease, and boot as every worker does."""
    real = stages_of("crm-update")[CrmUpdate.TYPE]
    stage(
        CrmUpdate,
        schedule=real.schedule,
        time_limit=timedelta(seconds=1),
        max_waits=real.max_waits,
        waits_end_in=real.waits_end_in,
    )(_update)
    app.set_up()


def _update(message: CrmUpdate, deps: Deps) -> Outcome:
    with deps.begin() as tx:
        is_poison = invoices.get(tx, message.invoice).external_id.startswith(POISON)
    if is_poison:
        os.kill(os.getpid(), signal.SIGKILL)
    return update_crm(message, deps)
