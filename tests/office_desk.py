"""What a person at a desk does in tests: gives commands, opens orders, lets money come, reads the trail."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from contracts.commands import Command, CommandAnswered, PaymentVerify
from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.ids import new_id
from db import audit
from db.prove import prove
from runtime.checkout import press_pay
from runtime.deps import Deps
from runtime.settings import CrmSettings
from tests.shop import shop, the_attempt, the_invoice, the_link, work
from tests.support import put

CRM = CrmSettings(adapter="sandbox", base_url="http://127.0.0.1:1", token="t" * 16)


def breaches(deps: Deps) -> list[Any]:
    """Everything that prove finds."""
    return [breach for found in prove(deps.database).values() for breach in found.breaches]


def give(deps: Deps, model: type[Command], **more: Any) -> CommandAnswered:
    """Give a command, carry it out, and return the answer to whoever gave it."""
    given = {"crm": "office", "invoice_id": "I-1", "actor": "17", "reason": "asked", "wish": new_id(), **more}
    command = model(**given)
    put(deps.database, command)
    work(deps, "commands", rounds=1, hurry=False)
    return answers(deps)[-1]


def answers(deps: Deps) -> list[CommandAnswered]:
    with deps.database.read() as tx:
        found = tx.execute(
            text(
                "SELECT id, payload FROM messages WHERE type = 'command.answered.v1' UNION ALL "
                "SELECT id, payload FROM message_history WHERE type = 'command.answered.v1' ORDER BY id"
            )
        )
        return [CommandAnswered.model_validate_json(row.payload) for row in found]


def deeds(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return audit.of_subject(tx, the_invoice(deps).id)


def pay(deps: Deps, attempt: Any, amount: int = 10_000, currency: str = "AMD") -> None:
    """Let money come by an attempt's order, and let the pipeline find it."""
    shop(deps).orders[attempt.reference] = OrderState.PAID
    shop(deps).money[attempt.reference] = (
        ProviderTransaction(
            provider_transaction_id=f"t-{attempt.reference}",
            kind=TransactionKind.CAPTURE,
            amount_minor=amount,
            currency=currency,
            occurred_at=datetime.now(UTC),
        ),
    )
    give(deps, PaymentVerify)
    work(deps, rounds=4)


def open_order(deps: Deps) -> Any:
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    return the_attempt(deps)
