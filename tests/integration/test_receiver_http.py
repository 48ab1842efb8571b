"""The receiver: what is stored, what is refused, and that 2xx means written, on PostgreSQL and SQLite alike."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest

from contracts.messages import ProviderEventReceived
from db import message_store
from db.message_store import AddResult
from db.tx import NewMessage, Tx
from gateways.providers.sandbox import SandboxProvider
from runtime.deps import Deps
from tests.customer import ACCOUNT, WEBHOOK_SECRET, browser, fresh_url, make_deps, rows, served, started
from tests.services import PrivatePostgres
from tests.support import claim

BASE_URL = "http://127.0.0.1:1/main"
UNSIGNED, STUMBLES = "unsigned", "stumbles"
LIMIT = 4096
_numbers = count(1)


class Unsigned(SandboxProvider):
    """A provider that signs nothing."""

    def __init__(self) -> None:
        super().__init__(UNSIGNED, BASE_URL, "k", (WEBHOOK_SECRET,))
        self.capabilities = replace(self.capabilities, signed_events=False)

    def check_event(self, **given: Any) -> str | None:
        raise AssertionError("there is nothing to check")


class Stumbles(SandboxProvider):
    """An adapter with a fault."""

    def __init__(self) -> None:
        super().__init__(STUMBLES, BASE_URL, "k", (WEBHOOK_SECRET,))

    def check_event(self, **given: Any) -> str | None:
        raise KeyError("a field that the adapter relied on")


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def deps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deps]:
    url = fresh_url(request, tmp_path_factory.mktemp("receiver"))
    bank = SandboxProvider(ACCOUNT, BASE_URL, "k", (WEBHOOK_SECRET,))
    providers = {ACCOUNT: bank, UNSIGNED: Unsigned(), STUMBLES: Stumbles()}
    made = make_deps(url, providers, BASE_URL, webhook_max_bytes=LIMIT)
    yield made
    made.database.dispose()


@pytest.fixture(scope="module")
def address(deps: Deps) -> Iterator[str]:
    with served(deps) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with browser(address, {}) as client:
        yield client


def an_event(event_id: str | None = None, **more: Any) -> bytes:
    """The body of an event that nobody sent before, unless an id is given."""
    number = next(_numbers)
    order = {"id": f"order-{number}", "reference": f"reference-{number}", "status": "paid", "transactions": []}
    event = {"id": event_id or f"event-{number}", "type": "payment.captured", "data": {"order": order}}
    return json.dumps(event | more).encode()


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, age: timedelta = timedelta()) -> dict[str, str]:
    """The signature header of a body."""
    timestamp = str(int((datetime.now(UTC) - age).timestamp()))
    signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"sandbox-signature": f"t={timestamp},v1={signature}"}


def post(client: httpx.Client, body: bytes, account: str = ACCOUNT, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/webhooks/{account}", content=body, headers=signed(body) | sent)


def stored(deps: Deps) -> int:
    ((number,),) = rows(deps, "SELECT count(*) FROM messages")
    return int(number)


def newest(deps: Deps) -> ProviderEventReceived:
    """The event that was stored last."""
    batch = claim(deps.database, ProviderEventReceived, limit=100_000)
    message = max(batch, key=lambda claimed: claimed.id).message(deps.database.sealer)
    assert isinstance(message, ProviderEventReceived)
    return message


# --- stored -----------------------------------------------------------------------------------------------------------


def test_an_event_is_kept_as_it_came(deps: Deps, client: httpx.Client) -> None:
    body = an_event("event-as-it-came", text="\N{ARMENIAN SMALL LETTER AYB}") + b"  \r\n"
    before = datetime.now(UTC)

    answer = client.post(
        f"/webhooks/{ACCOUNT}?a=%D5%A1&b=1",
        content=body,
        headers=signed(body)
        | {"authorization": "Basic secret", "cookie": "session=secret", "x-forwarded-for": "203.0.113.9"}
        | {"X-Bank-Event": "Captured", "x-request-id": "bank-request-1"},
    )

    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert answer.headers["x-request-id"] == "bank-request-1"
    event = newest(deps)
    assert event.account == ACCOUNT
    assert event.method == "POST"
    assert event.query == "a=%D5%A1&b=1"
    assert base64.b64decode(event.body_base64) == body
    assert event.headers["x-bank-event"] == "Captured"
    assert not {"authorization", "cookie", "x-forwarded-for", "host"} & set(event.headers)
    assert before - timedelta(seconds=1) <= event.received_at <= datetime.now(UTC)


def test_bytes_that_are_no_text_are_kept(deps: Deps, client: httpx.Client) -> None:
    body = bytes(range(256)) + b"\xed\xa0\x80"

    assert client.post(f"/webhooks/{UNSIGNED}", content=body).status_code == 200

    assert base64.b64decode(newest(deps).body_base64) == body


def test_the_row_holds_nothing_readable(deps: Deps, client: httpx.Client) -> None:
    post(client, an_event(customer="Ani Sargsyan"))

    for payload, sealed in rows(deps, "SELECT payload, sealed FROM messages"):
        assert "Sargsyan" not in payload
        assert b"Sargsyan" not in bytes(sealed)
        assert "signature" not in payload


def test_an_event_may_come_by_get(deps: Deps, client: httpx.Client) -> None:
    assert client.get(f"/webhooks/{UNSIGNED}?order=7&status=paid").status_code == 200

    event = newest(deps)
    assert (event.method, event.query, event.body_base64) == ("GET", "order=7&status=paid", "")


def test_a_duplicate_is_accepted_and_stored_once(deps: Deps, client: httpx.Client) -> None:
    body, before = an_event(), stored(deps)

    answers = [
        post(client, body),
        post(client, body),
        client.post(f"/webhooks/{ACCOUNT}", content=body, headers=signed(body)),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert stored(deps) == before + 1


def test_what_is_not_signed_is_never_a_duplicate(deps: Deps, client: httpx.Client) -> None:
    body, before = an_event("the-same-id"), stored(deps)

    for _ in range(3):
        assert client.post(f"/webhooks/{UNSIGNED}", content=body).status_code == 200

    assert stored(deps) == before + 3


def test_an_adapters_fault_loses_no_event(deps: Deps, client: httpx.Client) -> None:
    before = stored(deps)

    assert post(client, an_event(), STUMBLES).status_code == 200

    assert stored(deps) == before + 1


def test_many_at_once_are_all_answered_and_each_is_stored_once(deps: Deps, client: httpx.Client) -> None:
    bodies, before = [an_event() for _ in range(120)], stored(deps)
    sent = bodies + bodies[:60] + bodies[:30]

    with ThreadPoolExecutor(24) as senders:
        answers = list(senders.map(lambda body: post(client, body), sent))

    assert Counter(answer.status_code for answer in answers) == {200: 210}
    assert stored(deps) == before + 120


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda body: signed(body, secret="another"), "secret"),
        (lambda body: signed(body, age=timedelta(hours=1)), "old"),
        (lambda body: signed(body + b" "), "secret"),
        (lambda body: {"sandbox-signature": "v1=abc"}, "Sandbox-Signature"),
        (lambda body: {}, "Sandbox-Signature"),
    ],
)
def test_a_wrong_signature_is_refused_with_its_reason(
    deps: Deps, client: httpx.Client, headers: Callable[[bytes], dict[str, str]], reason: str
) -> None:
    body, before = an_event(), stored(deps)

    answer = client.post(f"/webhooks/{ACCOUNT}", content=body, headers=headers(body))

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert reason in answer.json()["errors"][0]["problem"] or reason == "old"
    assert stored(deps) == before


@pytest.mark.parametrize("account", ["nobody", "", "bank/more", "%00", "BANK", "bank%2f"])
def test_an_unknown_account_is_named(deps: Deps, client: httpx.Client, account: str) -> None:
    before = stored(deps)

    answer = client.post(f"/webhooks/{account}", content=b"{}")

    assert answer.status_code == 404
    assert answer.json()["errors"][0]["field"] == "account"
    assert stored(deps) == before


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_other_methods_are_told_which_are_right(client: httpx.Client, method: str) -> None:
    answer = client.request(method, f"/webhooks/{ACCOUNT}")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_a_body_over_the_limit_is_refused_however_it_comes(deps: Deps, client: httpx.Client) -> None:
    before = stored(deps)
    exact = an_event(pad="")
    exact = exact.replace(b'"pad": ""', b'"pad": "%s"' % (b"x" * (LIMIT - len(exact))))
    assert len(exact) == LIMIT

    assert post(client, exact).status_code == 200
    assert post(client, exact + b" ").status_code == 413
    pieces = iter([b"x" * 1000] * 100_000)
    assert client.post(f"/webhooks/{UNSIGNED}", content=pieces).status_code == 413

    assert stored(deps) == before + 1


def test_what_is_around_the_body_is_bounded_too(client: httpx.Client) -> None:
    assert client.get(f"/webhooks/{UNSIGNED}?{'q' * 9000}").status_code == 414
    assert client.get(f"/webhooks/{UNSIGNED}", headers={"x-long": "h" * 17_000}).status_code == 431


def test_a_sender_that_leaves_half_way_stores_nothing(deps: Deps, address: str, client: httpx.Client) -> None:
    before = stored(deps)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f"POST /webhooks/{UNSIGNED} HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nhalf".encode())
        time.sleep(0.1)

    assert client.post(f"/webhooks/{UNSIGNED}", content=b"whole").status_code == 200
    assert stored(deps) == before + 1


# --- 2xx means written ------------------------------------------------------------------------------------------------


def test_the_answer_waits_for_the_commit(deps: Deps, client: httpx.Client) -> None:
    """Somebody holds what the commit needs: no answer comes before he lets go."""
    body = an_event()
    with ThreadPoolExecutor(1) as sender:
        with deps.database.begin() as tx:
            _hold_everything(tx)
            answer = sender.submit(post, client, body)
            time.sleep(0.5)
            assert not answer.done()
        assert answer.result(10).status_code == 200


def _hold_everything(tx: Tx) -> None:
    if tx.is_postgres:
        tx.connection.exec_driver_sql("LOCK TABLE message_keys IN ACCESS EXCLUSIVE MODE")


def test_a_batch_with_a_bad_row_loses_only_that(deps: Deps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that the database refuses fails alone, and is asked for again."""
    good = [an_event() for _ in range(6)]
    bad = an_event("bad")

    def add_all(tx: Tx, new: list[NewMessage]) -> list[AddResult]:
        for row in new:
            if row.dedup_key.endswith(":bad"):
                tx.connection.exec_driver_sql("SELECT no_such_column FROM messages")
        return kept(tx, new)

    kept = message_store.add_all
    monkeypatch.setattr("web.group_commit.message_store.add_all", add_all)
    before = stored(deps)
    statuses = asyncio.run(_post_all(deps, [*good[:3], bad, *good[3:]]))

    assert statuses == [200, 200, 200, 503, 200, 200, 200]
    assert stored(deps) == before + 6


