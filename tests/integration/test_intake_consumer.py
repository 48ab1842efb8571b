"""The AMQP door on a real broker: nothing acknowledged is lost, nothing bad stops it, no absence makes it fall."""

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pika
import pika.data
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from contracts.messages import InvoiceCreated
from db import api_keys
from runtime.deps import Deps
from runtime.settings import Settings, SettingsError
from tests.doors import ACME, BOUND, FOREIGN, as_bytes, event, invoice, make_deps, make_settings, rows, stored, wipe
from tests.services import PrivatePostgres, PrivateRabbit
from tests.services.processes import wait_until
from tests.support import claim, open_database
from web.api import routes
from web.requests import RequestIds
from workers.amqp import declare_intake, events_exchange, intake_exchange, intake_queue
from workers.intake import COMMITTED, run_intake

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def migrated_postgres(postgres_url: str) -> str:
    open_database(postgres_url).dispose()
    return postgres_url


@pytest.fixture
def settings(migrated_postgres: str, amqp_url: str, prefix: str) -> Iterator[Settings]:
    wipe(migrated_postgres)
    made = make_settings(migrated_postgres, amqp_url=amqp_url, queue_prefix=f"{prefix}.")
    with channel_of(made) as channel:
        declare_intake(channel, made)
    yield made
    with channel_of(made) as channel:
        channel.exchange_delete(intake_exchange(made))
        channel.exchange_delete(events_exchange(made))
        for queue in (intake_queue(made), f"{intake_queue(made)}.dead"):
            channel.queue_delete(queue)


@pytest.fixture
def deps(settings: Settings) -> Iterator[Deps]:
    made = make_deps(settings)
    yield made
    made.database.dispose()


@contextmanager
def channel_of(settings: Settings) -> Iterator[Any]:
    parameters = pika.URLParameters(settings.amqp_url or "")
    parameters.heartbeat = 5
    with closing(pika.BlockingConnection(parameters)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@contextmanager
def consuming(deps: Deps) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=run_intake, args=(deps, stop))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(timeout=20)
        assert not thread.is_alive()


def publish(
    settings: Settings, *bodies: bytes | dict[str, Any], key: str = "invoice.created", **properties: Any
) -> None:
    with channel_of(settings) as channel:
        for body in bodies:
            channel.basic_publish(
                intake_exchange(settings),
                key,
                as_bytes(body),
                pika.BasicProperties(delivery_mode=2, **properties),
                mandatory=True,
            )


def lying(settings: Settings, queue: str = "") -> int:
    """How many messages wait in the queue, not delivered to anybody."""
    with channel_of(settings) as channel:
        return int(channel.queue_declare(queue or intake_queue(settings), passive=True).method.message_count)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    assert wait_until(condition, timeout_seconds=seconds)


def wait_for_stored(deps: Deps, count: int) -> None:
    wait_for(lambda: len(stored(deps.database)) >= count)


def rejected(deps: Deps) -> dict[str, str]:
    """The problems of every open rejection by the field that each names first."""
    found = rows(deps.database, "SELECT problems FROM rejections WHERE state = 'open'")
    return {one["field"]: one["problem"] for (problems,) in found for one in json.loads(problems)[:1]}


# --- the way in -----------------------------------------------------------------------------------------------------


