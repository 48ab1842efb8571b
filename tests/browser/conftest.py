"""A real browser, and what it complained of."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.window import Window
from tests.services.browser import find_browser
from tests.services.errors import ServiceError

# Beside Playwright's own: no name is looked up, so that nothing can leave this machine.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser per module: while Playwright is on, no other test of this process could run an event loop."""
    try:
        program = find_browser()
    except ServiceError as error:
        pytest.exit(str(error), returncode=1)
    # Chromium refuses its sandbox to root.
    has_rights = os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, chromium_sandbox=not has_rights)
        yield browser
        browser.close()


@pytest.fixture
def open_window(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Opens windows that share nothing; at the end none of them may have complained."""
    windows: list[Window] = []

    def open_(**options: Any) -> Window:
        windows.append(Window(chromium, **options))
        return windows[-1]

    yield open_
    for window in windows:
        window.close()
    for window in windows:
        window.check()
