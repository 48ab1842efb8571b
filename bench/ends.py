"""How ends are counted: the last step of each chain sends one datagram to the benchmark, whoever runs it.

A datagram costs some microseconds and goes through no broker and no database, so it costs every contestant the same.
This module imports only the standard library: the peers' programs use it from an environment of their own.
"""

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "BENCH_ENDS"


class Ends:
    """The benchmark's side: a socket that hears of ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._seen: set[str] = set()

    def wait(self, round_name: str, count: int, *, seconds: float, check: Callable[[], None] | None = None) -> float:
        """Wait until `count` different chains of a round have ended; return the time of the last one (monotonic)."""
        wanted = f"{round_name}/"
        deadline = time.monotonic() + seconds
        self._seen = {name for name in self._seen if name.startswith(wanted)}
        while len(self._seen) < count:
            name = self.hear(0.5)
            if name is None:
                if check is not None:
                    check()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(self._seen)} of {count} chains ended within {seconds:g} s")
            elif name.startswith(wanted):
                self._seen.add(name)
        return time.monotonic()

    def hear(self, seconds: float) -> str | None:
        """Return the next thing told, or None when nothing was told within the time."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(400).decode()
        except TimeoutError:
            return None

    def close(self) -> None:
        """Stop hearing."""
        self._socket.close()


@contextlib.contextmanager
def hearing() -> Iterator[Ends]:
    """Open the socket in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        ends = Ends(str(Path(folder) / "ends"))
        try:
            yield ends
        finally:
            ends.close()


_outgoing: socket.socket | None = None


def tell(name: str) -> None:
    """A contestant's side: the chain of this name has ended."""
    global _outgoing
    if _outgoing is None:
        outgoing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        outgoing.connect(os.environ[VARIABLE])
        _outgoing = outgoing  # only now: other threads use it as soon as it is there
    _outgoing.send(name.encode())
