"""The example clients do what they are shown for: the Node.js ones run here, against a broker and against HTTP.

Node.js is a service like the others: taken where it is found, installed from Debian where that is allowed, and missed
aloud where it is not.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pika
import pytest

from cli.prove import print_report
from cli.stack import Plan, Stack
from contracts.catalog import read_inbound
from contracts.envelope import parse_json
from contracts.messages import InvoiceAccepted, InvoiceCreated
from sandbox.control import eventually
from sandbox.customers import Customer, pay
from tests.services import debian, fresh_database

NODE_EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "node"
OLDEST_NODE = 18
SECONDS = 60

# The first test may have to wait for Debian's packages.
pytestmark = pytest.mark.timeout(900)


# --- Node.js --------------------------------------------------------------------------------------------------------


def _require(program, package):
    if shutil.which(program) is None:
        debian.install(package)
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is needed to run the Node.js examples: install Node.js {OLDEST_NODE} or newer with npm")
    return found


@pytest.fixture(scope="module")
def node():
    found = _require("node", "nodejs")
    version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.fail(f"Node.js {version} is too old to run the examples: install {OLDEST_NODE} or newer")
    return found


@pytest.fixture(scope="module")
def node_project(node, tmp_path_factory):
    """A copy of the example with its one package installed, as its first lines say."""
    project = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(NODE_EXAMPLES, project, ignore=shutil.ignore_patterns("node_modules"))
    command = [_require("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(command, cwd=project, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.fail(f"npm ci could not install the example's package from the registry: {done.stderr.strip()[-1500:]}")
    return project


@pytest.fixture
def run_node(node, node_project):
    """Starts a script of the example; what still runs at the end of the test is ended."""
    with contextlib.ExitStack() as running:

        def start(script, *arguments, **environment):
            # Only what a program needs to run at all: the machine's own PAYLINKS_ settings stay out.
            base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
            process = subprocess.Popen(
                [node, script, *map(str, arguments)],
                cwd=node_project,
                env=base | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            running.enter_context(process)
            running.callback(process.kill)
            return process

        yield start


# --- AMQP -----------------------------------------------------------------------------------------------------------


class Paylinks:
    """Stands where intake and the outbound stage stand: exchanges of one test, and a queue behind the intake's."""

    def __init__(self, url, prefix):
        self.intake = f"{prefix}.intake"
        self.events = f"{prefix}.events"
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.exchange_declare(self.intake, "topic", durable=True)
        self.channel.exchange_declare(self.events, "topic", durable=True)
        self.queue = None
        self.environment = {
            "PAYLINKS_AMQP_URL": url,
            "PAYLINKS_INTAKE_EXCHANGE": self.intake,
            "PAYLINKS_EVENTS_EXCHANGE": self.events,
            "PAYLINKS_WAIT_SECONDS": "30",
        }

    def open(self):
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, self.intake, "#")
        return self

    def take(self):
        """The next message: method, properties, body."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is not None:
                return method, properties, body
            time.sleep(0.05)
        raise AssertionError("nothing was published")

    def announce(self, type_, data):
        event = {"specversion": "1.0", "id": "1", "source": "/paylinks", "type": f"{type_}.v1", "data": data}
        self.channel.basic_publish(self.events, type_, json.dumps(event).encode())

    def accept(self, message, **otherwise):
        accepted = InvoiceAccepted(
            crm=message.crm,
            type=message.type,
            invoice_id=message.invoice_id,
            version=message.version or 1,
            sent_version=message.version,
            outcome="accepted",
            request_id="r",
            causation="c",
        )
        self.announce("invoice.accepted", accepted.model_dump(mode="json", exclude_none=True) | otherwise)

    def close(self):
        for exchange in (self.intake, self.events):
            self.channel.exchange_delete(exchange)
        self.connection.close()


@pytest.fixture
def paylinks(amqp_url, prefix):
    with contextlib.closing(Paylinks(amqp_url, prefix)) as one:
        yield one


def test_the_sample_invoice_arrives_as_our_contract_wants_it_and_its_acceptance_is_heard(run_node, paylinks):
    paylinks.open()
    publisher = run_node("publish-invoice.js", **paylinks.environment)

    method, properties, body = paylinks.take()
    envelope, message = read_inbound(parse_json(body))
    assert isinstance(message, InvoiceCreated)
    assert (method.exchange, method.routing_key) == (paylinks.intake, "invoice.created")
    assert envelope.source == f"/crm/{message.crm}"
    assert properties.content_type == "application/cloudevents+json"
    assert (properties.delivery_mode, properties.message_id) == (2, envelope.id)

    paylinks.accept(message, invoice_id="of somebody else")
    paylinks.accept(message, sent_version=7)
    paylinks.accept(message)
    told, errors = publisher.communicate(timeout=SECONDS)
    assert publisher.returncode == 0, errors
    answer = json.loads(told)
    assert answer["type"] == "invoice.accepted.v1"
    assert (answer["data"]["invoice_id"], answer["data"]["sent_version"]) == (message.invoice_id, 1)


def test_an_invoice_of_ones_own_is_repeated_with_the_same_id_until_it_is_accepted(run_node, paylinks, tmp_path):
    paylinks.open()
    own = tmp_path / "invoice.json"
    data = {"crm": "acme-bitrix24", "invoice_id": "D-9", "type": "deal", "amount_minor": 5, "currency": "AMD"}
    own.write_text(json.dumps(data | {"purpose": "Մեկ գիրք"}), encoding="utf-8")
    publisher = run_node("publish-invoice.js", own, **paylinks.environment | {"PAYLINKS_WAIT_SECONDS": "9"})

    first, again = paylinks.take()[2], paylinks.take()[2]
    assert first == again
    message = read_inbound(parse_json(again))[1]
    assert (message.version, message.type, message.purpose) == (None, "deal", "Մեկ գիրք")

    paylinks.accept(message)
    told, errors = publisher.communicate(timeout=SECONDS)
    assert publisher.returncode == 0, errors
    assert json.loads(told)["data"]["invoice_id"] == "D-9"


def test_a_rejection_ends_the_wait_with_the_problems(run_node, paylinks):
    paylinks.open()
    publisher = run_node("publish-invoice.js", **paylinks.environment)

    event_id = parse_json(paylinks.take()[2])["id"]
    problem = "data.crm: no CRM of this name is configured here"
    paylinks.announce("intake.rejected", {"rejection": "1", "event_id": event_id, "problems": [problem]})

    told, errors = publisher.communicate(timeout=SECONDS)
    assert publisher.returncode == 1, errors
    assert json.loads(told)["data"]["problems"] == [problem]


def test_an_event_that_no_queue_takes_is_noticed_and_published_again_until_one_does(run_node, paylinks):
    publisher = run_node("publish-invoice.js", **paylinks.environment | {"PAYLINKS_WAIT_SECONDS": "12"})
    assert "no queue takes what is published" in publisher.stderr.readline()

    paylinks.open()
    paylinks.accept(read_inbound(parse_json(paylinks.take()[2]))[1])
    assert publisher.wait(timeout=SECONDS) == 0


def test_no_answer_in_time_is_no_success(run_node, paylinks):
    paylinks.open()
    publisher = run_node("publish-invoice.js", **paylinks.environment | {"PAYLINKS_WAIT_SECONDS": "1"})
    told, errors = publisher.communicate(timeout=SECONDS)
    assert (publisher.returncode, told) == (1, "")
    assert "no answer in time" in errors


def test_exchanges_that_are_not_there_are_not_made(run_node, paylinks, prefix):
    missing = f"{prefix}.nowhere"
    publisher = run_node("publish-invoice.js", **paylinks.environment | {"PAYLINKS_INTAKE_EXCHANGE": missing})
    _told, errors = publisher.communicate(timeout=SECONDS)
    assert publisher.returncode == 2
    assert missing in errors


# --- HTTP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def http():
    """A server that gives the answers it was told to, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.asked.append((self.path, dict(self.headers), body))
            status, answer = self.server.answers.pop(0)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_arguments):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked, server.answers = [], []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_over_http_the_same_request_is_sent_again_until_it_is_taken(run_node, http):
    taken = {"status": "accepted", "request_id": "r"}
    http.answers += [(503, {}), (202, taken)]
    sender = _send_by_http(run_node, http)
    told, errors = sender.communicate(timeout=SECONDS)

    assert sender.returncode == 0, errors
    assert json.loads(told) == taken
    (path, headers, body), (again, headers_again, body_again) = http.asked
    assert path == again == "/v1/invoices"
    assert body == body_again
    assert headers["idempotency-key"] == headers_again["idempotency-key"]
    assert headers["authorization"] == "Bearer plk_test"
    assert headers["content-type"] == "application/json"
    assert InvoiceCreated.parse(parse_json(body)).version == 1


