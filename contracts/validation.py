"""Check a file of events before they are sent: one JSON object, a JSON array, or JSON lines.

Whole CloudEvents are held against the contract that their type names, inbound or outbound. An object that has nothing
of an envelope is read as the `data` of an invoice, as `POST /v1/invoices` reads it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.catalog import INBOUND, OUTBOUND, SET_BY_INTAKE, inbound_model
from contracts.envelope import ContractError, Envelope, Problem, parse_json
from contracts.messages import InvoiceCreated, ProviderEventReceived

_ENVELOPE_ONLY = frozenset({"specversion", "source", "data"})
_SPACE = " \t\n\r"
# In place of what intake will set.
_SET_FOR_A_PROVIDER_EVENT = {"receipt": "-", "received_at": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing wrong in a file: the line where the event begins, the field, what is wrong and what to do."""

    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        """Read as "line 3: data.currency: unknown currency; use one of ..."."""
        return f"line {self.line}: {self.field}: {self.problem}"


def validate(path: Path) -> list[FileProblem]:
    """Return every problem of a file; empty when each event in it would be taken. Raises OSError when unreadable."""
    events = list(_events(path.read_bytes()))
    if not events:
        return [FileProblem(1, "body", "holds no event; write one JSON object per line, or an array of them")]
    return [problem for line, body in events for problem in _problems(line, body)]


def read_event(value: dict[str, Any]) -> None:
    """Check one object as `validate` does; raise ContractError that names field and remedy."""
    if not _ENVELOPE_ONLY & set(value):
        _read_bare(value)
        return
    envelope = Envelope.parse(value)
    announced = {model.TYPE: model for model in OUTBOUND}
    model = announced.get(envelope.type) or inbound_model(envelope.type)
    if model in INBOUND:
        theirs = {name: value for name, value in envelope.data.items() if name not in SET_BY_INTAKE}
        model.parse(theirs | (_SET_FOR_A_PROVIDER_EVENT if model is ProviderEventReceived else {}))
    else:
        model.parse(envelope.data)


def _read_bare(data: dict[str, Any]) -> None:
    """Its fields stand at the top, so its problems do too."""
    try:
        InvoiceCreated.parse(data)
    except ContractError as error:
        raise ContractError(
            Problem(item.field.removeprefix("data."), item.problem) for item in error.problems
        ) from None


def _problems(line: int, body: bytes) -> Iterator[FileProblem]:
    try:
        read_event(parse_json(body))
    except ContractError as error:
        for problem in error.problems:
            yield FileProblem(line, problem.field, problem.problem)


def _events(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut a file into its events, each with the number of its first line."""
    lines = raw.split(b"\n")
    first = next((line.strip() for line in lines if line.strip()), b"")
    if first.startswith(b"["):
        yield from _elements(raw)
    elif _is_object(first) or not _continues(first):
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    else:
        yield raw[: len(raw) - len(raw.lstrip())].count(b"\n") + 1, raw


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _continues(line: bytes) -> bool:
    """Tell one object over many lines from a broken line of JSON lines: it opens and does not close."""
    return line.startswith(b"{") and not line.endswith(b"}")


def _elements(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut an array; where it cannot be read to its end, the rest goes on as it is, to be refused with its reason."""
    text = raw.decode("utf-8", errors="surrogateescape")
    decoder = json.JSONDecoder()
    position = _skip(text, text.index("[") + 1, _SPACE)
    while position < len(text) and text[position] != "]":
        try:
            end = decoder.raw_decode(text, position)[1]
        except (ValueError, RecursionError):
            end = len(text)
        line = text.count("\n", 0, position) + 1
        yield line, text[position:end].encode("utf-8", errors="surrogateescape")
        position = _skip(text, end, _SPACE + ",")


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position
