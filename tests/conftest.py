"""What all tests share: real services, rooms of one's own on them, and no way out of this machine."""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import hypothesis
import pytest
import sqlalchemy
import structlog
from sqlalchemy import Dialect, Engine, event
from xdist.scheduler import LoadScopeScheduling

import db.database
from tests.services import (
    PrivatePostgres,
    PrivateRabbit,
    PrivateRedis,
    ServiceError,
    Services,
    ensure,
    fresh_database,
    unique_prefix,
)
from tests.services.guard import allow_only_loopback
from tests.support import empty, open_database

FAULTS = "tests/faults/"
# They share an installation with servers of its own.
_SHARING = re.compile(rf"{FAULTS}test_(kills|one_effect|servers_fail)\.py")
_ONE_PROVIDERS = re.compile(r"tests/integration/test_(ameriabank|arca|idram|stripe|vpos)_pipeline\.py::.*\bsqlite\b")


def pytest_configure() -> None:
    allow_only_loopback()
    os.environ["SSL_CERT_FILE"] = authority = str(_one_authority())
    certifi.where = lambda: authority
    _share_compiled_statements()
    # How long an example takes says nothing here: other tests run beside it.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def _one_authority() -> Path:
    """Return a file with one certificate: nothing here speaks https, and reading all takes each HTTP client 50 ms."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    file = Path(tempfile.mkdtemp(prefix="paylinks-test-")) / "authority.pem"
    file.write_text(first[first.index("-----BEGIN") :] + end + "\n")
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    return file


def _share_compiled_statements() -> None:
    """Let engines of one kind share a dialect and its compiled statements, which are the same for all of them.

    Each test opens engines of its own, and compiling the same statements again took a fifth of the processor time.
    """
    known: dict[str, Dialect] = {}
    compiled: dict[Any, Any] = {}
    create = sqlalchemy.create_engine

    def create_and_share(*positional: Any, **named: Any) -> Engine:
        engine = create(*positional, **named)
        engine.update_execution_options(compiled_cache=compiled)
        if engine.name in known:
            engine.dialect = known[engine.name]
        else:  # a dialect learns of its server at the first connection
            event.listen(engine, "connect", lambda *_: known.setdefault(engine.name, engine.dialect))
        return engine

    db.database.create_engine = create_and_share  # type: ignore[attr-defined]  # its own import


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and mostly waits; the rest keeps its order.

    What one provider does in the pipeline is tried on PostgreSQL by default, on both databases in the storm: what the
    databases do differently is tried by the modules that are of no provider.
    """
    items.sort(key=lambda item: (not item.nodeid.startswith(FAULTS), not _SHARING.match(item.nodeid)))
    for item in items:
        if _ONE_PROVIDERS.match(item.nodeid):
            item.add_marker(pytest.mark.storm)


class _Together(LoadScopeScheduling):
    """Which tests one process takes when several share them: a module's, and those of modules that share much."""

    def _split_scope(self, nodeid: str) -> str:
        return FAULTS if _SHARING.match(nodeid) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    """Keep together what shares installations, servers and databases."""
    return _Together(config, log)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A test that sets up logs writes them to a stream that is closed after it."""
    yield
    structlog.reset_defaults()


def _bring(name: str) -> Iterator[Services]:
    """One service for the whole session. Without it no test below can tell anything, so the run ends here."""
    try:
        with ensure([name]) as services:
            yield services
    except ServiceError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server's URL, for tests that make their own databases on it."""
    for services in _bring("postgres"):
        yield services.database_url


@pytest.fixture(scope="session")
def amqp_url() -> Iterator[str]:
    """A RabbitMQ that others may use as well: name queues and exchanges with `prefix`."""
    for services in _bring("rabbit"):
        yield services.amqp_url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that others may use as well: name keys with `prefix`, flush nothing."""
    for services in _bring("redis"):
        yield services.redis_url


@pytest.fixture(scope="session")
def services(postgres_server: str, amqp_url: str, redis_url: str) -> Services:
    """All three."""
    return Services(postgres_server, amqp_url, redis_url)


@pytest.fixture(scope="module")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database, shared by the tests of one module."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def make_database(postgres_server: str, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes empty databases that live as long as one test."""

    def make() -> str:
        database = fresh_database(postgres_server)
        url = database.__enter__()
        request.addfinalizer(lambda: database.__exit__(None, None, None))
        return url

    return make


@pytest.fixture
def prefix() -> str:
    """A name nobody else has."""
    return unique_prefix()


@pytest.fixture(scope="module")
def private_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL to be stopped, killed, frozen and wiped; a test leaves it up for the next one."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="module")
def private_rabbit() -> Iterator[PrivateRabbit]:
    """A RabbitMQ to be stopped, killed, frozen and wiped. It takes some 7 seconds to start, hence one per module."""
    with PrivateRabbit() as server:
        yield server


@pytest.fixture(scope="module")
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis to be stopped, killed, frozen and wiped."""
    with PrivateRedis() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[str]:
    """One migrated database for the whole session; `clean_postgres` empties it for each test."""
    with fresh_database(postgres_server) as url:
        open_database(url).dispose()
        yield url


@pytest.fixture
def clean_postgres(migrated_postgres: str) -> str:
    """A migrated database without rows: a hundred times faster than a new one."""
    empty(migrated_postgres)
    return migrated_postgres


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    open_database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture
def clean_sqlite(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of the test's own."""
    path = tmp_path / "paylinks.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["postgresql", "sqlite"])
def clean_url(request: pytest.FixtureRequest) -> str:
    """Both databases in turn, migrated and without rows."""
    url: str = request.getfixturevalue("clean_postgres" if request.param == "postgresql" else "clean_sqlite")
    return url