def test_what_is_published_is_stored_and_acknowledged(settings: Settings, deps: Deps) -> None:
    publish(settings, *(event(invoice(n)) for n in range(250)), headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    with consuming(deps):
        wait_for_stored(deps, 250)

    assert len(stored(deps.database)) == 250
    assert lying(settings) == 0
    assert rows(deps.database, "SELECT DISTINCT traceparent FROM messages") == [(f"00-{'a' * 32}-{'b' * 16}-01",)]


def test_two_consumers_of_the_same_event_thrice_keep_it_once(settings: Settings, deps: Deps) -> None:
    with consuming(deps), consuming(deps):
        publish(settings, *[event(invoice(n)) for n in range(20)] * 3)
        wait_for(lambda: len(rows(deps.database, "SELECT id FROM message_duplicates")) == 40)

    assert len(stored(deps.database)) == 20


def test_the_same_event_thrice_by_amqp_and_thrice_by_http_at_once_is_one_message(
    settings: Settings, deps: Deps
) -> None:
    body = event(invoice(version=None))
    with deps.database.begin() as tx:
        _, key = api_keys.create(tx, "test", [ACME], actor="ani")
    barrier = threading.Barrier(6)

    def by_queue(_: int) -> None:
        barrier.wait()
        publish(settings, body)

    def by_request(client: TestClient) -> int:
        barrier.wait()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        return int(client.post("/v1/invoices", content=as_bytes(body), headers=headers).status_code)

    app = Starlette(routes=routes(deps), middleware=[Middleware(RequestIds)])
    with consuming(deps), TestClient(app) as client, ThreadPoolExecutor(6) as pool:
        published = [pool.submit(by_queue, n) for n in range(3)]
        answers = [pool.submit(by_request, client) for _ in range(3)]
        assert [answer.result() for answer in answers] == [202] * 3
        assert [done.result() for done in published] == [None] * 3
        wait_for(lambda: len(rows(deps.database, "SELECT id FROM message_duplicates")) == 5)

    assert stored(deps.database) == ["acme:invoice:INV-1"]


def test_the_user_id_that_the_broker_checked_says_who_speaks(settings: Settings, deps: Deps) -> None:
    with consuming(deps):
        publish(settings, event(invoice(crm=BOUND)), user_id="guest")
        publish(settings, event(invoice(2, crm=BOUND)))
        publish(settings, event(invoice(3, crm=FOREIGN)), user_id="guest")
        wait_for(lambda: len(rows(deps.database, "SELECT id FROM rejections")) == 2)

    assert stored(deps.database) == ["bound:invoice:INV-1"]
    assert "amqp_users" in rejected(deps)["data.crm"]


def test_the_request_id_of_the_headers_goes_with_the_message(settings: Settings, deps: Deps) -> None:
    with consuming(deps):
        publish(settings, event(), headers={"x-request-id": "crm-request-7"})
        wait_for_stored(deps, 1)
    assert [one.request_id for one in claim(deps.database, InvoiceCreated)] == ["crm-request-7"]


# --- bad ones -------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes | dict[str, Any], dict[str, Any], str]] = [
    ("unknown type", event(type="invoice.paid.v1"), {}, "type"),
    ("unknown version", event(type="invoice.created.v2"), {}, "type"),
    ("missing field", event(invoice(currency=None)), {}, "data.currency"),
    ("negative amount", event(invoice(amount_minor=-1)), {}, "data.amount_minor"),
    ("zero amount", event(invoice(amount_minor=0)), {}, "data.amount_minor"),
    ("fractional amount", event(invoice(amount_minor=1.5)), {}, "data.amount_minor"),
    ("absurd amount", event(invoice(amount_minor=10**30)), {}, "data.amount_minor"),
    ("unknown currency", event(invoice(currency="DEM")), {}, "data.currency"),
    ("wrong exponent", event(invoice(currency_exponent=3)), {}, "data"),
    ("bad locale", event(invoice(customer={"locale": "xx"})), {}, "data.customer.locale"),
    ("10 MB", b'{"a": "' + b"x" * 10_000_000 + b'"}', {}, "body"),
    ("invalid UTF-8", b'{"a": "\xff"}', {}, "body"),
    ("NUL", b'{"a": "\\u0000"}', {}, "a"),
    ("lone surrogate", b'{"a": "\\udc00"}', {}, "a"),
    ("not JSON", b"hello", {}, "body"),
    ("empty", b"", {}, "body"),
    ("deep nesting", b"[" * 50_000 + b"]" * 50_000, {}, "body"),
    ("wrong content type", event(), {"content_type": "text/xml"}, "content_type"),
    ("another CRM", event(invoice(crm=FOREIGN)), {"user_id": "guest"}, "data.crm"),
    ("unknown CRM", event(invoice(crm="nobody")), {}, "data.crm"),
    ("unknown account", event({"account": "x"}, type="provider.event.v1"), {"key": "provider.event"}, "data.account"),
    ("routing key", event(), {"key": "a.b"}, "routing_key"),
    ("routing key of bytes", event(), {"key": "\x00\x01"}, "routing_key"),
]


def test_every_kind_of_bad_body_waits_for_review_and_what_stands_behind_it_is_accepted(
    settings: Settings, deps: Deps
) -> None:
    for number, (_, body, properties, _) in enumerate(BAD):
        publish(settings, body, **{"message_id": f"bad-{number}", **properties})
        publish(settings, event(invoice(number)))

    with consuming(deps) as thread:
        wait_for_stored(deps, len(BAD))
        assert thread.is_alive()

    assert len(stored(deps.database)) == len(BAD)
    assert set(rejected(deps)) == {field for _, _, _, field in BAD}
    assert rows(deps.database, "SELECT count(*), max(body_bytes) FROM rejections") == [(len(BAD), 10_000_009)]
    told = "SELECT count(*) FROM messages WHERE type = 'intake.rejected.v1'"
    assert rows(deps.database, told) == [(len(BAD),)]
    assert lying(settings) == 0
    assert lying(settings, f"{intake_queue(settings)}.dead") == 0


