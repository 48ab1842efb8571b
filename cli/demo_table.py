"""What became of every invoice of the demo: whether it ended as it had to, and the table."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cli.demo_cases import Case
from cli.stack import Stack
from contracts.base import key_of
from contracts.money import display
from db import attempts, exceptions, invoices, ledger, message_store
from db.tx import Record, Tx

PATIENCE_SECONDS = 120.0
WIDTH = 190  # where the output is no terminal
_NUMBERS = ("asked", "tries", "doubled", "tasks")
_COLUMNS = (
    "invoice",
    "asked",
    "account",
    "what happens",
    "status",
    "flags",
    "page",
    "rules",
    "tries",
    "doubled",
    "tasks",
)
# What others' books say, where they were read.
_FURTHER = ("at the provider", "in the CRM")


def wait_for_ends(stack: Stack, cases: Sequence[Case]) -> list[str]:
    """Wait until each invoice stands where it belongs and its CRM knows; return what is still wrong at the end."""
    until = time.monotonic() + PATIENCE_SECONDS
    waiting = [case for case in cases if not case.failure]
    while waiting and time.monotonic() < until:
        time.sleep(0.5)
        with stack.deps.database.read() as tx:
            waiting = [case for case in waiting if judge(tx, case)]
    with stack.deps.database.read() as tx:
        return [sentence for case in cases for sentence in judge(tx, case)]


def judge(tx: Tx, case: Case) -> list[str]:
    """Say what is wrong with one invoice: empty when it ended right."""
    if case.failure:
        return [f"{case.id} ({case.what}): {case.failure}"]
    invoice = invoices.find(tx, *case.name)
    if invoice is None:
        return [f"{case.id}: never accepted"]
    opened = [exception for exception in exceptions.of_invoice(tx, invoice.id) if exception.state == "open"]
    wrong = [f"{case.id} ({case.what}): {sentence}" for sentence in _wrong_ending(tx, case, invoice, opened)]
    if invoice.crm_revision != invoice.revision:
        wrong.append(f"{case.id}: the CRM has revision {invoice.crm_revision} of {invoice.revision}")
    if any(exception.task_state != "open" for exception in opened):
        wrong.append(f"{case.id}: a manager's task is still to be made")
    return wrong


def _wrong_ending(tx: Tx, case: Case, invoice: Record, opened: list[Record]) -> list[str]:
    ending = case.ending
    wanted: dict[str, object] = {"status": ending.status, "flags": ending.flags}
    found: dict[str, object] = {"status": invoice.status, "flags": tuple(invoices.flags_of(invoice))}
    if ending.tasks is not None:
        wanted["tasks"], found["tasks"] = set(ending.tasks), {exception.reason for exception in opened}
    if ending.rules is not None:
        attempt = attempts.by_order(tx, case.account, case.reference, None)
        wanted["rules"] = set(ending.rules)
        found["rules"] = set(ledger.last_rules(tx, attempt.id)) if attempt is not None else "no order"
    return [f"{name} {_said(found[name])}, not {_said(wanted[name])}" for name in wanted if found[name] != wanted[name]]


def _said(value: object) -> str:
    if isinstance(value, set | tuple):
        return " ".join(sorted(value)) or "none"
    return str(value)


def print_table(stack: Stack, cases: Sequence[Case]) -> None:
    """Print what became of every invoice."""
    table = Table(title="What became of every invoice", caption="provider and CRM are simulated")
    columns = [*_COLUMNS, *(name for name in _FURTHER if any(_further(case)[name] for case in cases))]
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    with stack.deps.database.read() as tx:
        for case in cases:
            invoice = invoices.find(tx, *case.name)
            if invoice is not None:
                told = dict(zip(_COLUMNS, _row(tx, case, invoice), strict=True)) | _further(case)
                table.add_row(*(told[name] for name in columns))
    Console(width=WIDTH if not sys.stdout.isatty() else None).print(table)


def _further(case: Case) -> dict[str, str]:
    return dict(zip(_FURTHER, (case.at_provider, case.in_crm), strict=True))


def _row(tx: Tx, case: Case, invoice: Record) -> list[str]:
    made = [exception for exception in exceptions.of_invoice(tx, invoice.id) if exception.task_id]
    subject = (invoice.crm, invoice.payable_type, invoice.external_id)
    return [
        invoice.external_id,
        display(invoice.amount_minor, invoice.currency),
        case.account,
        case.what,
        invoice.status,
        " ".join(invoices.flags_of(invoice)),
        case.page,
        " ".join(sorted(ledger.rules_of(tx, invoice.id))),
        str(len(attempts.of_invoice(tx, invoice.id))),
        str(message_store.duplicates_about(tx, invoice.id, key_of(*subject))),
        str(len(made)),
    ]
