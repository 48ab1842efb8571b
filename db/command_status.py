"""What became of a command, for whoever gave it and waits."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from contracts.commands import COMMANDS
from db.schema import message_history, messages
from db.tx import Tx

_TYPES = tuple(model.TYPE for model in COMMANDS)


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """One command. `state`: ready, running, dead, done or refused; `detail`: what was done, or why not."""

    message_id: str
    command: str
    crm: str
    type: str
    invoice_id: str
    state: str
    detail: str | None
    request_id: str
    our_invoice: str | None
    asked_at: datetime

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more happens by itself."""
        return self.state not in ("ready", "running")


def of(tx: Tx, message_id: str) -> CommandStatus | None:
    """Return what became of a command; None: no command has this id."""
    # Live first: it may end between the two questions, and never the other way.
    live = tx.execute(select(messages).where(messages.c.id == message_id, messages.c.type.in_(_TYPES))).first()
    if live is not None:
        return _status(live, live.state, live.error, None)
    ended = tx.execute(
        select(message_history).where(message_history.c.id == message_id, message_history.c.type.in_(_TYPES))
    ).first()
    return None if ended is None else _status(ended, ended.outcome, ended.detail, ended.subject)


def _status(row: Any, state: str, detail: str | None, our_invoice: str | None) -> CommandStatus:
    said = json.loads(row.payload)
    return CommandStatus(
        message_id=row.id,
        command=row.type,
        crm=said["crm"],
        type=said.get("type", "invoice"),
        invoice_id=said["invoice_id"],
        state=state,
        detail=detail,
        request_id=row.request_id,
        our_invoice=our_invoice,
        asked_at=row.created_at,
    )
