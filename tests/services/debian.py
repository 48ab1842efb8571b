"""Debian's packages, for a machine that lacks a server and lets us install it."""

import functools
import os
import shutil
import subprocess
import sys

# RUNLEVEL=1 keeps the package's own server from starting: we want the programs, on ports of our own.
_QUIET = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]


def install(package: str) -> bool:
    """Install a package where we may; True when apt-get said that it is there now."""
    prefix = _privileges()
    if prefix is None or os.environ.get("PAYLINKS_TEST_INSTALL") == "0":
        return False
    print(f"services: installing Debian's package {package}", file=sys.stderr)
    _update(tuple(prefix))
    return _apt(prefix, "install", "--yes", "--no-install-recommends", package)


@functools.cache
def _privileges() -> list[str] | None:
    """What to put before apt-get; None when this is no Debian or we are nobody there."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds(["sudo", "-n", "true"], timeout_seconds=10):
        return ["sudo", "-n"]
    return None


@functools.cache
def _update(prefix: tuple[str, ...]) -> None:
    """Once per run; an old list may still serve, so that a failure here is not the end."""
    _apt(list(prefix), "update")


def _apt(prefix: list[str], *arguments: str) -> bool:
    command = [*prefix, *_QUIET, "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *arguments]
    return _succeeds(command, timeout_seconds=900)


def _succeeds(command: list[str], *, timeout_seconds: float) -> bool:
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"services: {' '.join(command)}: {error}", file=sys.stderr)
        return False
    if done.returncode and "apt-get" in command:
        print(done.stdout.decode(errors="replace").strip()[-2000:], file=sys.stderr)
    return done.returncode == 0
