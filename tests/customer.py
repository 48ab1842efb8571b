"""What tests of the customer's pages and the receiver share: a running server, a browser, workers, a provider."""

import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from contracts.catalog import Queue
from contracts.messages import InvoiceCreated
from db import invoices, links
from gateways.providers.base import Provider
from gateways.providers.sandbox import SandboxProvider
from runtime.deps import Deps
from runtime.settings import AccountSettings, LinkKey, Settings
from runtime.tokens import LinkTokens
from sandbox.launch import ProviderProcess
from tests.doors import wipe
from tests.support import DATA_KEY, open_database, put
from web.app import build_app, make_server
from workers import registry
from workers.executor import Executor

ACCOUNT = "bank"
WEBHOOK_SECRET = "whsec-of-the-tests"
BROWSER = {"sec-fetch-site": "same-origin"}


def fresh_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """An empty database of the kind that the test asks for; one on PostgreSQL is migrated once per module."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    open_database(url).dispose()
    wipe(url)
    return url


def make_deps(url: str, provider: Provider | Mapping[str, Provider], base_url: str, **more: Any) -> Deps:
    """Dependencies on a migrated database, with one account, or with several of which the settings know one."""
    settings = Settings(
        database_url=url,
        data_keys=(SecretStr(DATA_KEY),),
        link_keys=(LinkKey(id="k1", secret=SecretStr("k" * 40)),),
        accounts={ACCOUNT: AccountSettings(adapter="sandbox", base_url=base_url, api_key=SecretStr("k"))},
        routing={"*": ACCOUNT},
        **more,
    )
    tokens = LinkTokens([("k1", "k" * 40)], settings.public_base_url)
    providers = provider if isinstance(provider, Mapping) else {ACCOUNT: provider}
    return Deps(settings, open_database(url), tokens, providers=providers, crms={})


def sandbox_account(process: ProviderProcess, **options: Any) -> SandboxProvider:
    """The adapter of a running provider process."""
    return SandboxProvider(ACCOUNT, process.account_url(), process.api_key, (WEBHOOK_SECRET,), **options)


@contextmanager
def served(deps: Deps, port: int = 0) -> Iterator[str]:
    """Run the real server in a thread; give its address. Without a port it takes a free one."""
    listening = threading.Event()
    addresses: list[str] = []

    def listen(address: str) -> None:
        addresses.append(address)
        listening.set()

    server = make_server(deps, "127.0.0.1", port, on_listening=listen)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        assert listening.wait(20), "the server did not start"
        yield addresses[0]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


@asynccontextmanager
async def started(deps: Deps, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application in this event loop, without a server; give a client."""
    app = build_app(deps, **more)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


class Workers:
    """Serves queues in a thread; `halt` and `go` let a test hold the world still."""

    def __init__(self, deps: Deps) -> None:
        registry.load_all()
        self._executor = Executor(deps, [Queue.LINK_CREATION, Queue.CHECKOUT, Queue.WEBHOOK_VERIFICATION])
        self._going = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workers")

    def __enter__(self) -> "Workers":
        self._going.set()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._going.set()
        self._thread.join(30)

    def halt(self) -> None:
        self._going.clear()
        time.sleep(0.15)

    def go(self) -> None:
        self._going.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._going.wait()
            for queue in self._executor.queues:
                self._executor.serve(queue)
            time.sleep(0.02)


def run_once(deps: Deps, *queues: Queue) -> None:
    """Work on everything that is due, in this thread."""
    registry.load_all()
    executor = Executor(deps, list(queues or (Queue.LINK_CREATION, Queue.CHECKOUT, Queue.WEBHOOK_VERIFICATION)))
    for queue in executor.queues:
        executor.serve(queue)


def make_invoice(deps: Deps, number: str = "INV-1", **changes: Any) -> InvoiceCreated:
    """Accept an invoice, without anything else that may be due; wait for it, where a worker took it before us."""
    data = {
        "crm": "acme",
        "invoice_id": number,
        "version": 1,
        "amount_minor": 15_000_000,
        "currency": "AMD",
        "purpose": "Կանխավճար <b>17</b>",
        "customer": {"name": "Ani", "locale": "en"},
    } | changes
    message = InvoiceCreated.parse(data)
    put(deps.database, message)
    run_once(deps, Queue.LINK_CREATION)
    eventually(lambda: _has_link(deps, number))
    return message


def _has_link(deps: Deps, number: str) -> bool:
    with deps.database.read() as tx:
        invoice = invoices.find(tx, "acme", number)
        return invoice is not None and links.newest(tx, invoice.id) is not None


def link_of(deps: Deps, number: str = "INV-1") -> Any:
    """The newest link of an invoice."""
    with deps.database.read() as tx:
        invoice = invoices.find(tx, "acme", number)
        assert invoice is not None
        return links.newest(tx, invoice.id)


def path_of(deps: Deps, link: Any) -> str:
    """The path of a link's page."""
    return f"/l/{deps.tokens.token(link.id, link.generation, link.key_id)}"


def attempts_of(deps: Deps, link_id: str) -> list[Any]:
    """Every attempt of a link, as (state, reference)."""
    return rows(deps, f"SELECT state, reference FROM attempts WHERE link_id = '{link_id}' ORDER BY number")


def rows(deps: Deps, statement: str) -> list[tuple[Any, ...]]:
    """Read rows by SQL."""
    with deps.database.read() as tx:
        return [tuple(row) for row in tx.connection.exec_driver_sql(statement)]


def change(deps: Deps, statement: str) -> None:
    """Change rows by SQL."""
    with deps.database.begin() as tx:
        tx.connection.exec_driver_sql(statement)


def browser(address: str, headers: Mapping[str, str] = BROWSER) -> httpx.Client:
    """A client that follows nothing by itself and names itself as a browser's own page would."""
    return httpx.Client(base_url=address, headers=dict(headers), timeout=20, trust_env=False)


def state_of(page: httpx.Response) -> str:
    """Which page this is."""
    found = re.search(r'<main class="state-([a-z_]+)"', page.text)
    assert found, page.text
    return found[1]


def eventually(wanted: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is true."""
    until = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.03)
