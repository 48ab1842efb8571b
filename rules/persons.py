"""Whose data it is: a person as he is asked for, and whether some text names him.

An address counts whatever its case, a telephone number whatever stands between its digits. A name does not: two people
share one.
"""

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

MIN_DIGITS = 5
_BETWEEN_DIGITS = r"[ ()\-.\u00a0]*"
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_LOOKS_LIKE_A_NUMBER = re.compile(r"\+?[0-9 ()\-.]+")


@dataclass(frozen=True, slots=True)
class Person:
    """One person: addresses in one case, and numbers by their digits."""

    emails: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()

    @classmethod
    def of(cls, customer: Mapping[str, Any]) -> "Person":
        """Take the customer of an invoice, as the CRM named him."""
        email, phone = customer.get("email"), customer.get("phone")
        return cls(frozenset([email.casefold()] if email else []), frozenset([digits_of(phone)] if phone else []))

    @property
    def is_known(self) -> bool:
        """Tell whether anything names him."""
        return bool(self.emails or self.phones)

    def is_in(self, value: Any) -> bool:
        """Tell whether a JSON value, or the raw bytes of anything, name him."""
        return any(self._is_named(text) for text in _texts(value))

    def _is_named(self, text: str) -> bool:
        folded = text.casefold()
        return any(_holds_email(folded, email) for email in self.emails) or any(
            re.search(_number(phone), text) is not None for phone in self.phones
        )


def names_any(value: Any, words: Collection[str]) -> bool:
    """Tell whether a JSON value holds one of these words, which nobody else uses."""
    return any(word in text for text in _texts(value) for word in words)


def digits_of(phone: str) -> str:
    """Return the digits of a number, with the country's code and without what is dialled before it."""
    return "".join(character for character in phone if character in "0123456789").removeprefix("00")


def looks_like_a_number(text: str) -> bool:
    """Tell whether this could be a telephone number."""
    return _LOOKS_LIKE_A_NUMBER.fullmatch(text) is not None and len(digits_of(text)) >= MIN_DIGITS


def _holds_email(text: str, email: str) -> bool:
    """Find an address that is no part of a longer one."""
    return email in text and re.search(rf"(?<![\w.+-]){re.escape(email)}(?![\w-]|\.\w)", text) is not None


def _number(digits: str) -> str:
    return r"(?<!\d)(?:00)?" + _BETWEEN_DIGITS.join(digits) + r"(?!\d)"


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a value, bodies in base64 decoded; a text also as forms and broken JSON would write it."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield from {one, unquote_plus(one), _ESCAPED.sub(_unescaped, one)}
        elif isinstance(one, bytes):
            left += _parts(one)
        elif isinstance(one, Mapping):
            left += [_decoded(item) if name == "body_base64" else item for name, item in one.items()]
        elif isinstance(one, list | tuple):
            left += one


def _parts(body: bytes) -> list[Any]:
    text = body.decode("utf-8", "replace")
    try:
        return [text, json.loads(text)]
    except (ValueError, RecursionError):
        return [text]


def _decoded(body: Any) -> Any:
    try:
        return base64.b64decode(body)
    except (ValueError, TypeError):
        return body


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else " "
