"""Clears up after a test run that was itself killed.

A small process of its own waits for the end of its standard input, which comes when the test run ends in whatever
way. Then it kills the servers that are still there and removes their directories.

The program part imports only the standard library and its neighbour, so that it starts at once.
"""

import atexit
import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

_keeper: subprocess.Popen[bytes] | None = None
_telling = threading.Lock()

_NO_PROCESS = 0
_NO_DIRECTORY = -1


def keep(directory: Path, pid: int = _NO_PROCESS) -> None:
    """Should we die, have this directory removed, and the server that uses it killed."""
    _tell(f"{pid} {directory}\n")


def release(directory: Path) -> None:
    """The directory is gone, and so is its server."""
    _tell(f"{_NO_DIRECTORY} {directory}\n")


def _tell(line: str) -> None:
    with _telling:
        keeper = _running_keeper()
        assert keeper.stdin is not None
        keeper.stdin.write(line.encode())
        keeper.stdin.flush()


def _running_keeper() -> subprocess.Popen[bytes]:
    global _keeper
    if _keeper is None or _keeper.poll() is not None:
        # A session of its own: Ctrl-C in the terminal must not take the keeper along.
        _keeper = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(_close, _keeper)
    return _keeper


def _close(keeper: subprocess.Popen[bytes]) -> None:
    assert keeper.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        keeper.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        keeper.wait(timeout=10)


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for directory, pid in _read_until_the_end().items():
        _clear_up(directory, pid)


def _read_until_the_end() -> dict[str, int]:
    kept: dict[str, int] = {}
    for line in sys.stdin:
        pid, directory = line.rstrip("\n").split(" ", 1)
        kept[directory] = int(pid)
    return {directory: pid for directory, pid in kept.items() if pid != _NO_DIRECTORY}


def _clear_up(directory: str, pid: int) -> None:
    from processes import signal_family  # type: ignore[import-not-found]  # Python puts our own directory on its path

    if pid != _NO_PROCESS:
        signal_family(pid, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _main()
