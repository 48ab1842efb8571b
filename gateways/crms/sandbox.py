"""The sandbox's CRM (`paylinks sandbox crm`)."""

from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from contracts.results import PaymentResult
from gateways.crms.base import Crm, Payable, TaskRequest
from gateways.http import Call, HttpClient, segment


class _Record(BaseModel):
    payment: dict[str, Any] | None = None


class _Task(BaseModel):
    id: str = Field(min_length=1, max_length=128)


class _Tasks(BaseModel):
    tasks: tuple[_Task, ...]


class SandboxCrm:
    """One account at the sandbox's CRM. Satisfies `gateways.crms.base.Crm`."""

    def __init__(self, name: str, base_url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        """`name` is the CRM id that invoices carry."""
        self.name = name
        headers = {"authorization": f"Bearer {token}"}
        self._http = HttpClient(name, base_url, headers=headers, transport=transport)

    def write_result(self, payable: Payable, result: PaymentResult) -> None:
        """Set the whole result on the record: an absolute write, so that twice is once.

        Not tried again within the call: a write whose answer was lost may still arrive, after a newer one, so the
        caller has to know of it (Unknown) and read back.
        """
        path = f"{_record_path(payable)}/payment"
        self._http.tell(Call("write_result", "PUT", path, idempotent=False, json=result.model_dump(mode="json")))

    def read_result(self, payable: Payable) -> PaymentResult | None:
        """Read back what the record says now; None: it has no result of ours. Refused: there is no such record."""
        answer = self._http.ask(Call("read_result", "GET", _record_path(payable), idempotent=True), _Record)
        try:
            return PaymentResult.model_validate(answer.body.payment) if answer.body.payment else None
        except ValidationError:
            # Somebody changed the record by hand into something that is no result of ours.
            return None

    def find_task(self, key: str) -> str | None:
        """Return the CRM's id of the task with our key, open or closed, or None; the oldest where there are two."""
        answer = self._http.ask(Call("find_task", "GET", "tasks", idempotent=True, params={"key": key}), _Tasks)
        return answer.body.tasks[0].id if answer.body.tasks else None

    def create_task(self, task: TaskRequest) -> str:
        """Create a task and return the CRM's id. Not idempotent: Unknown means ask find_task."""
        body = {
            "key": task.key,
            "invoice": {"type": task.payable.type, "id": task.payable.id, "deal_id": task.payable.deal_id},
            "manager_id": task.manager_id,
            "title": task.title,
            "body": task.body,
        }
        return self._http.ask(Call("create_task", "POST", "tasks", idempotent=False, json=body), _Task).body.id

    def close_task(self, task_id: str, note: str) -> None:
        """Complete the task with a note; a task already completed stays so without an error."""
        path = f"tasks/{segment(task_id)}/close"
        self._http.tell(Call("close_task", "POST", path, idempotent=True, json={"note": note}))

    def close(self) -> None:
        """Release connections."""
        self._http.close()


_ADAPTER: type[Crm] = SandboxCrm  # checked by the type checker, method by method


def _record_path(payable: Payable) -> str:
    return f"invoices/{segment(payable.type)}/{segment(payable.id)}"
