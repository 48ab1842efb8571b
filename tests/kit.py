"""The kit of the fault tests: a whole installation with customers, and the questions that it must answer afterwards.

    town = Town(plan)
    with town:
        bills = town.publish(8, paying)           the CRMs publish invoices
        town.send_customers(bills)                each customer waits for his link, and does what his scenario says
        ... something terrible happens ...
        town.wait_for_ends(bills)                 every invoice stands where its customer left it
        town.check_books()                        `prove`, and the sandbox's own counts, exactly

Waiting polls up to a deadline; what does not come true prints the invoices' stories and the ends of the logs.
"""

import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from cli.outside import Books
from cli.prove import check
from cli.stack import Plan, Stack
from contracts.ids import new_id
from db import attempts, exceptions, invoices, message_store, timeline
from db.database import Trouble, trouble_of
from db.tx import Record, Tx
from rules.verdicts import Reason
from runtime.build import build, close
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from sandbox.customers import Customer, Scenario, nothing, pay, pay_and_close_the_tab, pay_less
from tests.services.processes import free_port

CUSTOMERS_AT_ONCE = 32
PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.3
LOG_TAIL_LINES = 25
SHOWN_STORIES = 3

PAYS = Scenario("pays", pay, "paid")
PAYS_AND_LEAVES = Scenario("pays, closes the tab", pay_and_close_the_tab, "paid")
PAYS_HALF = Scenario("pays half", pay_less, "manual_review", ("partial",))
STAYS_AWAY = Scenario("never opens it", nothing, "pending")

_numbers = itertools.count(1)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Bill:
    """One invoice, its customer, and how it must end."""

    data: dict[str, Any]
    scenario: Scenario
    account: str
    # A provider that cannot be asked and whose answer was lost: a person's case, which is another right end.
    may_be_left_to_a_person: bool = False
    was_left_to_a_person: bool = False
    # Its messages are dead letters: the CRM is behind, and a person has a task.
    is_poisonous: bool = False
    patience_seconds: float = PATIENCE_SECONDS
    customer: Customer | None = None
    failure: str = ""
    gone: Future[None] | None = field(default=None, repr=False)

    @property
    def crm(self) -> str:
        return str(self.data["crm"])

    @property
    def id(self) -> str:
        return str(self.data["invoice_id"])


