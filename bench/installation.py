"""A whole installation for a measurement, sandbox included, on names of its own; and customers who use it."""

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from re import findall
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from sqlalchemy import Row, select

from bench.room import Room, crm_of
from cli.stack import Plan, Stack
from db.schema import attempts, invoices, links

EMBEDDED_CRM = "bench-crm"
ACCOUNT = "main"
THREADS = 8  # the default of `paylinks worker`
LOOK_SECONDS = 0.02
STEP_SECONDS = 60.0

T = TypeVar("T")


@contextlib.contextmanager
def production(
    room: Room, *, provider_latency_ms: int = 0, opens: str = "at_pay", calls_per_second: float | None = None
) -> Iterator[Stack]:
    """One process per queue, relay, intake and web, on PostgreSQL and RabbitMQ."""
    with room.database() as url, room.prefix("intake", "intake.dead") as prefix, _folder() as folder:
        amqp = room.services.amqp_url
        with Stack(
            Plan(
                folder=folder,
                profile="production",
                database_url=url,
                broker_url=amqp,
                amqp_url=amqp,
                redis_url=room.services.redis_url,
                queue_prefix=prefix,
                threads=THREADS,
                families={ACCOUNT: ("idempotent", opens, "AMD")},
                crms=(crm_of(prefix),),
                calls_per_second=calls_per_second,
                provider_arguments=("--latency-ms", str(provider_latency_ms)),
            )
        ) as stack:
            yield stack


@contextlib.contextmanager
def embedded(
    *, provider_latency_ms: int = 0, opens: str = "at_pay", calls_per_second: float | None = None
) -> Iterator[Stack]:
    """Everything of ours in one process, on SQLite."""
    with (
        _folder() as folder,
        Stack(
            Plan(
                folder=folder,
                threads=THREADS,
                families={ACCOUNT: ("idempotent", opens, "AMD")},
                crms=(EMBEDDED_CRM,),
                calls_per_second=calls_per_second,
                provider_arguments=("--latency-ms", str(provider_latency_ms)),
            )
        ) as stack,
    ):
        yield stack


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Life:
    """The times of one invoice, in seconds on one clock."""

    published: float
    link_seen: float
    pay_pressed: float
    page_given: float
    paid: float
    known: float  # the paid status was written to the CRM and read back

    @property
    def whole_ms(self) -> float:
        """From the CRM's publishing to the paid status in the CRM."""
        return (self.known - self.published) * 1000

    @property
    def checkout_ms(self) -> float:
        """From Pay to the provider's page."""
        return (self.page_given - self.pay_pressed) * 1000

    @property
    def settling_ms(self) -> float:
        """From the customer's payment to the paid status in the CRM."""
        return (self.known - self.paid) * 1000


