"""A server of our own, on a free port and in a directory that goes away: to be stopped, killed, frozen and wiped."""

import abc
import contextlib
import signal
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from tests.services import debian
from tests.services.containers import ContainerHost, container_engine
from tests.services.errors import ServiceFailed, ServiceMissing
from tests.services.processes import wait_until
from tests.services.programs import ProcessHost


class Host(Protocol):
    """Where a server runs: processes of installed programs, or a container."""

    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill9(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def wipe(self) -> None: ...
    def close(self) -> None: ...
    def is_running(self) -> bool: ...
    def last_words(self) -> str: ...


class PrivateServer(abc.ABC):
    """One server, started on demand. As a context manager it is started at the top and gone at the end.

    The address stays the same over `restart`, `kill9` + `start` and `wipe`.
    """

    service: ClassVar[str]
    variable: ClassVar[str]  # the environment variable that gives another address to the tests
    usual_port: ClassVar[int]
    package: ClassVar[str]  # Debian's
    image: ClassVar[str]
    container_environment: ClassVar[dict[str, str]] = {}
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_timeout_seconds: ClassVar[float] = 60.0

    def __init__(self) -> None:
        self._host: Host | None = None

    # What a kind of server has to tell ---------------------------------------------------------------------------

    @classmethod
    @abc.abstractmethod
    def programs(cls) -> Path | None:
        """The installed program to start, or None."""

    @classmethod
    @abc.abstractmethod
    def probe(cls, url: str) -> None:
        """Use the server once as the tests will; raises any exception when that fails."""

    @classmethod
    @abc.abstractmethod
    def listening(cls) -> str | None:
        """The URL of a server that already listens on this machine and lets us in."""

    @abc.abstractmethod
    def url_on(self, port: int) -> str:
        """Our own server's URL."""

    @abc.abstractmethod
    def prepare(self, program: Path, data: Path) -> list[list[str]]:
        """Write the configuration; give the commands to run once before the first start."""

    @abc.abstractmethod
    def command(self, program: Path, data: Path, port: int) -> list[str]:
        """The command that runs the server in the foreground."""

    def environment(self, data: Path, port: int) -> dict[str, str]:
        """What the server's environment needs beside PATH, HOME and the locale."""
        return {}

    # What tests do with it -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.url_on(self._running_host().port)

    def start(self) -> Self:
        """Start it and wait until it answers; no effect when it runs already."""
        if self._host is None:
            self._host = self._first_start()
        elif not self._host.is_running():
            self._start(self._host)
        return self

    def stop(self) -> None:
        """Shut it down in its own orderly way; its data stays."""
        self._running_host().stop()

    def restart(self) -> None:
        """Stop and start, as an administrator would."""
        self.stop()
        self.start()

    def kill9(self) -> None:
        """End it as a power cut would; its data stays as it was."""
        self._running_host().kill9()

    def freeze(self) -> None:
        """Let it keep every connection and answer nothing."""
        self._running_host().freeze()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._running_host().thaw()

    def wipe(self) -> None:
        """Lose all data and start anew at the same address."""
        self._running_host().wipe()
        self._start(self._running_host())

    def close(self) -> None:
        """End it and remove its data; no effect when it never ran."""
        if self._host is not None:
            self._host.close()
            self._host = None

    def is_answering(self) -> bool:
        """Whether a client gets through at this moment."""
        with contextlib.suppress(Exception):
            self.probe(self.url)
            return True
        return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # How it comes about --------------------------------------------------------------------------------------------

    def _running_host(self) -> Host:
        if self._host is None:
            raise ServiceFailed(f"{self.service} has not been started")
        return self._host

    def _first_start(self) -> Host:
        # Between choosing a free port and using it, somebody else may take it; a second try finds another.
        for last_try in (False, False, True):
            host = self._make_host()
            try:
                self._start(host)
            except ServiceFailed:
                host.close()
                if last_try:
                    raise
            else:
                return host
        raise AssertionError("unreachable")

    def _make_host(self) -> Host:
        program = self.programs()
        if program is None and debian.install(self.package):
            program = self.programs()
        if program is not None:
            return ProcessHost(self, program)
        engine = container_engine()
        if engine is not None:
            return ContainerHost(engine, self.image, self.usual_port, self.container_environment)
        raise ServiceMissing(how_to_give(type(self)))

    def _start(self, host: Host) -> None:
        host.start()

        def has_settled() -> bool:
            return not host.is_running() or self._answers(host)

        wait_until(has_settled, timeout_seconds=self.start_timeout_seconds)
        if not self._answers(host):
            words = host.last_words()
            host.kill9()
            raise ServiceFailed(f"{self.service} did not start; its last words:\n{words}")

    def _answers(self, host: Host) -> bool:
        with contextlib.suppress(Exception):
            self.probe(self.url_on(host.port))
            return True
        return False


def how_to_give(kind: type[PrivateServer]) -> str:
    """The one sentence for a person who has to bring a service himself."""
    return (
        f"{kind.service} is needed and was not found: give its address in {kind.variable}, start it on "
        f"127.0.0.1:{kind.usual_port}, install it (Debian: apt-get install {kind.package}), or start docker or podman."
    )
