"""Logs: one JSON line per event on stderr, a static name and fields. No personal data, no tokens, no payloads."""

import logging
import sys

import structlog


def set_up(level: str = "INFO", *, pretty: bool = False) -> None:
    """Configure structlog for this process; libraries' own logs come through at WARNING."""
    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if pretty else structlog.processors.JSONRenderer()
    )
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
