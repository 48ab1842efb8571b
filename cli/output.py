"""What commands write: data to stdout, progress and complaints to stderr.

Colours only on a terminal, and never with NO_COLOR. Control characters are shown, not obeyed: what is printed may come
from a provider's answer.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}


def put(text: str = "", *, mark: str = "", colour: str = "dim") -> None:
    """Write one line of data, after a coloured mark if there is one."""
    print(f"{_painted(mark, colour)}{clean(text)}")


def put_json(value: Any) -> None:
    """Write one JSON document; times are ISO 8601 in UTC."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def say(text: str) -> None:
    """Tell the person who waits."""
    print(clean(text), file=sys.stderr)


def put_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write aligned columns; the last one may be long."""
    lines = [[clean(_shown(cell)) for cell in row] for row in rows]
    widths = [max(len(line[index]) for line in [list(headings), *lines]) for index in range(len(headings))]
    widths[-1] = 0
    for line in [list(headings), *lines]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def clean(text: str) -> str:
    """Show control characters instead of letting a terminal obey them."""
    return "".join(character if _is_harmless(character) else f"\\x{ord(character):02x}" for character in text)


def moment(at: datetime | None) -> str:
    """Show a time to the millisecond, in UTC."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _painted(text: str, colour: str) -> str:
    plain = not text or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or not (ord(character) < 32 or 127 <= ord(character) < 160)


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    return moment(cell) if isinstance(cell, datetime) else str(cell)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
