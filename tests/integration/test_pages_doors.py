"""What the pages show, to whom, in which language, and what they keep to themselves."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from gateways.errors import Refused
from gateways.providers.base import Capabilities, CreateMode, Opens, OrderRequest, ProviderOrder
from runtime.deps import Deps
from runtime.tokens import TOKEN_LENGTH
from tests.customer import (
    Workers,
    attempts_of,
    browser,
    change,
    fresh_url,
    link_of,
    make_deps,
    make_invoice,
    path_of,
    rows,
    served,
    state_of,
)
from tests.services.postgres import conninfo
from web.rendering import qr_code

BASE_URL = "http://127.0.0.9:9/bank"


class FakeProvider:
    """Opens orders without a network; `page` is where the customer would pay."""

    name = "bank"
    capabilities = Capabilities(
        create=CreateMode.IDEMPOTENT,
        opens=Opens.AT_PAY,
        session_life=timedelta(minutes=20),
        settle=timedelta(0),
        lookup=False,
        lookup_gives_page=False,
        cancel=False,
        refund_idempotent=True,
        signed_events=True,
    )

    def __init__(self) -> None:
        self.page = "https://pay.bank.example/order/1"
        self.refuses = False

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        if self.refuses:
            raise Refused("the account is closed", code="closed")
        return ProviderOrder(order.reference, f"order-{order.reference}", self.page, None)

    def close(self) -> None:
        """Nothing to release."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was not expected")


@dataclass(frozen=True)
class Door:
    """A running server on one of the two databases."""

    deps: Deps
    provider: FakeProvider
    address: str


@dataclass(frozen=True)
class Case:
    """One invoice with its page."""

    number: str
    link: Any
    path: str


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    provider = FakeProvider()
    url = fresh_url(request, tmp_path_factory.mktemp("pages"))
    deps = make_deps(url, provider, BASE_URL, guess_limit=0)  # type: ignore[arg-type]  # as much of one as is used
    with served(deps) as address:
        yield Door(deps, provider, address)
    deps.database.dispose()


@pytest.fixture
def deps(door: Door) -> Deps:
    return door.deps


@pytest.fixture
def address(door: Door) -> str:
    return door.address


@pytest.fixture
def provider(door: Door) -> FakeProvider:
    door.provider.__init__()  # type: ignore[misc]  # as good as new
    return door.provider


@pytest.fixture
def client(address: str, provider: FakeProvider) -> Iterator[httpx.Client]:
    with browser(address) as client:
        yield client


@pytest.fixture
def make_case(deps: Deps) -> Callable[..., Case]:
    def make(**changes: Any) -> Case:
        number = f"INV-{next(_numbers)}"
        make_invoice(deps, number, **changes)
        link = link_of(deps, number)
        return Case(number, link, path_of(deps, link))

    return make


@pytest.fixture
def case(make_case: Callable[..., Case]) -> Case:
    return make_case()


_numbers = count(1000)


# --- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("UPDATE invoices SET status = 'paid', paid_at = created_at", "paid_elsewhere"),
        ("UPDATE invoices SET status = 'refunded'", "refunded"),
        ("UPDATE invoices SET status = 'manual_review'", "review"),
        ("UPDATE invoices SET status = 'cancelled'", "cancelled"),
        ("UPDATE invoices SET status = 'failed'", "ready"),
        ("UPDATE links SET state = 'cancelled'", "cancelled"),
        ("UPDATE links SET state = 'superseded'", "replaced"),
        ("UPDATE links SET state = 'expired'", "expired"),
        ("UPDATE links SET state = 'settled'", "review"),
        ("UPDATE links SET expires_at = created_at", "expired"),
        ("UPDATE invoices SET paid_minor = 5", "partly_paid"),
    ],
)
@pytest.mark.parametrize("language", ["hy", "ru", "en"])
def test_every_state_has_its_page_and_only_payable_ones_a_button(
    deps: Deps, client: httpx.Client, case: Case, statement: str, state: str, language: str
) -> None:
    where = "invoice_id" if "links" in statement else "id"
    change(deps, f"{statement} WHERE {where} = '{case.link.invoice_id}'")

    page = client.get(f"{case.path}?lang={language}")

    assert page.status_code == 200
    assert state_of(page) == state
    assert f'<html lang="{language}">' in page.text
    assert (f"{case.path}/pay" in page.text) is (state == "ready")
    assert (f"{case.path}/ask" in page.text) is (state == "expired")
    answer = client.post(f"{case.path}/pay?lang={language}") if state != "ready" else None
    if answer is not None:
        back = case.path if language == "en" else f"{case.path}?lang={language}"
        assert (answer.status_code, answer.headers["location"]) == (303, back)
        assert attempts_of(deps, case.link.id) == []


