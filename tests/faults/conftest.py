"""Two installations that the fault tests share: starting one takes longer than most faults.

Each test brings invoices of its own, waits until they stand where they belong, and checks all the books.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.stack import Plan
from tests.kit import Town
from tests.proxy import Proxy
from tests.services import PrivatePostgres, PrivateRabbit, fresh_database

# Pauses are a tenth of the real ones. A dead worker's quick messages come back after 15 s, its slow ones after 25.
TIME_SCALE = 0.1
LEASE_SECONDS = 15.0


@dataclass(frozen=True)
class Production:
    """One process per queue, on servers of its own, each of them behind a proxy."""

    town: Town
    postgres: PrivatePostgres
    rabbit: PrivateRabbit
    to_postgres: Proxy
    to_rabbit: Proxy


@pytest.fixture(scope="package")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with (
        PrivatePostgres() as postgres,
        PrivateRabbit() as rabbit,
        fresh_database(postgres.url) as url,
        Proxy(_port(url)) as to_postgres,
        Proxy(_port(rabbit.url)) as to_rabbit,
    ):
        plan = Plan(
            folder=tmp_path_factory.mktemp("production"),
            profile="production",
            database_url=to_postgres.through(url),
            broker_url=to_rabbit.through(rabbit.url),
            amqp_url=to_rabbit.through(rabbit.url),
            time_scale=TIME_SCALE,
            lease_seconds=LEASE_SECONDS,
            settle="PT1S",
        )
        with Town(plan, database_url=url) as town:
            yield Production(town, postgres, rabbit, to_postgres, to_rabbit)


@pytest.fixture(scope="package")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with Town(plan_embedded(tmp_path_factory.mktemp("embedded"))) as town:
        yield town


def plan_embedded(folder: Path) -> Plan:
    """One process on a SQLite file."""
    return Plan(folder=folder, time_scale=TIME_SCALE, lease_seconds=LEASE_SECONDS, settle="PT1S")


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
