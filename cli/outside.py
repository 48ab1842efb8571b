"""The part of `paylinks prove` that asks providers and CRMs: do their books say what ours say?

An adapter can ask about orders that we know and list those with money. The sandbox's control interface tells all: every
order, every task, every write; with it the counts are exact.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.results import PaymentResult
from contracts.statuses import AttemptState, InvoiceStatus
from db import books as ours
from db import invoices, ledger
from db.prove import Breach, Report
from db.tx import Record, Tx
from gateways.crms.base import Crm, Payable
from gateways.errors import GatewayError, Refused
from gateways.providers.base import Provider
from runtime.deps import Deps
from sandbox.control import CrmControl, ProviderControl
from workers.standing import result_of
from workers.update_crm import payable_of

TRIES = 2  # an adapter repeats by itself what may be repeated
PAUSE_SECONDS = 0.5
WINDOW = timedelta(days=1)
# An order in one of these may still bring money, or has.
_ALIVE = frozenset({"open", "processing", "held", "paid"})
_SETTLED = frozenset({InvoiceStatus.PAID, InvoiceStatus.REFUNDED})
# What a CRM's record is compared by: the URL and the request id say nothing about money.
_COMPARED = frozenset(PaymentResult.model_fields) - {"link_url", "request_id"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Books:
    """The sandbox's own books, where it is the outside."""

    provider: ProviderControl | None = None
    crms: Mapping[str, CrmControl] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """Money that moved, as the provider says."""

    kind: str
    id: str
    amount_minor: int
    currency: str
    at: datetime
    cumulative: bool = False  # a total so far

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from every other one of the account."""
        return self.kind, self.id


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the provider has it."""

    reference: str
    id: str
    state: str
    money: tuple[Moved, ...]


def compare(deps: Deps, reports: dict[int, Report], books: Books) -> None:
    """Compare with every configured provider account and CRM; what does not answer is named, never passed over."""
    for name, provider in deps.providers.items():
        _ProviderComparison(deps, reports, _ledger_of(provider, books, name), name).run()
    for name, crm in deps.crms.items():
        _CrmComparison(deps, reports, crm, name).run()
        if name in books.crms:
            _count_at_crm(deps, reports, books.crms[name], name)


