"""The peers' own environment: made on first use from pinned packages, and never mixed with ours."""

import hashlib
import subprocess
import sys
import venv
from functools import cache
from pathlib import Path

from bench.processes import ROOT

REQUIREMENTS = ROOT / "bench" / "requirements-peers.txt"
ENVIRONMENT = ROOT / "var" / "bench-venv"


@cache
def peers_python() -> str:
    """The peers' Python; builds the environment when it is missing or was made from other pins."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / ".pins"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"bench: installing the peers into {ENVIRONMENT.relative_to(ROOT)}", file=sys.stderr)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        _install(python)
        stamp.write_text(wanted)
    return str(python)


def _install(python: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes"]
    command = [str(python), "-m", "pip", "install", *options, "-r", str(REQUIREMENTS)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"bench: the peers could not be installed:\n{ended.stdout}{ended.stderr}")


def peer_versions() -> dict[str, str]:
    """The pinned versions of the peers, for the header of the table."""
    pins = [line.split(" ")[0].partition("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    return {name: version for name, _, version in pins if name in ("celery", "procrastinate", "dbos")}
