"""The published contracts: JSON Schemas and one AsyncAPI document, made from the models and kept in the repository.

    models ── documents() ──> contracts/schemas/ ── check(): do they still say the same?
                                    └─ export() refuses to overwrite a published version with one that breaks it

The repository's copy is the published one. A change of a model shows there as a difference that a person reads.
"""

import json
from pathlib import Path
from typing import Any

from contracts.asyncapi import asyncapi_document
from contracts.catalog import TYPES
from contracts.compatibility import broken_types
from contracts.json_schema import delivery_schema, message_schema

PUBLISHED = Path(__file__).with_name("schemas")
ASYNCAPI = "asyncapi.json"


class BreakingChange(Exception):
    """A published version would break; `problems` says where. Add a new version beside it instead."""

    def __init__(self, problems: list[str]) -> None:
        """Keep every problem."""
        self.problems = problems
        super().__init__("; ".join(problems))


def documents() -> dict[str, str]:
    """Return every document by its file name: "<type>.json", "delivery.json", "asyncapi.json"."""
    made = {f"{name}.json": schema for name, schema in _schemas().items()} | {ASYNCAPI: asyncapi_document()}
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in sorted(made.items())}


def export(folder: Path = PUBLISHED, *, allow_breaking: bool = False) -> list[str]:
    """Write every document and remove what is no contract any more; return the names that changed.

    Raises BreakingChange, and writes nothing, when the folder holds a version that the new one would break.
    """
    problems = breaks(folder)
    if problems and not allow_breaking:
        raise BreakingChange(problems)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = documents()
    changed = sorted(name for name, text in wanted.items() if _read(folder / name) != text)
    for name in changed:
        (folder / name).write_text(wanted[name], encoding="utf-8")
    strays = _strays(folder)
    for name in strays:
        (folder / name).unlink()
    return changed + strays


def check(folder: Path = PUBLISHED) -> list[str]:
    """Return each difference between a folder and the models; empty when they say the same."""
    differences = []
    for name, text in documents().items():
        found = _read(folder / name)
        if found is None:
            differences.append(f"{name}: missing")
        elif found != text:
            differences.append(f"{name}: differs from the models")
    return differences + [f"{name}: no contract makes it" for name in _strays(folder)] + breaks(folder)


def breaks(folder: Path = PUBLISHED) -> list[str]:
    """Return each way in which the models break what a folder has published."""
    return broken_types(_published(folder), _schemas())


def _schemas() -> dict[str, dict[str, Any]]:
    return {name: message_schema(model) for name, model in TYPES.items()} | {"delivery": delivery_schema()}


def _published(folder: Path) -> dict[str, dict[str, Any]]:
    files = [path for path in folder.glob("*.json") if path.name != ASYNCAPI]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def _strays(folder: Path) -> list[str]:
    return sorted({path.name for path in folder.glob("*.json")} - set(documents()))


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
