"""The sandbox adapter against the sandbox's CRM, a process of its own; and how that CRM announces its invoices."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from contracts.ids import new_id
from contracts.results import PaymentResult
from contracts.statuses import Flag, InvoiceStatus
from gateways.crms.base import Crm, Payable, TaskRequest
from gateways.crms.sandbox import SandboxCrm
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from sandbox.control import ControlError, CrmControl, eventually
from sandbox.launch import CrmProcess
from tests.conformance.receiver import Receiver

LOST = ["timeout_before", "timeout_after", "error_500_before", "error_500_after"]


@pytest.fixture(scope="module")
def process() -> Iterator[CrmProcess]:
    with CrmProcess(crm="acme") as running:
        yield running


@pytest.fixture
def control(process: CrmProcess) -> Iterator[CrmControl]:
    yield process.control
    process.control.clear_faults()


@pytest.fixture
def crm(process: CrmProcess) -> Iterator[SandboxCrm]:
    adapter = SandboxCrm("acme", process.base_url, process.token)
    yield adapter
    adapter.close()


@pytest.fixture
def payable(control: CrmControl) -> Payable:
    data = invoice()
    control.create([data])
    return Payable("invoice", data["invoice_id"], "D-77")


def invoice(**changes: Any) -> dict[str, Any]:
    return {
        "invoice_id": f"INV-{new_id()}",
        "version": 1,
        "type": "invoice",
        "kind": "invoice",
        "deal_id": "D-77",
        "amount_minor": 1_500_000,
        "currency": "AMD",
        "purpose": "Կանխավճար, договор 17",
        "customer": {"name": "Անի", "locale": "hy"},
        **changes,
    }


def result(**changes: Any) -> PaymentResult:
    values: dict[str, Any] = {
        "revision": 1,
        "status": InvoiceStatus.PAID,
        "flags": (Flag.LATE, Flag.OVERPAID),
        "amount_minor": 1_500_000,
        "paid_minor": 1_600_000,
        "currency": "AMD",
        "provider": "acme",
        "provider_reference": "ord_1",
        "paid_at": datetime(2026, 11, 22, 10, 0, 0, 123456, UTC),
        "link_url": "https://pay.example.am/l/token",
        "request_id": "req-1",
    }
    return PaymentResult(**(values | changes))


def task(**changes: Any) -> TaskRequest:
    request = TaskRequest(
        key=f"exception:{new_id()}",
        payable=Payable("invoice", "INV-1", None),
        manager_id="17",
        title="Look",
        body="Please",
    )
    return replace(request, **changes)


# --- results --------------------------------------------------------------------------------------------------------


def test_a_written_result_is_read_back_whole(crm: Crm, payable: Payable) -> None:
    assert crm.read_result(payable) is None
    crm.write_result(payable, result())
    assert crm.read_result(payable) == result()
    crm.write_result(payable, result(revision=2, status=InvoiceStatus.REFUNDED, flags=(), paid_at=None))
    assert crm.read_result(payable) == result(revision=2, status=InvoiceStatus.REFUNDED, flags=(), paid_at=None)


@pytest.mark.parametrize("kind", ["invoice", "deal", "order"])
@pytest.mark.parametrize("name", ["INV-1", "2026/17", "2026/17/payment", "№ 5", "a?b#c", "..", "100%", "Հաշիվ"])
def test_any_type_and_any_id_names_its_own_record(crm: Crm, control: CrmControl, kind: str, name: str) -> None:
    revision = time.time_ns()
    control.create([invoice(type=kind, invoice_id=name)])
    crm.write_result(Payable(kind, name, None), result(revision=revision))
    written = crm.read_result(Payable(kind, name, None))
    assert written is not None
    assert written.revision == revision
    assert control.stats()["invoices"][f"{kind}/{name}"]["revision"] == revision


def test_a_record_that_does_not_exist_refuses(crm: Crm) -> None:
    nothing = Payable("invoice", "none", None)
    for call in (lambda: crm.read_result(nothing), lambda: crm.write_result(nothing, result())):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.code == "record_not_found"


def test_a_wrong_token_is_refused(process: CrmProcess, payable: Payable) -> None:
    stranger = SandboxCrm("acme", process.base_url, "wrong")
    with pytest.raises(LoginRefused, match="HTTP 401 unauthorized"):
        stranger.read_result(payable)
    stranger.close()


def test_every_write_is_counted_and_an_older_revision_shows(crm: Crm, control: CrmControl, payable: Payable) -> None:
    for revision in (1, 2, 2, 1):
        crm.write_result(payable, result(revision=revision))
    counted = control.stats()["invoices"][f"invoice/{payable.id}"]
    assert counted["writes"] == 4
    assert counted["distinct_revisions"] == 2
    assert counted["went_back"] == 1
    (record,) = [entry for entry in control.records() if entry["id"] == payable.id]
    assert [entry["revision"] for entry in record["log"]] == [1, 2, 2, 1]


def test_a_record_edited_by_hand_is_read_as_it_stands(crm: Crm, control: CrmControl, payable: Payable) -> None:
    crm.write_result(payable, result())
    control.edit(payable.id, result(status=InvoiceStatus.CANCELLED).model_dump(mode="json"))
    edited = crm.read_result(payable)
    assert edited is not None
    assert edited.status is InvoiceStatus.CANCELLED
    control.edit(payable.id, {"status": "paid by cheque"})
    assert crm.read_result(payable) is None
    control.edit(payable.id, None)
    assert crm.read_result(payable) is None
    counted = control.stats()["invoices"][f"invoice/{payable.id}"]
    assert (counted["writes"], counted["edited_by_hand"]) == (1, 3)


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_write_is_unknown_and_reading_back_tells(
    crm: Crm, control: CrmControl, payable: Payable, fault: str
) -> None:
    control.fault(fault, operation="write", reference=payable.id, seconds=0.1)
    with pytest.raises(Unknown):
        crm.write_result(payable, result())
    assert crm.read_result(payable) == (result() if fault.endswith("_after") else None)


def test_a_busy_crm_is_unavailable_and_says_when_to_come_back(crm: Crm, control: CrmControl, payable: Payable) -> None:
    control.fault("rate_limited_429", operation="write", seconds=7)
    with pytest.raises(Unavailable) as caught:
        crm.write_result(payable, result())
    assert caught.value.retry_after_seconds == 7.0
    assert crm.read_result(payable) is None


@pytest.mark.parametrize("fault", [*LOST, "rate_limited_429", "slow"])
def test_reading_is_repeated_until_it_succeeds(crm: Crm, control: CrmControl, payable: Payable, fault: str) -> None:
    crm.write_result(payable, result())
    control.fault(fault, operation="read", seconds=0.1)
    assert crm.read_result(payable) == result()


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_a_task_is_found_by_its_key_open_or_closed(crm: Crm, control: CrmControl) -> None:
    request = task()
    assert crm.find_task(request.key) is None
    task_id = crm.create_task(request)
    assert crm.find_task(request.key) == task_id
    crm.close_task(task_id, "paid meanwhile")
    crm.close_task(task_id, "again")
    assert crm.find_task(request.key) == task_id
    (kept,) = [entry for entry in control.tasks() if entry["id"] == task_id]
    assert (kept["open"], kept["note"], kept["manager_id"]) == (False, "paid meanwhile", "17")
    assert kept["invoice"] == {"type": "invoice", "id": "INV-1", "deal_id": None}


def test_creating_a_task_twice_makes_two_and_the_oldest_is_found(crm: Crm, control: CrmControl) -> None:
    request = task()
    first = crm.create_task(request)
    assert crm.create_task(request) != first
    assert crm.find_task(request.key) == first
    assert control.stats()["tasks"]["per_key"][request.key] == 2


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_task_is_unknown_and_the_key_tells(crm: Crm, control: CrmControl, fault: str) -> None:
    request = task()
    control.fault(fault, operation="task", reference=request.key, seconds=0.1)
    with pytest.raises(Unknown):
        crm.create_task(request)
    assert (crm.find_task(request.key) is not None) == fault.endswith("_after")


@pytest.mark.parametrize("fault", LOST)
def test_finding_and_closing_are_repeated_until_they_succeed(crm: Crm, control: CrmControl, fault: str) -> None:
    request = task()
    task_id = crm.create_task(request)
    control.fault(fault, operation="task_find", seconds=0.1)
    assert crm.find_task(request.key) == task_id
    control.fault(fault, operation="task_close", seconds=0.1)
    crm.close_task(task_id, "done")
    assert control.stats()["tasks"]["open_per_key"].get(request.key) is None


def test_an_unknown_task_cannot_be_closed(crm: Crm) -> None:
    with pytest.raises(Refused) as caught:
        crm.close_task("task_none", "")
    assert caught.value.code == "task_not_found"


# --- announcing by HTTP ---------------------------------------------------------------------------------------------


def test_an_invoice_is_posted_until_it_is_accepted_always_the_same_event() -> None:
    with (
        Receiver(statuses=[503, 500, 401], status=202) as intake,
        CrmProcess(crm="acme", publish=intake.url, publish_api_key="k") as process,
    ):
        data = invoice()
        process.control.create([data])
        stats = eventually(process.control.stats, lambda stats: stats["unaccepted"] == 0)
        assert (stats["announced"], stats["publishes"], stats["accepted"]) == (1, 4, 1)
        assert len({received.body for received in intake.received}) == 1
        event = json.loads(intake.received[0].body)
        assert event["data"] == data | {"crm": "acme"}
        assert (event["specversion"], event["type"]) == ("1.0", "invoice.created.v1")
        assert (event["source"], event["subject"]) == ("/crm/acme", data["invoice_id"])
        assert intake.received[0].headers["authorization"] == "Bearer k"
        assert intake.received[0].headers["content-type"] == "application/cloudevents+json"


def test_a_refused_invoice_is_not_repeated() -> None:
    with Receiver(status=422) as intake, CrmProcess(publish=intake.url) as process:
        process.control.create([invoice(amount_minor=-5)])
        stats = eventually(process.control.stats, lambda stats: stats["unaccepted"] == 0)
        assert (stats["rejected"], stats["publishes"]) == (1, 1)


def test_a_cancellation_is_posted_with_its_version() -> None:
    with Receiver(status=202) as intake, CrmProcess(publish=intake.url) as process:
        data = invoice(version=3)
        process.control.create([data])
        process.control.cancel(data["invoice_id"])
        received = eventually(lambda: list(intake.received), lambda received: len(received) == 2)
        events = {event["type"]: event for event in (json.loads(one.body) for one in received)}
        cancelled = events["invoice.cancelled.v1"]
        assert cancelled["data"] == {
            "crm": "sandbox",
            "invoice_id": data["invoice_id"],
            "version": 3,
            "type": "invoice",
        }


def test_records_tasks_and_unaccepted_invoices_survive_a_killed_process(tmp_path: Path) -> None:
    with Receiver(status=503) as intake:
        process = CrmProcess(crm="acme", publish=intake.url, state=tmp_path / "crm.sqlite")
        with process:
            data = invoice()
            process.control.create([data])
            adapter = SandboxCrm("acme", process.base_url, process.token)
            payable = Payable("invoice", data["invoice_id"], None)
            adapter.write_result(payable, result())
            request = task()
            task_id = adapter.create_task(request)
            before = process.control.stats()

            process.kill()
            intake.status = 202
            process.start()

            assert adapter.read_result(payable) == result()
            assert adapter.find_task(request.key) == task_id
            stats = eventually(process.control.stats, lambda stats: stats["unaccepted"] == 0)
            assert stats["accepted"] == 1
            assert stats["invoices"] == before["invoices"]
            assert stats["calls"]["write"] == 1
            adapter.close()


# --- announcing by AMQP ---------------------------------------------------------------------------------------------


class Broker:
    """The other side of the line: our intake, played by the test."""

    def __init__(self, url: str, prefix: str) -> None:
        self.intake, self.events, self.queue = f"{prefix}.intake", f"{prefix}.events", f"{prefix}.taken"
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel: BlockingChannel = self._connection.channel()
        self.arguments = (
            "--intake-exchange",
            self.intake,
            "--events-exchange",
            self.events,
            "--republish-seconds",
            "0.5",
        )

    def open(self) -> None:
        for exchange in (self.intake, self.events):
            self.channel.exchange_declare(exchange, "topic", durable=True)
        self.channel.queue_declare(self.queue)
        self.channel.queue_bind(self.queue, self.intake, "invoice.*")

    def take(self) -> tuple[str, dict[str, Any], pika.BasicProperties]:
        def one() -> Any:
            return self.channel.basic_get(self.queue, auto_ack=True)

        method, properties, body = eventually(one, lambda got: got[0] is not None)
        return method.routing_key, json.loads(body), properties

    def tell(self, type_: str, data: dict[str, Any]) -> None:
        body = json.dumps({"specversion": "1.0", "type": f"{type_}.v1", "data": data}).encode()
        self.channel.basic_publish(self.events, type_, body)

    def close(self, crm: str) -> None:
        self.channel.queue_delete(self.queue)
        self.channel.queue_delete(f"sandbox-crm.{crm}.accepted")
        for exchange in (self.intake, self.events):
            self.channel.exchange_delete(exchange)
        self._connection.close()


@pytest.fixture
def broker(amqp_url: str, prefix: str) -> Iterator[Broker]:
    played = Broker(amqp_url, prefix)
    yield played
    played.close(prefix)


def accepted(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    data = event["data"]
    answer = {"crm": data["crm"], "type": data["type"], "invoice_id": data["invoice_id"], "version": data["version"]}
    return answer | {"sent_version": data["version"], "outcome": "accepted"} | changes


def test_an_invoice_is_published_again_until_it_is_accepted(amqp_url: str, prefix: str, broker: Broker) -> None:
    broker.open()
    with CrmProcess(crm=prefix, publish=amqp_url, arguments=broker.arguments) as process:
        data = invoice()
        process.control.create([data])
        key, event, properties = broker.take()
        assert key == "invoice.created"
        assert event["data"] == data | {"crm": prefix}
        assert (properties.content_type, properties.delivery_mode) == ("application/cloudevents+json", 2)
        assert properties.message_id == event["id"]
        _, again, _ = broker.take()
        assert again == event
        eventually(process.control.stats, lambda stats: stats["confirms"] >= 2 and stats["unaccepted"] == 1)

        broker.tell("invoice.accepted", accepted(event, crm="another"))
        broker.tell("invoice.accepted", accepted(event, sent_version=0, version=0))
        broker.tell("invoice.accepted", accepted(event))
        stats = eventually(process.control.stats, lambda stats: stats["unaccepted"] == 0)
        assert stats["accepted"] == 1


def test_an_invoice_waits_for_exchanges_that_come_later(amqp_url: str, prefix: str, broker: Broker) -> None:
    with CrmProcess(crm=prefix, publish=amqp_url, arguments=broker.arguments) as process:
        process.control.create([invoice()])
        eventually(process.control.stats, lambda stats: stats["publishes"] >= 2)
        broker.open()
        _, event, _ = broker.take()

        def is_heard(stats: dict[str, Any]) -> bool:
            broker.tell("invoice.accepted", accepted(event))
            return bool(stats["accepted"] == 1)

        eventually(process.control.stats, is_heard)


def test_a_rejected_invoice_is_not_repeated(amqp_url: str, prefix: str, broker: Broker) -> None:
    broker.open()
    with CrmProcess(crm=prefix, publish=amqp_url, arguments=broker.arguments) as process:
        process.control.create([invoice()])
        _, event, _ = broker.take()
        eventually(process.control.stats, lambda stats: stats["confirms"] >= 1)

        def is_heard(stats: dict[str, Any]) -> bool:
            broker.tell("intake.rejected", {"event_id": event["id"], "problems": ["data.amount_minor: ..."]})
            return bool(stats["rejected"] == 1)

        eventually(process.control.stats, is_heard)


def test_a_cancellation_is_repeated_until_its_effect_is_written_back(
    amqp_url: str, prefix: str, broker: Broker
) -> None:
    broker.open()
    with CrmProcess(crm=prefix, publish=amqp_url, arguments=broker.arguments) as process:
        data = invoice()
        process.control.create([data])
        process.control.cancel(data["invoice_id"])
        seen = {broker.take()[0] for _ in range(4)}
        assert seen == {"invoice.created", "invoice.cancelled"}
        adapter = SandboxCrm(prefix, process.base_url, process.token)
        adapter.write_result(Payable("invoice", data["invoice_id"], None), result(status=InvoiceStatus.CANCELLED))
        eventually(process.control.stats, lambda stats: stats["unaccepted"] == 1)
        adapter.close()


# --- the process ----------------------------------------------------------------------------------------------------


def test_lines_and_whole_events_are_taken_too(process: CrmProcess, control: CrmControl) -> None:
    plain, whole = invoice(), invoice()
    event = {"specversion": "1.0", "id": "e-1", "source": "/crm/x", "type": "invoice.created.v1", "data": whole}
    lines = f"{json.dumps(plain)}\n\n{json.dumps(event)}\n"
    answer = control._client.post("/control/invoices", content=lines)
    assert (answer.status_code, answer.json()) == (202, {"created": 2})
    records = {entry["id"] for entry in control.records()}
    assert {plain["invoice_id"], whole["invoice_id"]} <= records


@pytest.mark.parametrize("body", ["{", "[1]", '{"data": 1, "specversion": "1.0"}', '{"no_id": true}', "\ud800"])
def test_what_is_no_invoice_is_refused(process: CrmProcess, control: CrmControl, body: str) -> None:
    answer = control._client.post("/control/invoices", content=body.encode("utf-8", "surrogatepass"))
    assert answer.status_code == 400


def test_a_deal_is_won_when_its_records_are_paid(process: CrmProcess, crm: Crm, control: CrmControl) -> None:
    deal = f"D-{new_id()}"
    names = [f"INV-{new_id()}" for _ in range(2)]
    control.create([invoice(invoice_id=name, deal_id=deal) for name in names])

    def stage() -> str:
        headers = {"authorization": f"Bearer {process.token}"}
        return str(control._client.get(f"/deals/{deal}", headers=headers).json()["stage"])

    crm.write_result(Payable("invoice", names[0], deal), result())
    assert stage() == "open"
    crm.write_result(Payable("invoice", names[1], deal), result())
    assert stage() == "won"


def test_control_needs_its_key(process: CrmProcess) -> None:
    stranger = CrmControl(process.base_url, "wrong")
    questions: list[Callable[[], Any]] = [
        stranger.stats,
        stranger.records,
        stranger.tasks,
        lambda: stranger.create([invoice()]),
        lambda: stranger.cancel("x"),
        lambda: stranger.edit("x", None),
        lambda: stranger.fault("slow"),
    ]
    for question in questions:
        with pytest.raises(ControlError, match="401"):
            question()
    stranger.close()


def test_errors_hold_no_personal_data(crm: Crm, control: CrmControl) -> None:
    payable = Payable("invoice", "Անի Սարգսյան", None)
    with pytest.raises(GatewayError) as caught:
        crm.write_result(payable, result())
    assert "Անի" not in f"{caught.value!r} {caught.value}"
