"""Logs: one JSON line per event on stderr, a static name and fields. No personal data, no tokens, no payloads."""

import json
import logging
import sys
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json


def _line(event: dict[str, Any], **options: Any) -> str:
    """Write one line: every stage run is one, and the standard library's writer takes six times as long."""
    try:
        return to_json(event, fallback=options["default"]).decode()
    except PydanticSerializationError:
        return json.dumps(event, **options)  # half of a surrogate pair


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
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    for name in ("httpx", "httpcore"):  # they write every URL at INFO, and dramatiq's command line lets INFO through
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # pika tells one lost connection in seven lines and three tracebacks; whoever uses it tells it in one.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
