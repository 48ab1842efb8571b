"""CloudEvents 1.0 in structured JSON: the envelope of every message, strict outside, tolerant inside.

    bytes -> parse_json -> Envelope (strict) -> data -> one of contracts.messages (tolerant)

Source: CloudEvents 1.0.2 and its JSON event format. Every failure is a ContractError that names the field and the
remedy, never the value: values may be personal.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_BODY_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 50
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,20}")
# What a problem's path repeats of a name that the sender chose; anything else may be a value gone astray.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.*-]{1,64}")
_TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: the field's path ("data.amount_minor"), what is wrong, what to do."""

    field: str
    problem: str

    def __str__(self) -> str:
        """Read as "data.currency: unknown currency; use one of ..."."""
        return f"{self.field}: {self.problem}"


class ContractError(Exception):
    """A body that is not one of our contracts."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep every problem, so that the sender can mend all of them at once; of a flood, the first."""
        found = tuple(problems)
        left_out = len(found) - MAX_PROBLEMS
        rest = (Problem("body", f"{left_out} more problems of the same body"),) if left_out > 0 else ()
        self.problems = found[:MAX_PROBLEMS] + rest
        super().__init__("; ".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, field: str, problem: str) -> Self:
        """Make the error of one problem."""
        return cls([Problem(field, problem)])


def parse_json(body: bytes, *, max_bytes: int = MAX_BODY_BYTES) -> dict[str, Any]:
    """Parse one JSON object; raise ContractError on size, encoding, syntax, depth or anything that is no object."""
    if len(body) > max_bytes:
        raise ContractError.of("body", f"larger than {max_bytes} bytes; send ids, not documents")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContractError.of("body", f"not UTF-8 at byte {error.start}; encode the JSON as UTF-8") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ContractError.of("body", f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number out of range"
        raise ContractError.of("body", f"not JSON ({reason}); send one JSON object") from None
    if not isinstance(value, dict):
        raise ContractError.of("body", "not a JSON object; send one object per message")
    _check_text(value, "", 0)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _check_text(value: Any, path: str, depth: int) -> None:
    """Refuse what JSON allows and databases do not: NUL, lone surrogates, infinity (1e999), bottomless nesting."""
    if depth > MAX_DEPTH:
        raise ContractError.of(path or "body", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if "\x00" in value:
            raise ContractError.of(path, "holds a NUL character; remove it")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ContractError.of(path, "holds half of a surrogate pair; send whole characters") from None
    elif isinstance(value, float) and not math.isfinite(value):
        raise ContractError.of(path, "a number out of range")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_text(name, f"{path} (a field's name)".strip(), depth)
            _check_text(item, f"{path}.{_shown(name)}" if path else _shown(name), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_text(item, f"{path}[{index}]", depth + 1)


def _shown(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "?"


class Envelope(BaseModel):
    """One CloudEvent. `type` ends in the contract's version: "invoice.created.v1"."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=128)
    source: str = Field(min_length=1, max_length=256)
    type: str = Field(min_length=1, max_length=128)
    subject: str | None = Field(default=None, min_length=1, max_length=256)
    time: AwareDatetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str | None = Field(default=None, max_length=512)
    requestid: str | None = Field(default=None, min_length=1, max_length=64)
    traceparent: str | None = Field(default=None, pattern=_TRACEPARENT)
    data: dict[str, Any]

    @model_validator(mode="after")
    def _extensions_are_named_by_the_rules(self) -> Self:
        for name in self.model_extra or ():
            if not _EXTENSION_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no CloudEvents attribute name; use 1 to 20 of a-z and 0-9")
        return self

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Self:
        """Check the envelope alone; `data` stays as it came."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise contract_error(error) from None


def contract_error(error: ValidationError, prefix: str = "") -> ContractError:
    """Turn pydantic's errors into ours: field paths and remedies, never the values."""
    return ContractError(
        Problem(_path(prefix, item["loc"]), _remedy(item["type"], item["msg"]))
        for item in error.errors(include_input=False, include_url=False)
    )


def _path(prefix: str, loc: tuple[int | str, ...]) -> str:
    return ".".join([*([prefix] if prefix else []), *(_shown(str(part)) for part in loc)]) or "body"


_REMEDIES = {
    "missing": "missing; this field is required",
    "int_type": "not a whole number; send minor units or counts as a JSON integer, without quotes or decimals",
    "timezone_aware": "has no time zone; write it like 2026-11-22T10:00:00Z",
}


def _remedy(kind: str, message: str) -> str:
    return _REMEDIES.get(kind) or message.removeprefix("Value error, ")
