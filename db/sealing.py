"""Encryption at rest for personal fields and raw bodies, with keys that rotate.

AES-256-GCM from `cryptography` (NIST SP 800-38D: a random 96-bit nonce is safe for 2^32 messages under one key). The
first key seals, every key opens; `paylinks.toml` lists them newest first.

    version (1 byte) | key id (4) | nonce (12) | ciphertext and tag
"""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic_core import to_json

VERSION = b"\x01"
_KEY_BYTES = 32
_ID = slice(1, 5)
_NONCE = slice(5, 17)
_REST = 17
SEAL_BYTES = _REST + 16  # what a seal adds to its content: the head before it, the tag behind it


class BadKey(ValueError):
    """A key is url-safe base64 of 32 bytes, and this is none."""


class SealBroken(Exception):
    """Sealed bytes that none of the configured keys opens: a key was removed too early, or bytes were changed."""


def new_key() -> str:
    """Make a key as the settings take it."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def _raw(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except ValueError:
        raise BadKey("not url-safe base64") from None
    if len(raw) != _KEY_BYTES:
        raise BadKey(f"{len(raw)} bytes, not {_KEY_BYTES}")
    return raw


class Sealer:
    """Seals and opens bytes and small JSON objects."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Take url-safe base64 keys of 32 bytes, newest first."""
        raws = [_raw(key) for key in keys]
        self._keys = {_key_id(raw): AESGCM(raw) for raw in raws}
        self._newest = AESGCM(raws[0])
        self._head = VERSION + _key_id(raws[0])

    def seal(self, raw: bytes) -> bytes:
        """Encrypt."""
        nonce = os.urandom(12)
        return self._head + nonce + self._newest.encrypt(nonce, raw, self._head)

    def open(self, sealed: bytes) -> bytes:
        """Decrypt; raise SealBroken when no key fits or a byte was changed."""
        key = self._keys.get(sealed[_ID])
        if key is None or not sealed.startswith(VERSION):
            raise SealBroken("no configured data key opens these bytes")
        try:
            return key.decrypt(sealed[_NONCE], sealed[_REST:], sealed[: _ID.stop])
        except (InvalidTag, ValueError):  # ValueError: cut off before the tag
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
        return self.seal(self.open(sealed))

    def is_newest(self, sealed: bytes) -> bool:
        """Tell whether the newest key sealed this."""
        return sealed.startswith(self._head)


def _key_id(raw: bytes) -> bytes:
    """Name a key without telling it."""
    return hashlib.sha256(b"paylinks data key" + raw).digest()[:4]
