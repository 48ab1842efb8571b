"""Customers with real browsers at a whole installation: what they press, where it leads, what the page says then."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from cli.stack import Plan, Stack
from contracts.commands import LinkReissue
from contracts.ids import new_id
from contracts.messages import Locale
from db import invoices
from tests.browser.window import PATIENCE_SECONDS, Window, button, go_on_until, is_at, pay_button
from tests.customer import change, eventually, link_of, path_of, rows
from tests.support import put
from web.texts import LANGUAGES, TEXTS

ACCOUNT, CRM = "bank", "acme"
AMOUNT_MINOR = 15_000_000

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Bill:
    """One invoice, and the address that its customer got."""

    number: str
    link: Any
    url: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    plan = Plan(
        folder=tmp_path_factory.mktemp("paying"),
        families={ACCOUNT: ("idempotent", "at_pay", "AMD")},
        crms=(CRM,),
        time_scale=0.1,
        poll_seconds=0.2,
        settle="PT1S",
    )
    with Stack(plan) as stack:
        yield stack


@pytest.fixture
def bill(stack: Stack) -> Callable[..., Bill]:
    """Sends invoices as the CRM does."""

    def make(**changes: Any) -> Bill:
        number = f"INV-{next(_numbers)}"
        data = {
            "crm": CRM,
            "invoice_id": number,
            "version": 1,
            "amount_minor": AMOUNT_MINOR,
            "currency": "AMD",
            "purpose": "Կանխավճար, договор 17",
            "customer": {"name": "Ani", "locale": "en"},
        }
        stack.crms[CRM].control.create([data | changes])
        eventually(lambda: _is_linked(stack, number), PATIENCE_SECONDS)
        return newest(stack, number)

    return make


def _is_linked(stack: Stack, number: str) -> bool:
    with stack.deps.database.read() as tx:
        known = invoices.find(tx, CRM, number) is not None
    return known and link_of(stack.deps, number) is not None


def newest(stack: Stack, number: str) -> Bill:
    link = link_of(stack.deps, number)
    return Bill(number, link, stack.base_url + path_of(stack.deps, link))


def orders_of(stack: Stack, bill: Bill) -> list[dict[str, Any]]:
    """What the provider knows of a link's attempts."""
    with stack.deps.database.read() as tx:
        found = tx.connection.exec_driver_sql("SELECT reference FROM attempts WHERE link_id = ?", (bill.link.id,))
        references = {row[0] for row in found}
    return [order for order in stack.provider.control.orders(ACCOUNT) if order["reference"] in references]


def reissue(stack: Stack, old: Bill) -> Bill:
    """Give the customer another link, as a manager does."""
    wish = {"crm": CRM, "invoice_id": old.number, "actor": "17", "reason": "lost the first one", "wish": new_id()}
    put(stack.deps.database, LinkReissue(**wish))
    eventually(lambda: link_of(stack.deps, old.number).id != old.link.id, PATIENCE_SECONDS)
    return newest(stack, old.number)


def at_provider(stack: Stack, page: Page, action: str) -> None:
    """Press a button of the provider's page."""
    assert page.url.startswith(f"{stack.provider.base_url}/pay/")
    page.locator(f"button[value={action}]").click()


both_ways = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


@both_ways
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_customer_pays_and_keeps_a_receipt(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], language: Locale, script: bool
) -> None:
    made = bill(customer={"name": "Ani", "locale": language})
    window = open_window(script=script)
    page = window.page

    page.goto(made.url)
    is_at(page, "ready")
    expect(page.locator("html")).to_have_attribute("lang", language)
    pay_button(page).click()
    at_provider(stack, page, "pay")
    go_on_until(window, page, "paid", language)

    expect(page.get_by_role("heading", level=1)).to_have_text(TEXTS["paid.title"][language])
    receipt = page.locator("main").inner_text()
    (order,) = orders_of(stack, made)
    assert order["captured_minor"] == AMOUNT_MINOR
    for told in (made.number, "Կանխավճար, договор 17", "֏", TEXTS["time.zone"][language], made.link.id[-8:]):
        assert told in receipt
    assert order["transactions"][0]["id"] in receipt
    assert TEXTS["print.text"][language] in receipt
    expect(button(page, "button.print", language)).to_be_visible(visible=script)
    assert page.locator("form").count() == 0


