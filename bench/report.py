"""The one table at the end, and the same as JSON."""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """What a value must reach: `least` or `most` of the value itself, or `ratio` of another line's."""

    least: float | None = None
    most: float | None = None
    ratio: float | None = None

    def holds(self, value: float, ratio: float | None) -> bool:
        """Tell whether it is reached."""
        if self.ratio is not None:
            return ratio is not None and ratio >= self.ratio
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"ratio >= {self.ratio:g}"
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"


@dataclass(frozen=True)
class Line:
    """One line of the table: a median, the single values behind it, and what it is compared with."""

    measure: str
    what: str
    unit: str
    values: tuple[float, ...]
    ratio: float | None = None
    target: Target | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None: there is none."""
        return None if self.target is None else self.target.holds(self.median, self.ratio)


@dataclass
class Report:
    """What was measured, on which machine."""

    header: dict[str, str]
    lines: list[Line] = field(default_factory=list)

    def text(self) -> str:
        """The header and the table."""
        width = max(len(name) for name in self.header)
        head = [f"{name:<{width}}  {value}" for name, value in self.header.items()]
        return "\n".join([*head, "", *_table(self.lines)])

    def write_json(self, path: Path) -> None:
        """Write everything, single values included."""
        lines = [{**asdict(line), "median": line.median, "holds": line.holds} for line in self.lines]
        path.write_text(json.dumps({"header": self.header, "lines": lines}, indent=2) + "\n")

    @property
    def is_good(self) -> bool:
        """Whether every target is reached."""
        return all(line.holds is not False for line in self.lines)


_COLUMNS = ("measurement", "", "median", "range", "ratio", "target", "")


def _table(lines: Sequence[Line]) -> list[str]:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    previous = ""
    for line in lines:
        rows.append(_cells(line, named=line.measure != previous))
        previous = line.measure
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    texts = [_row(cells, widths) for cells in rows]
    return [texts[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *texts[1:]]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = [_placed(cell, width, column) for column, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(placed).rstrip()


def _cells(line: Line, *, named: bool) -> tuple[str, ...]:
    verdict = {None: "", True: "reached", False: "MISSED"}[line.holds]
    spread = f"{short(min(line.values))} .. {short(max(line.values))}" if len(line.values) > 1 else ""
    return (
        line.measure if named else "",
        f"{line.what} ({line.note})" if line.note else line.what,
        f"{short(line.median)} {line.unit}",
        spread,
        "" if line.ratio is None else f"{line.ratio:.2f}",
        "" if line.target is None else str(line.target),
        verdict,
    )


def _placed(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column in (2, 4) else cell.ljust(width)


def short(value: float) -> str:
    """Write a number with three digits that mean something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def say(text: str) -> None:
    """Tell how far the measurement is."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]
