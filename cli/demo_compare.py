"""Each invoice of a demo beside the provider's own books, and beside its CRM's record, to the last minor unit.

The books are the simulator's dump: it tells every order, which hardly any provider's interface does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.demo_cases import Case
from cli.simulated import Money, Simulation
from cli.stack import Stack
from contracts.money import display
from db import attempts, invoices
from db.tx import Record

_COMPARED = ("status", "amount_minor", "paid_minor", "refunded_minor", "currency")
Orders = Mapping[str, Mapping[str, dict[str, Any]]]  # till -> our reference -> the order


def compare(stack: Stack, simulation: Simulation, cases: Sequence[Case]) -> list[str]:
    """Note in each case what provider and CRM say; return what differs from our books, in sentences."""
    orders = {till.name: simulation.orders(till.name) for till in simulation.simulator.tills}
    records = {name: {record["id"]: record for record in crm.control.records()} for name, crm in stack.crms.items()}
    wrong = []
    known: set[tuple[str, str]] = set()
    with stack.deps.database.read() as tx:
        for case in cases:
            invoice = invoices.find(tx, *case.name)
            if invoice is None:
                continue
            made = [(attempt.account, attempt.reference) for attempt in attempts.of_invoice(tx, invoice.id)]
            known |= set(made)
            money = [simulation.simulator.money(orders[till][name]) for till, name in made if name in orders[till]]
            wrong += [f"{case.id}: {sentence}" for sentence in _beside_provider(case, invoice, money)]
            payment = records[case.data["crm"]][case.id]["payment"] or {}
            wrong += [f"{case.id}: {sentence}" for sentence in _beside_crm(case, invoice, payment)]
    return wrong + _strangers(simulation, orders, known)


def _beside_provider(case: Case, invoice: Record, money: Sequence[Money]) -> list[str]:
    taken, back = sum(one.taken for one in money), sum(one.given_back for one in money)
    held = sum(one.held for one in money)
    case.at_provider = _said(invoice.currency, len(money), taken, back, held)
    ours = (invoice.paid_minor, invoice.refunded_minor, 0)
    return [] if (taken, back, held) == ours else [f"the provider has {case.at_provider}, and we {ours[:2]}"]


def _said(currency: str, orders: int, taken: int, back: int, held: int) -> str:
    sums = ((taken, ""), (back, " back"), (held, " held"))
    money = [f"{display(amount, currency).removesuffix(f' {currency}')}{words}" for amount, words in sums if amount]
    return f"{orders} order{'' if orders == 1 else 's'}: {', '.join(money) or 'nothing'}"


def _beside_crm(case: Case, invoice: Record, payment: Mapping[str, Any]) -> list[str]:
    case.in_crm = str(payment.get("status", "nothing"))
    names = [name for name in _COMPARED if payment.get(name) != getattr(invoice, name)]
    return [f"the CRM has another {', '.join(names)}"] if names else []


def _strangers(simulation: Simulation, orders: Orders, known: set[tuple[str, str]]) -> list[str]:
    """Name money of orders that are no invoice's."""
    return [
        f"the provider took money by the order {reference} of {till}, which is nobody's here"
        for till, made in orders.items()
        for reference, order in made.items()
        if (till, reference) not in known and simulation.simulator.money(order).taken
    ]