def test_a_link_is_drawn_as_a_code_while_it_can_be_paid(deps: Deps, client: httpx.Client, case: Case) -> None:
    page = client.get(case.path)
    assert f'<img src="{case.path}/qr.svg"' in page.text
    drawn = client.get(f"{case.path}/qr.svg")
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml")
    assert drawn.headers["cache-control"] == "no-store"
    assert drawn.content == qr_code(f"{deps.settings.public_base_url}{case.path}")
    assert drawn.content.startswith(b"<?xml")
    assert b"<script" not in drawn.content

    change(deps, f"UPDATE links SET state = 'expired' WHERE id = '{case.link.id}'")
    assert client.get(f"{case.path}/qr.svg").status_code == 200, "a page of a moment ago may still ask for it"
    assert client.get(f"/l/{'A' * TOKEN_LENGTH}/qr.svg").status_code == 404
    assert "qr.svg" not in client.get(case.path).text


def test_the_wish_for_a_new_link_is_passed_on_once_a_day(deps: Deps, client: httpx.Client, case: Case) -> None:
    client.post(f"{case.path}/ask")
    wanted = f"SELECT count(*) FROM messages WHERE type = 'link.wanted.v1' AND subject = '{case.link.invoice_id}'"
    assert rows(deps, wanted) == [(0,)], "a link that can be paid needs no other"
    change(deps, f"UPDATE links SET state = 'expired' WHERE id = '{case.link.id}'")

    asked = [client.post(f"{case.path}/ask?lang=ru") for _ in range(5)]

    assert {(one.status_code, one.headers["location"]) for one in asked} == {(303, f"{case.path}?lang=ru&asked=1")}
    assert "Ваша просьба передана продавцу." in client.get(asked[0].headers["location"]).text
    assert rows(deps, wanted) == [(1,)]
    assert rows(deps, "SELECT count(*) FROM message_duplicates") == [(0,)], "who presses again fills no table"
    assert client.get(f"{case.path}/ask").status_code == 303
    stranger = client.post(f"{case.path}/ask", headers={"sec-fetch-site": "cross-site"})
    assert stranger.status_code == 403


def test_a_page_says_what_it_is_for_and_nothing_personal(deps: Deps, client: httpx.Client, case: Case) -> None:
    page = client.get(case.path).text

    assert case.number in page
    assert "Կանխավճար &lt;b&gt;17&lt;/b&gt;" in page, "what the CRM sent is escaped"
    assert case.link.id[-8:] in page
    assert "Ani" not in page
    assert "bank" not in page
    assert BASE_URL not in page


def test_a_refused_order_is_a_failed_page_with_another_try(
    deps: Deps, client: httpx.Client, case: Case, provider: FakeProvider
) -> None:
    provider.refuses = True
    with Workers(deps):
        answer = client.post(f"{case.path}/pay")
        assert (answer.status_code, answer.headers["location"]) == (303, case.path)
        page = client.get(case.path)
        assert state_of(page) == "failed"
        assert "Try again" in page.text
        assert len(attempts_of(deps, case.link.id)) == 1, "no other attempt is made unasked"

        provider.refuses = False
        assert client.post(f"{case.path}/pay").headers["location"] == provider.page


def test_a_lapsed_session_is_replaced_where_nobody_can_be_asked(deps: Deps, client: httpx.Client, case: Case) -> None:
    with Workers(deps):
        client.post(f"{case.path}/pay")
        change(deps, f"UPDATE attempts SET expires_at = created_at WHERE link_id = '{case.link.id}'")

        assert client.post(f"{case.path}/pay").status_code == 303

    assert [state for state, _ in attempts_of(deps, case.link.id)] == ["expired", "open"]


