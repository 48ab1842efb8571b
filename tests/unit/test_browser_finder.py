"""Where the tests of the pages take their browser from."""

from pathlib import Path

import pytest

from tests.services import ServiceMissing
from tests.services.browser import VARIABLE, find_browser


def a_program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_given_one_counts_before_an_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_program(tmp_path, "chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    given = a_program(tmp_path, "another")
    monkeypatch.setenv(VARIABLE, str(given))
    assert find_browser() == given


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_an_installed_one_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    installed = a_program(tmp_path, name)
    assert find_browser() == installed


def test_a_given_one_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/chromium")
    with pytest.raises(ServiceMissing, match=VARIABLE):
        find_browser()


def test_without_any_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PAYLINKS_TEST_INSTALL", "0")
    with pytest.raises(ServiceMissing, match="apt-get install chromium"):
        find_browser()