def test_over_http_a_refusal_is_shown_and_not_repeated(run_node, http):
    http.answers += [(403, {"title": "Forbidden", "errors": [{"field": "data.crm"}]})]
    sender = _send_by_http(run_node, http)
    told, _errors = sender.communicate(timeout=SECONDS)

    assert sender.returncode == 1
    assert json.loads(told)["title"] == "Forbidden"
    assert len(http.asked) == 1


def _send_by_http(run_node, http):
    address = f"http://127.0.0.1:{http.server_port}"
    return run_node("publish-invoice-http.js", PAYLINKS_URL=address, PAYLINKS_API_KEY="plk_test")


# --- to the end -----------------------------------------------------------------------------------------------------


def test_an_invoice_from_another_language_ends_as_paid_in_the_crm(
    run_node, postgres_server, amqp_url, redis_url, prefix, tmp_path
):
    """Node.js publishes to the intake exchange, one process per queue works, the customer pays, the CRM knows."""
    invoice = {
        "crm": "acme-bitrix24",
        "invoice_id": "NODE-1",
        "version": 1,
        "amount_minor": 4_500_000,
        "currency": "AMD",
        "purpose": "Կանխավճար, պայմանագիր 17",
        "customer": {"name": "Անի", "locale": "hy"},
    }
    file = tmp_path / "invoice.json"
    file.write_text(json.dumps(invoice, ensure_ascii=False), "utf-8")
    with fresh_database(postgres_server) as database_url:
        plan = Plan(
            folder=tmp_path / "stack",
            profile="production",
            database_url=database_url,
            broker_url=amqp_url,
            amqp_url=amqp_url,
            redis_url=redis_url,
            queue_prefix=f"{prefix}.",
            time_scale=0.1,
            crms=("acme-bitrix24",),
            crm_publishes=False,
        )
        with Stack(plan) as stack:
            crm = stack.crms["acme-bitrix24"].control
            crm.create([invoice])
            environment = {
                "PAYLINKS_AMQP_URL": amqp_url,
                "PAYLINKS_INTAKE_EXCHANGE": f"{prefix}.intake",
                "PAYLINKS_EVENTS_EXCHANGE": f"{prefix}.events",
                "PAYLINKS_WAIT_SECONDS": "60",
            }
            client = run_node("publish-invoice.js", file, **environment)
            _, errors = client.communicate(timeout=90)
            assert client.returncode == 0, errors

            shown = eventually(lambda: crm.records()[0]["payment"], bool, seconds=30)
            customer = Customer(shown["link_url"], stack.provider.control, "bank", invoice["amount_minor"])
            pay(customer)
            customer.close()

            paid = eventually(lambda: crm.records()[0]["payment"], lambda it: it["status"] == "paid", seconds=60)
            assert (paid["paid_minor"], paid["currency"], paid["provider"]) == (4_500_000, "AMD", "bank")
            assert crm.stats()["invoices"]["invoice/NODE-1"]["went_back"] == 0
            assert print_report(stack.deps) == 0
