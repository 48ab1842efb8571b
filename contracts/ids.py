"""Identifiers: 26 characters, sortable by time, unguessable enough for a row, never for a token.

The layout is the ULID's: 48 bits of milliseconds, 80 random bits, Crockford base 32
(https://github.com/ulid/spec), in lower case because people copy them out of a terminal.
"""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def new_id() -> str:
    """Return a fresh identifier; two made in different milliseconds sort by time."""
    value = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
