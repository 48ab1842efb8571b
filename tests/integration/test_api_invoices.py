"""The CRM's HTTP API, on PostgreSQL and SQLite: each answer, and what is behind it."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from contracts.catalog import Queue
from contracts.messages import InvoiceCreated
from db import api_keys, attempts, exceptions, invoices, links, message_store
from db.message_store import Failure
from db.tx import Cause
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from tests.doors import ACME, BOUND, FOREIGN, by_amqp, event, invoice, make_deps, make_settings, rows, stored, wipe
from tests.support import claim, open_database
from web.api import routes
from web.requests import RequestIds
from workers.executor import Executor
from workers.registry import load_all

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def migrated_postgres(postgres_url: str) -> str:
    open_database(postgres_url).dispose()
    return postgres_url


@pytest.fixture(params=["postgresql", "sqlite"])
def deps(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deps]:
    if request.param == "postgresql":
        url = request.getfixturevalue("migrated_postgres")
        wipe(url)
    else:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        open_database(url).dispose()
    made = make_deps(make_settings(url))
    yield made
    made.database.dispose()


@pytest.fixture
def client(deps: Deps) -> Iterator[TestClient]:
    with TestClient(app_of(deps)) as made:
        made.headers["authorization"] = f"Bearer {new_key(deps)}"
        yield made


def app_of(deps: Deps) -> Starlette:
    return Starlette(routes=routes(deps), middleware=[Middleware(RequestIds)])


def new_key(deps: Deps, *crms: str) -> str:
    with deps.database.begin() as tx:
        return api_keys.create(tx, "test", crms or (ACME,), actor="ani", reason="test")[1]


def post(client: TestClient, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.post("/v1/invoices", content=content, headers=given)


def errors_of(answer: Any) -> dict[str, str]:
    """The problems of a refusal, after a look at the document around them."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    return {one["field"]: one["problem"] for one in document["errors"]}


def work(deps: Deps) -> None:
    """Run the stage that makes invoices and links."""
    load_all()
    Executor(deps, [Queue.LINK_CREATION.value]).serve(Queue.LINK_CREATION.value)


# --- sending --------------------------------------------------------------------------------------------------------


def test_data_alone_is_accepted_after_the_commit(client: TestClient, deps: Deps) -> None:
    answer = post(client, invoice(), x_request_id="crm-request-1")

    assert answer.status_code == 202
    told = answer.json()
    assert told.pop("message_id") in {row[0] for row in rows(deps.database, "SELECT id FROM messages")}
    assert told == {
        "status": "accepted",
        "request_id": "crm-request-1",
        "invoice": {"crm": ACME, "id": "INV-1", "type": "invoice"},
        "href": "/v1/invoices/acme/INV-1",
    }
    assert answer.headers["x-request-id"] == "crm-request-1"
    assert [one.request_id for one in claim(deps.database, InvoiceCreated)] == ["crm-request-1"]


def test_the_whole_event_is_accepted_and_its_repeat_is_a_duplicate(client: TestClient, deps: Deps) -> None:
    first = post(client, event(), content_type="application/cloudevents+json; charset=utf-8")
    again = post(client, invoice())

    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json()["status"], again.json()["first_state"]) == ("duplicate", "ready")
    assert again.json()["message_id"] == first.json()["message_id"]
    assert len(stored(deps.database)) == 1


def test_a_cancellation_is_accepted_by_the_same_door(client: TestClient) -> None:
    data = {"crm": ACME, "invoice_id": "2026/17", "version": 1, "type": "order"}
    answer = post(client, event(data, type="invoice.cancelled.v1"))
    assert answer.status_code == 202
    assert answer.json()["href"] == "/v1/invoices/acme/2026%2F17?type=order"


