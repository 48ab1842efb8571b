"""Commands run in this process: what they write, and how they end."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from cli.failures import report
from cli.main import app


def run(*arguments: str, input_: str | None = None) -> Result:
    """Run one command as `main` would: an expected failure becomes its exit code."""
    try:
        result = CliRunner().invoke(app, arguments, input=input_)
        if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
            code = report(result.exception)
            if code is None:
                raise result.exception
            result.exit_code = code
        return result
    finally:
        structlog.reset_defaults()  # commands set up logs for a process that ends with them


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of the surroundings that could be read as settings."""
    for name in list(os.environ):
        if name.startswith("PAYLINKS_") and not name.startswith("PAYLINKS_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def use_settings(monkeypatch: pytest.MonkeyPatch, folder: Path, settings: dict[str, Any]) -> None:
    """Let commands find these settings."""
    forget_settings(monkeypatch)
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    monkeypatch.setenv("PAYLINKS_CONFIG", str(path))
