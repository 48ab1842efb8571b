"""Encryption at rest for personal fields and raw bodies, with keys that rotate.

Fernet (AES-128-CBC with HMAC-SHA256, https://github.com/fernet/spec) from `cryptography`. The first key seals, every
key opens; `paylinks.toml` lists them newest first.
"""

import json
from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic_core import to_json


class SealBroken(Exception):
    """Sealed bytes that none of the configured keys opens: a key was removed too early, or bytes were changed."""


class Sealer:
    """Seals and opens bytes and small JSON objects."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take url-safe base64 keys of 32 bytes, newest first."""
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, raw: bytes) -> bytes:
        """Encrypt."""
        return self._fernet.encrypt(raw)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt; raise SealBroken when no key fits."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise SealBroken("no configured data key opens these bytes") from None

    def seal_json(self, value: dict[str, Any]) -> bytes:
        """Encrypt a small object."""
        return self.seal(to_json(value))

    def open_json(self, sealed: bytes) -> dict[str, Any]:
        """Decrypt a small object."""
        value: dict[str, Any] = json.loads(self.open(sealed))
        return value

    def renew(self, sealed: bytes) -> bytes:
        """Encrypt again under the newest key."""
        return self._fernet.rotate(sealed)
