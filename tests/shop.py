"""An installation with one provider and one CRM that answer as a test wants, its stages run by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from contracts.catalog import Queue
from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.messages import InvoiceCreated
from db import attempts, exceptions, invoices, links
from db.schema import messages
from db.types import db_after, db_now
from gateways.errors import Refused, Unavailable, Unknown
from gateways.providers.base import (
    Capabilities,
    CreateMode,
    Opens,
    OrderRequest,
    ProviderEvent,
    ProviderOrder,
    ProviderRefund,
    RefundRequest,
)
from runtime.build import build
from runtime.deps import Deps
from runtime.settings import Settings
from tests.support import DATA_KEY, put
from workers import registry
from workers.executor import Executor

QUEUES = [queue.value for queue in Queue]
NOW = datetime(2026, 1, 1, tzinfo=UTC)

CAPABILITIES = Capabilities(
    create=CreateMode.IDEMPOTENT,
    opens=Opens.AT_PAY,
    session_life=timedelta(days=3),
    settle=timedelta(seconds=1),
    lookup=True,
    lookup_gives_page=False,
    cancel=True,
    refund_idempotent=True,
    signed_events=True,
)


@dataclass
class Shop:
    """A provider that answers as a test wants."""

    name: str = "shop"
    capabilities: Capabilities = CAPABILITIES
    orders: dict[str, OrderState] = field(default_factory=dict)
    money: dict[str, tuple[ProviderTransaction, ...]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    before_answer: Callable[[OrderRequest], None] = lambda order: None
    lost: bool = False
    calls: list[str] = field(default_factory=list)  # cancel, capture, release
    fails: dict[str, Exception] = field(default_factory=dict)
    loses: set[str] = field(default_factory=set)
    lies: bool = False
    refund_calls: list[str] = field(default_factory=list)
    refunds: dict[str, str] = field(default_factory=dict)  # our refund's name -> their transaction
    refund_fails: Callable[[RefundRequest], Exception | None] = lambda request: None  # before anything happened
    refund_loses: Callable[[RefundRequest], Exception | None] = lambda request: None  # after it happened

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        self.orders.setdefault(order.reference, OrderState.OPEN)
        self.before_answer(order)
        if self.lost:
            raise Unknown("lost")
        return ProviderOrder(order.reference, "o-" + order.reference, "http://127.0.0.1/pay", None)

    def find_order(self, reference: str) -> ProviderOrder | None:
        return ProviderOrder(reference, "o-" + reference, None, None) if reference in self.orders else None

    def parse_event(self, *, body: bytes, **rest: Any) -> ProviderEvent:
        """An event is the order's reference; where nobody can be asked, it carries the facts."""
        reference = body.decode()
        evidence = None if self.capabilities.lookup else self._evidence(reference)
        return ProviderEvent(None, "changed", reference, "o-" + reference, evidence)

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Evidence | None:
        return self._evidence(reference) if reference in self.orders else None

    def _evidence(self, reference: str) -> Evidence:
        return Evidence(
            reference=reference,
            provider_order_id="o-" + reference,
            state=self.orders[reference],
            transactions=self.money.get(reference, ()),
            asked_at=datetime.now(UTC),
        )

    def refund(self, request: RefundRequest) -> ProviderRefund:
        self.refund_calls.append(request.refund_reference)
        error = self.refund_fails(request)
        if error is not None:
            raise error
        if request.refund_reference not in self.refunds or not self.capabilities.refund_idempotent:
            transaction = f"r-{len(self.refund_calls)}"
            self.refunds[request.refund_reference] = transaction
            moved = ProviderTransaction(
                provider_transaction_id=transaction,
                kind=TransactionKind.REFUND,
                amount_minor=request.amount_minor,
                currency=request.currency,
                occurred_at=datetime.now(UTC),
            )
            self.money[request.reference] = (*self.money.get(request.reference, ()), moved)
        error = self.refund_loses(request)
        if error is not None:
            raise error
        name = request.refund_reference
        return ProviderRefund(name, self.refunds[name], request.amount_minor)

    def cancel_order(self, reference: str, provider_order_id: str) -> None:
        self.calls.append(f"cancel {reference}")
        self._fails("cancel")
        if self.orders.get(reference) is not OrderState.OPEN:
            raise Refused("not open")
        self.orders[reference] = OrderState.CANCELLED
        self.cancelled.append(reference)
        self._loses("cancel")

    def capture_order(self, reference: str, provider_order_id: str, amount_minor: int, currency: str) -> None:
        self.calls.append(f"capture {amount_minor} {currency}")
        self._fails("capture")
        if self.lies:  # it says yes, once, and nothing happens
            self.lies = False
            return
        if self.orders.get(reference) is not OrderState.HELD:
            raise Refused("nothing held", code="not_held")
        self.orders[reference] = OrderState.PAID
        self.money[reference] = (
            ProviderTransaction(
                provider_transaction_id=f"c-{reference}",
                kind=TransactionKind.CAPTURE,
                amount_minor=amount_minor,
                currency=currency,
                occurred_at=datetime.now(UTC),
            ),
        )
        self._loses("capture")

    def release_order(self, reference: str, provider_order_id: str) -> None:
        self.calls.append("release")
        self._fails("release")
        if self.orders.get(reference) is not OrderState.HELD:
            raise Refused("nothing held", code="not_held")
        self.orders[reference] = OrderState.CANCELLED
        self._loses("release")

    def _fails(self, operation: str) -> None:
        """Fail as a test wants, once, before anything happened."""
        error = self.fails.pop(operation, None)
        if error is not None:
            raise error

    def _loses(self, operation: str) -> None:
        """Lose the answer, once, after it happened."""
        if operation in self.loses:
            self.loses.remove(operation)
            raise Unknown("lost")

    def close(self) -> None:
        return None


