"""`paylinks up`: everything in one process, for one machine: web, workers, relay, and intake where there is AMQP.

Same code and same promises as the production profile: a SIGKILL loses nothing, because the store is the truth. On
SQLite a lock file refuses a second process, since two would wait for each other's writes.
"""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.migrate import upgrade
from runtime import points
from runtime.logs import set_up as set_up_logs
from runtime.settings import Settings, SettingsError, load_settings
from web.app import serve
from workers.app import SHUTDOWN_TIMEOUT_MS, make_service
from workers.intake import run_intake
from workers.relay import Relay


def run_up(*, host: str, port: int, threads: int) -> None:
    """Run until a signal comes; then end what runs and give back the rest."""
    settings = load_settings()
    set_up_logs(settings.log_level)
    points.arm(settings.halt_at)
    with _alone(settings):
        service = make_service(settings)
        upgrade(service.deps.database)
        relay = Relay(service.deps, service.publisher)
        stop = threading.Event()
        service.start(threads)
        relay.start()
        intake = threading.Thread(target=run_intake, args=(service.deps, stop), name="intake", daemon=True)
        if settings.amqp_url:
            intake.start()
        try:
            serve(service.deps, host, port)
        finally:
            stop.set()
            relay.stop()
            service.stop(SHUTDOWN_TIMEOUT_MS)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the lock file of a SQLite database; raise SettingsError when another process holds it."""
    path = settings.database_url.removeprefix("sqlite:///")
    if path == settings.database_url:
        yield
        return
    with Path(f"{path}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"database_url: another `paylinks up` uses {path}; stop it first") from None
        yield