class Town:
    """An installation on whatever the plan says, with CRMs, provider and customers."""

    def __init__(self, plan: Plan, *, database_url: str = "", patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`database_url`: where the tests look themselves, past a proxy that the installation goes through."""
        plan.port = plan.port or free_port()
        self.plan = plan
        self.stack = Stack(plan)
        self.patience_seconds = patience_seconds
        self._database_url = database_url
        self._deps: Deps | None = None
        self._pool = ThreadPoolExecutor(CUSTOMERS_AT_ONCE, thread_name_prefix="customer")
        self._ending = threading.Event()
        self._links = _Links(self.stack)
        self.bills: list[Bill] = []

    @property
    def deps(self) -> Deps:
        """Direct access to the database."""
        assert self._deps is not None, "the town is not open"
        return self._deps

    def __enter__(self) -> Self:
        self.stack.__enter__()
        settings = self.stack.settings()
        if self._database_url:
            settings = settings.model_copy(update={"database_url": self._database_url})
        self._deps = build(settings)
        return self

    def __exit__(self, *error: Any) -> None:
        self._ending.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._deps is not None:
            close(self._deps)
        self.stack.__exit__(*error)

    # --- what happens -----------------------------------------------------------------------------------------------

    def bill(self, scenario: Scenario, account: str, **changes: Any) -> Bill:
        """Invent an invoice for an account; nobody knows of it yet."""
        number = next(_numbers)
        crm = self.plan.crms[number % len(self.plan.crms)]
        data = {
            "crm": crm,
            "invoice_id": f"INV-{number:04}",
            "version": 1,
            "deal_id": f"D-{number}",
            "amount_minor": 100_000 + number * 100,
            "currency": self.plan.families[account][2],
            "purpose": "Կանխավճար 17",
            "customer": {"name": "Ani", "email": "ani@example.am", "locale": "hy"},
            "manager": {"id": "17"},
        } | changes
        bill = Bill(data, scenario, account)
        self.bills.append(bill)
        return bill

    def publish(self, count: int, scenarios: Sequence[Scenario], accounts: Sequence[str]) -> list[Bill]:
        """Let the CRMs publish new invoices, scenarios and accounts by turns."""
        pairs = itertools.product(scenarios, accounts)
        bills = [self.bill(*pair) for pair in itertools.islice(itertools.cycle(pairs), count)]
        self.create(bills)
        return bills

    def create(self, bills: Iterable[Bill]) -> None:
        """Create invoices in their CRMs, which publish them."""
        kept = list(bills)
        for name, crm in self.stack.crms.items():
            of_crm = [bill.data for bill in kept if bill.crm == name]
            if of_crm:
                crm.control.create(of_crm)

    def send_customers(self, bills: Iterable[Bill]) -> None:
        """Send each customer on his way, and return at once."""
        for bill in bills:
            bill.gone = self._pool.submit(self._be_customer, bill)

    def _be_customer(self, bill: Bill) -> None:
        try:
            customer = self.customer(bill)
            try:
                bill.scenario.act(customer)
            finally:
                customer.close()
        except Exception as error:
            bill.failure = f"{type(error).__name__}: {error}"

    def customer(self, bill: Bill) -> Customer:
        """Wait until the CRM shows the link, and give it to a customer."""
        url = self._links.wait(bill, bill.patience_seconds, self._ending)
        control = self.stack.provider.control
        bill.customer = Customer(
            url, control, bill.account, int(bill.data["amount_minor"]), patience_seconds=bill.patience_seconds
        )
        return bill.customer

    def give(self, command: str, bill: Bill, **more: Any) -> None:
        """Give a command about an invoice, as an operator does."""
        named = {"crm": bill.crm, "type": bill.data.get("type", "invoice"), "invoice_id": bill.id, "actor": "17"}
        event = {"specversion": "1.0", "id": new_id(), "source": "/tests", "type": command, "data": named | more}
        (taken,) = take(self.deps, [Incoming(body=json.dumps(event).encode(), channel="operator")])
        assert taken.outcome == "accepted", taken.problems

    def arm(self, name: str, points: Iterable[str]) -> list[Path]:
        """Have a process stop dead at each point (QUEUE.POINT), one after the other; it is killed to begin with.

        Returns the files that are made when the points are reached.
        """
        process = self.stack.processes[name]
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.plan.folder))
        markers = [folder / point for point in points]
        process.halts = [f"{marker.name}@{marker}" for marker in markers]
        process.kill()
        return markers

    def kill_by_turns(self, names: Sequence[str], *, rounds: int, pause_seconds: float) -> None:
        """SIGKILL processes one after the other, each when it has been up for a moment."""
        for name in [name for _ in range(rounds) for name in names]:
            time.sleep(pause_seconds)
            self.eventually(lambda name=name: self.stack.processes[name].is_alive, f"{name} runs again")  # type: ignore[misc]
            self.stack.kill(name)

    # --- waiting ----------------------------------------------------------------------------------------------------

    def eventually(self, is_true: Callable[[], bool], what: str, *, seconds: float | None = None) -> None:
        """Wait for something; when it does not come true, say what and show the logs."""
        until = time.monotonic() + (seconds or self.patience_seconds)
        while not is_true():
            if time.monotonic() > until:
                raise AssertionError(f"never: {what}\n{self.log_tails()}")
            time.sleep(POLL_SECONDS / 3)

    def wait_for_ends(self, bills: Sequence[Bill], *, seconds: float | None = None) -> None:
        """Wait until each invoice stands where its customer left it, and its CRM and manager know."""
        until = time.monotonic() + (seconds or self.patience_seconds)
        while True:
            wrong = {bill: found for bill in bills if (found := self._wrong(bill))}
            if not wrong:
                return
            if time.monotonic() > until:
                raise AssertionError(self._tell(wrong))
            time.sleep(POLL_SECONDS)

    def has_gone(self, bill: Bill) -> bool:
        """Tell whether a customer is done; one whose case a person must decide is sent home."""
        return (bill.gone is not None and bill.gone.done()) or not self._wrong(bill)

    def _wrong(self, bill: Bill) -> str:
        if bill.may_be_left_to_a_person and self.look(lambda tx: self._is_left_to_a_person(tx, bill)):
            bill.was_left_to_a_person = True
            if bill.customer is not None:
                bill.customer.patience_seconds = 0.0
            return ""
        if bill.gone is not None and not bill.gone.done():
            return "its customer is still on his way"
        return self.look(lambda tx: self._wrong_in(tx, bill))

    def _is_left_to_a_person(self, tx: Tx, bill: Bill) -> bool:
        """An attempt of unknown outcome, with its one task."""
        invoice = invoices.find(tx, bill.crm, bill.id)
        if invoice is None or invoice.status != "manual_review":
            return False
        cases = [case for case in exceptions.of_invoice(tx, invoice.id) if case.state == "open"]
        states = [row.state for row in attempts.of_invoice(tx, invoice.id)]
        reasons = [case.reason for case in cases]
        return not _untold(invoice, cases) and (reasons, states) == ([Reason.OUTCOME_UNKNOWN], ["unknown"])

    def _wrong_in(self, tx: Tx, bill: Bill) -> str:
        invoice = invoices.find(tx, bill.crm, bill.id, bill.data.get("type", "invoice"))
        if invoice is None:
            return "never accepted"
        cases = [case for case in exceptions.of_invoice(tx, invoice.id) if case.state == "open"]
        if bill.failure:
            return bill.failure
        found = (invoice.status, tuple(flag.value for flag in invoices.flags_of(invoice)))
        if found != (bill.scenario.status, bill.scenario.flags):
            return f"{found}, not {bill.scenario.status} {bill.scenario.flags}"
        if len(cases) != (invoice.status == "manual_review"):
            return f"open exceptions: {[case.reason for case in cases]}"
        return _untold(invoice, cases)

    def look(self, read: Callable[[Tx], T]) -> T:
        """Read something, through every absence of the database."""
        until = time.monotonic() + self.patience_seconds
        while True:
            try:
                with self.deps.database.read() as tx:
                    return read(tx)
            except Exception as error:
                if trouble_of(error) not in (Trouble.OUTAGE, Trouble.BUSY) or time.monotonic() > until:
                    raise
                self.deps.database.dispose()
                time.sleep(POLL_SECONDS)

    # --- judging ----------------------------------------------------------------------------------------------------

    def check_books(self, *, dead_letters: int = 0) -> None:
        """Prove every promise, and compare the sandbox's own counts with ours, exactly."""
        books = Books(self.stack.provider.control, {name: crm.control for name, crm in self.stack.crms.items()})
        wrong = []
        for report in check(self.deps, books=books):
            wrong += [f"promise {report.promise}: {breach.row}: {breach.what}" for breach in report.breaches]
            wrong += [f"promise {report.promise}: {text}" for text in report.unchecked if "no answer" in text]
        wrong += self.look(self._wrong_orders)
        wrong += self.look(self._wrong_records)
        wrong += self.look(self._wrong_tasks)
        letters = self.look(message_store.dead)
        if len(letters) != dead_letters:
            wrong += [f"dead: {row.type} about {row.subject}: {row.error_class} {row.error}" for row in letters]
        assert not wrong, "\n".join([*wrong, self.log_tails()])

    def _wrong_orders(self, tx: Tx) -> list[str]:
        """One order per reference, each of them an attempt of ours, and no create call was repeated blindly."""
        wrong = []
        for account, (family, _, _) in self.plan.families.items():
            stats = self.stack.provider.control.stats(account)
            ours = {row.reference: row for bill in self.bills for row in self._attempts(tx, bill, account)}
            theirs = stats["orders_per_reference"]
            wrong += [f"{account}: {count} orders of {name}" for name, count in theirs.items() if count != 1]
            wrong += [f"{account}: order {name} is not ours" for name in theirs if name not in ours]
            for name, row in ours.items():
                is_unknown = row.state == "unknown" and family == "no_lookup"
                if (row.provider_order_id is not None) != (name in theirs) and not is_unknown:
                    wrong.append(f"{account}: attempt {name} ({row.state}) has {row.provider_order_id}")
            if family != "idempotent":
                calls = stats["create_calls_per_reference"]
                wrong += [f"{account}: {name} was created {count} times" for name, count in calls.items() if count != 1]
        return wrong

    def _attempts(self, tx: Tx, bill: Bill, account: str) -> list[Record]:
        invoice = invoices.find(tx, bill.crm, bill.id, bill.data.get("type", "invoice"))
        if invoice is None:
            return []
        return [row for row in attempts.of_invoice(tx, invoice.id) if row.account == account]

    def _wrong_records(self, tx: Tx) -> list[str]:
        """Each record shows our newest revision, never went back, and never said two things under one revision."""
        wrong = []
        poisonous = {bill.id for bill in self.bills if bill.is_poisonous}
        for name, crm in self.stack.crms.items():
            counts = crm.control.stats()["invoices"]
            for record in crm.control.records():
                about = f"{name}: record {record['id']}"
                invoice = invoices.find(tx, name, record["id"], record["type"])
                went_back = counts[f"{record['type']}/{record['id']}"]["went_back"]
                if went_back:
                    wrong.append(f"{about} went back {went_back} times")
                shown = (record["payment"] or {}).get("revision")
                if invoice is not None and shown != invoice.revision and record["id"] not in poisonous:
                    wrong.append(f"{about} shows revision {shown}, not {invoice.revision}")
                said = {(entry["revision"], entry["status"]) for entry in record["log"]}
                if len(said) != len({revision for revision, _ in said}):
                    wrong.append(f"{about} said different things under one revision: {sorted(said)}")
        return wrong

    def _wrong_tasks(self, tx: Tx) -> list[str]:
        """One task for each exception that has one, and no other."""
        wrong = []
        for name, crm in self.stack.crms.items():
            ours = {
                case.id
                for bill in self.bills
                if bill.crm == name and (invoice := invoices.find(tx, name, bill.id)) is not None
                for case in exceptions.of_invoice(tx, invoice.id)
                if case.task_id is not None
            }
            theirs = crm.control.stats()["tasks"]["per_key"]
            wrong += [f"{name}: {count} tasks of {key}" for key, count in theirs.items() if count != 1]
            wrong += [f"{name}: task {key} is on one side only" for key in ours ^ set(theirs)]
        return wrong

    # --- telling ----------------------------------------------------------------------------------------------------

    def invoice(self, bill: Bill) -> Record:
        """The invoice as it is now."""
        found = self.look(lambda tx: invoices.find(tx, bill.crm, bill.id, bill.data.get("type", "invoice")))
        assert found is not None, f"{bill.id} was never accepted"
        return found

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Read by SQL."""
        return self.look(lambda tx: [tuple(row) for row in tx.connection.exec_driver_sql(statement)])

    def _tell(self, wrong: dict[Bill, str]) -> str:
        lines = [f"{bill.id} ({bill.scenario.name}, {bill.account}): {what}" for bill, what in wrong.items()]
        for bill in itertools.islice(wrong, SHOWN_STORIES):
            lines += ["", f"the story of {bill.id}:", *self.story(bill)]
        return "\n".join([*lines, self.log_tails()])

    def story(self, bill: Bill) -> list[str]:
        """Everything that happened to an invoice, as support sees it."""

        def read(tx: Tx) -> list[str]:
            invoice = invoices.find(tx, bill.crm, bill.id, bill.data.get("type", "invoice"))
            if invoice is None:
                return ["(unknown here)"]
            return [
                f"{entry.at:%H:%M:%S.%f} {entry.what}: {entry.text}" for entry in timeline.of(tx, invoice.id).entries
            ]

        return self.look(read)

    def log_tails(self) -> str:
        """The last lines that each process wrote."""
        tails = []
        for name, process in self.stack.processes.items():
            last = process.log.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
            tails += [f"--- {name} (started {process.starts} times), in {process.log}", *last]
        return "\n".join(tails)


class _Links:
    """What the CRMs show: one reader for all who wait."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._urls: dict[tuple[str, str], str] = {}
        self._read_at = 0.0

    def wait(self, bill: Bill, seconds: float, ending: threading.Event) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not ending.wait(POLL_SECONDS / 3):
            if (url := self._look(bill)) is not None:
                return url
        raise AssertionError("the CRM never showed a link")

    def _look(self, bill: Bill) -> str | None:
        with self._lock:
            if time.monotonic() > self._read_at + POLL_SECONDS:
                self._read()
            return self._urls.get((bill.crm, bill.id))

    def _read(self) -> None:
        for name, crm in self._stack.crms.items():
            for record in crm.control.records():
                if record["payment"] and record["payment"]["link_url"]:
                    self._urls[name, record["id"]] = record["payment"]["link_url"]
        self._read_at = time.monotonic()


def _untold(invoice: Record, cases: list[Record]) -> str:
    if invoice.crm_revision != invoice.revision:
        return f"its CRM has revision {invoice.crm_revision} of {invoice.revision}"
    if any(case.task_state != "open" for case in cases):
        return "a manager's task is still to be made"
    return ""
