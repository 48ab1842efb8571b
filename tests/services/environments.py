"""Environments of other people's programs: made on first use from pinned packages, and never mixed with ours."""

import hashlib
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path


class InstallError(Exception):
    """The packages could not be had; the text is pip's."""


@cache
def python_with(requirements: Path, environment: Path) -> Path:
    """Give the Python of an environment; it is built when it is missing or was made from other pins.

    Raises InstallError.
    """
    python = environment / "bin" / "python"
    stamp = environment / ".pins"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {requirements.name} into {environment}", file=sys.stderr)
        venv.create(environment, clear=True, with_pip=True)
        _install(python, requirements)
        stamp.write_text(wanted)
    return python


def _install(python: Path, requirements: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
    command = [str(python), "-m", "pip", "install", *options, "-r", str(requirements)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise InstallError(f"{requirements.name} could not be installed:\n{ended.stdout}{ended.stderr}")