class Raw:
    """A header value that pika does not write by itself."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded


def endless() -> Raw:
    value = b"V"
    for _ in range(3000):
        value = b"A" + struct.pack(">I", len(value)) + value
    return Raw(value)


def test_headers_that_the_client_library_cannot_read_hold_nobody_up(
    settings: Settings, deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As other languages send them: a time in milliseconds, and tables without end.
    encode = pika.data.encode_value

    def encode_raw(pieces: list[bytes], value: Any) -> int:
        if isinstance(value, Raw):
            pieces.append(value.encoded)
            return len(value.encoded)
        return int(encode(pieces, value))

    monkeypatch.setattr(pika.data, "encode_value", encode_raw)
    for number, odd in enumerate((Raw(b"T" + struct.pack(">Q", 1_764_000_000_000)), endless())):
        publish(settings, event(invoice(number)), headers={"at": odd, "x-request-id": "lost"}, user_id="guest")
    publish(settings, event(invoice(2)))

    with consuming(deps):
        wait_for_stored(deps, 3)

    assert lying(settings) == 0
    assert rejected(deps) == {}


def test_the_same_bad_body_again_and_again_is_counted(settings: Settings, deps: Deps) -> None:
    with consuming(deps):
        publish(settings, *[b"not JSON"] * 300)
        wait_for(lambda: rows(deps.database, "SELECT repeats FROM rejections") == [(299,)])
    assert lying(settings) == 0


# --- absences -------------------------------------------------------------------------------------------------------


def test_a_queue_that_was_deleted_is_declared_again(settings: Settings, deps: Deps) -> None:
    with consuming(deps):
        publish(settings, event())
        wait_for_stored(deps, 1)
        with channel_of(settings) as channel:
            channel.queue_delete(intake_queue(settings))
            channel.exchange_delete(intake_exchange(settings))
        wait_for(lambda: publishes(settings, event(invoice(2))))
        wait_for_stored(deps, 2)


def publishes(settings: Settings, *bodies: dict[str, Any]) -> bool:
    try:
        publish(settings, *bodies)
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


def test_a_broker_that_is_away_is_waited_for(private_rabbit: PrivateRabbit, migrated_postgres: str) -> None:
    wipe(migrated_postgres)
    deps = make_deps(make_settings(migrated_postgres, amqp_url=private_rabbit.url))
    with channel_of(deps.settings) as channel:
        declare_intake(channel, deps.settings)
    private_rabbit.stop()  # in order, so that the queue's own birth is on the disk
    with consuming(deps) as thread:
        time.sleep(1)
        private_rabbit.start()
        publish(deps.settings, event())
        wait_for_stored(deps, 1)
        private_rabbit.kill9()
        time.sleep(1)
        private_rabbit.start()
        publish(deps.settings, event(invoice(2)))
        wait_for_stored(deps, 2)
        assert thread.is_alive()
    deps.database.dispose()


@pytest.mark.parametrize("frozen", ["while it declares", "while it consumes"])
def test_a_frozen_broker_does_not_hold_up_a_shutdown(
    private_rabbit: PrivateRabbit, clean_postgres: str, frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deps = make_deps(make_settings(clean_postgres, amqp_url=private_rabbit.url))
    hangs = threading.Event()

    def freeze_and_declare(*given: Any) -> None:
        private_rabbit.freeze()
        hangs.set()
        declare_intake(*given)

    if frozen == "while it declares":
        monkeypatch.setattr("workers.intake.declare_intake", freeze_and_declare)
    with consuming(deps) as thread:
        if frozen == "while it declares":
            assert hangs.wait(20)
        else:
            wait_for(lambda: publishes(deps.settings, event(invoice(3))))
            wait_for_stored(deps, 1)
            private_rabbit.freeze()
        began = time.monotonic()
    assert not thread.is_alive()
    assert time.monotonic() - began < 8
    private_rabbit.thaw()
    deps.database.dispose()


def test_while_the_database_is_away_nothing_is_consumed_and_afterwards_all_arrives(
    private_postgres: PrivatePostgres, amqp_url: str, prefix: str
) -> None:
    open_database(private_postgres.url).dispose()
    settings = make_settings(private_postgres.url, amqp_url=amqp_url, queue_prefix=f"{prefix}.")
    deps = make_deps(settings)
    try:
        with consuming(deps) as thread:
            wait_for(lambda: publishes(settings, *(event(invoice(n)) for n in range(10))))
            wait_for_stored(deps, 10)

            private_postgres.kill9()
            publish(settings, *(event(invoice(n)) for n in range(10, 60)))
            publish(settings, b"not JSON")
            # Given back: others see them, and nobody holds them.
            wait_for(lambda: lying(settings) == 51)
            time.sleep(3)
            assert lying(settings) == 51
            assert thread.is_alive()

            private_postgres.start()
            wait_for_stored(deps, 60)
            wait_for(lambda: len(rows(deps.database, "SELECT id FROM rejections")) == 1)
        assert len(stored(deps.database)) == 60
        assert lying(settings) == 0
        assert lying(settings, f"{intake_queue(settings)}.dead") == 0
    finally:
        deps.database.dispose()
        with channel_of(settings) as channel:
            channel.queue_delete(intake_queue(settings))
            channel.queue_delete(f"{intake_queue(settings)}.dead")
            channel.exchange_delete(intake_exchange(settings))
            channel.exchange_delete(events_exchange(settings))


def test_a_message_may_come_back_any_number_of_times(settings: Settings) -> None:
    publish(settings, event())
    with channel_of(settings) as channel:
        for _ in range(40):
            wait_for(lambda: lying(settings) == 1)
            method, _, _ = channel.basic_get(intake_queue(settings))
            channel.basic_nack(method.delivery_tag, requeue=True)
    wait_for(lambda: lying(settings) == 1)
    assert lying(settings, f"{intake_queue(settings)}.dead") == 0


def test_without_an_address_intake_says_what_is_missing(migrated_postgres: str) -> None:
    with pytest.raises(SettingsError, match="amqp_url"):
        run_intake(make_deps(make_settings(migrated_postgres)), threading.Event())


# --- a process of its own -------------------------------------------------------------------------------------------

PROGRAM = """
import signal, sys, threading
from runtime import points
from tests.doors import make_deps, make_settings
from workers.intake import run_intake

