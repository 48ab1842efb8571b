"""Identifiers: 26 characters, sortable by time, unguessable enough for a row, never for a token.

The layout is the ULID's: 48 bits of milliseconds, 80 random bits, Crockford base 32
(https://github.com/ulid/spec), in lower case because people copy them out of a terminal.
"""

import os
import time
from collections import deque
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SHIFTS = range(45, -1, -5)
LENGTH = 26

# Every message makes several ids, many in one millisecond: the digits of the time are kept for as long as it lasts.
_moment = (0, "0" * len(_SHIFTS))
# Random digits for many ids from one question to the system; a child process must not use its parent's.
_RANDOM_DIGITS = LENGTH - len(_SHIFTS)
_AT_ONCE = 128
_DIGIT_OF_BYTE = "".join(_ALPHABET[byte & 31] for byte in range(256)).encode()
_random: deque[str] = deque()
if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """Return a fresh identifier; two made in different milliseconds sort by time."""
    return _time_digits() + _next_random()


def moment_of(identifier: str) -> datetime | None:
    """Return when an identifier was made, to the millisecond; None: it is none of ours."""
    if len(identifier) != LENGTH or not set(identifier) <= set(_ALPHABET):
        return None
    milliseconds = 0
    for digit in identifier[: len(_SHIFTS)]:
        milliseconds = milliseconds << 5 | _ALPHABET.index(digit)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _time_digits() -> str:
    global _moment  # replaced as a whole: threads see the old or the new one
    now = time.time_ns() // 1_000_000
    known, digits = _moment
    if known != now:
        digits = "".join([_ALPHABET[(now >> shift) & 31] for shift in _SHIFTS])
        _moment = (now, digits)
    return digits


def _next_random() -> str:
    """Take digits that nobody else gets; threads may ask at the same moment."""
    while True:
        try:
            return _random.pop()
        except IndexError:
            # Five bits of each byte are used: so a digit is a byte's translation, and all are made at once.
            fresh = os.urandom(_RANDOM_DIGITS * _AT_ONCE).translate(_DIGIT_OF_BYTE).decode()
            _random.extend(fresh[place : place + _RANDOM_DIGITS] for place in range(0, len(fresh), _RANDOM_DIGITS))