@dataclass
class Office:
    """A CRM that answers as a test wants."""

    name: str = "office"
    record: Any = None
    down: bool = False
    tasks: dict[str, str] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    loses_task_answer: bool = False

    def write_result(self, payable: Any, result: Any) -> None:
        if self.down:
            raise Unavailable("down")
        self.record = result

    def read_result(self, payable: Any) -> Any:
        if self.down:
            raise Unavailable("down")
        return self.record

    def find_task(self, key: str) -> str | None:
        if self.down:
            raise Unavailable("down")
        return self.tasks.get(key)

    def create_task(self, task: Any) -> str:
        if self.down:
            raise Unavailable("down")
        self.tasks[task.key] = f"t-{len(self.tasks)}"
        if self.loses_task_answer:
            raise Unknown("lost")
        return self.tasks[task.key]

    def close_task(self, task_id: str, note: str) -> None:
        self.closed.append(task_id)

    def close(self) -> None:
        return None


@contextmanager
def open_shop(url: str, **settings: Any) -> Iterator[Deps]:
    """Give the dependencies of an installation with one shop and one office, at an empty database."""
    registry.load_all()
    given = Settings(database_url=url, data_keys=[DATA_KEY], link_keys=[{"id": "k1", "secret": "s" * 32}])
    built = build(given)
    given = given.model_copy(update={"accounts": {"shop": None}, "routing": {"*": "shop"}, **settings})
    try:
        yield replace(built, settings=given, providers={"shop": Shop()}, crms={"office": Office()})
    finally:
        built.database.dispose()


def created(version: int | None = 1, amount: int = 10_000, wish: str = "") -> InvoiceCreated:
    return InvoiceCreated(
        crm="office", invoice_id="I-1", version=version, amount_minor=amount, currency="AMD", purpose="p", wish=wish
    )


def shop(deps: Deps) -> Any:
    return deps.providers["shop"]


def office(deps: Deps) -> Any:
    return deps.crms["office"]


def work(deps: Deps, *queues: str, rounds: int = 4, hurry: bool = True) -> None:
    """Serve the queues; what waits for its time is due at once."""
    executor = Executor(deps, list(queues or QUEUES))
    for _ in range(rounds):
        due = due_queues(deps)
        for queue in executor.queues:
            if queue in due:
                executor.serve(queue)
                due = due_queues(deps)
        if hurry:
            due_now(deps)


def due_queues(deps: Deps) -> set[str]:
    """Queues in which something is due: to ask for it costs less than to claim nothing in each."""
    with deps.database.read() as tx:
        return set(tx.execute(select(messages.c.queue).where(messages.c.available_at <= db_now()).distinct()).scalars())


def due_now(deps: Deps) -> None:
    with deps.database.begin() as tx:
        # Not the end of a link, and not the watch of an order that ended: nobody waits for them.
        is_watch = (messages.c.type == "attempt.check.v1") & (messages.c.available_at > db_after(45 * 60))
        later = (messages.c.state == "ready") & (messages.c.type != "link.expire.v1") & ~is_watch
        tx.execute(update(messages).where(later).values(available_at=NOW))


def the_invoice(deps: Deps) -> Any:
    with deps.database.read() as tx:
        return invoices.find(tx, "office", "I-1")


def the_link(deps: Deps) -> Any:
    with deps.database.read() as tx:
        return links.newest(tx, invoices.find(tx, "office", "I-1").id)


def the_attempt(deps: Deps) -> Any:
    with deps.database.read() as tx:
        return attempts.of_invoice(tx, invoices.find(tx, "office", "I-1").id)[-1]


def reasons(deps: Deps) -> set[str]:
    with deps.database.read() as tx:
        return exceptions.open_reasons(tx, invoices.find(tx, "office", "I-1").id)


def accept(deps: Deps) -> None:
    put(deps.database, created())
    work(deps, "link-creation", "crm-update", rounds=2, hurry=False)
