"""An installation in this process, whose workers a test starts and stops, with a real server and a real provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from contracts.messages import Locale
from db import customer_pages
from db.tx import Cause
from runtime.checkout import note_return, press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from sandbox.launch import ProviderProcess
from tests.customer import (
    attempts_of,
    change,
    link_of,
    make_deps,
    make_invoice,
    path_of,
    run_once,
    sandbox_account,
    served,
)
from tests.services.processes import free_port
from web.security import FormGuard

MERCHANT = {"name": "Նաիրի ՍՊԸ", "contact": "+374 10 000000, help@nairi.example"}

_numbers = count(1)


@dataclass(frozen=True)
class Desk:
    """Where links are made and brought to the state that a test looks at, by what really brings them there."""

    deps: Deps
    provider: ProviderProcess
    address: str

    def make(self, **changes: Any) -> "Case":
        """Accept an invoice."""
        number = f"INV-{next(_numbers)}"
        make_invoice(self.deps, number, **changes)
        return self.newest(number)

    def newest(self, number: str) -> "Case":
        """The newest link of an invoice."""
        link = link_of(self.deps, number)
        return Case(self, number, link, self.address + path_of(self.deps, link))


@dataclass(frozen=True)
class Case:
    """One link."""

    desk: Desk
    number: str
    link: Any
    url: str

    def begin(self) -> "Case":
        """Press Pay, and nobody works."""
        press_pay(self.desk.deps, self.link.id)
        return self

    def open(self) -> "Case":
        """Press Pay and open the order."""
        self.begin()
        run_once(self.desk.deps)
        return self

    def act(self, action: str, **options: Any) -> "Case":
        """Do something at the provider, and learn of it."""
        self.act_unseen(action, **options)
        return self.check()

    def act_unseen(self, action: str, **options: Any) -> None:
        """Do something at the provider that nobody here knows of yet."""
        self.desk.provider.control.act(attempts_of(self.desk.deps, self.link.id)[-1][1], action, **options)

    def come_back(self) -> "Case":
        """Come back from the provider, and let it be looked at."""
        note_return(self.desk.deps, self.link.id)
        run_once(self.desk.deps)
        return self

    def check(self) -> "Case":
        """Ask the provider."""
        with self.desk.deps.database.begin(Cause.new()) as tx:
            request_check(tx, customer_pages.newest_attempt(tx, self.link.id))
        run_once(self.desk.deps)
        return self

    def change(self, table: str, **values: str) -> "Case":
        """Change what takes too long to come by itself."""
        key = {"invoices": f"id = '{self.link.invoice_id}'", "links": f"id = '{self.link.id}'"}[table]
        changes = ", ".join(f"{name} = {value}" for name, value in values.items())
        change(self.desk.deps, f"UPDATE {table} SET {changes} WHERE {key}")
        return self

    def continue_url(self, language: Locale) -> str:
        """Where a customer waits on who pressed Pay."""
        return f"{self.url}/continue?lang={language}&t={FormGuard(self.desk.deps.settings).ticket(self.link.id)}"


@contextmanager
def open_desk(folder: Path, **settings: Any) -> Iterator[Desk]:
    """Open an installation on a SQLite file."""
    port = free_port()
    with ProviderProcess() as provider:
        account = sandbox_account(provider)
        own = {"public_base_url": f"http://127.0.0.1:{port}", "merchant": MERCHANT, **settings}
        deps = make_deps(f"sqlite:///{folder / 'store.db'}", account, provider.base_url, **own)
        with served(deps, port) as address:
            yield Desk(deps, provider, address)
        account.close()
        deps.database.dispose()
