"""The peers' own environment: made on first use from pinned packages, and never mixed with ours."""

from bench.processes import ROOT
from tests.services.environments import InstallError, python_with

REQUIREMENTS = ROOT / "bench" / "requirements-peers.txt"
ENVIRONMENT = ROOT / "var" / "bench-venv"


def peers_python() -> str:
    """The peers' Python; builds the environment when it is missing or was made from other pins."""
    try:
        return str(python_with(REQUIREMENTS, ENVIRONMENT))
    except InstallError as error:
        raise SystemExit(f"bench: {error}") from None


def peer_versions() -> dict[str, str]:
    """The pinned versions of the peers, for the header of the table."""
    pins = [line.split(" ")[0].partition("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    return {name: version for name, _, version in pins if name in ("celery", "procrastinate", "dbos")}
