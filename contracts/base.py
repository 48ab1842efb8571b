"""What every message is: a frozen model with a literal type, a deduplication key and a fingerprint.

The key names a wish; the fingerprint says what was wished. Same key and same fingerprint: a duplicate. Same key and
another fingerprint: a conflict, which a person must see.
"""

import hashlib
import re
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from contracts.envelope import contract_error


def _printable(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("holds control characters; remove them")
    return text


def _no_edge_space(text: str) -> str:
    if text != text.strip():
        raise ValueError("starts or ends with white space; trim it")
    return text


# What the two functions above check, for readers of the exported schemas.
_PRINTABLE = {"pattern": r"^[^\x00-\x1f\x7f]*$"}
_TRIMMED = {"pattern": r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"}

Identifier = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra={**_TRIMMED}),
    AfterValidator(_printable),
    AfterValidator(_no_edge_space),
]
Slug = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
ShortText = Annotated[str, Field(max_length=200, json_schema_extra={**_PRINTABLE}), AfterValidator(_printable)]


class Part(BaseModel):
    """A piece of a message: frozen, and tolerant of fields that a later version may add."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Message(Part):
    """One typed message. Subclasses declare the three constants and the key."""

    # The CloudEvents type, version included. It never follows a class rename.
    TYPE: ClassVar[str]
    # The business fields: what makes two messages with one key say the same.
    FINGERPRINT: ClassVar[tuple[str, ...]]
    # Personal fields: encrypted at rest, absent from deliveries, logs and the audit trail.
    SEALED: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def key(self) -> str:
        """Name the wish."""

    @abstractmethod
    def subject(self) -> str:
        """Name whom it is about, for support to search by: our invoice id, or the CRM's before we have one."""

    def fingerprint(self) -> bytes:
        """Digest the business fields after parsing; a default that was sent equals one that was not."""
        return self.fingerprint_of(self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def fingerprint_of(cls, fields: dict[str, Any]) -> bytes:
        """Digest the business fields of a message that was dumped already, without its defaults."""
        business = {name: fields[name] for name in cls.FINGERPRINT if name in fields}
        return hashlib.sha256(to_json(_ordered(business))).digest()

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """Check `data` of an envelope; raise ContractError that names each field under "data."."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise contract_error(error, "data") from None


def _ordered(value: Any) -> Any:
    """Order names, so that a digest does not depend on the order of fields in a class."""
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


# What needs no quoting, as most parts do.
_PLAIN = re.compile(r"[A-Za-z0-9_.~/ @+,-]*")


def key_of(*parts: object) -> str:
    """Join the parts of a key so that no part can imitate two: key_of("a:b", 1) == "a%3Ab:1"."""
    return ":".join(
        text if _PLAIN.fullmatch(text) else quote(text, safe="/ @+,") for text in [str(part) for part in parts]
    )


def key_digest(key: str) -> bytes:
    """Digest a key to the fixed size that is kept for ever."""
    return hashlib.sha256(key.encode()).digest()
