"""Redis 6 or newer: found listening, or a private one."""

import contextlib
from pathlib import Path
from typing import ClassVar

import redis

from tests.services.errors import ServiceError
from tests.services.private import PrivateServer
from tests.services.programs import find_program

OLDEST = 6


class PrivateRedis(PrivateServer):
    """A Redis of our own, which writes its append-only file, so that a stop and a start keep the data."""

    service: ClassVar[str] = "Redis"
    variable: ClassVar[str] = "PAYLINKS_TEST_REDIS_URL"
    usual_port: ClassVar[int] = 6379
    package: ClassVar[str] = "redis-server"
    image: ClassVar[str] = "redis:7"

    @classmethod
    def programs(cls) -> Path | None:
        return find_program("redis-server") or find_program("valkey-server")

    @classmethod
    def probe(cls, url: str) -> None:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            version = str(client.info("server")["redis_version"])
        if int(version.split(".")[0]) < OLDEST:
            raise ServiceError(f"Redis there is {version}, older than {OLDEST}")

    @classmethod
    def listening(cls) -> str | None:
        url = f"redis://127.0.0.1:{cls.usual_port}/0"
        with contextlib.suppress(redis.RedisError, ServiceError):
            cls.probe(url)
            return url
        return None

    def url_on(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    def prepare(self, program: Path, data: Path) -> list[list[str]]:
        return []

    def command(self, program: Path, data: Path, port: int) -> list[str]:
        settings = {"port": port, "bind": "127.0.0.1", "dir": data, "save": "", "appendonly": "yes"}
        return [str(program), *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]
