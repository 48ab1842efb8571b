"""Pages that wait: they say that something changed and leave it to the customer to go on (docs/decisions/0012)."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk, open_desk
from tests.browser.window import Window, button, is_at, pay_button
from tests.customer import run_once
from web.texts import LANGUAGES, TEXTS

# Longer than the script's first looks.
A_WHILE_MS = 2500


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("waiting")) as desk:
        yield desk


def is_told(page: Page, language: str = "en") -> None:
    expect(page.locator("[data-news]")).to_have_text(TEXTS["news.text"][language])  # type: ignore[index]


@pytest.mark.parametrize("language", LANGUAGES)
def test_news_are_told_and_nobody_is_moved(desk: Desk, open_window: Callable[..., Window], language: str) -> None:
    case = desk.make().open()
    window = open_window()
    page = window.page
    page.goto(f"{case.url}?lang={language}&returned=1")
    is_at(page, "checking")
    news = page.locator("[data-news]")
    assert (news.get_attribute("role"), news.inner_text()) == ("status", "")
    documents = [request for request in window.requests if request.is_navigation_request()]

    case.act("pay")

    is_told(page, language)
    result = button(page, "button.result", language)  # type: ignore[arg-type]
    expect(result).to_be_focused()
    assert pay_button(page).is_hidden(), "what is over is not offered any more"
    page.wait_for_timeout(A_WHILE_MS)
    assert [request for request in window.requests if request.is_navigation_request()] == documents
    is_at(page, "checking")

    page.keyboard.press("Enter")
    is_at(page, "paid")


def test_the_focus_stays_where_the_customer_has_it(desk: Desk, open_window: Callable[..., Window]) -> None:
    case = desk.make().open()
    page = open_window().page
    page.goto(f"{case.url}?returned=1")
    pay_button(page).focus()

    case.act("pay")

    is_told(page)
    expect(pay_button(page)).to_be_focused()
    expect(button(page, "button.result")).to_be_visible()


def test_another_tab_learns_that_the_payment_is_over(desk: Desk, open_window: Callable[..., Window]) -> None:
    case = desk.make().open()
    page = open_window().page
    page.goto(case.url)
    is_at(page, "in_progress")

    case.act("pay")

    is_told(page)
    button(page, "button.result").click()
    is_at(page, "paid")


def test_a_page_goes_on_asking_after_its_server_was_away(desk: Desk, open_window: Callable[..., Window]) -> None:
    case = desk.make().open()
    window = open_window()
    page = window.page
    page.route("**/status", lambda route: route.fulfill(status=200, body="<html>a proxy's own page"))
    page.goto(f"{case.url}?returned=1")
    with page.expect_response("**/status"):
        pass
    page.unroute("**/status")
    case.act("pay")

    is_told(page)


def test_without_a_script_nothing_happens_until_the_customer_checks(
    desk: Desk, open_window: Callable[..., Window]
) -> None:
    case = desk.make().open()
    window = open_window(script=False)
    page = window.page
    page.goto(f"{case.url}?returned=1")
    is_at(page, "checking")
    before = len(window.requests)
    case.act("pay")
    page.wait_for_timeout(A_WHILE_MS)
    assert len(window.requests) == before

    button(page, "button.check").click()
    is_at(page, "paid")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_who_pressed_pay_comes_to_a_slow_provider(
    desk: Desk, open_window: Callable[..., Window], monkeypatch: pytest.MonkeyPatch, script: bool
) -> None:
    monkeypatch.setattr("web.paying.WAIT_SECONDS", 0.3)
    case = desk.make()
    page = open_window(script=script).page
    page.goto(case.url)
    pay_button(page).click()
    is_at(page, "preparing")

    run_once(desk.deps)

    if not script:
        button(page, "button.open").click()
    page.wait_for_url(f"{desk.provider.base_url}/pay/**")


def test_a_customer_who_steps_back_goes_on_with_the_same_payment(
    desk: Desk, open_window: Callable[..., Window]
) -> None:
    case = desk.make().open()
    page = open_window().page
    page.goto(case.url)
    button(page, "button.continue").click()
    page.wait_for_url(f"{desk.provider.base_url}/pay/**")
    first = page.url

    page.go_back()
    is_at(page, "in_progress")
    button(page, "button.continue").click()
    page.wait_for_url(first)
