"""`paylinks demo`: the main job, whole, on this machine, with bad luck ordered in advance, and a table at the end.

The CRM publishes every invoice of docs/examples/invoices.jsonl; customers open their links and pay, decline, come late
or stay away; the provider and the CRM time out, answer 500, lose and double events. Then every invoice must stand where
its customer left it, and `prove` must find nothing.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.prove import print_report
from cli.stack import ACCOUNTS, Plan, Stack
from contracts.base import key_of
from contracts.money import display
from db import api_keys, attempts, exceptions, invoices, links, message_store
from db.tx import Record
from runtime.settings import SettingsError
from sandbox.control import CrmControl
from sandbox.customers import ASKABLE, EVENTS_ONLY, Customer, Scenario

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples" / "invoices.jsonl"
# How long everything may take until each invoice stands where it belongs.
PATIENCE_SECONDS = 180.0
CUSTOMERS_AT_ONCE = 6

progress = Console(stderr=True)


@dataclass(slots=True)
class Case:
    """One invoice of the examples, and its customer's plan."""

    data: dict[str, Any]
    scenario: Scenario
    account: str
    conflicting: bool = False
    failure: str = ""

    @property
    def name(self) -> tuple[str, str, str]:
        """Whose invoice this is: CRM, id, type."""
        return self.data["crm"], self.data["invoice_id"], self.data.get("type", "invoice")


def run_demo(*, profile: str, stay: bool = False, port: int = 0) -> int:
    """Run it; return 0 when every invoice ended right and nothing was lost, doubled or unproven.

    With `stay` it prints the addresses then, and stays until Ctrl-C.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a supervisor's stop also stops the processes
    folder = Path(tempfile.mkdtemp(prefix=f"demo-{profile}-", dir=_var()))
    progress.print(f"paylinks demo ({profile}); provider and CRM are simulated; logs in {folder}", soft_wrap=True)
    cases = read_cases(EXAMPLES)
    code = 1
    try:
        with Stack(_plan(folder, profile, port)) as stack:
            code = play(stack, cases)
            if stay:
                _stay(stack)
    finally:
        if code == 0:  # else the logs are needed
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _var() -> Path:
    folder = Path("var")
    folder.mkdir(exist_ok=True)
    return folder


def _plan(folder: Path, profile: str, port: int) -> Plan:
    # A tenth of the real pauses, so that a lost event is found in seconds; leases of seconds for the same reason.
    plan = Plan(folder=folder.resolve(), profile=profile, time_scale=0.1, lease_seconds=30, port=port)
    if profile == "production":
        plan.database_url = _service("PAYLINKS_DATABASE_URL")
        plan.broker_url = plan.amqp_url = _service("PAYLINKS_AMQP_URL")
        plan.redis_url = _service("PAYLINKS_REDIS_URL")
        plan.queue_prefix = f"{folder.name.lower()}."
    return plan


def _service(name: str) -> str:
    url = os.environ.get(name)
    if not url:
        raise SettingsError(f"{name}: not set; `make demo PROFILE=production` brings the services and sets it")
    return url


def _stay(stack: Stack) -> None:
    """Print where everything is, and wait for Ctrl-C."""
    with stack.deps.database.begin() as tx:
        _, key = api_keys.create(tx, "you", list(stack.plan.crms), actor="demo", reason="to try the API with")
        open_links = links.some_active(tx, limit=3)
    say = Console(soft_wrap=True).print
    say(f"web, pages, API   {stack.base_url}")
    say(f"your API key      {key}   (CRMs {', '.join(stack.plan.crms)})")
    for link in open_links:
        say(f"a link to pay     {stack.deps.tokens.url(link.id, link.generation, link.key_id)}")
    say(f"provider          {stack.provider.base_url}   (simulated)")
    for name, crm in stack.crms.items():
        say(f"CRM               {crm.base_url}   (simulated, {name})")
    settings = stack.plan.folder / "settings.json"
    say(f"settings          {settings}   (PAYLINKS_CONFIG={settings} .venv/bin/paylinks invoice show INV-1001)")
    say("Ctrl-C stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def read_cases(path: Path) -> list[Case]:
    """Read the examples: the last version of each invoice is the one whose customer acts."""
    cases: dict[tuple[str, str, str], Case] = {}
    turns = dict.fromkeys(ACCOUNTS, 0)
    for line in path.read_text("utf-8").splitlines():
        data = json.loads(line)
        account = next(name for name, (_, _, currency) in ACCOUNTS.items() if currency == data["currency"])
        known = cases.get((data["crm"], data["invoice_id"], data.get("type", "invoice")))
        if known is not None:
            _repeat(known, data)
            continue
        scenarios = EVENTS_ONLY if ACCOUNTS[account][0] == "no_lookup" else ASKABLE
        case = Case(data, scenarios[turns[account] % len(scenarios)], account)
        turns[account] += 1
        cases[case.name] = case
    return list(cases.values())


def _repeat(known: Case, data: dict[str, Any]) -> None:
    """A later version replaces; the same version with other content is a conflict; else it is a duplicate."""
    if (data.get("version") or 1) > (known.data.get("version") or 1):
        known.data = data
    elif data != known.data:
        known.conflicting = True


def play(stack: Stack, cases: Sequence[Case]) -> int:
    """Publish, let the customers act, wait for the end, and judge."""
    order_bad_luck(stack)
    began = time.monotonic()
    for line in EXAMPLES.read_text("utf-8").splitlines():
        data = json.loads(line)
        stack.crms[data["crm"]].control.create([data])
    progress.print(f"{len(cases)} invoices published; customers are on their way")
    with ThreadPoolExecutor(CUSTOMERS_AT_ONCE) as pool:
        list(pool.map(lambda case: _be_customer(stack, case), cases))
    wrong = wait_for_ends(stack, cases)
    progress.print(f"all acted; settled after {time.monotonic() - began:.1f} s")
    print_table(stack, cases)
    for sentence in wrong:
        progress.print(f"[red]wrong[/red] {sentence}")
    breaches = print_report(stack.deps)
    return 1 if wrong or breaches else 0


def order_bad_luck(stack: Stack) -> None:
    """Let calls fail now and then: with and without the effect, at the provider and at the CRMs."""
    for account, (family, _, _) in stack.plan.families.items():
        rates = {"error_500_before": 0.05, "rate_limited_429": 0.03, "slow": 0.05}
        if family != "no_lookup":  # there a lost answer is a person's case, which the fault tests show
            rates |= {"timeout_after": 0.06, "error_500_after": 0.04}
        for fault, rate in rates.items():
            operations = ("create", "lookup") if family != "no_lookup" else ("create",)
            if family == "no_lookup" and fault == "error_500_before":
                continue
            for operation in operations:
                stack.provider.control.fault(fault, account=account, operation=operation, rate=rate)
    for crm in stack.crms.values():
        for fault in ("timeout_after", "error_500_before", "error_500_after"):
            crm.control.fault(fault, operation="write", rate=0.05)
        crm.control.fault("timeout_after", operation="task", times=1)


def _be_customer(stack: Stack, case: Case) -> None:
    try:
        record = _await_link(stack.crms[case.data["crm"]].control, case)
        customer = Customer(
            record["payment"]["link_url"], stack.provider.control, case.account, case.data["amount_minor"]
        )
        try:
            case.scenario.act(customer)
        finally:
            customer.close()
    except Exception as error:
        case.failure = f"{type(error).__name__}: {error}"


def _await_link(crm: CrmControl, case: Case) -> dict[str, Any]:
    """Wait until the CRM shows the link of the version that this customer gets."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for record in crm.records():
            named = (record["type"], record["id"]) == (case.name[2], case.name[1])
            if named and record["payment"] and record["payment"]["link_url"] and _is_current(record, case):
                return record
        time.sleep(0.3)
    raise AssertionError("the CRM never showed a link")


