"""A manager for the demo and the tests: he gives commands by the HTTP API, with a key, and works in his CRM.

Everything goes through the doors that a real office has. What he waits for he reads there too.
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from sandbox.control import NO_AUTHORITIES, CrmControl

_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.25


class OfficeError(Exception):
    """The other side refused what the manager wanted. Shows the whole answer."""


class Office:
    """Whoever looks after one invoice."""

    def __init__(self, base_url: str, api_key: str, crm: CrmControl, data: Mapping[str, Any]) -> None:
        """`base_url` is where the API answers, `data` the invoice's, as the CRM published it."""
        self._crm = crm
        self._data = dict(data)
        self._named = {name: self._data[name] for name in ("crm", "invoice_id")} | {"type": self._type}
        headers = {"authorization": f"Bearer {api_key}"}
        self._client = httpx.Client(
            base_url=base_url, headers=headers, timeout=30, trust_env=False, verify=NO_AUTHORITIES
        )

    @property
    def _type(self) -> str:
        return str(self._data.get("type", "invoice"))

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def command(self, name: str, **more: Any) -> None:
        """Have a command carried out, as link.reissue; OfficeError when it is refused or nobody does it."""
        body = self._named | {"actor": "17", "reason": "the demo's office wants it"} | more
        answer = self._client.post(f"/v1/commands/{name}", json=body)
        until = time.monotonic() + _PATIENCE_SECONDS
        while answer.status_code == httpx.codes.ACCEPTED and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            answer = self._client.get(answer.json()["href"])
        if answer.status_code != httpx.codes.OK:
            raise OfficeError(f"{name}: {answer.status_code} {answer.text[:500]}")

    def settle_elsewhere(self) -> None:
        """Say that the invoice was paid by bank transfer."""
        sums = {"amount_minor": self._data["amount_minor"], "currency": self._data["currency"]}
        self.command("invoice.settled_elsewhere", method="bank_transfer", **sums)

    def cancel_in_crm(self) -> None:
        """Cancel the invoice in the CRM, which publishes that."""
        self._crm.cancel(self._data["invoice_id"], type_=self._type)

    def send_version(self, **changes: Any) -> None:
        """Change the invoice in the CRM, which publishes its next version."""
        self._data |= {"version": int(self._data.get("version") or 1) + 1, **changes}
        self._crm.create([self._data])

    def invoice(self) -> dict[str, Any]:
        """Ask how the invoice stands, with its newest link."""
        name = quote(self._data["invoice_id"], safe="")
        answer = self._client.get(f"/v1/invoices/{self._data['crm']}/{name}", params={"type": self._type})
        if answer.status_code != httpx.codes.OK:
            raise OfficeError(f"{name}: {answer.status_code} {answer.text[:500]}")
        told: dict[str, Any] = answer.json()
        return told

    def link_url(self) -> str:
        """Return the address of the newest link."""
        return str(self.invoice()["link"]["url"])

    def wait_for_news(self, revision: int) -> int:
        """Wait until the invoice changed since this revision; return the new one."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while (now := int(self.invoice()["revision"])) <= revision:
            if time.monotonic() > until:
                raise AssertionError(f"nothing became of it; the invoice stays at revision {revision}")
            time.sleep(_LOOK_SECONDS)
        return now

    def wait_for_task(self, about: str) -> None:
        """Wait until the CRM shows the manager's open task about this, as "overpaid"."""
        title = f"{self._data['invoice_id']}: {about.replace('_', ' ')}"
        until = time.monotonic() + _PATIENCE_SECONDS
        while not any(task["open"] and task["title"] == title for task in self._crm.tasks()):
            if time.monotonic() > until:
                raise AssertionError(f"the CRM never had the task {title!r}")
            time.sleep(_LOOK_SECONDS)