def test_money_on_its_way_by_the_link_before_holds_the_new_one_back(
    deps: Deps, client: httpx.Client, case: Case
) -> None:
    with Workers(deps):
        client.post(f"{case.path}/pay")
    make_invoice(deps, case.number, version=2, amount_minor=100)
    change(deps, f"UPDATE attempts SET state = 'processing' WHERE link_id = '{case.link.id}'")
    new = link_of(deps, case.number)
    path = path_of(deps, new)
    assert new.id != case.link.id

    page = client.get(path)

    assert state_of(page) == "processing"
    assert "<form" not in page.text
    assert client.post(f"{path}/pay").headers["location"] == path
    assert attempts_of(deps, new.id) == []


def test_without_an_account_the_page_says_that_payment_is_not_possible(
    deps: Deps, client: httpx.Client, case: Case
) -> None:
    change(deps, f"UPDATE invoices SET account = 'gone' WHERE id = '{case.link.invoice_id}'")

    answer = client.post(f"{case.path}/pay")

    assert answer.status_code == 503
    assert state_of(answer) == "unavailable"


@pytest.mark.parametrize(
    ("page", "allowed"),
    [
        ("https://pay.bank.example/order/1", True),
        ("http://127.0.0.9:8080/order/1", True),
        ("http://pay.bank.example/order/1", False),
        ("http://127.0.0.9@evil.example/", False),
        ("https://user@evil.example/", False),
        ("javascript:alert(1)", False),
        ("//evil.example/", False),
        ("/l/elsewhere", False),
        ("https://[broken/", False),
        ("https://bank.example/\r\nset-cookie: a=b", False),
    ],
)
def test_trap_30_the_browser_is_sent_to_the_providers_page_alone(
    deps: Deps, client: httpx.Client, case: Case, provider: FakeProvider, page: str, allowed: bool
) -> None:
    provider.page = page
    with Workers(deps):
        answer = client.post(f"{case.path}/pay")

    assert answer.status_code == 303
    assert answer.headers["location"] == (page if allowed else case.path)


# --- who may press ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8080"}, False),
        ({"origin": "{address}"}, True),
        ({"origin": "http://127.0.0.1:8080"}, True),  # the public base URL, behind a proxy that changes Host
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://[broken"}, False),
        ({"origin": "null"}, False),
        ({}, False),
    ],
)
def test_pay_is_pressed_on_our_own_page(
    deps: Deps, address: str, case: Case, headers: dict[str, str], allowed: bool
) -> None:
    sent = {name: value.format(address=address) for name, value in headers.items()}
    with Workers(deps), browser(address, sent) as client:
        answer = client.post(f"{case.path}/pay")

    assert answer.status_code == (303 if allowed else 403)
    assert len(attempts_of(deps, case.link.id)) == (1 if allowed else 0)
    if not allowed:
        assert state_of(answer) == "refused"


@pytest.mark.parametrize("headers", [{}, {"origin": "null"}])
def test_an_old_browser_presses_by_the_forms_hidden_field(
    deps: Deps, address: str, case: Case, headers: dict[str, str]
) -> None:
    with Workers(deps), browser(address, headers) as client:
        field = re.search(r'name="form" value="([0-9a-f]+)"', client.get(case.path).text)
        assert field is not None
        assert client.post(f"{case.path}/pay", data={"form": "x" + field[1][1:]}).status_code == 403
        assert client.post(f"{case.path}/pay", content=b"form=%ff\xff").status_code == 403
        assert client.post(f"{case.path}/pay", content=b"form=" + b"a" * 10_000).status_code == 403
        assert client.post(f"{case.path}/pay", data={"form": field[1]}).status_code == 303


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["A" * TOKEN_LENGTH, "A" * (TOKEN_LENGTH - 1), "A" * 5000, "ա" * TOKEN_LENGTH, "A" * 42 + "%00", "A" * 42 + "'"],
)
def test_trap_29_a_wrong_token_and_an_unknown_one_are_the_same_page(
    deps: Deps, client: httpx.Client, token: str
) -> None:
    expected = client.get(f"/l/{'B' * TOKEN_LENGTH}")

    answers = [client.get(f"/l/{token}{end}") for end in ("", "/continue", "/return")]
    answers.append(client.post(f"/l/{token}/pay"))

    for answer in answers:
        assert answer.status_code == 404
        assert answer.content == expected.content


def test_the_not_found_page_speaks_the_browsers_language(client: httpx.Client) -> None:
    page = client.get("/l/x", headers={"accept-language": "de-DE,ru-RU;q=0.9,en;q=0.8"})

    assert '<html lang="ru">' in page.text


