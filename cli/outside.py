"""The part of `paylinks prove` that asks providers and CRMs: do their books say what ours say?

An adapter can ask about orders that we know and list those with money. The sandbox's control interface tells all: every
order, every task, every write; with it the counts are exact.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from contracts.evidence import Evidence, OrderState
from contracts.results import PaymentResult
from contracts.statuses import AttemptState, InvoiceStatus
from db import books as ours
from db import invoices
from db.prove import Breach, Report
from db.tx import Record
from gateways.crms.base import Crm, Payable
from gateways.errors import GatewayError, Refused
from gateways.providers.base import Provider
from runtime.deps import Deps
from sandbox.control import CrmControl, ProviderControl
from workers.standing import result_of
from workers.update_crm import payable_of

TRIES = 4
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
        _compare_provider(deps, reports, _ledger_of(provider, books, name), name)
    for name, crm in deps.crms.items():
        _compare_records(deps, reports, crm, name)
        _compare_tasks(deps, reports, crm, name)
        if name in books.crms:
            _count_at_crm(deps, reports, books.crms[name], name)


def _asked(report: Report, whom: str, ask: Callable[[], T]) -> T | None:
    """Ask, a few times; what gives no answer was not checked."""
    for again in range(TRIES):
        try:
            return ask()
        except Refused as error:
            report.leave_out(f"{whom}: {error.detail}")
            return None
        except GatewayError as error:
            if again + 1 == TRIES:
                report.leave_out(f"{whom}: {error.detail}")
            time.sleep(PAUSE_SECONDS)
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
    money = tuple(
        Moved(one.kind.value, one.provider_transaction_id, one.amount_minor, one.currency, one.occurred_at)
        for one in evidence.transactions
    )
    return Order(evidence.reference, evidence.provider_order_id, evidence.state.value, money)


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


def _compare_provider(deps: Deps, reports: dict[int, Report], ledger: _Ledger, name: str) -> None:
    whom = f"provider {name}"
    if not ledger.can_be_asked:
        for number in (3, 5, 9):
            reports[number].leave_out(f"{whom}: it answers no questions")
        return
    with deps.database.read() as tx:
        first = ours.first_attempt_at(tx, name)
    if first is None:
        return
    _one_order_per_reference(reports[3], ledger.every(), name)
    for since, until in _windows(first - WINDOW, datetime.now(UTC) + WINDOW):
        _compare_window(deps, reports, ledger, name, since, until)
    for row in ours.orders(deps.database, name):
        _compare_order(deps, reports, ledger, row, whom)


def _windows(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into windows, so that neither their books nor ours are held whole in memory."""
    while since < until:
        yield since, since + WINDOW
        since += WINDOW


def _compare_window(
    deps: Deps, reports: dict[int, Report], ledger: _Ledger, name: str, since: datetime, until: datetime
) -> None:
    # Ours first: what they book between the two looks is not in ours yet, and is looked at again.
    with deps.database.read() as tx:
        booked = ours.money(tx, name, since, until)
    listed = _asked(reports[5], f"provider {name}", lambda: ledger.with_money(since, until))
    if listed is None:
        return
    counts = reports[5].counts
    counts[f"paid orders at {name}"] = counts.get(f"paid orders at {name}", 0) + len(listed)
    _one_order_per_reference(reports[3], listed, name)
    theirs = {one.name: (one, order.reference) for order in listed for one in order.money if since <= one.at < until}
    _ours_are_theirs(reports[5], booked, {moved: one for moved, (one, _) in theirs.items()}, name)
    for moved, (one, reference) in theirs.items():
        if moved not in booked and not _arrives(deps, name, one, reference):
            what = f"{one.kind} {one.id} of {one.amount_minor} {one.currency} (minor units) is not in our books"
            reports[5].add(Breach(f"provider {name}: reference {reference}", what))


def _one_order_per_reference(report: Report, orders: list[Order], name: str) -> None:
    for reference, count in Counter(order.reference for order in orders).items():
        breach = Breach(f"provider {name}: reference {reference}", f"{count} orders were made under it")
        if count > 1 and breach not in report.breaches:
            report.add(breach)


