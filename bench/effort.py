"""Processor time that a contestant costs: his own processes, his database's sessions, and the message brokers."""

from pathlib import Path

from bench.processes import Company, cpu_seconds
from tests.services.processes import family

BROKER = "beam.smp"


class Effort:
    """Processor time between its making and a later look."""

    def __init__(self, company: Company, database: str | None) -> None:
        """`database` is the name of the database that belongs to this contestant alone."""
        self._company = company
        self._database = database
        self._before = self._times()

    def seconds(self) -> float:
        """Return what was used since; of processes that ended meanwhile nothing is known."""
        return sum(used - self._before.get(pid, 0.0) for pid, used in self._times().items())

    def _times(self) -> dict[int, float]:
        found = {}
        for pid in {*(member for child in self._company.children for member in family(child.pid)), *self._servers()}:
            try:
                found[pid] = cpu_seconds(pid)
            except OSError:
                continue
        return found

    def _servers(self) -> list[int]:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._serves_us(entry)]

    def _serves_us(self, entry: Path) -> bool:
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return False
        is_session = self._database is not None and words.startswith("postgres:") and f" {self._database} " in words
        return is_session or BROKER in words.split(" ")[0]
