"""Identifiers: 26 characters, sortable by time, unguessable enough for a row, never for a token.

The layout is the ULID's: 48 bits of milliseconds, 80 random bits, Crockford base 32
(https://github.com/ulid/spec), in lower case because people copy them out of a terminal.
"""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: every message makes several ids.
_PAIRS = tuple(left + right for left in _ALPHABET for right in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
LENGTH = 26


def new_id() -> str:
    """Return a fresh identifier; two made in different milliseconds sort by time."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10))
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])