def _ours_are_theirs(
    report: Report, booked: Mapping[tuple[str, str], ours.Booked], theirs: Mapping[tuple[str, str], Moved], name: str
) -> None:
    for moved, entry in booked.items():
        found = theirs.get(moved)
        if found is None or (found.amount_minor, found.currency) != (entry.amount_minor, entry.currency):
            sums = f"{found.amount_minor} {found.currency}" if found else "nothing"
            what = f"says {moved[0]} {entry.amount_minor} {entry.currency} (minor units); provider {name} says {sums}"
            report.add(Breach(f"transactions {entry.id}", what))


def _arrives(deps: Deps, account: str, moved: Moved, reference: str) -> bool:
    """Tell whether a message is on its way to book the money, or it was booked meanwhile."""
    with deps.database.read() as tx:
        if ours.is_being_asked(tx, account, reference):
            return True
    with deps.database.read() as tx:
        return moved.name in ours.money(tx, account, moved.at, moved.at + timedelta(microseconds=1))


def _compare_order(deps: Deps, reports: dict[int, Report], ledger: _Ledger, attempt: Record, whom: str) -> None:
    """Look for an order that we do not know of, and for one that can be paid although its invoice is settled."""
    is_unknown = attempt.provider_order_id is None and attempt.state != AttemptState.RESERVED
    is_left_open = attempt.invoice_status in _SETTLED and attempt.state != AttemptState.PAID
    if not (is_unknown or is_left_open):
        return
    report = reports[3 if is_unknown else 9]
    order = _asked(report, whom, lambda: ledger.find(attempt.reference, attempt.provider_order_id))
    if order is None or order.state not in _ALIVE or (not is_unknown and order.state == OrderState.PAID):
        return
    with deps.database.read() as tx:
        if not ours.is_being_asked(tx, attempt.account, attempt.reference):
            why = "and we do not know it" if is_unknown else "although its invoice is settled"
            report.add(Breach(f"attempts {attempt.id}", f"its order {order.id} is {order.state} at {whom}, {why}"))


# --- CRMs -----------------------------------------------------------------------------------------------------------


def _compare_records(deps: Deps, reports: dict[int, Report], crm: Crm, name: str) -> None:
    report, compared = reports[7], 0
    for invoice in ours.records(deps.database, name):
        if invoice.crm_revision:
            compared += 1
            _compare_record(deps, report, crm, invoice)
    report.counts[f"records at {name}"] = compared


def _compare_record(deps: Deps, report: Report, crm: Crm, invoice: Record) -> None:
    """Read one record; work that goes on meanwhile, or a message that will write it, is no breach."""
    for again in range(TRIES):
        with deps.database.read() as tx:
            now = invoices.get(tx, invoice.id)
            is_coming = ours.is_being_written(tx, invoice.id)
        if is_coming or now.crm_revision != now.revision:
            return
        whom = f"CRM {now.crm}"
        said = _asked(report, whom, partial(_read, crm, payable_of(now)))
        if said is None or said == _wanted(now):
            return
        if again + 1 == TRIES:
            different = ", ".join(sorted(name for name in said if said[name] != _wanted(now)[name]))
            report.add(Breach(f"invoices {now.id}", f"{whom} has another {different} in {now.external_id}"))
        time.sleep(0.1)


def _read(crm: Crm, payable: Payable) -> dict[str, Any]:
    """Return what is compared of a record; an empty record differs in everything."""
    found = crm.read_result(payable)
    return found.model_dump(include=set(_COMPARED)) if found is not None else dict.fromkeys(_COMPARED)


def _wanted(invoice: Record) -> dict[str, Any]:
    return result_of(invoice).model_dump(include=set(_COMPARED))


def _compare_tasks(deps: Deps, reports: dict[int, Report], crm: Crm, name: str) -> None:
    report, asked = reports[3], 0
    for exception in ours.tasks(deps.database, name):
        asked += 1
        found = _asked(report, f"CRM {name}", partial(_task_at, crm, exception.id))
        if found is None or found[0] == exception.task_id:
            continue
        with deps.database.read() as tx:
            if not ours.is_being_made(tx, exception):
                what = f"its task is {exception.task_id or 'none'}, and CRM {name} has {found[0] or 'none'}"
                report.add(Breach(f"exceptions {exception.id}", what))
    report.counts[f"tasks asked at {name}"] = asked


def _task_at(crm: Crm, key: str) -> tuple[str | None]:
    """Put the answer into a tuple: "no such task" is another thing than no answer."""
    return (crm.find_task(key),)


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