async def _post_all(deps: Deps, bodies: list[bytes]) -> list[int]:
    """Send all in one turn of the event loop, so that they are one batch."""
    async with started(deps) as client:
        answers = await asyncio.gather(
            *(client.post(f"/webhooks/{ACCOUNT}", content=body, headers=signed(body)) for body in bodies)
        )
    return [answer.status_code for answer in answers]


def test_a_full_waiting_list_is_told_at_once(deps: Deps) -> None:
    small = make_deps_like(deps, webhook_waiting_limit=5)
    release = threading.Event()
    small.database.after_commit = lambda due: release.wait(10) and None
    bodies = [an_event() for _ in range(12)]

    async def send() -> list[int]:
        async with started(small) as client:
            first = [
                asyncio.ensure_future(client.post(f"/webhooks/{ACCOUNT}", content=body, headers=signed(body)))
                for body in bodies
            ]
            await asyncio.sleep(0.5)
            refused = [one.result() for one in first if one.done()]
            assert len(refused) == 7
            assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
            release.set()
            return [answer.status_code for answer in await asyncio.gather(*first)]

    assert Counter(asyncio.run(send())) == {200: 5, 503: 7}
    small.database.dispose()


def make_deps_like(deps: Deps, **more: Any) -> Deps:
    """The same database under other settings."""
    url = deps.settings.database_url
    return make_deps(url, dict(deps.providers), BASE_URL, **more)


