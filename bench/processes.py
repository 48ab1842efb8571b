"""Child processes of a measurement: started with a log of their own, stopped dead and let go together, always ended."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.processes import family, kill, signal_family

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "var" / "bench" / "logs"
_PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A child process ended too early; the text holds the end of its log."""


class Child:
    """One program of a contestant, with whatever processes it starts itself."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log = LOGS / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: we end the children in order
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process that we started; it may have children."""
        return self._process.pid

    def check(self) -> None:
        """Raise ChildError if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise ChildError(f"{self.name} ended with code {code}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-3000:]

    def signal(self, number: signal.Signals) -> None:
        """Signal it and its descendants."""
        signal_family(self.pid, number)

    def kill(self) -> None:
        """End it with all that it started: what it was measured with is thrown away, so nothing needs time to save."""
        members = family(self.pid) if self._process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # also what is left of a program that ended before
        kill(members)
        self._process.wait()

    def usage(self) -> "Usage":
        """What it and its descendants have used by now."""
        return Usage.of(family(self.pid))


class Usage:
    """Memory and processor time of some processes."""

    def __init__(self, rss_mib: float, pss_mib: float, cpu_seconds: float, processes: int) -> None:
        self.rss_mib = rss_mib
        self.pss_mib = pss_mib
        self.cpu_seconds = cpu_seconds
        self.processes = processes

    @classmethod
    def of(cls, pids: Sequence[int]) -> Self:
        """Read it from /proc; processes that ended meanwhile count nothing."""
        rss = pss = cpu = 0.0
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = _rollup(pid)
                rss += fields["Rss"] / 1024
                pss += fields["Pss"] / 1024
                cpu += cpu_seconds(pid)
        return cls(rss, pss, cpu, len(pids))


def cpu_seconds(pid: int) -> float:
    """Processor time of one process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rollup(pid: int) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return found


class Company:
    """The children of one contestant."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start one more."""
        child = Child(name, command, environment)
        self.children.append(child)
        return child

    def check(self) -> None:
        """Raise ChildError if one has ended."""
        for child in self.children:
            child.check()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.children:
            child.kill()


@contextlib.contextmanager
def held_still(children: Sequence[Child]) -> Iterator[None]:
    """Keep some programs stopped for the length of the block; at its end they go on together."""
    for child in children:
        child.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            child.signal(signal.SIGCONT)


def _end_with_parent() -> None:
    """Ask Linux to end the child when we die without a chance to clean up."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for(is_ready: object, *, seconds: float, what: str, company: Company | None = None) -> None:
    """Poll a callable until it is true; name what did not come within the time."""
    assert callable(is_ready)
    deadline = time.monotonic() + seconds
    while not is_ready():
        if company is not None:
            company.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