def test_an_idempotency_key_names_an_invoice_without_a_version(client: TestClient) -> None:
    data = invoice(version=None)
    answers = [post(client, data, idempotency_key=key) for key in ("k-1", "k-1", "k-2")]
    assert [answer.json()["status"] for answer in answers] == ["accepted", "duplicate", "accepted"]

    other = post(client, data | {"amount_minor": 1}, idempotency_key="k-1")
    assert other.status_code == 409
    assert set(errors_of(other)) == {"Idempotency-Key"}
    assert set(errors_of(post(client, data, idempotency_key="k" * 200))) == {"Idempotency-Key"}


def test_other_content_of_a_version_is_a_conflict(client: TestClient, deps: Deps) -> None:
    post(client, invoice())
    answer = post(client, invoice(amount_minor=7))

    assert answer.status_code == 409
    assert "send a higher version" in errors_of(answer)["version"]
    assert "data.version" in errors_of(post(client, event(invoice(amount_minor=8))))
    work(deps)
    assert rows(deps.database, "SELECT reason FROM exceptions") == [("version_conflict",)]


def test_the_same_by_amqp_and_http_at_once_is_one_message(client: TestClient, deps: Deps) -> None:
    body = event(invoice(version=None))
    barrier = threading.Barrier(6)

    def by_queue(_: int) -> str:
        barrier.wait()
        return take(deps, [by_amqp(body)])[0].outcome

    def by_request(_: int) -> str:
        barrier.wait()
        return str(post(client, body).json()["status"])

    with ThreadPoolExecutor(6) as pool:
        asked = [*(pool.submit(by_queue, n) for n in range(3)), *(pool.submit(by_request, n) for n in range(3))]
        told = sorted(one.result() for one in asked)

    assert told == ["accepted", *["duplicate"] * 5]
    assert len(stored(deps.database)) == 1


# --- refusals -------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, Any, int, str]] = [
    ("unknown type", event(type="invoice.paid.v1"), 400, "type"),
    ("unknown version", event(type="invoice.created.v2"), 400, "type"),
    ("provider event", event({"account": "bank"}, type="provider.event.v1"), 400, "type"),
    ("missing field", invoice(currency=None), 400, "currency"),
    ("negative amount", invoice(amount_minor=-1), 400, "amount_minor"),
    ("zero amount", invoice(amount_minor=0), 400, "amount_minor"),
    ("fractional amount", invoice(amount_minor=1.5), 400, "amount_minor"),
    ("absurd amount", invoice(amount_minor=10**30), 400, "amount_minor"),
    ("unknown currency", invoice(currency="DEM"), 400, "currency"),
    ("wrong exponent", invoice(currency_exponent=3), 400, "data"),
    ("bad locale", invoice(customer={"locale": "xx"}), 400, "customer.locale"),
    ("10 MB", b'{"a": "' + b"x" * 10_000_000 + b'"}', 413, "body"),
    ("invalid UTF-8", b'{"a": "\xff"}', 400, "body"),
    ("NUL", b'{"a": "\\u0000"}', 400, "a"),
    ("lone surrogate", b'{"a": "\\udc00"}', 400, "a"),
    ("not JSON", b"hello", 400, "body"),
    ("empty", b"", 400, "body"),
    ("deep nesting", b"[" * 50_000 + b"]" * 50_000, 400, "body"),
    ("another CRM", invoice(crm=FOREIGN), 403, "crm"),
    ("another CRM's event", event(invoice(crm=BOUND)), 403, "data.crm"),
]


