"""Link tokens: HMAC(link key, link id, generation), made again whenever a URL is sent or drawn, never stored.

A token is looked up by its SHA-256, so neither the database nor a backup of it opens a link.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

TOKEN_LENGTH = 43  # 32 bytes, url-safe base64 without padding


class LinkTokens:
    """Makes tokens under the key that each link was made with."""

    def __init__(self, keys: Sequence[tuple[str, str]], base_url: str) -> None:
        """Take (key id, secret) pairs, newest first, and the address that customers see."""
        self._keys = {key_id: secret.encode() for key_id, secret in keys}
        self.newest_key_id = keys[0][0]
        self._base_url = base_url.rstrip("/")

    def token(self, link_id: str, generation: int, key_id: str) -> str:
        """Make the token of a link; KeyError when its key was removed from the settings."""
        digest = hmac.digest(self._keys[key_id], f"{link_id}:{generation}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def url(self, link_id: str, generation: int, key_id: str) -> str:
        """Make the address that the customer opens."""
        return f"{self._base_url}/l/{self.token(link_id, generation, key_id)}"


def token_hash(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
