"""What commands work with: settings, dependencies, and who is at the keyboard."""

import getpass
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from runtime.deps import Deps
    from runtime.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Actor = Annotated[str | None, typer.Option(help="Who does this, for the audit trail; default: the system's user.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit trail.")]


@contextmanager
def open_deps(*, stays_up: bool = False) -> "Iterator[Deps]":
    """Build the dependencies from the settings; nothing connects before first use.

    What stays up logs as the settings say; a command that ends by itself only warns.
    """
    from runtime import points
    from runtime.build import close
    from runtime.logs import set_up
    from runtime.settings import load_settings

    settings = load_settings()
    set_up(settings.log_level if stays_up else "WARNING")
    points.arm(settings.halt_at if stays_up else None)
    deps = _built(settings)
    try:
        yield deps
    finally:
        close(deps)


def _built(settings: "Settings") -> "Deps":
    """Build, and name the setting where a key or an adapter does not take its value."""
    from cli.checks import bad_parts
    from runtime.build import build
    from runtime.settings import SettingsError

    try:
        return build(settings)
    except (TypeError, ValueError) as error:
        problems = "; ".join(bad_parts(settings))
        if not problems:
            raise
        raise SettingsError(problems) from error


def actor_or_user(actor: str | None) -> str:
    """Return the given name, or that of the user who runs the command; a container's user may have none."""
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


def required_reason(reason: str) -> str:
    """Return the reason, or refuse an empty one."""
    if not reason.strip():
        raise typer.BadParameter("say why; it stays in the audit trail", param_hint="--reason")
    return reason.strip()


@contextmanager
def until_told_to_stop() -> "Iterator[threading.Event]":
    """Give an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    yield stop