def _is_current(record: dict[str, Any], case: Case) -> bool:
    return bool(record["payment"]["amount_minor"] == case.data["amount_minor"])


def wait_for_ends(stack: Stack, cases: Iterable[Case]) -> list[str]:
    """Wait until each invoice stands where it belongs and its CRM knows; return what is still wrong at the end."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        wrong = [sentence for case in cases for sentence in judge(stack, case)]
        if not wrong or time.monotonic() > until:
            return wrong
        time.sleep(0.5)


def judge(stack: Stack, case: Case) -> list[str]:
    """Say what is wrong with one invoice: empty when it ended right."""
    if case.failure:
        return [f"{case.data['invoice_id']}: the customer could not go on: {case.failure}"]
    with stack.deps.database.read() as tx:
        invoice = invoices.find(tx, *case.name)
        if invoice is None:
            return [f"{case.data['invoice_id']}: never accepted"]
        found = (invoice.status, tuple(flag.value for flag in invoices.flags_of(invoice)))
        tasks = [exception for exception in exceptions.of_invoice(tx, invoice.id) if exception.state == "open"]
    wrong = []
    if found != (case.scenario.status, case.scenario.flags):
        wrong.append(f"{invoice.external_id} ({case.scenario.name}): {found}, not {case.scenario.status}")
    if invoice.crm_revision != invoice.revision:
        wrong.append(f"{invoice.external_id}: the CRM has revision {invoice.crm_revision} of {invoice.revision}")
    if any(exception.task_state != "open" for exception in tasks):
        wrong.append(f"{invoice.external_id}: a manager's task is still to be made")
    return wrong


def print_table(stack: Stack, cases: Iterable[Case]) -> None:
    """Print what became of every invoice."""
    table = Table(title="What became of every invoice", caption="provider and CRM are simulated")
    for column in ("invoice", "asked", "account", "customer", "status", "flags", "attempts", "duplicates", "tasks"):
        table.add_column(column, justify="right" if column in ("asked", "attempts", "duplicates", "tasks") else "left")
    with stack.deps.database.read() as tx:
        for case in cases:
            invoice = invoices.find(tx, *case.name)
            if invoice is not None:
                table.add_row(*_row(tx, case, invoice))
    Console(width=150 if not sys.stdout.isatty() else None).print(table)


def _row(tx: Any, case: Case, invoice: Record) -> list[str]:
    made = [exception for exception in exceptions.of_invoice(tx, invoice.id) if exception.task_id]
    flags = [flag.value for flag in invoices.flags_of(invoice)]
    subject = (invoice.crm, invoice.payable_type, invoice.external_id)
    return [
        invoice.external_id,
        display(invoice.amount_minor, invoice.currency),
        case.account,
        case.scenario.name,
        invoice.status,
        " ".join(flags),
        str(len(attempts.of_invoice(tx, invoice.id))),
        str(message_store.duplicates_about(tx, invoice.id, key_of(*subject))),
        str(len(made)),
    ]
