"""Logs: one JSON line per event on stderr, a static name and fields. No personal data, no tokens, no payloads."""

import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json


def _line(event: dict[str, Any], **options: Any) -> str:
    """Write one line: every stage run is one, and the standard library's writer takes six times as long."""
    try:
        return to_json(event, fallback=options["default"]).decode()
    except PydanticSerializationError:
        return json.dumps(event, **options)  # half of a surrogate pair


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def frames(exc_info: _ExcInfo) -> str:
    """Tell where an error was raised, and its class: never its text, which may quote what somebody sent."""
    kind, error, trace = exc_info
    told = [*traceback.format_tb(trace), kind.__name__ if kind else "no error"]
    cause = error.__cause__ or error.__context__ if error else None
    if cause is not None:
        told.append(f"\nafter {type(cause).__name__}")
    return "".join(told)


def _frames(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace exc_info as structlog's own processor does, without the error's text."""
    if event.pop("exc_info", None):
        event["exception"] = frames(sys.exc_info())
    return event


class _Line(logging.Formatter):
    """A line of a library's own log."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the standard library's
        """Leave the error's text out here too."""
        return frames(ei)


def set_up(level: str = "INFO", *, pretty: bool = False) -> None:
    """Configure structlog for this process; libraries' own logs come through at WARNING."""
    renderer: Any = structlog.processors.JSONRenderer(_line)
    if pretty:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _frames,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    for name in ("httpx", "httpcore"):  # they write every URL at INFO, and dramatiq's command line lets INFO through
        logging.getLogger(name).setLevel(logging.WARNING)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # pika tells one lost connection in seven lines and three tracebacks; whoever uses it tells it in one.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
