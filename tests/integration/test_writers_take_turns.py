"""SQLite's one writer: whoever is interrupted while he waits, or writes, leaves the next one his turn."""

import threading
from collections.abc import Iterator

import pytest
from dramatiq.middleware.threading import raise_thread_exception

from db.database import Database
from db.sealing import Sealer
from tests.services.processes import wait_until
from tests.support import DATA_KEY
from workers.held import TimeLimitExceeded


@pytest.fixture
def database(clean_sqlite: str) -> Iterator[Database]:
    opened = Database(clean_sqlite, Sealer([DATA_KEY]))
    yield opened
    opened.dispose()


class Writer(threading.Thread):
    """Writes once, for as long as nobody lets it go."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self.writes = threading.Event()
        self.may_end = threading.Event()
        self.was_interrupted = False

    def run(self) -> None:
        try:
            with self._database.begin():
                self.writes.set()
                while not self.may_end.wait(0.01):
                    pass
        except TimeLimitExceeded:
            self.was_interrupted = True

    def interrupt(self) -> None:
        assert self.ident is not None
        raise_thread_exception(self.ident, TimeLimitExceeded)


def started(database: Database) -> Writer:
    writer = Writer(database)
    writer.start()
    return writer


def somebody_is_next(database: Database) -> bool:
    """Tell whether somebody waits for the one who writes; who is behind him waits for a lock that shows nobody."""
    if not database._turns._next.acquire(blocking=False):
        return True
    database._turns._next.release()
    return False


def test_who_is_interrupted_while_he_waits_leaves_his_turn_to_the_next(database: Database) -> None:
    first = started(database)
    assert first.writes.wait(5)
    waiting, behind = started(database), started(database)
    assert wait_until(lambda: somebody_is_next(database), timeout_seconds=5)
    waiting.interrupt()
    behind.may_end.set()

    first.may_end.set()

    assert behind.writes.wait(5), "nobody may write any more"
    waiting.join(5)
    assert waiting.was_interrupted
    assert not waiting.writes.is_set()


def test_who_is_interrupted_while_he_writes_leaves_his_turn_too(database: Database) -> None:
    first = started(database)
    assert first.writes.wait(5)
    first.interrupt()
    first.join(5)
    assert first.was_interrupted

    second = started(database)
    second.may_end.set()
    assert second.writes.wait(5), "nobody may write any more"