@both_ways
def test_a_declined_customer_tries_again_and_pays_once(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    made = bill()
    window = open_window(script=script)
    page = window.page
    page.goto(made.url)
    pay_button(page).click()
    at_provider(stack, page, "decline")
    go_on_until(window, page, "failed")

    button(page, "button.again").click()
    at_provider(stack, page, "pay")
    go_on_until(window, page, "paid")

    (order,) = orders_of(stack, made)
    assert order["captured_minor"] == AMOUNT_MINOR


@both_ways
def test_a_payment_that_takes_a_while_says_when_the_page_may_be_closed(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    made = bill()
    window = open_window(script=script)
    page = window.page
    page.goto(made.url)
    pay_button(page).click()
    (order,) = orders_of(stack, made)
    stack.provider.control.act(order["reference"], "pay_later", account=ACCOUNT, seconds=3600)
    at_provider(stack, page, "abandon")  # his way back
    go_on_until(window, page, "processing")

    assert "You may close this page now" in page.locator("main").inner_text()
    assert pay_button(page).count() == 0
    stack.provider.control.act(order["reference"], "pay", account=ACCOUNT)
    go_on_until(window, page, "paid")


@both_ways
def test_who_comes_too_late_asks_for_a_new_link(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    made = bill()
    change(stack.deps, f"UPDATE links SET expires_at = created_at WHERE id = '{made.link.id}'")
    page = open_window(script=script).page
    page.goto(made.url)
    is_at(page, "expired")
    assert pay_button(page).count() == 0

    button(page, "button.ask").click()

    expect(page.get_by_text(TEXTS["asked.text"]["en"])).to_be_visible()
    eventually(lambda: _tasks_of(stack, made) != [], PATIENCE_SECONDS)
    (task,) = _tasks_of(stack, made)
    assert "asks for a new link" in task["body"]


def _tasks_of(stack: Stack, bill: Bill) -> list[dict[str, Any]]:
    return [task for task in stack.crms[CRM].control.tasks() if bill.number in str(task["invoice"])]


@both_ways
def test_money_by_the_old_link_pays_the_invoice_and_the_new_link_takes_no_second_payment(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    old = bill()
    page = open_window(script=script).page
    page.goto(old.url)
    pay_button(page).click()
    assert "/pay/" in page.url
    new = reissue(stack, old)
    page.goto(old.url)
    is_at(page, "replaced")
    assert pay_button(page).count() == 0
    page.goto(new.url)
    is_at(page, "ready")

    # The money was on its way when the old order was closed.
    stack.provider.control.act(orders_of(stack, old)[0]["reference"], "pay", account=ACCOUNT, force=True)
    status = f"SELECT status FROM invoices WHERE id = '{old.link.invoice_id}'"
    eventually(lambda: rows(stack.deps, status) == [("paid",)], PATIENCE_SECONDS)

    pay_button(page).click()  # the page is from before: he is not led to pay a second time
    is_at(page, "paid_elsewhere")
    assert pay_button(page).count() == 0
    page.goto(old.url)
    is_at(page, "paid")
    assert orders_of(stack, new) == []


@both_ways
def test_two_tabs_and_two_devices_lead_to_one_order(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    made = bill()
    desk, telephone = open_window(script=script), open_window(script=script)
    first, second, third = desk.page, desk.new_tab(), telephone.page
    for page in (first, second, third):
        page.goto(made.url)
        is_at(page, "ready")

    for page in (first, second):
        pay_button(page).click()
    assert re.match(r".*/pay/", first.url)
    assert second.url == first.url
    fourth = telephone.new_tab()
    fourth.goto(made.url)
    button(fourth, "button.continue").click()
    assert fourth.url == first.url
    third.reload()
    is_at(third, "in_progress")
    assert "the same payment" in third.locator("main").inner_text()

    at_provider(stack, first, "pay")
    go_on_until(desk, first, "paid")
    go_on_until(telephone, third, "paid")
    (order,) = orders_of(stack, made)
    assert order["captured_minor"] == AMOUNT_MINOR


@both_ways
def test_a_customer_changes_the_language_and_keeps_it_to_the_end(
    stack: Stack, bill: Callable[..., Bill], open_window: Callable[..., Window], script: bool
) -> None:
    made = bill()
    window = open_window(script=script)
    page = window.page
    page.goto(made.url)
    page.get_by_role("link", name="Հայերեն").click()
    expect(page.locator("html")).to_have_attribute("lang", "hy")

    pay_button(page).click()
    at_provider(stack, page, "pay")
    page.wait_for_url(f"{made.url}**")
    page.get_by_role("link", name="Հայերեն").click()  # the bank knows the customer's own language alone
    go_on_until(window, page, "paid", "hy")
    expect(page.locator("html")).to_have_attribute("lang", "hy")
