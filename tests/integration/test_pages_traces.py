"""What looking at links leaves behind: views in the story of an invoice, and a limit for who guesses."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from contracts.catalog import Queue
from contracts.commands import LinkResend, LinkSent
from db import timeline
from gateways.providers.base import Capabilities
from runtime.deps import Deps
from runtime.tokens import TOKEN_LENGTH
from tests.commands import run, use_settings
from tests.customer import (
    browser,
    eventually,
    fresh_url,
    link_of,
    make_deps,
    make_invoice,
    path_of,
    rows,
    run_once,
    served,
    started,
    state_of,
)
from tests.services.postgres import conninfo
from tests.shop import CAPABILITIES
from tests.support import DATA_KEY, put
from web.view_log import MAX_WAITING, ViewLog

MINUTE = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
PERSON = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36"
VIEWS = "SELECT link_id FROM link_views"
UNKNOWN = f"/l/{'A' * TOKEN_LENGTH}"


class Nobody:
    """A provider that is asked nothing."""

    name = "bank"
    capabilities: Capabilities = CAPABILITIES

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture(params=["postgresql", "sqlite"])
def deps(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deps]:
    made = make_deps(fresh_url(request, tmp_path), Nobody(), "http://127.0.0.9:9")  # type: ignore[arg-type]  # as above
    yield made
    made.database.dispose()


@pytest.fixture
def path(deps: Deps) -> str:
    make_invoice(deps, customer={"name": "Ani", "locale": "en"})
    return path_of(deps, link_of(deps))


def story(deps: Deps) -> list[timeline.Entry]:
    with deps.database.read() as tx:
        return timeline.of(tx, link_of(deps).invoice_id).entries


# --- views ----------------------------------------------------------------------------------------------------------


def test_a_look_is_told_once_a_minute_and_says_nothing_of_who_looked(deps: Deps, path: str) -> None:
    with served(deps) as address, browser(address, {"user-agent": PERSON}) as client:
        for _ in range(5):
            assert client.get(path).status_code == 200
        eventually(lambda: rows(deps, VIEWS) != [])

    link = link_of(deps)
    assert 1 <= len(rows(deps, VIEWS)) <= 2, "a minute may have ended meanwhile"
    assert {row[0] for row in rows(deps, VIEWS)} == {link.id}
    seen = [entry for entry in story(deps) if entry.what == "view"]
    assert seen[0].text == "somebody opened link 1"
    assert seen[0].facts["viewed_at"].second == 0
    assert seen[0].at >= link.created_at, "never before the link was there"
    columns = {name for (name,) in _columns(deps)}
    assert columns == {"id", "link_id", "viewed_at"}


def _columns(deps: Deps) -> list[tuple[Any, ...]]:
    if deps.database.is_sqlite:
        return rows(deps, "SELECT name FROM pragma_table_info('link_views')")
    return rows(deps, "SELECT column_name FROM information_schema.columns WHERE table_name = 'link_views'")


@pytest.mark.parametrize(
    ("method", "end", "headers"),
    [
        ("HEAD", "", {}),
        ("GET", "/status", {}),
        ("GET", "/qr.svg", {}),
        ("GET", "", {"sec-purpose": "prefetch;prerender"}),
        ("GET", "", {"purpose": "prefetch"}),
        ("GET", "", {"x-moz": "Prefetch"}),
        ("GET", "", {"user-agent": ""}),
        ("GET", "", {"user-agent": "WhatsApp/2.23.20.0 A"}),
        ("GET", "", {"user-agent": "TelegramBot (like TwitterBot)"}),
        ("GET", "", {"user-agent": "Viber/20.0 CFNetwork/1410 Darwin/22"}),
        ("GET", "", {"user-agent": "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"}),
        ("GET", "", {"user-agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}),
        ("GET", "", {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}),
        ("GET", "", {"user-agent": "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5"}),
    ],
)
@pytest.mark.parametrize("deps", ["sqlite"], indirect=True)
def test_what_no_person_looked_at_is_no_view(
    deps: Deps, path: str, method: str, end: str, headers: dict[str, str]
) -> None:
    with served(deps) as address, browser(address, {"user-agent": PERSON} | headers) as client:
        assert client.request(method, path + end).status_code == 200
    assert rows(deps, VIEWS) == [], "the server wrote what it had when it ended"


def test_several_processes_note_the_same_minute_once(deps: Deps, path: str) -> None:
    link = link_of(deps)
    logs = [ViewLog(deps.database, pause_seconds=0.01) for _ in range(3)]
    for log in logs:
        log.start()
        log.note(link.id, MINUTE.replace(second=7))
    for log in logs:
        asyncio.run(log.stop())
    assert rows(deps, VIEWS) == [(link.id,)]


def test_views_that_find_no_room_or_no_database_are_forgotten(deps: Deps, path: str) -> None:
    log = ViewLog(deps.database)
    for number in range(MAX_WAITING + 10):
        log.note(f"link-{number}", MINUTE)
    log.note("link-0", MINUTE)
    with capture_logs() as lines:
        log._database = Away()  # type: ignore[assignment]  # as much of one as is used
        log._write()
    assert [(line["event"], line["count"]) for line in lines] == [("views.forgotten", 1000), ("views.left_out", 10)]


class Away:
    """A database that does not answer."""

    def begin(self) -> Any:
        raise ConnectionError


def test_a_page_waits_for_no_writer_of_views(deps: Deps, path: str) -> None:
    with served(deps) as address, browser(address, {"user-agent": PERSON}) as client, held(deps):
        client.get(path)
        time.sleep(1.2)  # by now the writer waits for the lock
        began = time.monotonic()
        assert {client.get(path).status_code for _ in range(5)} == {200}
        assert time.monotonic() - began < 1.8


@contextmanager
def held(deps: Deps) -> Iterator[None]:
    """Let nobody write views."""
    if deps.database.is_sqlite:
        connection: Any = sqlite3.connect(str(deps.database.url.database), isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
    else:
        connection = psycopg.connect(conninfo(deps.settings.database_url))
        connection.execute("LOCK TABLE link_views IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def test_sends_and_views_are_told_by_invoice_show(
    deps: Deps, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {"crm": "acme", "invoice_id": "INV-1", "actor": "17", "by": "crm"}
    # One after the other: ids of the same millisecond are in no order.
    for command in (
        LinkSent(**said, wish="a", channel="email", recipient="ani@example.am"),
        LinkResend(**said, wish="b", reason="lost it"),
    ):
        put(deps.database, command)
        run_once(deps, Queue.COMMANDS)
    log = ViewLog(deps.database)
    log.note(link_of(deps).id, datetime.now(UTC))
    log._write()

    keys = {"data_keys": [DATA_KEY], "link_keys": [{"id": "k1", "secret": "s" * 32}]}
    use_settings(monkeypatch, tmp_path, {"database_url": deps.settings.database_url, **keys})
    (told,) = json.loads(run("invoice", "show", "INV-1", "--json").stdout)

    sends = [entry for entry in told["entries"] if entry["what"] == "send"]
    assert [entry["text"] for entry in sends] == [
        "link.sent by crm:acme:17, email to a***@e***.am",
        "link.resent by crm:acme:17: lost it",
    ]
    assert (sends[0]["facts"]["channel"], sends[0]["facts"]["recipient"]) == ("email", "a***@e***.am")
    assert [entry["text"] for entry in told["entries"] if entry["what"] == "view"] == ["somebody opened link 1"]
    shown = run("invoice", "show", "INV-1").stdout
    assert "view       somebody opened link 1" in shown
    assert "ani@example.am" not in shown


# --- guesses --------------------------------------------------------------------------------------------------------


def test_who_guesses_must_wait_and_a_real_link_opens_all_the_same(deps: Deps, path: str) -> None:
    now = [60_000_020.0]

    async def guess() -> None:
        async with started(deps, clock=lambda: now[0]) as client:
            for number in range(30):
                answer = await client.get(UNKNOWN if number % 2 else "/l/no-token")
                assert (answer.status_code, state_of(answer)) == (404, "not_found")

            last = await client.get(UNKNOWN, headers={"accept-language": "hy"})
            assert (last.status_code, state_of(last)) == (429, "too_many")
            assert last.headers["retry-after"] == "40"
            assert "Չափազանց շատ հարցումներ" in last.text
            assert last.headers["cache-control"] == "no-store"
            status = await client.get(f"{UNKNOWN}/status")
            assert (status.status_code, status.json()) == (429, {"error": "too_many"})
            assert (await client.post(f"{UNKNOWN}/pay")).status_code == 429

            assert (await client.get(path)).status_code == 200
            assert (await client.get(f"{path}/status")).status_code == 200
            assert (await client.get("/livez")).status_code == 200

            now[0] += 40
            assert (await client.get(UNKNOWN)).status_code == 404, "another minute"

    with capture_logs() as lines:
        asyncio.run(guess())
    written = json.dumps(lines, default=str)
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["page.guessing"]
    assert "A" * TOKEN_LENGTH not in written
    assert "127.0.0.1" not in written


def test_a_real_link_is_never_a_miss(deps: Deps, path: str) -> None:
    with served(deps) as address, browser(address) as client:
        for _ in range(35):
            assert client.get(path).status_code == 200
        assert client.get(UNKNOWN).status_code == 404


@pytest.mark.parametrize("deps", ["sqlite"], indirect=True)
def test_pages_work_without_redis(request: pytest.FixtureRequest, deps: Deps, path: str) -> None:
    settings = deps.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with served(replace(deps, settings=settings)) as address, browser(address) as client:
        assert client.get(path).status_code == 200
        assert client.get(UNKNOWN).status_code == 404
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("deps", ["sqlite"], indirect=True)
def test_a_proxy_tells_whose_address_it_is(deps: Deps, path: str) -> None:
    with served(deps) as address, browser(address) as client:

        def guess(of: str) -> httpx.Response:
            return client.get("/l/no-token", headers={"x-forwarded-for": of})

        while guess("2001:db8::1").status_code == 404:
            pass
        assert guess("2001:db8::2").status_code == 429, "the same /64"
        assert guess("192.0.2.7").status_code == 404
