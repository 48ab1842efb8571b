"""Operating-system processes of private servers: whole families, signalled by process id and never by name."""

import contextlib
import os
import pwd
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# PostgreSQL refuses to run as root, and the other two have no need of it.
UNPRIVILEGED = ("postgres", "nobody")

# How many ports below those of outgoing connections we choose from.
PORTS = 12_000
USUAL_FIRST_OUTGOING_PORT = 32_768


def unprivileged_user() -> pwd.struct_passwd | None:
    """The user that servers run as: None when we are no root, because then it is ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError(f"this machine has none of the users {', '.join(UNPRIVILEGED)} to run servers as")


def run_as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments for `subprocess` that drop root's rights."""
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens at this moment.

    It lies below the range that the system takes for outgoing connections. Within it, a stranger's connection could
    take the port while our server is down, and a client that tries it again and again can even connect to itself.
    """
    top = _first_outgoing_port()
    while True:
        port = random.randrange(top - PORTS, top)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _first_outgoing_port() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return USUAL_FIRST_OUTGOING_PORT
    # A machine that lends nearly all of its ports leaves no room below.
    return first if first > 2 * PORTS else USUAL_FIRST_OUTGOING_PORT


def wait_until(is_ready: Callable[[], bool], *, timeout_seconds: float, interval_seconds: float = 0.05) -> bool:
    """Ask again and again; False when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if is_ready():
            return True
        time.sleep(interval_seconds)
    return is_ready()


def wait_until_stopped(pid: int, *, seconds: float = 5.0) -> None:
    """Wait until a SIGSTOP has reached every thread of a family: on a busy machine one may go on for a moment."""
    until = time.monotonic() + seconds
    while any(_runs(member) for member in family(pid)) and time.monotonic() < until:
        time.sleep(0.005)


def _runs(pid: int) -> bool:
    """Tell whether a thread of the process is not stopped (state T of /proc/PID/task/TID/stat); False elsewhere."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] not in "TtZX":
                return True
    return False


def family(pid: int) -> list[int]:
    """The process and all that descend from it, parents first.

    Signalling a process group is not enough: PostgreSQL gives each of its children a session of its own.
    """
    children: dict[int, list[int]] = {}
    for child, parent in _all_processes():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for member in found:
        found.extend(children.get(member, []))
    return found


def signal_family(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its descendants; those that ended meanwhile are no error."""
    for member in family(pid):
        _send(member, number)


def kill(members: list[int]) -> None:
    """SIGKILL for a whole family, as a power cut would, and wait until none of it is left."""
    for member in members:
        _send(member, signal.SIGKILL)
    wait_until(lambda: not any(_is_alive(member) for member in members), timeout_seconds=10)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        # An orphan that nobody has reaped yet is dead for our purpose.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _all_processes() -> list[tuple[int, int]]:
    """Every process with its parent."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name, in brackets, may hold blanks; state and parent follow it.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found.append((int(entry.name), int(fields[1])))
    return found