def test_what_waits_is_written_before_the_process_ends(deps: Deps) -> None:
    """Shutting down answers everybody who was accepted."""
    body, before = an_event(), stored(deps)
    with served(deps) as address, browser(address, {}) as client, ThreadPoolExecutor(1) as sender:
        answer = sender.submit(post, client, body)
        assert answer.result().status_code == 200
    assert stored(deps) == before + 1


# --- the database away ------------------------------------------------------------------------------------------------


def test_while_the_database_is_away_providers_are_told_to_come_again(private_postgres: PrivatePostgres) -> None:
    deps = make_deps(private_postgres.url, _bank(), BASE_URL)
    with served(deps) as address, browser(address, {}) as client:
        body, before = an_event(), stored(deps)
        assert post(client, body).status_code == 200

        private_postgres.stop()
        answer = post(client, body)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get(f"/l/{'A' * 43}").status_code == 503

        private_postgres.start()
        later = an_event()
        assert post(client, later).status_code == 200, "nobody restarts us"
        assert post(client, body).status_code == 200
        assert client.get("/readyz").status_code == 200
    assert stored(deps) == before + 2
    deps.database.dispose()


def test_a_frozen_database_does_not_keep_providers_waiting(
    private_postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.group_commit.LATE_SECONDS", 1.0)
    monkeypatch.setattr("web.health.PROBE_SECONDS", 0.5)
    deps = make_deps(private_postgres.url, _bank(), BASE_URL)
    with served(deps) as address, browser(address, {}) as client:
        body = an_event()
        assert post(client, an_event()).status_code == 200
        private_postgres.freeze()
        try:
            began = time.monotonic()
            assert post(client, body).status_code == 503
            assert time.monotonic() - began < 4
            assert client.get("/readyz").status_code == 503
            assert "not answer" in client.get("/readyz").json()["reason"]
        finally:
            private_postgres.thaw()
        assert post(client, body).status_code == 200
    deps.database.dispose()


def _bank() -> SandboxProvider:
    return SandboxProvider(ACCOUNT, BASE_URL, "k", (WEBHOOK_SECRET,))
