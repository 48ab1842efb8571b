"""One customer's browser: what he sees, what he presses, and what the browser complains of meanwhile."""

import time
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, ViewportSize, WebError, expect

from contracts.messages import Locale
from web.texts import TEXTS

PHONE = ViewportSize(width=360, height=740)
# For a machine that is busy with other tests; nothing below waits for longer than it must.
TIMEOUT_MS = 40_000
PATIENCE_SECONDS = 60.0


class Window:
    """A browser without a past. `script=False`: one that runs no scripts."""

    def __init__(self, browser: Browser, *, script: bool = True, **options: Any) -> None:
        self.script = script
        self._tolerated: int | None = None
        self._context = browser.new_context(java_script_enabled=script, **{"viewport": PHONE, **options})
        self._context.set_default_timeout(TIMEOUT_MS)
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        self._context.on("console", self._note_console)
        self._context.on("weberror", self._note_error)
        self._context.on("request", self._note_request)
        self.page = self.new_tab()

    def new_tab(self) -> Page:
        return self._context.new_page()

    def close(self) -> None:
        self._context.close()

    def check(self) -> None:
        """No error, no breach of the content security policy, and no request to another machine."""
        assert not self.complaints, self.complaints
        hosts = {urlsplit(request.url).hostname for request in self.requests}
        assert hosts <= {"127.0.0.1"}, hosts

    def tolerate(self, status: int | None) -> None:
        """Expect a page to come with this HTTP status, which browsers note."""
        self._tolerated = status

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning") or f"with a status of {self._tolerated} " in message.text:
            return
        # The sandbox's provider has no icon, which is not ours to mend.
        if not message.location["url"].endswith("/favicon.ico"):
            self.complaints.append(f"{message.location['url']}: {message.text}")

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)

    def _note_error(self, error: WebError) -> None:
        self.complaints.append(str(error.error))


def state_of(page: Page) -> str:
    """Which page of ours this is."""
    names = (page.locator("main").get_attribute("class") or "").split()
    return next((name.removeprefix("state-") for name in names), "")


def is_at(page: Page, state: str) -> None:
    """Wait until the browser shows this page of ours."""
    expect(page.locator(f"main.state-{state}")).to_be_visible(timeout=TIMEOUT_MS)


def button(page: Page, key: str, language: Locale = "en") -> Locator:
    """A button or link of ours with this text."""
    text = TEXTS[key][language]
    return page.get_by_role("button", name=text, exact=True).or_(page.get_by_role("link", name=text, exact=True))


def pay_button(page: Page) -> Locator:
    """The button that leads to the provider, whatever it says."""
    return page.locator("form[action*='/pay'] button")


def go_on_until(window: Window, page: Page, state: str, language: Locale = "en") -> list[str]:
    """Press what a waiting page offers until this state is shown; return the states that were seen."""
    seen = [state_of(page)]
    until = time.monotonic() + PATIENCE_SECONDS
    while seen[-1] != state:
        assert time.monotonic() < until, f"{state} did not come: {seen}"
        if window.script:
            button(page, "button.result", language).click()
        else:
            time.sleep(0.1)
            button(page, "button.check", language).click()
        page.wait_for_load_state()
        seen.append(state_of(page))
    return seen