@pytest.mark.parametrize(("body", "status", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_body_is_answered_with_field_and_remedy_and_not_kept(
    client: TestClient, deps: Deps, body: Any, status: int, field: str
) -> None:
    answer = post(client, body)

    assert answer.status_code == status
    assert errors_of(answer)[field]
    assert rows(deps.database, "SELECT id FROM messages") == []
    assert rows(deps.database, "SELECT id FROM rejections") == []


def test_fields_that_nobody_knows_are_passed_over(client: TestClient) -> None:
    assert post(client, invoice(new_field=1, wish="mine")).status_code == 202


@pytest.mark.parametrize("content_type", ["text/xml", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type_is_refused_with_the_right_ones(client: TestClient, content_type: str) -> None:
    answer = post(client, invoice(), content_type=content_type)
    assert answer.status_code == 415
    assert "application/cloudevents+json" in errors_of(answer)["Content-Type"]
    assert answer.headers["accept-post"] == "application/cloudevents+json, application/json"


def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_at_the_limit(client: TestClient) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"x" * 64 * 1024

    answer = client.post("/v1/invoices", content=pieces(), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer ", "Bearer plk_live_wrong", "Bearer \xff\xfe"])
def test_without_a_valid_key_nobody_gets_in(client: TestClient, header: str) -> None:
    given = {**JSON, "authorization": header.encode("latin-1")}
    sent = client.post("/v1/invoices", content=b"x" * 1000, headers=given)
    asked = client.get("/v1/invoices/acme/INV-1", headers={"authorization": header.encode("latin-1")})
    for answer in (sent, asked):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "Authorization" in errors_of(answer)


def test_a_revoked_key_is_refused_at_once(client: TestClient, deps: Deps) -> None:
    assert post(client, invoice()).status_code == 202
    with deps.database.begin() as tx:
        (key,) = api_keys.listed(tx)
        assert api_keys.revoke(tx, key.id, actor="ani", reason="lost")
    assert post(client, invoice(2)).status_code == 401


@pytest.mark.parametrize("url", ["postgresql+psycopg://nobody@127.0.0.1:1/none"])
def test_while_the_database_is_away_the_sender_is_asked_to_repeat(url: str) -> None:
    away = make_deps(make_settings(url))
    with TestClient(app_of(away)) as client:
        client.headers["authorization"] = "Bearer plk_live_x"
        for answer in (post(client, invoice()), client.get("/v1/invoices/acme/INV-1")):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert "again later" in errors_of(answer)["server"]


# --- asking ---------------------------------------------------------------------------------------------------------


def show(client: TestClient, name: str = "INV-1", **query: str) -> dict[str, Any]:
    answer = client.get(f"/v1/invoices/{ACME}/{name}", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"]
    told: dict[str, Any] = answer.json()
    return told


def test_an_invoice_that_was_just_accepted_is_pending(client: TestClient) -> None:
    told = client.get(post(client, invoice()).json()["href"]).json()
    assert (told["status"], told["link"], told["last_error"]) == ("pending", None, None)


def test_a_known_invoice_is_shown_with_its_link_which_counts_as_sent(client: TestClient, deps: Deps) -> None:
    sent = post(client, invoice("2026/17", type="order", deal_id="D-1"))
    work(deps)

    told = client.get(sent.json()["href"]).json()

    assert told["invoice_id"] == "INV-2026/17"
    assert (told["status"], told["flags"], told["version"], told["deal_id"]) == ("pending", [], 1, "D-1")
    assert (told["amount_minor"], told["paid_minor"], told["currency"]) == (1_500_000, 0, "AMD")
    assert (told["revision"], told["crm_revision"]) == (1, 0)
    assert told["request_id"] == sent.json()["request_id"]
    with deps.database.read() as tx:
        row = invoices.find(tx, ACME, "INV-2026/17", "order")
        assert row is not None
        link = links.newest(tx, row.id)
    assert link is not None
    assert told["link"]["url"] == deps.tokens.url(link.id, link.generation, link.key_id)
    assert told["link"]["state"] == "active"
    assert link.sent_at is not None
    assert client.get(sent.json()["href"].partition("?")[0]).status_code == 404  # no plain invoice of this name


def test_a_link_whose_key_is_gone_has_no_url(client: TestClient, deps: Deps) -> None:
    post(client, invoice())
    work(deps)
    stranger = replace(deps, tokens=type(deps.tokens)([("k2", "x" * 32)], "http://127.0.0.1"))
    with TestClient(app_of(stranger)) as other:
        other.headers.update(client.headers)
        assert show(other)["link"]["url"] is None


def test_what_is_not_yours_and_what_is_not_there_are_the_same_answer(client: TestClient, deps: Deps) -> None:
    take(deps, [Incoming(body=json.dumps(invoice(crm=BOUND)).encode(), channel="http", crms=frozenset({BOUND}))])
    for path in (f"{BOUND}/INV-1", f"{ACME}/INV-1", "nobody/INV-1", f"{ACME}/%00", f"{ACME}/a%2F..%2Fb"):
        answer = client.get(f"/v1/invoices/{path}")
        assert answer.status_code == 404
        assert set(errors_of(answer)) == {"id"}
    assert set(errors_of(client.get(f"/v1/invoices/{ACME}/INV-1?type=car"))) == {"type"}


def test_the_newest_trouble_is_told_until_it_is_over(client: TestClient, deps: Deps) -> None:
    post(client, invoice())
    (claimed,) = claim(deps.database, InvoiceCreated)
    with deps.database.begin() as tx:
        message_store.fail(tx, claimed, Failure("Unavailable", "no answer", "g"), retry_in_seconds=None)
    error = show(client)["last_error"]
    assert (error["source"], error["code"], error["is_final"]) == ("message", "Unavailable", True)
    assert error["detail"] == "invoice.created.v1: no answer"

    with deps.database.begin() as tx:
        message_store.retry(tx, claimed.id)
    work(deps)
    assert show(client)["last_error"] is None

    with deps.database.begin(Cause.new()) as tx:
        row = invoices.find(tx, ACME, "INV-1")
        assert row is not None
        link = links.newest(tx, row.id)
        assert link is not None
        attempt = attempts.reserve(tx, link, "bank")
        attempts.move(tx, attempt.id, attempts.AttemptState.FAILED, error="declined: no funds")
    assert show(client)["last_error"]["detail"] == "declined: no funds"

    with deps.database.begin(Cause.new()) as tx:
        exceptions.raise_(tx, row.id, "outcome_unknown", "the provider does not know")
    error = show(client)["last_error"]
    assert (error["source"], error["code"], error["is_final"]) == ("exception", "outcome_unknown", True)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_kept_as_its_hash(deps: Deps) -> None:
    with deps.database.begin() as tx:
        key_id, key = api_keys.create(tx, "the shop's server", [BOUND, ACME, ACME], actor="ani", reason="go-live")

    assert key.startswith("plk_live_")
    assert len(key) == len("plk_live_") + 43
    assert key not in str(rows(deps.database, "SELECT * FROM api_keys"))
    with deps.database.read() as tx:
        found = api_keys.authenticate(tx, key)
        assert found is not None
        assert (found.id, found.name, found.crms) == (key_id, "the shop's server", frozenset({ACME, BOUND}))
        assert api_keys.authenticate(tx, key + "x") is None
        assert api_keys.listed(tx) == [found]
    with pytest.raises(ValueError, match="at least one CRM"), deps.database.begin() as tx:
        api_keys.create(tx, "for nobody", [], actor="ani")


def test_who_made_and_who_revoked_a_key_is_written_down(deps: Deps) -> None:
    with deps.database.begin() as tx:
        key_id, key = api_keys.create(tx, "k", [ACME], actor="ani", reason="go-live")
        assert api_keys.revoke(tx, key_id, actor="karen", reason="lost")
        assert not api_keys.revoke(tx, key_id, actor="karen", reason="again")
        assert not api_keys.revoke(tx, "nothing", actor="karen", reason="typo")
        assert api_keys.authenticate(tx, key) is None

    found = rows(deps.database, "SELECT actor, action, subject, reason FROM audit ORDER BY actor")
    assert found == [("ani", "api_key.created", key_id, "go-live"), ("karen", "api_key.revoked", key_id, "lost")]
    with deps.database.read() as tx:
        assert api_keys.listed(tx)[0].revoked_at is not None