class _Party:
    """Somebody outside who is asked; who gives no answer several times over is not asked again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_gone = False

    def asked(self, report: Report, ask: Callable[[], T]) -> T | None:
        """Ask; None: no answer, and the report says that this was not checked."""
        for _ in range(0 if self._is_gone else TRIES):
            try:
                return ask()
            except Refused as error:
                report.leave_out(f"{self.name}: {error.detail}")
                return None
            except GatewayError:
                time.sleep(PAUSE_SECONDS)
        self._is_gone = True
        report.leave_out(f"{self.name} gives no answer")
        return None


# --- providers ------------------------------------------------------------------------------------------------------


class _Ledger:
    """What can be asked about one account."""

    def __init__(self, provider: Provider, orders: list[Order] | None) -> None:
        """`orders`: all there are, where the sandbox tells; None: ask the adapter."""
        self._provider = provider
        self._all = orders

    @property
    def can_be_asked(self) -> bool:
        return self._all is not None or self._provider.capabilities.lookup

    def with_money(self, since: datetime, until: datetime) -> list[Order]:
        """Return every order with a transaction in [since, until)."""
        if self._all is not None:
            return [order for order in self._all if any(since <= moved.at < until for moved in order.money)]
        return [_order(evidence) for evidence in self._provider.list_orders(since, until)]

    def find(self, reference: str, order_id: str | None) -> Order | None:
        """Return one order, or None."""
        if self._all is not None:
            return next((order for order in self._all if order.reference == reference), None)
        evidence = self._provider.fetch_evidence(reference, order_id)
        return _order(evidence) if evidence is not None else None

    def every(self) -> list[Order]:
        """Return every order, those without money too; empty where nobody can tell."""
        return self._all or []


def _order(evidence: Evidence) -> Order:
    return Order(
        evidence.reference, evidence.provider_order_id, evidence.state.value, tuple(_money_of(evidence.transactions))
    )


def _money_of(told: Iterable[ProviderTransaction]) -> Iterator[Moved]:
    for one in told:
        name, at = one.provider_transaction_id, one.occurred_at
        yield Moved(one.kind.value, name, one.amount_minor, one.currency, at, one.cumulative)


def _ledger_of(provider: Provider, books: Books, name: str) -> _Ledger:
    if books.provider is None:
        return _Ledger(provider, None)
    return _Ledger(provider, [_sandbox_order(told) for told in books.provider.orders(name)])


def _sandbox_order(told: dict[str, Any]) -> Order:
    money = tuple(
        Moved(one["kind"], one["id"], one["amount_minor"], one["currency"], datetime.fromisoformat(one["occurred_at"]))
        for one in told["transactions"]
    )
    return Order(told["reference"], told["id"], told["status"], money)


class _ProviderComparison:
    """One account's books beside ours."""

    def __init__(self, deps: Deps, reports: dict[int, Report], ledger: _Ledger, name: str) -> None:
        self._deps = deps
        self._reports = reports
        self._ledger = ledger
        self._name = name
        self._party = _Party(f"provider {name}")

    def run(self) -> None:
        """Compare orders and money."""
        if not self._ledger.can_be_asked:
            for number in (3, 5, 9):
                self._reports[number].leave_out(f"{self._party.name}: it answers no questions")
            return
        with self._deps.database.read() as tx:
            first = ours.first_attempt_at(tx, self._name)
        if first is None:
            return
        self._one_order_per_reference(self._ledger.every())
        for since, until in _windows(first - WINDOW, datetime.now(UTC) + WINDOW):
            self._compare_money(since, until)
        for row in ours.orders(self._deps.database, self._name):
            self._compare_order(row)

    def _compare_money(self, since: datetime, until: datetime) -> None:
        # Ours first: what they book between the two looks is not in ours yet, and is looked at again.
        with self._deps.database.read() as tx:
            booked = ours.money(tx, self._name, since, until)
        report = self._reports[5]
        listed = self._party.asked(report, lambda: self._ledger.with_money(since, until))
        if listed is None:
            return
        with self._deps.database.read() as tx:
            listed = [self._in_parts(tx, order) for order in listed]
        counted = f"paid orders at {self._name}"
        report.counts[counted] = report.counts.get(counted, 0) + len(listed)
        self._one_order_per_reference(listed)
        theirs = {one.name: (one, order) for order in listed for one in order.money if since <= one.at < until}
        self._ours_are_theirs(booked, {moved: one for moved, (one, _) in theirs.items()})
        for moved, (one, order) in theirs.items():
            if moved not in booked and not self._arrives(one, order.reference):
                what = f"{one.kind} {one.id} of {one.amount_minor} {one.currency} (minor units) is not in our books"
                report.add(Breach(f"{self._party.name}: reference {order.reference}", what))

    def _in_parts(self, tx: Tx, order: Order) -> Order:
        """Cut totals into the movements by which we booked them; a total below what we booked stays as it is told."""
        money: list[Moved] = []
        for one in order.money:
            parts = self._parts(tx, one) if one.cumulative else [one]
            money += parts if sum(part.amount_minor for part in parts) == one.amount_minor else [one]
        return replace(order, money=tuple(money))

    def _parts(self, tx: Tx, total: Moved) -> list[Moved]:
        told = ProviderTransaction(
            provider_transaction_id=total.id,
            kind=TransactionKind(total.kind),
            amount_minor=total.amount_minor,
            currency=total.currency,
            occurred_at=total.at,
            cumulative=True,
        )
        return list(_money_of(ledger.told(tx, self._name, [told])))

    def _one_order_per_reference(self, orders: list[Order]) -> None:
        report = self._reports[3]
        for reference, count in Counter(order.reference for order in orders).items():
            breach = Breach(f"{self._party.name}: reference {reference}", f"{count} orders were made under it")
            if count > 1 and breach not in report.breaches:
                report.add(breach)

    def _ours_are_theirs(
        self, booked: Mapping[tuple[str, str], ours.Booked], theirs: Mapping[tuple[str, str], Moved]
    ) -> None:
        for moved, entry in booked.items():
            found = theirs.get(moved)
            if found is None or (found.amount_minor, found.currency) != (entry.amount_minor, entry.currency):
                sums = f"{found.amount_minor} {found.currency}" if found else "nothing"
                what = f"says {moved[0]} {entry.amount_minor} {entry.currency} (minor units)"
                what += f"; {self._party.name} says {sums}"
                self._reports[5].add(Breach(f"transactions {entry.id}", what))

    def _arrives(self, moved: Moved, reference: str) -> bool:
        """Tell whether a message is on its way to book the money, or it was booked meanwhile."""
        if self._is_being_asked(reference):
            return True
        with self._deps.database.read() as tx:
            return moved.name in ours.money(tx, self._name, moved.at, moved.at + timedelta(microseconds=1))

    def _is_being_asked(self, reference: str) -> bool:
        with self._deps.database.read() as tx:
            return ours.is_being_asked(tx, self._name, reference)

    def _is_left_to_a_person(self, attempt: Record) -> bool:
        """Tell whether nobody could be asked what became of the order, and a person has the case."""
        if self._deps.providers[self._name].capabilities.lookup:
            return False
        with self._deps.database.read() as tx:
            return ours.is_left_to_a_person(tx, attempt)

    def _compare_order(self, attempt: Record) -> None:
        """Look for an order that we do not know of, and for one that can be paid although its invoice is settled."""
        is_unknown = attempt.provider_order_id is None and attempt.state != AttemptState.RESERVED
        is_left_open = attempt.invoice_status in _SETTLED and attempt.state != AttemptState.PAID
        if not (is_unknown or is_left_open) or self._is_left_to_a_person(attempt):
            return
        report = self._reports[3 if is_unknown else 9]
        find = partial(self._ledger.find, attempt.reference, attempt.provider_order_id)
        order = self._party.asked(report, lambda: (find(),))
        if order is None or order[0] is None or order[0].state not in _ALIVE:
            return
        # Money of an order that we know is compared as money.
        is_compared = not is_unknown and order[0].state == OrderState.PAID
        if not is_compared and not self._is_being_asked(attempt.reference):
            why = "and we do not know it" if is_unknown else "although its invoice is settled"
            what = f"its order {order[0].id} is {order[0].state} at {self._party.name}, {why}"
            report.add(Breach(f"attempts {attempt.id}", what))


