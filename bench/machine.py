"""What the numbers were measured on: machine, load, versions, durability."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import pika
import psycopg
import redis

from bench.peers_environment import peer_versions
from bench.room import Room
from tests.services.postgres import conninfo

OURS = ("dramatiq", "sqlalchemy", "psycopg", "pika", "uvicorn", "starlette")
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")


def header(room: Room) -> dict[str, str]:
    """Describe the machine as it is at this moment."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, Linux {platform.release()}",
        "load before": f"{load()} (1, 5, 15 minutes; of others, who share the machine)",
        "python": platform.python_version(),
        "packages": _listed({name: version(name) for name in OURS}),
        "peers": _listed(peer_versions()),
        "PostgreSQL": _postgres(room.services.database_url),
        "RabbitMQ": _rabbit(room.services.amqp_url),
        "Redis": _redis(room.services.redis_url),
    }


def load() -> str:
    """The load averages."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _listed(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in named.items())


def _postgres(url: str) -> str:
    with psycopg.connect(conninfo(url), connect_timeout=5) as connection:
        number = connection.execute("SHOW server_version").fetchone()
        found = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", (list(DURABILITY),)
        ).fetchall()
    assert number is not None
    settings: dict[str, str] = dict(found)
    return f"{number[0].split(' ')[0]}; " + ", ".join(f"{name}={settings[name]}" for name in DURABILITY)


def _rabbit(url: str) -> str:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    properties = connection._impl.server_properties
    connection.close()
    return f"{_decoded(properties['version'])}; one node, durable queues, persistent messages of the peers"


def _decoded(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _redis(url: str) -> str:
    client = redis.Redis.from_url(url)
    try:
        kept = client.config_get("appendonly").get("appendonly", "?")
        return f"{client.info('server')['redis_version']}; appendonly={kept}"
    finally:
        client.close()
