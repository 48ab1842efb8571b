"""The duty that erases raw bytes from outside once their retention is over (`[retention]` in the settings)."""

from datetime import timedelta

import structlog

from db import retention
from runtime.deps import Deps

EVERY_SECONDS = 300.0
BATCH = 200
BATCHES = 100  # per round: what is left waits for the next one

log = structlog.get_logger()


def erase_old(deps: Deps) -> None:
    """Erase what is old enough, in transactions of a bounded size."""
    settings = deps.settings.retention
    _erase(deps, "raw_events", settings.raw_events, retention.erase_raw_events)
    _erase(deps, "rejected_bodies", settings.rejected_bodies, retention.erase_rejected_bodies)


def _erase(deps: Deps, what: str, kept_for: timedelta | None, erase: retention.Erase) -> None:
    if kept_for is None:
        return
    erased = 0
    for _ in range(BATCHES):
        with deps.database.begin() as tx:
            count = erase(tx, older_than_seconds=kept_for.total_seconds(), limit=BATCH)
        erased += count
        if count < BATCH:
            break
    if erased:
        log.info("retention.erased", what=what, count=erased)
