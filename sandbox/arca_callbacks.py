"""Callbacks of the simulated ArCa iPay / BPC gateway: made, signed, and tried three times.

Sections are those of "Callback notifications", https://dev.bpcbt.com/en/integration/api/rest.html.
"""

import asyncio
import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import load_pem_private_key

TRIES = 3  # [When notifications fail]: three failures in a row end it


def checksum(told: Mapping[str, str], *, secret: str = "", private_key: str = "") -> str:
    """Sign the parameters [Algorithm for processing, Code examples]: name;value; in the order of names."""
    text = "".join(f"{name};{value};" for name, value in sorted(told.items()) if name != "sign_alias").encode()
    if private_key:
        key = load_pem_private_key(private_key.encode(), None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("private_key: an RSA key in PEM")
        return key.sign(text, padding.PKCS1v15(), SHA512()).hex().upper()
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest().upper()


def parameters(
    order_id: str, number: str, operation: str, *, done: bool, extra: Mapping[str, str], secret: str, private_key: str
) -> dict[str, str]:
    """Return what one callback carries: the default set, what support enabled, and the checksum where one is agreed."""
    told = {"mdOrder": order_id, "orderNumber": number, "operation": operation, "status": "1" if done else "0", **extra}
    if secret or private_key:
        named = told | ({"sign_alias": "SHA-512 with RSA"} if private_key else {})
        return named | {"checksum": checksum(told, secret=secret, private_key=private_key)}
    return told


class Caller:
    """Sends callbacks in the background: GET by default, or POST with the same parameters in the body."""

    def __init__(self, pause_seconds: float) -> None:
        """`pause_seconds` between tries; 30 there."""
        self._pause = pause_seconds
        self._running: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(timeout=10.0, trust_env=False)
        self.counts: Counter[str] = Counter()

    def send(self, url: str, told: Mapping[str, str], *, method: str = "GET") -> None:
        """Begin to send one callback."""
        if url:
            task = asyncio.get_running_loop().create_task(self._deliver(url, dict(told), method))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Stop what is being sent."""
        for task in self._running:
            task.cancel()
        await self._client.aclose()

    async def _deliver(self, url: str, told: dict[str, str], method: str) -> None:
        for number in range(TRIES):
            self.counts["tries"] += 1
            if await self._once(url, told, method):
                self.counts["delivered"] += 1
                return
            if number + 1 < TRIES:
                await asyncio.sleep(self._pause)
        self.counts["given_up"] += 1

    async def _once(self, url: str, told: dict[str, str], method: str) -> bool:
        try:
            if method == "POST":
                answer = await self._client.post(url, data=told)
            else:
                answer = await self._client.get(f"{url}{'&' if '?' in url else '?'}{urlencode(told)}")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200


def creation_date() -> str:
    """Return callbackCreationDate as the documentation shows it: Mon Jan 31 21:46:52 UTC 2022."""
    return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime())
