"""Logs tell where an error was raised, and nothing of what it quotes."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
import structlog

from runtime import logs

SENT = "5555555555554444 ANI"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    written = io.StringIO()
    with redirect_stderr(written):
        logs.set_up()
        yield written
    root.handlers = handlers
    root.setLevel(level)


def fail() -> None:
    try:
        raise KeyError(SENT)
    except KeyError as error:
        raise ValueError(f"cannot read {SENT}") from error


def test_an_error_is_logged_with_its_place_and_without_its_text(log: io.StringIO) -> None:
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("web.error", route="/l")
    told = json.loads(log.getvalue())
    assert (told["event"], told["level"], SENT in log.getvalue()) == ("web.error", "error", False)
    assert all(word in told["exception"] for word in ("in fail", "test_logs.py", "ValueError", "after KeyError"))


def test_a_librarys_error_too(log: io.StringIO) -> None:
    try:
        fail()
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert "Exception in ASGI application" in log.getvalue()
    assert ("in fail" in log.getvalue(), "ValueError" in log.getvalue(), SENT in log.getvalue()) == (True, True, False)


def test_an_error_that_nobody_is_handling_is_none(log: io.StringIO) -> None:
    structlog.get_logger().info("calm", exc_info=True)
    structlog.get_logger().info("calmer", exc_info=False)
    calm, calmer = map(json.loads, log.getvalue().splitlines())
    assert (calm["exception"], "exception" in calmer) == ("no error", False)
