"""What providers answered to `payment.verify`, beside what we hold: for whoever asked and waits.

The command only asks for checks; workers ask the providers. So its answer is complete a moment later.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from contracts.commands import PaymentVerify
from contracts.statuses import AttemptState
from db import attempts
from db.command_status import CommandStatus
from runtime.deps import Deps


@dataclass(frozen=True, slots=True)
class OrderAnswer:
    """One order. `ours`: the attempt's state; `theirs`: what the provider said last, None: it cannot be asked."""

    attempt: str
    account: str
    provider_order_id: str | None
    ours: str
    theirs: str | None
    asked_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """The answer for a program."""
        return asdict(self) | {"asked_at": self.asked_at.isoformat() if self.asked_at else None}


def is_asked_for(status: CommandStatus) -> bool:
    """Tell whether a command wants to know what the provider says."""
    return status.command == PaymentVerify.TYPE and status.state == "done" and status.our_invoice is not None


def answers(deps: Deps, status: CommandStatus) -> tuple[list[OrderAnswer], bool]:
    """Return what is known of each order, and whether every provider that can be asked has answered since."""
    with deps.database.read() as tx:
        rows = [row for row in attempts.of_invoice(tx, status.our_invoice or "") if row.state != AttemptState.RESERVED]
    told = [OrderAnswer(row.id, row.account, row.provider_order_id, row.state, row.told, row.told_at) for row in rows]
    return told, all(_is_fresh(one, status.asked_at) for one in told if _can_be_asked(deps, one.account))


def _is_fresh(answer: OrderAnswer, since: datetime) -> bool:
    return answer.asked_at is not None and answer.asked_at >= since


def _can_be_asked(deps: Deps, account: str) -> bool:
    provider = deps.providers.get(account)
    return provider is not None and provider.capabilities.lookup
