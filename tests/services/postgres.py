"""PostgreSQL 15 or newer: found listening, or a private one."""

import contextlib
import getpass
import signal
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg

from tests.services.errors import ServiceError
from tests.services.private import PrivateServer
from tests.services.programs import find_program

OLDEST = 150000
SCHEME = "postgresql+psycopg"
_SOCKETS = ("/var/run/postgresql", "/tmp")


def conninfo(url: str) -> str:
    """libpq's form of a SQLAlchemy URL."""
    return url.replace(f"{SCHEME}://", "postgresql://", 1)


class PrivatePostgres(PrivateServer):
    """A PostgreSQL cluster of our own; the superuser is `postgres`, everybody on this machine is trusted.

    `fsync=False`, the default, is safe for tests: what a killed server wrote is in the system's cache all the same.
    Measurements ask for `fsync=True`.
    """

    service: ClassVar[str] = "PostgreSQL"
    variable: ClassVar[str] = "PAYLINKS_TEST_DATABASE_URL"
    usual_port: ClassVar[int] = 5432
    package: ClassVar[str] = "postgresql"
    image: ClassVar[str] = "postgres:17"
    container_environment: ClassVar[dict[str, str]] = {"POSTGRES_HOST_AUTH_METHOD": "trust"}
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, does not wait for them

    def __init__(self, *, fsync: bool = False) -> None:
        super().__init__()
        self._fsync = fsync

    @classmethod
    def programs(cls) -> Path | None:
        initdb = find_program("initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb")
        return initdb.resolve().parent / "postgres" if initdb else None

    @classmethod
    def probe(cls, url: str) -> None:
        with psycopg.connect(conninfo(url), connect_timeout=3) as connection:
            if connection.info.server_version < OLDEST:
                raise ServiceError("PostgreSQL there is older than 15")
            row = connection.execute(
                "select rolcreatedb or rolsuper from pg_roles where rolname = current_user"
            ).fetchone()
            if row is None or not row[0]:
                raise ServiceError("that PostgreSQL user may not create databases")

    @classmethod
    def listening(cls) -> str | None:
        for user in dict.fromkeys((getpass.getuser(), "postgres")):
            for url in _usual_addresses(user, cls.usual_port):
                with contextlib.suppress(psycopg.Error, ServiceError):
                    cls.probe(url)
                    return url
        return None

    def url_on(self, port: int) -> str:
        return f"{SCHEME}://postgres@127.0.0.1:{port}/postgres"

    def prepare(self, program: Path, data: Path) -> list[list[str]]:
        initdb = str(program.parent / "initdb")
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
        return [[initdb, *options, "--no-sync", "--no-instructions", "--pgdata", str(data / "cluster")]]

    def command(self, program: Path, data: Path, port: int) -> list[str]:
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "timezone": "UTC",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(program), "-D", str(data / "cluster"), *words]


def _usual_addresses(user: str, port: int) -> list[str]:
    who = quote(user, safe="")
    addresses = [f"{SCHEME}://{who}@127.0.0.1:{port}/postgres"]
    for directory in _SOCKETS:
        if Path(directory, f".s.PGSQL.{port}").exists():
            addresses.append(f"{SCHEME}://{who}@/postgres?host={quote(directory, safe='')}&port={port}")
    return addresses
