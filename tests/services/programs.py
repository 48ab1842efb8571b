"""Installed programs: where they are, and how one runs in the foreground of a directory of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

from tests.services import keeper
from tests.services.errors import ServiceFailed
from tests.services.processes import (
    family,
    free_port,
    kill,
    run_as,
    signal_family,
    unprivileged_user,
    wait_until_stopped,
)


class Recipe(Protocol):
    """What a kind of server tells about its programs."""

    service: Any
    stop_signal: Any

    def prepare(self, program: Path, data: Path) -> list[list[str]]: ...
    def command(self, program: Path, data: Path, port: int) -> list[str]: ...
    def environment(self, data: Path, port: int) -> dict[str, str]: ...


def find_program(name: str, *elsewhere: str) -> Path | None:
    """A program, first in the given places (patterns below /, the last in version order wins), then in PATH."""
    for pattern in elsewhere:
        found = [path for path in Path("/").glob(pattern.lstrip("/")) if os.access(path, os.X_OK)]
        if found:
            return max(found, key=_version_order)
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def _version_order(path: Path) -> list[int]:
    """Numbers of the path, so that 9 comes before 15."""
    return [int(number) for number in "".join(c if c.isdigit() else " " for c in str(path)).split()]


class ProcessHost:
    """Runs a server as a child of ours, without rights, in a temporary directory."""

    def __init__(self, recipe: Recipe, program: Path) -> None:
        self.port = free_port()
        self._recipe = recipe
        self._program = program
        self._user = unprivileged_user()
        self._directory = self._make_directory()
        self._data = self._directory / "data"
        self._log = self._directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not self._data.exists():
            self._prepare()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._recipe.command(self._program, self._data, self.port), **self._surroundings(log.fileno())
            )
        keeper.keep(self._directory, self._process.pid)

    def stop(self) -> None:
        if self._process is None:
            return
        self.thaw()
        # Taken before the end: a helper that outlives the server (Erlang's port mapper) is nobody's child then.
        members = family(self._process.pid)
        self._process.send_signal(self._recipe.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=20)
        self._end(members)

    def kill9(self) -> None:
        if self._process is not None:
            self._end(family(self._process.pid))

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            wait_until_stopped(self._process.pid)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        self.kill9()
        shutil.rmtree(self._data)

    def close(self) -> None:
        self.kill9()
        shutil.rmtree(self._directory, ignore_errors=True)
        keeper.release(self._directory)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def _make_directory(self) -> Path:
        # Root's TMPDIR may be closed to the user that the server runs as; /tmp is open to all.
        directory = Path(tempfile.mkdtemp(prefix="paylinks-test-", dir="/tmp" if self._user else None))
        keeper.keep(directory)
        self._give_away(directory)
        return directory

    def _give_away(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _prepare(self) -> None:
        self._data.mkdir(mode=0o700)
        commands = self._recipe.prepare(self._program, self._data)
        for path in (self._data, *self._data.rglob("*")):
            self._give_away(path)
        with self._log.open("ab") as log:
            for command in commands:
                done = subprocess.run(command, check=False, **self._surroundings(log.fileno()))
                if done.returncode:
                    raise ServiceFailed(f"{self._recipe.service}: {command[0]} failed:\n{self.last_words()}")

    def _surroundings(self, log: int) -> dict[str, Any]:
        """How each program of the server runs; a session of its own, so that Ctrl-C does not reach it."""
        environment = {
            "PATH": f"{self._program.parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "HOME": str(self._directory / "data"),
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            **self._recipe.environment(self._data, self.port),
        }
        return {
            "stdin": subprocess.DEVNULL,
            "stdout": log,
            "stderr": log,
            "env": environment,
            "cwd": self._directory,
            "start_new_session": True,
            **run_as(self._user),
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            signal_family(self._process.pid, number)

    def _end(self, members: list[int]) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(timeout=10)
        kill(members)
        self._process = None
        keeper.keep(self._directory)
