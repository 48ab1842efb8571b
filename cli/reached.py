"""What was met of all that there is: a rehearsal that leaves something out should say so by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from db import ledger
from db.tx import Tx
from rules.verdict_table import every_rule


@dataclass(frozen=True, slots=True)
class Reached:
    """Which of all things of a kind were met. `excused`: what cannot be met here, and why."""

    what: str
    every: frozenset[str]
    seen: frozenset[str]
    excused: Mapping[str, str] = field(default_factory=dict)

    @property
    def never(self) -> list[str]:
        """What should have been met, and was not."""
        return sorted(self.every - self.seen - set(self.excused))

    @property
    def wrong(self) -> list[str]:
        """What is wrong, in sentences: what was never met, and what was met and nobody knows of."""
        unknown = [f"{self.what} {name} is not one that we know of" for name in sorted(self.seen - self.every)]
        return unknown + [f"{self.what} {name} was never seen" for name in self.never]

    def line(self) -> str:
        """Sum it up."""
        met = sorted(self.seen & self.every)
        excused = [f"{name} ({why})" for name, why in sorted(self.excused.items()) if name not in self.seen]
        never = ", ".join([*self.never, *excused]) or "nothing"
        return f"{len(met)} of {len(self.every)} {self.what}s seen: {' '.join(met)}; never seen: {never}"


def rules_reached(tx: Tx) -> Reached:
    """Compare the rules that decided in this database with those of the verdict table."""
    return Reached("rule", every_rule(), ledger.rules_seen(tx))
