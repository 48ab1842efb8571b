"""Clients of the sandbox's control interfaces, for tests, the demo and the benchmarks."""

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

T = TypeVar("T")

TRIES = 30
_DUPLICATE = "duplicate_reference"
# For clients of plain http on this machine: reading all certificate authorities would take each of them 50 ms.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class ControlError(Exception):
    """The sandbox refused what a test asked for. Shows the whole answer: there is nothing secret in it."""


class ProviderControl:
    """Plays the customer, his bank and bad luck at the sandbox's provider."""

    def __init__(self, base_url: str, control_key: str) -> None:
        """`base_url` is the process's address, without an account."""
        self.base_url = base_url
        self._client = _client(base_url, control_key)

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def configure(self, account: str = "main", **settings: Any) -> None:
        """Open an account or change settings: api_key, family, webhook_url, webhook_secret, session_minutes, ..."""
        self._ask("PUT", f"/control/{account}", settings)

    def create(
        self, body: Mapping[str, Any], *, api_key: str, account: str = "main", fault: str = ""
    ) -> httpx.Response:
        """Create an order as a merchant would, and return the bare answer. `fault` strikes this call."""
        headers = {"authorization": f"Bearer {api_key}"} | ({"sandbox-fault": fault} if fault else {})
        return self._client.post(f"/{account}/v1/orders", json=dict(body), headers=headers)

    def create_at_last(self, body: Mapping[str, Any], *, api_key: str, account: str = "main") -> None:
        """Create an order, however often a fault strikes; one that stands after a lost answer is what was wanted."""
        last = "no answer"
        for _ in range(TRIES):
            try:
                answer = self.create(body, api_key=api_key, account=account)
            except httpx.TransportError as error:
                last = type(error).__name__
                continue
            if answer.is_success or _DUPLICATE in answer.text:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(0.05)
        raise ControlError(f"create at {account}: {last}")

    def act(self, reference: str, action: str, *, account: str = "main", **options: Any) -> dict[str, Any]:
        """Do one of the actions of sandbox.service with its options, and return the order.

        `amount_minor`, `currency`, `force=True` and `untold=True` of pay, `final=True` and `force=True` of decline,
        `seconds` of pay_later, `amount_minor` of refund, reverse and chargeback.
        """
        body = {"action": action, **options}
        return self._ask("POST", f"/control/{account}/orders/{quote(reference, safe='')}/act", body)

    def fault(self, fault: str, *, account: str = "main", **rule: Any) -> None:
        """Order a fault: `rate`, or `times` (1 by default); optional `operation`, `reference`, `seconds`."""
        self._ask("POST", f"/control/{account}/faults", {"fault": fault, **rule})

    def clear_faults(self, account: str = "main") -> None:
        """Let everything go well again."""
        self._ask("DELETE", f"/control/{account}/faults")

    def stats(self, account: str = "main") -> dict[str, Any]:
        """Return exact counts."""
        return self._ask("GET", f"/control/{account}/stats")

    def called_at(self, account: str = "main") -> list[float]:
        """Return when the merchant's calls came (seconds since the epoch), since the start of the process."""
        times: list[float] = self._ask("GET", f"/control/{account}/calls")["called_at"]
        return times

    def orders(self, account: str = "main") -> list[dict[str, Any]]:
        """Return every order, oldest first, with its page."""
        found: list[dict[str, Any]] = self._ask("GET", f"/control/{account}/orders")["orders"]
        return found

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return _asked(self._client, method, path, body)


class FiscalControl(ProviderControl):
    """Plays the people and the bad luck at the sandbox's fiscal devices; an account is a device."""

    def receipts(self, device: str = "till") -> list[dict[str, Any]]:
        """Return every receipt, by its number."""
        found: list[dict[str, Any]] = self._ask("GET", f"/control/{device}/receipts")["receipts"]
        return found

    def print_by_hand(self, device: str = "till") -> dict[str, Any]:
        """Print a receipt at the device itself, past every program."""
        return self._ask("POST", f"/control/{device}/print", {})


class CrmControl:
    """Feeds the sandbox's CRM and reads what was done to it."""

    def __init__(self, base_url: str, control_key: str) -> None:
        """`base_url` is the process's address."""
        self.base_url = base_url
        self._client = _client(base_url, control_key)

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def create(self, invoices: Iterable[Mapping[str, Any]]) -> int:
        """Create records from the `data` of invoice.created.v1, publish each, and return how many."""
        created: int = self._ask("POST", "/control/invoices", [dict(invoice) for invoice in invoices])["created"]
        return created

    def cancel(self, invoice_id: str, *, type_: str = "invoice", version: int | None = None) -> None:
        """Cancel an invoice in the CRM and publish invoice.cancelled.v1, for the record's version or a given one."""
        body = {"type": type_} | ({} if version is None else {"version": version})
        self._ask("POST", f"/control/invoices/{quote(invoice_id, safe='')}/cancel", body)

    def edit(self, invoice_id: str, payment: Mapping[str, Any] | None, *, type_: str = "invoice") -> None:
        """Change the payment result by hand, as a person in the CRM would; None empties it."""
        body = {"type": type_, "payment": payment}
        self._ask("POST", f"/control/invoices/{quote(invoice_id, safe='')}/edit", body)

    def fault(self, fault: str, **rule: Any) -> None:
        """Order a fault for the operations write, read, task, task_find, task_close; as at the provider."""
        self._ask("POST", "/control/faults", {"fault": fault, **rule})

    def clear_faults(self) -> None:
        """Let everything go well again."""
        self._ask("DELETE", "/control/faults")

    def stats(self) -> dict[str, Any]:
        """Return exact counts."""
        return self._ask("GET", "/control/stats")

    def records(self) -> list[dict[str, Any]]:
        """Return every record with its log of writes."""
        found: list[dict[str, Any]] = self._ask("GET", "/control/invoices")["records"]
        return found

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task, open or closed."""
        found: list[dict[str, Any]] = self._ask("GET", "/control/tasks")["tasks"]
        return found

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return _asked(self._client, method, path, body)


def eventually(read: Callable[[], T], is_right: Callable[[T], bool], *, seconds: float = 10.0) -> T:
    """Read until the value is right, and return it. AssertionError shows the last value when time is over."""
    end = time.monotonic() + seconds
    while True:
        value = read()
        if is_right(value):
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} s; last seen: {value!r}")
        time.sleep(0.02)


def _client(base_url: str, control_key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {control_key}"}
    return httpx.Client(base_url=base_url, headers=headers, timeout=30.0, trust_env=False, verify=NO_AUTHORITIES)


def _asked(client: httpx.Client, method: str, path: str, body: Any) -> dict[str, Any]:
    response = client.request(method, path, json=body)
    if not response.is_success:
        raise ControlError(f"{method} {path}: {response.status_code} {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer
