"""RabbitMQ 3.10 or newer: found listening, or a private one."""

import contextlib
import shlex
from pathlib import Path
from typing import ClassVar

import pika

from tests.services.private import PrivateServer
from tests.services.processes import free_port
from tests.services.programs import find_program

# What the server needs to be small, quick to start, and strictly local.
_SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users = none
log.file = false
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 16777216
collect_statistics_interval = 60000
"""


class PrivateRabbit(PrivateServer):
    """A RabbitMQ node of our own with the user guest; its name, port and Erlang's port mapper are its own too."""

    service: ClassVar[str] = "RabbitMQ"
    variable: ClassVar[str] = "PAYLINKS_TEST_AMQP_URL"
    usual_port: ClassVar[int] = 5672
    package: ClassVar[str] = "rabbitmq-server"
    image: ClassVar[str] = "rabbitmq:4"

    def __init__(self) -> None:
        super().__init__()
        self._mapper_port = self._node_port = 0

    @classmethod
    def programs(cls) -> Path | None:
        # Debian's program in PATH insists on root or its own user; the real one behind it does not.
        behind = (
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
            "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
        )
        return find_program("rabbitmq-server", *behind)

    @classmethod
    def probe(cls, url: str) -> None:
        parameters = pika.URLParameters(url)
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 5
        parameters.connection_attempts = 1
        with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
            connection.channel()

    @classmethod
    def listening(cls) -> str | None:
        url = f"amqp://guest:guest@127.0.0.1:{cls.usual_port}/%2F"
        # pika's own errors, and those of the socket below it.
        with contextlib.suppress(Exception):
            cls.probe(url)
            return url
        return None

    def url_on(self, port: int) -> str:
        return f"amqp://guest:guest@127.0.0.1:{port}/%2F"

    def prepare(self, program: Path, data: Path) -> list[list[str]]:
        self._mapper_port, self._node_port = free_port(), free_port()
        (data / "environment").touch()
        (data / "plugins").write_text("[].\n")
        return []

    def command(self, program: Path, data: Path, port: int) -> list[str]:
        (data / "rabbitmq.conf").write_text(_SETTINGS.format(port=port))
        # Erlang would start a port mapper that outlives us; this one is a child like the rest.
        mapper = shlex.join([str(_mapper(program)), "-address", "127.0.0.1", "-port", str(self._mapper_port)])
        return ["/bin/sh", "-c", f"{mapper} & exec {shlex.quote(str(program))}"]

    def environment(self, data: Path, port: int) -> dict[str, str]:
        return {
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"paylinks-test-{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_CONF_ENV_FILE": str(data / "environment"),
            "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(data / "log"),
            "RABBITMQ_PID_FILE": str(data / "pid"),
            # No busy waiting: the machine has other things to do.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
            " -kernel inet_dist_use_interface {127,0,0,1}",
        }


def _mapper(program: Path) -> Path:
    found = find_program("epmd", "/usr/lib/erlang/erts-*/bin/epmd")
    if found is None:
        raise FileNotFoundError(f"{program} is installed, but Erlang's epmd is not found")
    return found
