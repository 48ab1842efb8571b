"""Every page in every language, light and dark, on a narrow telephone: WCAG 2.2 AA as far as a program can tell.

axe-core judges what it can; what it cannot is measured here: targets, reflow, the visible focus, what is printed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect
from sqlalchemy.exc import TimeoutError as PoolTimeout

from contracts.messages import InvoiceCancelled, Locale, Policy
from contracts.statuses import FiscalStatus
from rules.pages import PageState
from runtime.deps import Deps
from tests.browser.desk import Case, Desk, open_desk
from tests.browser.window import PHONE, Window, button, is_at
from tests.customer import make_invoice, run_once, served
from tests.support import put
from web.texts import LANGUAGES, TEXTS

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# target-size is off by default, as it is new.
EVERYTHING = {
    "runOnly": {"type": "tag", "values": TAGS},
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations", "incomplete"],
}
# What another colour scheme can change.
COLOURS = {"runOnly": {"type": "tag", "values": ["cat.color"]}, "resultTypes": ["violations", "incomplete"]}
PURPOSE = "Կանխավճար պայմանագրով, предоплата по договору 2026-11/000017-XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"
# WCAG asks for 24 px; a thumb asks for this.
TARGET_PX = 44
NARROW = ViewportSize(width=320, height=640)


@dataclass(frozen=True)
class Gallery:
    """One link in each state, brought there once by what really brings a link there."""

    desk: Desk

    def address(self, name: str, language: Locale) -> str:
        """Where a page is seen; pages that must be pressed for have their own way (show)."""
        if name == "preparing":
            return self._preparing.begin().continue_url(language)
        if name == "come_back":
            return f"{self.desk.address}/back/bank"
        if name == "not_found":
            return f"{self.desk.address}/l/{'B' * 43}"
        case: Case = getattr(self, name)
        more = {"checking": "&returned=1", "asked": "&asked=1"}.get(name, "")
        return f"{case.url}?lang={language}{more}"

    def _make(self, **changes: Any) -> Case:
        return self.desk.make(purpose=PURPOSE, **changes)

    @cached_property
    def ready(self) -> Case:
        return self._make()

    @cached_property
    def in_progress(self) -> Case:
        return self._make().open()

    @cached_property
    def checking(self) -> Case:
        return self.in_progress

    @cached_property
    def _preparing(self) -> Case:
        return self._make()

    @cached_property
    def processing(self) -> Case:
        return self._make().open().act("pay_later", seconds=3600)

    @cached_property
    def paid(self) -> Case:
        return self._make().open().act("pay")

    @cached_property
    def part_refunded(self) -> Case:
        return self._make().open().act("pay").act("refund", amount_minor=1_000_000)

    @cached_property
    def refunded(self) -> Case:
        return self._fiscal(FiscalStatus.RETURNED, self._make().open().act("pay").act("refund"))

    @cached_property
    def fiscal_pending(self) -> Case:
        return self._fiscal(FiscalStatus.PENDING)

    def _fiscal(self, status: FiscalStatus, case: Case | None = None) -> Case:
        return (case or self._make().open().act("pay")).change("invoices", fiscal_status=f"'{status}'")

    @cached_property
    def failed(self) -> Case:
        return self._make().open().act("decline")

    @cached_property
    def exhausted(self) -> Case:
        return self._make(policy=Policy(attempts=1)).open().act("expire")

    @cached_property
    def expired(self) -> Case:
        return self._make().change("links", expires_at="created_at")

    @cached_property
    def asked(self) -> Case:
        return self.expired

    @cached_property
    def cancelled(self) -> Case:
        case = self._make()
        put(self.desk.deps.database, InvoiceCancelled(crm="acme", invoice_id=case.number, version=1))
        run_once(self.desk.deps)
        return case

    @cached_property
    def replaced(self) -> Case:
        case = self._make().change("links", sent_at="created_at")  # else its own amount would change
        make_invoice(self.desk.deps, case.number, version=2, amount_minor=5_000_000)
        return case

    @cached_property
    def review(self) -> Case:
        return self._make().change("invoices", status="'manual_review'")

    @cached_property
    def partly_paid(self) -> Case:
        return self._make().open().act("pay", amount_minor=5_000_000)

    @cached_property
    def rest(self) -> Case:
        return self._make(policy=Policy(partial="collect")).open().act("pay", amount_minor=5_000_000)

    @cached_property
    def rest_in_progress(self) -> Case:
        case = self._make(policy=Policy(partial="collect")).open().act("pay", amount_minor=5_000_000)
        return case.open()

    @cached_property
    def paid_elsewhere(self) -> Case:
        return self._make().change("invoices", status="'paid'", paid_at="created_at")

    @cached_property
    def unavailable(self) -> Case:
        return self._make().change("invoices", account="'gone'")


# The states of links, and the pages beside them.
STATES = [
    *(state.value for state in PageState),
    *("checking", "preparing", "part_refunded", "fiscal_pending", "asked", "rest_in_progress"),
    *("unavailable", "not_found", "refused", "trouble", "come_back"),
]
SHOWN_AS = {
    "part_refunded": "paid",
    "fiscal_pending": "paid",
    "asked": "expired",
    "rest_in_progress": "in_progress",
}
# The status that each of these answers with, which a browser notes in its console.
TOLERATED = {"not_found": 404, "refused": 403, "unavailable": 503, "trouble": 503}


class Away:
    """A database that answers nobody."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def read(self) -> NoReturn:
        raise PoolTimeout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("gallery")) as desk:
        yield desk