def _windows(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into windows, so that neither their books nor ours are held whole in memory."""
    while since < until:
        yield since, since + WINDOW
        since += WINDOW


# --- CRMs -----------------------------------------------------------------------------------------------------------


class _CrmComparison:
    """One CRM's records and tasks beside ours."""

    def __init__(self, deps: Deps, reports: dict[int, Report], crm: Crm, name: str) -> None:
        self._deps = deps
        self._reports = reports
        self._crm = crm
        self._name = name
        self._party = _Party(f"CRM {name}")

    def run(self) -> None:
        """Compare every record that we wrote, and every task."""
        written = 0
        for invoice in ours.records(self._deps.database, self._name):
            if invoice.crm_revision:
                written += 1
                self._compare_record(invoice)
        self._reports[7].counts[f"records at {self._name}"] = written
        asked = 0
        for exception in ours.tasks(self._deps.database, self._name):
            asked += 1
            self._compare_task(exception)
        self._reports[3].counts[f"tasks at {self._name}"] = asked

    def _compare_record(self, invoice: Record) -> None:
        """Read one record; work that goes on meanwhile, or a message that will write it, is no breach."""
        for again in range(TRIES):
            with self._deps.database.read() as tx:
                now = invoices.get(tx, invoice.id)
                is_coming = ours.is_being_written(tx, invoice.id)
            if is_coming or now.crm_revision != now.revision:
                return
            said = self._party.asked(self._reports[7], partial(_read, self._crm, payable_of(now)))
            if said is None or said == _wanted(now):
                return
            if again + 1 == TRIES:
                different = ", ".join(sorted(name for name in said if said[name] != _wanted(now)[name]))
                what = f"{self._party.name} has another {different} in {now.external_id}"
                self._reports[7].add(Breach(f"invoices {now.id}", what))
            time.sleep(0.1)

    def _compare_task(self, exception: Record) -> None:
        # "No such task" is another thing than no answer: hence the tuple.
        found = self._party.asked(self._reports[3], lambda: (self._crm.find_task(exception.id),))
        if found is None or found[0] == exception.task_id:
            return
        with self._deps.database.read() as tx:
            is_coming = ours.is_being_made(tx, exception)
        if not is_coming:
            what = f"its task is {exception.task_id or 'none'}, and {self._party.name} has {found[0] or 'none'}"
            self._reports[3].add(Breach(f"exceptions {exception.id}", what))


def _read(crm: Crm, payable: Payable) -> dict[str, Any]:
    """Return what is compared of a record; an empty record differs in everything."""
    found = crm.read_result(payable)
    return found.model_dump(include=set(_COMPARED)) if found is not None else dict.fromkeys(_COMPARED)


def _wanted(invoice: Record) -> dict[str, Any]:
    return result_of(invoice).model_dump(include=set(_COMPARED))


def _count_at_crm(deps: Deps, reports: dict[int, Report], control: CrmControl, name: str) -> None:
    """Count what an adapter cannot: tasks of one key, and results that were overwritten by older ones."""
    stats = control.stats()
    known = {exception.id for exception in ours.tasks(deps.database, name)}
    for key, count in stats["tasks"]["per_key"].items():
        if count > 1:
            reports[3].add(Breach(f"CRM {name}: task {key}", f"was made {count} times"))
        if key not in known:
            reports[3].add(Breach(f"CRM {name}: task {key}", "no exception of ours asked for it"))
    for key, record in stats["invoices"].items():
        if record["went_back"]:
            what = f"an older result was written over a newer one, {record['went_back']} times"
            reports[3].add(Breach(f"CRM {name}: record {key}", what))
