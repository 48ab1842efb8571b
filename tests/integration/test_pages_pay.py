"""Pay, return and what the page says, with a real provider process, on PostgreSQL and SQLite alike."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from runtime.checkout import press_pay
from runtime.deps import Deps
from sandbox.launch import ProviderProcess
from tests.customer import (
    Workers,
    attempts_of,
    browser,
    change,
    eventually,
    link_of,
    make_deps,
    make_invoice,
    path_of,
    rows,
    run_once,
    sandbox_account,
    served,
    state_of,
)


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    with ProviderProcess() as process:
        yield process


@pytest.fixture
def deps(clean_url: str, provider: ProviderProcess) -> Iterator[Deps]:
    account = sandbox_account(provider)
    made = make_deps(clean_url, account, provider.base_url)
    yield made
    account.close()
    made.database.dispose()


@pytest.fixture
def address(deps: Deps) -> Iterator[str]:
    with served(deps) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with browser(address) as client:
        yield client


def test_pay_leads_to_the_providers_page(deps: Deps, client: httpx.Client, provider: ProviderProcess) -> None:
    make_invoice(deps)
    path = path_of(deps, link_of(deps))

    with Workers(deps):
        began = time.monotonic()
        answer = client.post(f"{path}/pay")

    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{provider.base_url}/pay/")
    assert time.monotonic() - began < 2
    page = client.get(path)
    assert state_of(page) == "in_progress"
    assert "Continue the payment" in page.text


def test_looking_changes_nothing(deps: Deps, client: httpx.Client) -> None:
    make_invoice(deps)
    link = link_of(deps)
    before = rows(deps, "SELECT count(*) FROM messages"), rows(deps, "SELECT * FROM links")

    for path in ("", "/status", "/continue", "/pay", "?returned=1&n=3"):
        client.get(path_of(deps, link) + path)
        client.head(path_of(deps, link) + path)

    assert (rows(deps, "SELECT count(*) FROM messages"), rows(deps, "SELECT * FROM links")) == before
    assert attempts_of(deps, link.id) == []


def test_two_tabs_and_two_people_share_one_attempt(deps: Deps, client: httpx.Client, provider: ProviderProcess) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)

    with Workers(deps), ThreadPoolExecutor(6) as people:
        answers = list(people.map(lambda _: client.post(f"{path}/pay"), range(6)))

    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    ((state, reference),) = attempts_of(deps, link.id)
    assert state == "open"
    assert [order["reference"] for order in provider.control.orders() if order["reference"] == reference] == [reference]


def test_a_paid_invoice_says_so_only_when_the_provider_does(
    deps: Deps, client: httpx.Client, provider: ProviderProcess
) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps) as workers:
        client.post(f"{path}/pay")
        workers.halt()
        ((_, reference),) = attempts_of(deps, link.id)

        back = client.get(f"{path}/return")
        assert (back.status_code, back.headers["location"]) == (303, f"{path}?returned=1")
        assert state_of(client.get(back.headers["location"])) == "checking"
        assert client.get(f"{path}/status").json()["now"] == "in_progress/open"

        provider.control.act(reference, "pay")
        assert state_of(client.get(back.headers["location"])) == "checking", "a redirect is no proof"

        workers.go()
        eventually(lambda: client.get(f"{path}/status").json()["state"] == "paid")

    page = client.get(path)
    assert state_of(page) == "paid"
    assert "<form" not in page.text
    ((number,),) = rows(deps, "SELECT provider_transaction_id FROM transactions")
    assert number in page.text
    refused = client.post(f"{path}/pay")
    assert (refused.status_code, refused.headers["location"]) == (303, path)


def test_returning_asks_once_however_often(deps: Deps, client: httpx.Client) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps):
        client.post(f"{path}/pay")
    checks = "SELECT count(*) FROM messages WHERE type = 'attempt.check.v1'"
    assert rows(deps, checks) == [(1,)], "the first look is scheduled"

    for _ in range(5):
        client.get(f"{path}/return")
        client.post(f"{path}/return", headers={"sec-fetch-site": "cross-site"})

    assert rows(deps, checks) == [(1,)]
    due = "SELECT count(*) FROM messages WHERE type = 'attempt.check.v1' AND available_at <= {}"
    now = "strftime('%Y-%m-%d %H:%M:%f000', 'now')" if deps.database.is_sqlite else "clock_timestamp()"
    assert rows(deps, due.format(now)) == [(1,)], "and hastened by the return"


def test_a_declined_customer_may_try_again(deps: Deps, client: httpx.Client, provider: ProviderProcess) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps):
        client.post(f"{path}/pay")
        provider.control.act(attempts_of(deps, link.id)[0][1], "decline")
        client.get(f"{path}/return")
        eventually(lambda: client.get(f"{path}/status").json()["state"] == "failed")
        page = client.get(f"{path}?returned=1")
        again = client.post(f"{path}/pay")

        assert state_of(page) == "failed"
        assert "Try again" in page.text
        assert again.status_code == 303
        assert "/pay/" in again.headers["location"]
        assert state_of(client.get(path)) == "in_progress", "the decline was of the try before"
        assert len(attempts_of(deps, link.id)) == 1

        provider.control.act(attempts_of(deps, link.id)[0][1], "decline")
        client.get(f"{path}/return")
        eventually(lambda: client.get(f"{path}/status").json()["state"] == "failed")


def test_a_session_that_lapsed_is_asked_about_and_replaced(
    deps: Deps, client: httpx.Client, provider: ProviderProcess
) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps):
        first = client.post(f"{path}/pay").headers["location"]
        provider.control.act(attempts_of(deps, link.id)[0][1], "expire")
        change(deps, "UPDATE attempts SET expires_at = created_at")

        second = client.post(f"{path}/pay")

    assert second.status_code == 303
    assert second.headers["location"].startswith(f"{provider.base_url}/pay/")
    assert second.headers["location"] != first
    assert [state for state, _ in attempts_of(deps, link.id)] == ["expired", "open"]


def test_a_lapsed_session_that_was_paid_takes_no_second_payment(
    deps: Deps, client: httpx.Client, provider: ProviderProcess
) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps):
        client.post(f"{path}/pay")
        provider.control.act(attempts_of(deps, link.id)[0][1], "pay")
        change(deps, "UPDATE attempts SET expires_at = created_at")

        answer = client.post(f"{path}/pay")

    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert [state for state, _ in attempts_of(deps, link.id)] == ["paid"]
    assert state_of(client.get(path)) == "paid"


def test_a_slow_provider_leads_to_a_page_that_waits_on(
    deps: Deps, client: httpx.Client, provider: ProviderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.paying.WAIT_SECONDS", 0.3)
    make_invoice(deps)
    path = path_of(deps, link_of(deps))

    answer = client.post(f"{path}/pay")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{path}/continue?t=")
    waiting = client.get(answer.headers["location"])
    assert state_of(waiting) == "preparing"
    assert provider.base_url not in waiting.text
    onward = re.search(r'href="([^"]+)" data-onward', waiting.text)
    assert onward
    path_onward = onward[1].replace("&amp;", "&")
    assert state_of(client.get(path_onward)) == "preparing", "pressed there, he waits a while, and sees the same page"

    with ThreadPoolExecutor(1) as patient:
        monkeypatch.setattr("web.paying.WAIT_SECONDS", 10)
        pressed = patient.submit(client.get, path_onward)
        time.sleep(0.2)
        run_once(deps)
        assert pressed.result().headers["location"].startswith(f"{provider.base_url}/pay/")
    onward = client.get(answer.headers["location"])
    assert onward.status_code == 303
    assert onward.headers["location"].startswith(f"{provider.base_url}/pay/")


@pytest.mark.parametrize("ticket", ["", "?t=", "?t=99999999999.abc", "?t=1.x", "?t=é.ü", "?t=" + "9" * 400])
def test_nobody_continues_without_having_pressed_pay(
    deps: Deps, client: httpx.Client, provider: ProviderProcess, ticket: str
) -> None:
    make_invoice(deps)
    path = path_of(deps, link_of(deps))
    with Workers(deps):
        client.post(f"{path}/pay")

    answer = client.get(f"{path}/continue{ticket}")

    assert (answer.status_code, answer.headers["location"]) == (303, path)


def test_pay_during_a_slow_start_waits_for_the_same_attempt(deps: Deps, client: httpx.Client) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    press_pay(deps, link.id)  # somebody pressed, and nobody works

    with ThreadPoolExecutor(1) as other:
        second = other.submit(client.post, f"{path}/pay")
        time.sleep(0.3)
        run_once(deps)
        assert second.result().headers["location"].count("/pay/") == 1

    assert len(attempts_of(deps, link.id)) == 1


def test_pressing_again_hurries_what_failed_and_revives_what_gave_up(deps: Deps) -> None:
    make_invoice(deps)
    link = link_of(deps)
    press_pay(deps, link.id)
    change(deps, "UPDATE messages SET state = 'dead', failures = 8 WHERE type = 'checkout.start.v1'")

    result = press_pay(deps, link.id, request_id="request-1")

    assert result.action == "wait"
    assert rows(deps, "SELECT state, failures FROM messages WHERE type = 'checkout.start.v1'") == [("ready", 0)]
    trail = rows(deps, "SELECT actor, reason, request_id FROM audit WHERE action = 'message.retried'")
    assert trail == [("customer", "pressed Pay again", "request-1")]


def test_a_processing_payment_offers_no_second_one(deps: Deps, client: httpx.Client, provider: ProviderProcess) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    with Workers(deps):
        client.post(f"{path}/pay")
        provider.control.act(attempts_of(deps, link.id)[0][1], "pay_later", seconds=60)
        client.get(f"{path}/return")
        eventually(lambda: client.get(f"{path}/status").json()["state"] == "processing")

        page = client.get(path)
        answer = client.post(f"{path}/pay")

    assert "<form" not in page.text
    assert "Check again" in page.text
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert len(attempts_of(deps, link.id)) == 1


def test_no_page_reloads_or_moves_on_by_a_timer(deps: Deps, client: httpx.Client) -> None:
    """WCAG 2.2.1: with or without a script the customer says when."""
    make_invoice(deps)
    path = path_of(deps, link_of(deps))
    with Workers(deps):
        client.post(f"{path}/pay")
    pages = [client.get(path), client.get(f"{path}?returned=1")]
    assert [state_of(page) for page in pages] == ["in_progress", "checking"]
    for page in pages:
        assert "http-equiv" not in page.text
        assert "refresh" not in page.headers


def test_an_order_that_was_opened_early_is_no_payment_under_way(
    deps: Deps, client: httpx.Client, provider: ProviderProcess
) -> None:
    early = sandbox_account(provider, opens="early", session_life="P7D")
    early_deps = Deps(deps.settings, deps.database, deps.tokens, providers={"bank": early}, crms={})
    make_invoice(early_deps)
    link = link_of(deps)
    path = path_of(deps, link)
    assert [state for state, _ in attempts_of(deps, link.id)] == ["open"]

    assert state_of(client.get(path)) == "ready"
    assert state_of(client.get(f"{path}?returned=1")) == "checking"
    client.post(f"{path}/pay")
    assert state_of(client.get(path)) == "in_progress"
    early.close()


def test_the_language_changes_and_the_page_stays(deps: Deps, client: httpx.Client) -> None:
    make_invoice(deps)
    path = path_of(deps, link_of(deps))
    with Workers(deps):
        client.post(f"{path}/pay")
    page = client.get(f"{path}?returned=1")
    switch = re.search(r'<a href="([^"]+)" lang="hy"', page.text)
    assert switch
    other = client.get(switch[1].replace("&amp;", "&"))
    assert state_of(other) == "checking"
    assert '<html lang="hy">' in other.text


def test_the_early_attempt_of_a_waiting_customer_overtakes_the_queue(
    deps: Deps, client: httpx.Client, provider: ProviderProcess
) -> None:
    early = sandbox_account(provider, opens="early", session_life="P7D")
    deps = Deps(deps.settings, deps.database, deps.tokens, providers={"bank": early}, crms={})
    make_invoice(deps)
    change(
        deps, "UPDATE messages SET state = 'running' WHERE type = 'link.create.v1'"
    )  # as if thousands were before it
    change(deps, "UPDATE attempts SET state = 'reserved', pay_url_sealed = NULL, opened_at = NULL, expires_at = NULL")
    link = link_of(deps)

    press_pay(deps, link.id)

    assert rows(deps, "SELECT count(*) FROM messages WHERE type = 'checkout.start.v1'") == [(1,)]
    early.close()


def test_a_page_is_shown_while_the_invoice_is_locked(deps: Deps, client: httpx.Client) -> None:
    """Batch work that holds the invoice, or on SQLite the whole database, holds up no look at a page."""
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    client.get(path)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with deps.database.begin() as tx:
            tx.connection.exec_driver_sql(f"UPDATE invoices SET revision = revision WHERE id = '{link.invoice_id}'")
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        began = time.monotonic()
        assert client.get(path).status_code == 200
        assert time.monotonic() - began < 1
    finally:
        done.set()
        holder.join()


def test_pay_waits_for_the_lock_of_the_invoice(deps: Deps, client: httpx.Client) -> None:
    make_invoice(deps)
    link = link_of(deps)
    path = path_of(deps, link)
    held = threading.Event()

    def hold() -> None:
        with deps.database.begin() as tx:
            tx.connection.exec_driver_sql(f"UPDATE invoices SET revision = revision WHERE id = '{link.invoice_id}'")
            held.set()
            time.sleep(2.5)  # longer than PostgreSQL's lock time-out

    holder = threading.Thread(target=hold)
    with Workers(deps):
        holder.start()
        held.wait()
        assert client.post(f"{path}/pay").status_code == 303
    holder.join()
    assert len(attempts_of(deps, link.id)) == 1
