"""Where a measurement happens: services, databases of its own, queue names of its own, settings for our processes."""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pika
import psycopg
import redis

from contracts.catalog import Queue
from db.database import Database
from db.migrate import upgrade
from db.sealing import Sealer, new_key
from runtime.build import build
from runtime.deps import Deps
from runtime.settings import load_settings
from tests.services import PrivatePostgres, Services, ensure, fresh_database, unique_prefix
from tests.services.postgres import conninfo

PYTHON = sys.executable
EXCHANGES = ("intake", "events")


@dataclass
class Room:
    """The services of one run, and keys that all its processes share."""

    services: Services
    data_key: str = field(default_factory=lambda: new_key())
    link_secret: str = field(default_factory=lambda: secrets.token_hex(32))

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """An empty database on PostgreSQL."""
        with fresh_database(self.services.database_url) as url:
            yield url

    @contextlib.contextmanager
    def prefix(self, *names: str) -> Iterator[str]:
        """A prefix that nobody else has; queues of ours and of these names, and keys, are deleted at the end."""
        prefix = f"{unique_prefix()}."
        try:
            yield prefix
        finally:
            clear_broker(self.services.amqp_url, prefix, (*(queue.value for queue in Queue), *names))

    def environment(self, **settings: object) -> dict[str, str]:
        """The environment of one of our processes: nothing of ours but these settings."""
        given = {
            "data_keys": [self.data_key],
            "link_keys": [{"id": "k1", "secret": self.link_secret}],
            "config": "/nonexistent",
            **settings,
        }
        ours = {f"PAYLINKS_{name.upper()}": _text(value) for name, value in given.items() if value is not None}
        return plain_environment() | ours


def plain_environment() -> dict[str, str]:
    """Our environment without any settings of Paylinks."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PAYLINKS_")}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextlib.contextmanager
def open_room() -> Iterator[Room]:
    """Bring the services; a PostgreSQL that may lose a commit is replaced by one that may not."""
    with contextlib.ExitStack() as stack:
        services = stack.enter_context(ensure())
        if _setting(services.database_url, "fsync") != "on":
            services.database_url = stack.enter_context(PrivatePostgres(fsync=True)).url
        yield Room(services)


def _setting(url: str, name: str) -> str:
    with psycopg.connect(conninfo(url), connect_timeout=5) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


@contextlib.contextmanager
def opened(environment: dict[str, str]) -> Iterator[Deps]:
    """Our own dependencies inside the benchmark's process, from the environment of a child."""
    names = {name.removeprefix("PAYLINKS_").lower(): value for name, value in environment.items()}
    wanted = {name: names[name] for name in ("database_url", "broker_url", "queue_prefix") if name in names}
    wanted |= {name: json.loads(names[name]) for name in ("accounts", "crms", "routing") if name in names}
    settings = load_settings(
        data_keys=json.loads(names["data_keys"]), link_keys=json.loads(names["link_keys"]), **wanted
    )
    deps = build(settings)
    try:
        yield deps
    finally:
        deps.database.dispose()


def migrate(room: Room, url: str) -> None:
    """Bring a database to our schema, the way an installation does."""
    database = Database(url, Sealer([room.data_key]))
    try:
        upgrade(database)
    finally:
        database.dispose()


def clear_broker(amqp_url: str, prefix: str, queues: Sequence[str]) -> None:
    """Delete the queues and exchanges of a prefix; those that do not exist are no error."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    with contextlib.closing(connection):
        channel = connection.channel()
        for name in (*(prefix + queue for queue in queues), f"sandbox-crm.{crm_of(prefix)}.accepted"):
            channel.queue_delete(name)
        # Celery makes an exchange for each of its queues.
        for name in (*EXCHANGES, *queues):
            channel.exchange_delete(prefix + name)


def crm_of(prefix: str) -> str:
    """Name a sandbox CRM whose queues nobody else has."""
    return prefix.rstrip(".")


def delete_keys(redis_url: str, prefix: str) -> None:
    """Delete the keys that begin so."""
    client = redis.Redis.from_url(redis_url)
    with contextlib.closing(client):
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.delete(key)
