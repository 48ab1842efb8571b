"""What all tests share: real services, rooms of one's own on them, and no way out of this machine."""

from collections.abc import Callable, Iterator

import pytest

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


def pytest_configure() -> None:
    allow_only_loopback()


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