class Customers:
    """People who pay their invoices, so many at once, each as soon as the CRM shows his link."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        (self.crm,) = stack.plan.crms
        self._number = 0
        self._is_over = False
        self._changed = threading.Condition()
        self._seen: dict[str, Row[tuple[object, ...]]] = {}
        self._waiting: set[str] = set()

    def live(self, count: int, *, at_once: int) -> list[Life]:
        """Let so many invoices be published and paid; return their times."""
        return self._together(count, at_once, self._live_one)

    def _together(self, count: int, at_once: int, work: Callable[[str], T]) -> list[T]:
        names = [f"B-{self._number + number}" for number in range(count)]
        self._number += count
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        watcher.start()
        pool = ThreadPoolExecutor(at_once)
        try:
            return list(pool.map(work, names))
        finally:
            # After Ctrl-C nobody goes on, and nobody is waited for.
            self._is_over = sys.exc_info()[0] is not None
            pool.shutdown(wait=not self._is_over, cancel_futures=True)
            stop.set()
            watcher.join(timeout=5)

    def links(self, count: int) -> list[str]:
        """Let so many invoices be published; return their links as soon as they stand in the CRM."""
        return self._together(count, 1, lambda name: self._invite(name)[0])

    def _invite(self, name: str) -> tuple[str, Row[tuple[object, ...]]]:
        with self._changed:
            self._waiting.add(name)
        self._stack.crms[self.crm].control.create([invoice_of(self.crm, name)])
        row = self._until(name, lambda row: row.crm_revision >= 1 and row.link_id is not None)
        return self._stack.deps.tokens.url(row.link_id, row.generation, row.key_id), row

    def _live_one(self, name: str) -> Life:
        published = time.monotonic()
        url, row = self._invite(name)
        link_seen = time.monotonic()
        pay_pressed, page_given = press_pay(url)
        self._stack.provider.control.act(self._reference(row.link_id), "pay", account=ACCOUNT)
        paid = time.monotonic()
        self._until(name, lambda row: row.status == "paid" and row.crm_revision == row.revision)
        known = time.monotonic()
        with self._changed:
            self._waiting.discard(name)
        return Life(published, link_seen, pay_pressed, page_given, paid, known)

    def _reference(self, link_id: str) -> str:
        with self._stack.deps.database.read() as tx:
            return str(tx.execute(select(attempts.c.reference).where(attempts.c.link_id == link_id)).scalar_one())

    def _until(self, name: str, is_there: object) -> Row[tuple[object, ...]]:
        assert callable(is_there)
        with self._changed:
            found = self._changed.wait_for(
                lambda: self._is_over or (name in self._seen and is_there(self._seen[name])), timeout=STEP_SECONDS
            )
            if self._is_over:
                raise InterruptedError
            if not found:
                raise TimeoutError(f"invoice {name} is stuck at {self._seen.get(name)}")
            return self._seen[name]

    def _watch(self, stop: threading.Event) -> None:
        """Look again and again at every invoice that somebody waits for: one query for all."""
        while not stop.wait(LOOK_SECONDS):
            with self._changed:
                names = list(self._waiting)
            seen = self._look(names) if names else {}
            with self._changed:
                self._seen.update(seen)
                self._changed.notify_all()

    def _look(self, names: list[str]) -> dict[str, Row[tuple[object, ...]]]:
        found = (
            select(
                invoices.c.external_id,
                invoices.c.status,
                invoices.c.revision,
                invoices.c.crm_revision,
                links.c.id.label("link_id"),
                links.c.generation,
                links.c.key_id,
            )
            .outerjoin(links, links.c.invoice_id == invoices.c.id)
            .where(invoices.c.crm == self.crm, invoices.c.payable_type == "invoice", invoices.c.external_id.in_(names))
        )
        with self._stack.deps.database.read() as tx:
            return {row.external_id: row for row in tx.execute(found)}


def invoice_of(crm: str, name: str) -> dict[str, object]:
    """Return the data of an invoice that a CRM may publish."""
    return {
        "crm": crm,
        "invoice_id": name,
        "version": 1,
        "deal_id": f"D-{name}",
        "amount_minor": 1_500_000,
        "currency": "AMD",
        "purpose": "Prepayment, contract 17",
        "customer": {"name": "Ani", "email": "ani@example.am", "phone": "+37410000000", "locale": "hy"},
        "manager": {"id": "17", "name": "Karen"},
    }


def press_pay(link_url: str) -> tuple[float, float]:
    """Open the link and press Pay as a browser does; return when it was pressed and when the provider's page came."""
    parts = urlsplit(link_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    connection = HTTPConnection(parts.netloc, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", parts.path)
        hidden = dict(findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', _text(connection)))
        pressed = time.monotonic()
        headers = {
            "origin": origin,
            "sec-fetch-site": "same-origin",
            "content-type": "application/x-www-form-urlencoded",
        }
        connection.request("POST", f"{parts.path}/pay", body=urlencode(hidden), headers=headers)
        _follow(connection, origin)
        return pressed, time.monotonic()


def _follow(connection: HTTPConnection, origin: str) -> None:
    """Go on until the answer is a redirect away from us: to the provider's page, which nobody needs to draw."""
    address = ""
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        answer = connection.getresponse()
        answer.read()
        target = answer.getheader("location", "")
        if answer.status == 303 and not target.startswith((origin, "/")):
            return
        if answer.status not in (200, 303):
            raise RuntimeError(f"Pay was answered {answer.status}")
        if answer.status == 303:
            address = target.removeprefix(origin)
        else:
            time.sleep(0.2)
        connection.request("GET", address)
    raise TimeoutError("Pay led to no provider's page")


def _text(connection: HTTPConnection) -> str:
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"the link was answered {answer.status}")
    return answer.read().decode()