@pytest.fixture(scope="module")
def gallery(desk: Desk) -> Gallery:
    return Gallery(desk)


@pytest.fixture(scope="module")
def broken_address(desk: Desk) -> Iterator[str]:
    deps: Deps = replace(desk.deps, database=Away(desk.deps.database))  # type: ignore[arg-type]  # as much as is used
    with served(deps) as address:
        yield address


@pytest.fixture(scope="module")
def readers(chromium: Browser) -> Iterator[dict[Locale, Window]]:
    """One customer per language, who looks at page after page."""
    opened = {language: Window(chromium, locale=language) for language in LANGUAGES}
    yield opened
    for window in opened.values():
        window.close()


def show(gallery: Gallery, broken_address: str, window: Window, name: str, language: Locale) -> Page:
    """Let a customer come to a page."""
    page = window.page
    if name == "trouble":
        page.goto(f"{broken_address}/l/{'B' * 43}")
    elif name == "refused":
        page.goto("about:blank")  # another site's page
        page.set_content(
            f"<form method=post action='{gallery.ready.url}/pay?lang={language}'><button>Pay</button></form>"
        )
        page.locator("button").click()
    else:
        page.goto(gallery.address(name, language))
    if name == "unavailable":
        page.locator("form[action*='/pay'] button").click()
    is_at(page, SHOWN_AS.get(name, name))
    return page


def problems(page: Page, options: dict[str, Any] = EVERYTHING) -> list[str]:
    """What axe finds wrong or cannot tell, with the element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    found = page.evaluate("options => axe.run(options)", options)
    return [
        f"{kind} {rule['id']}: {node['html']} {node.get('failureSummary', '')}"
        for kind in ("violations", "incomplete")
        for rule in found[kind]
        for node in rule["nodes"]
    ]


def too_small(page: Page) -> list[str]:
    """What can be pressed and is smaller than a thumb."""
    found: list[str] = page.evaluate(
        """least => [...document.querySelectorAll("a, button, summary, input:not([type=hidden])")]
        .filter(one => one.checkVisibility())
        .map(one => [one, one.getBoundingClientRect()])
        .filter(([, box]) => box.width < least || box.height < least)
        .map(([one, box]) => `${one.outerHTML} ${box.width} x ${box.height}`)""",
        TARGET_PX,
    )
    return found


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", STATES)
def test_a_page_is_accessible(
    gallery: Gallery, broken_address: str, readers: dict[Locale, Window], name: str, language: Locale
) -> None:
    window = readers[language]
    window.tolerate(TOLERATED.get(name))
    page = show(gallery, broken_address, window, name, language)

    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.get_by_role("heading", level=1)).to_have_text(TEXTS[f"{SHOWN_AS.get(name, name)}.title"][language])
    assert problems(page) == []
    page.emulate_media(color_scheme="dark")
    assert problems(page, COLOURS) == []
    page.emulate_media(color_scheme="light")
    assert too_small(page) == []
    page.set_viewport_size(NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.set_viewport_size(PHONE)
    contact = page.get_by_text(gallery.desk.deps.settings.merchant.contact or "")
    is_last = "one => one.closest('p') === document.querySelector('main').lastElementChild"
    assert contact.evaluate(is_last), "help is in the same place on every page"
    window.check()


def test_a_text_that_is_too_pale_and_a_picture_without_words_are_found(
    gallery: Gallery, open_window: Callable[..., Window]
) -> None:
    """The judge must be able to say no."""
    page = open_window().page
    page.goto(gallery.address("ready", "en"))
    assert problems(page) == []
    page.evaluate("document.documentElement.style.setProperty('--quiet', '#aaa')")
    assert any("color-contrast" in problem for problem in problems(page))
    page.evaluate("document.querySelector('img').removeAttribute('alt'); document.querySelector('details').open = true")
    assert any("image-alt" in problem for problem in problems(page))
    page.evaluate("Object.assign(document.querySelector('main button').style, {minHeight: 0, padding: 0})")
    assert len(too_small(page)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whoever_goes_by_keyboard_sees_where_he_is(
    gallery: Gallery, open_window: Callable[..., Window], scheme: str
) -> None:
    page = open_window(color_scheme=scheme).page
    page.goto(gallery.address("in_progress", "en"))
    seen = []
    for _ in range(5):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert style == ["solid", "3px"]
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert seen == ["Հայերեն", "Русский", "Continue the payment", TEXTS["qr.title"]["en"], "Check again"]


def test_a_receipt_is_printed_without_what_is_to_be_pressed(
    gallery: Gallery, open_window: Callable[..., Window]
) -> None:
    page = open_window(color_scheme="dark").page
    page.goto(gallery.address("fiscal_pending", "en"))
    page.emulate_media(media="print", color_scheme="dark")

    for gone in (page.locator("nav"), page.locator(".print"), button(page, "button.print")):
        expect(gone).to_be_hidden()
    printed = page.locator("body").inner_text()
    for kept in ("Նաիրի ՍՊԸ", "150,000", "Yerevan time", "+374 10 000000", TEXTS["fiscal.pending"]["en"]):
        assert kept in printed
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_print_button_prints(gallery: Gallery, open_window: Callable[..., Window]) -> None:
    page = open_window().page
    page.add_init_script("window.print = () => { document.title = 'printed'; }")
    page.goto(gallery.address("paid", "en"))
    button(page, "button.print").click()
    expect(page).to_have_title("printed")
