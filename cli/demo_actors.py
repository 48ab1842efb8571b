"""Sends everybody on his way: each customer waits for his link in the CRM, and then the case takes its course."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from cli.demo_cases import Case, Name, Scene, end_link
from cli.stack import Stack
from db import api_keys
from sandbox.customers import Customer
from sandbox.office import Office

AT_ONCE = 16
PATIENCE_SECONDS = 180.0
LOOK_SECONDS = 0.3


class Actors:
    """Customers and managers of one installation."""

    def __init__(self, stack: Stack, enter: Callable[[Case, str], Customer] | None = None) -> None:
        """Give the managers a key to the API.

        `enter` makes the customer of a case and its link; by default one with a hand at the sandbox provider's desk.
        """
        self._stack = stack
        self._enter = enter or self._customer
        self._links = _Links(stack)
        with stack.deps.database.begin() as tx:
            _, self._key = api_keys.create(tx, "office", list(stack.crms), actor="demo", reason="to give commands with")

    def act(self, cases: Iterable[Case]) -> None:
        """Let everything happen that is to happen."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._act, cases))

    def look(self, cases: Iterable[Case]) -> None:
        """Open the newest link of each invoice, as its customer would, and note what its page says."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._look, cases))

    def _act(self, case: Case) -> None:
        office = self._office(case)
        try:
            customer = self._enter(case, self._links.wait_for(case))
            try:
                case.act(Scene(customer, office, partial(end_link, self._stack.deps, case.name)))
            finally:
                customer.close()
                case.reference = customer.reference
                case.pages |= customer.seen
        except Exception as error:
            case.failure = f"{type(error).__name__}: {error}"
        finally:
            office.close()

    def _look(self, case: Case) -> None:
        office = self._office(case)
        try:
            customer = self._enter(case, office.link_url())
            case.page = customer.look()
            case.pages.add(case.page)
            customer.close()
        except Exception as error:
            case.failure = case.failure or f"{type(error).__name__}: {error}"
        finally:
            office.close()

    def _customer(self, case: Case, url: str) -> Customer:
        return Customer(url, self._stack.provider.control, case.account, case.data["amount_minor"])

    def _office(self, case: Case) -> Office:
        return Office(self._stack.base_url, self._key, self._stack.crms[case.data["crm"]].control, case.data)


class _Links:
    """What the CRMs show: one reader for all who wait."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._records: dict[Name, dict[str, Any]] = {}
        self._read_at = 0.0

    def wait_for(self, case: Case) -> str:
        """Wait until the CRM shows the link of the version that this customer gets."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            shown = self._shown(case.name)
            if shown.get("link_url") and case.is_about(shown["amount_minor"]):
                return str(shown["link_url"])
            time.sleep(LOOK_SECONDS / 3)
        raise AssertionError("the CRM never showed a link")

    def _shown(self, name: Name) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() > self._read_at + LOOK_SECONDS:
                self._read()
            return self._records.get(name, {})

    def _read(self) -> None:
        for name, crm in self._stack.crms.items():
            for record in crm.control.records():
                self._records[name, record["id"], record["type"]] = record["payment"] or {}
        self._read_at = time.monotonic()