database, amqp, prefix, halt_at = sys.argv[1:]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
points.arm(halt_at or None)
run_intake(make_deps(make_settings(database, amqp_url=amqp, queue_prefix=prefix)), stop)
"""


@contextmanager
def process(settings: Settings, halt_at: str = "") -> Iterator[subprocess.Popen[bytes]]:
    arguments = [settings.database_url, settings.amqp_url or "", settings.queue_prefix, halt_at]
    # Another data key than ours seals there; nothing of it is opened here.
    run = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, env={**os.environ})
    try:
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.wait(timeout=10)


def test_a_process_killed_between_commit_and_acknowledgement_loses_and_doubles_nothing(
    settings: Settings, deps: Deps, tmp_path: Path
) -> None:
    marker = tmp_path / "reached"
    publish(settings, *(event(invoice(n)) for n in range(150)))
    publish(settings, b"not JSON")
    publish(settings, *(event(invoice(n, version=None), id=f"e-{n}") for n in range(150, 200)))

    with process(settings, f"{COMMITTED}@{marker}") as first:
        assert first.wait(timeout=60) == -signal.SIGKILL
    assert marker.exists()
    committed = len(stored(deps.database))
    assert 0 < committed < 200
    assert lying(settings) == 201  # committed, and not acknowledged

    with process(settings) as second:
        wait_for_stored(deps, 200)
        wait_for(lambda: lying(settings) == 0)
        second.terminate()
        assert second.wait(timeout=10) == 0

    assert len(stored(deps.database)) == 200
    assert rows(deps.database, "SELECT count(*) FROM rejections") == [(1,)]


def test_a_process_that_is_told_to_stop_stops_within_seconds_and_holds_nothing(settings: Settings, deps: Deps) -> None:
    with process(settings) as run:
        publish(settings, event())
        wait_for_stored(deps, 1)
        began = time.monotonic()
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=10) == 0
        assert time.monotonic() - began < 5
    publish(settings, event(invoice(2)))
    wait_for(lambda: lying(settings) == 1)
