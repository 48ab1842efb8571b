"""A Chromium for the tests of the pages: no server, but brought in the same way."""

import os
import shutil
from pathlib import Path

from tests.services import debian
from tests.services.errors import ServiceMissing

VARIABLE = "PAYLINKS_TEST_BROWSER"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE = "chromium"


def find_browser() -> Path:
    """Return the program: the one that is given, else an installed one, else Debian's package."""
    given = os.environ.get(VARIABLE)
    if given:
        return _given(given)
    found = _installed()
    if found is None and debian.install(PACKAGE):
        found = _installed()
    if found is None:
        raise ServiceMissing(
            f"Chromium is needed and was not found: give its path in {VARIABLE}, or install it "
            f"(Debian: apt-get install {PACKAGE})."
        )
    return found


def _given(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ServiceMissing(f"{VARIABLE}={name} is no program that can be run")
    return Path(found)


def _installed() -> Path | None:
    return next((Path(path) for path in map(shutil.which, PROGRAMS) if path), None)
