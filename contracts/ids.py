"""Identifiers: 26 characters, sortable by time, unguessable enough for a row, never for a token.

The layout is the ULID's: 48 bits of milliseconds, 80 random bits, Crockford base 32
(https://github.com/ulid/spec), in lower case because people copy them out of a terminal.
"""

import os
import time
from collections import deque

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: every message makes several ids.
_PAIRS = tuple(left + right for left in _ALPHABET for right in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
LENGTH = 26


# Random bytes for many ids from one question to the system; a child process must not use its parent's.
_RANDOM_BYTES = 10
_AT_ONCE = 128
_random: deque[bytes] = deque()
if hasattr(os, "register_at_fork"):  # where processes fork
    os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """Return a fresh identifier; two made in different milliseconds sort by time."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(_next_random())
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def _next_random() -> bytes:
    """Take bytes that nobody else gets; threads may ask at the same moment."""
    while True:
        try:
            return _random.pop()
        except IndexError:
            fresh = os.urandom(_RANDOM_BYTES * _AT_ONCE)
            _random.extend(fresh[place : place + _RANDOM_BYTES] for place in range(0, len(fresh), _RANDOM_BYTES))
