"""Who opens a link leaves a trace for support: which link, in which minute, and nothing of who looked.

    page ──note──> a bounded set ──once a second──> one statement

Best effort, and off the request's path: what finds no room is left out, what the database does not take is forgotten,
and no page waits or fails for it.
"""

import asyncio
import threading
from collections.abc import Mapping
from datetime import datetime

import structlog
from starlette.requests import Request

from db import link_views
from db.database import Database

MAX_WAITING = 1000
PAUSE_SECONDS = 1.0

# Programs that open links by themselves: previews in messengers and social networks, and search engines. Each is a part
# of the user agent, in lower case; whoever calls himself otherwise is counted, and nothing depends on it. Sources:
# https://github.com/monperrus/crawler-user-agents, https://developers.facebook.com/docs/sharing/webmasters/web-crawlers,
# https://api.slack.com/robots, https://www.bing.com/bingbot.htm, http://www.google.com/bot.html, http://yandex.com/bots.
_ROBOTS = (
    *("whatsapp", "telegrambot", "viber", "facebookexternalhit", "facebot", "meta-externalfetcher", "slackbot"),
    *("slack-imgproxy", "twitterbot", "linkedinbot", "skypeuripreview", "discordbot", "vkshare", "applebot"),
    *("googlebot", "google-inspectiontool", "googleother", "bingbot", "bingpreview", "yandex.com/bots", "duckduckbot"),
)
# Pages that the browser fetches in case somebody will look: W3C Resource Hints and what came before it.
_FORETHOUGHT = ("sec-purpose", "purpose", "x-purpose", "x-moz")

log = structlog.get_logger()


def is_a_look(request: Request) -> bool:
    """Tell whether a person opened the page, as far as the request says: no robot, no prefetch."""
    return request.method == "GET" and is_a_persons(request.headers)


def is_a_persons(headers: Mapping[str, str]) -> bool:
    """Tell whether these are the headers of a person's browser that shows what it fetches."""
    agent = headers.get("user-agent", "").lower()
    purposes = " ".join(headers.get(name, "") for name in _FORETHOUGHT).lower()
    in_advance = "prefetch" in purposes or "preview" in purposes
    return bool(agent) and not in_advance and not any(robot in agent for robot in _ROBOTS)


class ViewLog:
    """The bounded set, and the thread that writes it down."""

    def __init__(self, database: Database, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._database = database
        self._pause = pause_seconds
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, datetime]] = set()
        self._left_out = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writer."""
        self._thread = threading.Thread(target=self._write_on, name="view-log", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write what waits, if that works at once, and stop."""
        self._stopped.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 1.0)
            self._thread = None

    def note(self, link_id: str, at: datetime) -> None:
        """Note a look; `at` by the database's clock."""
        seen = (link_id, at.replace(second=0, microsecond=0))
        with self._lock:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.add(seen)
            elif seen not in self._waiting:
                self._left_out += 1

    def _write_on(self) -> None:
        while not self._stopped.wait(self._pause):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            seen, self._waiting = self._waiting, set()
            left_out, self._left_out = self._left_out, 0
        try:
            if seen:
                with self._database.begin() as tx:
                    link_views.add(tx, seen)
        except Exception as error:
            log.warning("views.forgotten", count=len(seen), error=type(error).__name__)
        if left_out:
            log.warning("views.left_out", count=left_out)