def test_a_path_with_a_slash_behind_it_is_not_led_on(client: httpx.Client, case: Case) -> None:
    assert client.get(f"{case.path}/").status_code == 404


# --- what stays inside ------------------------------------------------------------------------------------------------


def test_pages_keep_the_token_to_themselves(deps: Deps, client: httpx.Client, case: Case) -> None:
    with Workers(deps):
        answers = [
            client.get(case.path),
            client.get(f"{case.path}/status"),
            client.get(f"{case.path}/return"),
            client.get(f"{case.path}/continue"),
            client.post(f"{case.path}/pay"),
            client.get("/l/nobody"),
            client.post(f"{case.path}/pay", headers={"sec-fetch-site": "cross-site"}),
        ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-robots-tag"].startswith("noindex")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.headers["x-request-id"]) >= 8
        assert "<script>" not in answer.text
        assert "style=" not in answer.text


def test_the_form_may_lead_to_the_provider_without_naming_it(client: httpx.Client, case: Case) -> None:
    policy = client.get(case.path).headers["content-security-policy"]

    assert "form-action 'self' https: http://127.0.0.9:*;" in policy


def rename_table(deps: Deps, name: str, to: str) -> None:
    """Change the schema, on a connection of its own: psycopg deallocates there what was prepared."""
    statement = f"ALTER TABLE {name} RENAME TO {to}"
    if deps.database.is_sqlite:
        change(deps, statement)
        return
    with psycopg.connect(conninfo(deps.settings.database_url)) as connection:
        connection.execute(statement.encode())


def test_no_log_line_holds_a_token(
    deps: Deps, client: httpx.Client, case: Case, capfd: pytest.CaptureFixture[str]
) -> None:
    token = case.path.removeprefix("/l/")
    with capture_logs() as lines, Workers(deps):
        client.get(case.path)
        client.post(f"{case.path}/pay")
        client.get(f"{case.path}/return")
        client.get(f"{case.path}/nothing-here")
        rename_table(deps, "links", "hidden")
        assert client.get(case.path).status_code in (500, 503)
        rename_table(deps, "hidden", "links")

    assert any(line["event"] == "page.pay" for line in lines)
    assert token not in json.dumps(lines, default=str)
    written = capfd.readouterr()
    assert token not in written.out + written.err


def test_every_answer_names_its_request(deps: Deps, client: httpx.Client, case: Case) -> None:
    given = "crm-request-0001"
    assert client.get(case.path, headers={"x-request-id": given}).headers["x-request-id"] == given
    assert client.get("/nowhere", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    for answer in (client.get("/livez"), client.put("/l/x"), client.get("/assets/none"), client.get("/webhooks/none")):
        assert re.fullmatch(r"[0-9a-z]{26}", answer.headers["x-request-id"])

    with Workers(deps):
        client.post(f"{case.path}/pay", headers={"x-request-id": given})
    asked = "SELECT request_id FROM message_history WHERE type = 'checkout.start.v1'"
    assert rows(deps, f"{asked} AND subject = '{case.link.invoice_id}'") == [(given,)]


def test_the_pages_files_are_served(client: httpx.Client) -> None:
    assert client.get("/assets/page.css").headers["content-type"].startswith("text/css")
    assert client.get("/assets/page.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/assets/..%2fpages.py").status_code == 404


# --- languages --------------------------------------------------------------------------------------------------------


def test_the_language_is_the_customers_unless_he_chooses(client: httpx.Client, make_case: Callable[..., Case]) -> None:
    case = make_case(customer={"locale": "hy"})

    assert '<html lang="hy">' in client.get(case.path).text
    chosen = client.get(f"{case.path}?lang=ru")
    assert '<html lang="ru">' in chosen.text
    assert f'action="{case.path}/pay?lang=ru"' in chosen.text
    assert '<html lang="hy">' in client.get(f"{case.path}?lang=xx").text


# --- health -----------------------------------------------------------------------------------------------------------


def test_ready_means_that_the_database_answers_with_our_schema(deps: Deps, client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}

    ((real,),) = rows(deps, "SELECT version_num FROM alembic_version")
    change(deps, "UPDATE alembic_version SET version_num = '0000'")
    answer = client.get("/readyz")
    change(deps, f"UPDATE alembic_version SET version_num = '{real}'")

    assert answer.status_code == 503
    assert "paylinks migrate" in answer.json()["reason"]
    assert client.get("/livez").status_code == 200
