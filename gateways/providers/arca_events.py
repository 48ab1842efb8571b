"""Callbacks of the ArCa iPay / BPC family: which are genuine, and which order they speak of.

Source: https://dev.bpcbt.com/en/integration/api/rest.html, section "Callback notifications". By default a GET with
four parameters and a checksum; no amount, no id of its own, and no time. The gateway tries three times, 30 seconds
apart, and then never again. So a callback is a hint that hastens a look-up, and is never evidence, signed or not.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from urllib.parse import parse_qsl

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from gateways.errors import Refused
from gateways.providers.base import ProviderEvent

_MAX_FIELDS = 120
_HASHES = {"sha512": SHA512, "sha256": SHA256}
_UNSIGNED = frozenset({"checksum", "sign_alias"})
_WORD = re.compile(r"[A-Za-z]{1,40}")

# What the gateway may send, by its documentation. Anything else came on the way, from a proxy, and is not signed.
_DOCUMENTED_TEXT = """mdOrder orderNumber operation status bindingId email phone panMasked panCountryCode enabled
    currentReverseAmountFormatted currentRefundAmountFormatted operationRefundedAmountFormatted
    operationRefundedAmount externalRefundId callbackCreationDate finishCheckUrl cardholderName amount paymentAmount
    amountFormatted feeAmount approvedAmount depositedAmount refundedAmount approvedAmountFormatted
    depositedAmountFormatted refundedAmountFormatted totalAmountFormatted depositedTotalAmountFormatted approvalCode
    authCode bankName currency depositFlag eci ip ipCountryCode maskedPan mdorder merchantFullName merchantLogin
    orderDescription threeDSType date clientId actionCode actionCodeDescription paymentRefNum paymentState paymentWay
    processingId refNum refnum terminalId paymentSystem currencyName transactionAttributes paymentDate depositedDate
    refundedDate reversedDate declineDate xid cavv authValue sessionExpiredDate tokenizeCryptogram creditBankName
    creditPanCountryCode isInternationalP2P recipientData transactionTypeIndicator operationType debitBankName
    debitPanCountryCode p2pDebitRrn avsCode"""
_DOCUMENTED = frozenset(_DOCUMENTED_TEXT.split())


class Callbacks(StrEnum):
    """How the account's callbacks are signed."""

    HMAC = "hmac"  # HMAC-SHA256 with a shared key
    RSA = "rsa"  # with the gateway's private key
    UNSIGNED = "unsigned"  # anyone could have sent them
    OFF = "off"  # the bank sends none


class EventReader:
    """Checks and reads the callbacks of one account."""

    def __init__(
        self, name: str, mode: Callbacks, secrets: Sequence[str], public_keys: Sequence[str], hash_name: str
    ) -> None:
        """Several secrets or keys are active while one is being replaced. ValueError says what is wrong."""
        if mode is Callbacks.HMAC and not (secrets and all(secrets)):
            raise ValueError(f"provider {name}: callbacks = hmac needs webhook_secrets, none of them empty")
        if mode is Callbacks.RSA and not public_keys:
            raise ValueError(f"provider {name}: callbacks = rsa needs public_keys, the gateway's in PEM")
        if hash_name not in _HASHES:
            raise ValueError(f"provider {name}: callback_hash is one of {', '.join(sorted(_HASHES))}")
        self._mode = mode
        self._secrets = [secret.encode() for secret in secrets]
        self._keys = [_public_key(name, pem) for pem in public_keys]
        self._hash = _HASHES[hash_name]()

    def read(self, method: str, query: str, body: bytes) -> ProviderEvent:
        """Return what a genuine callback speaks of. Refused names what is wrong."""
        if self._mode is Callbacks.OFF:
            raise _refused("this account sends none", "not_offered")
        told = parameters(method, query, body)
        if self._mode is not Callbacks.UNSIGNED:
            self._check(told)
        order_id, reference = _name(told.get("mdOrder"), 36), _name(told.get("orderNumber"), 36)
        if order_id is None and reference is None:
            raise _refused("it names no order", "order_missing")
        operation = told.get("operation", "")
        return ProviderEvent(
            event_id=None,
            event_type=operation if _WORD.fullmatch(operation) else "unknown",
            reference=reference,
            provider_order_id=order_id,
        )

    def _check(self, told: Mapping[str, str]) -> None:
        checksum = told.get("checksum", "")
        if not checksum:
            raise _refused("no checksum", "signature_missing")
        if self._is_genuine(signed_text(told), checksum):
            return
        known = {name: value for name, value in told.items() if name in _DOCUMENTED}
        if not self._is_genuine(signed_text(known), checksum):
            raise _refused("signed with no key of ours", "signature_mismatch")

    def _is_genuine(self, text: bytes, checksum: str) -> bool:
        if self._mode is Callbacks.HMAC:
            given = checksum.upper().encode("utf-8", "replace")
            expected = [hmac.digest(secret, text, "sha256").hex().upper().encode() for secret in self._secrets]
            # Every one is compared, so that the time taken tells nothing.
            return sum(hmac.compare_digest(given, one) for one in expected) > 0
        try:
            signature = bytes.fromhex(checksum)
        except ValueError:
            return False
        return any(self._verifies(key, signature, text) for key in self._keys)

    def _verifies(self, key: RSAPublicKey, signature: bytes, text: bytes) -> bool:
        try:
            key.verify(signature, text, padding.PKCS1v15(), self._hash)
        except InvalidSignature:
            return False
        return True


def parameters(method: str, query: str, body: bytes) -> dict[str, str]:
    """Return the callback's parameters, decoded once. A name twice could be read in two ways, so it is refused."""
    try:
        given = query if method == "GET" else body.decode("ascii")
        pairs = parse_qsl(given, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise _refused("its parameters are not form-encoded text", "body_invalid") from None
    told = dict(pairs)
    if len(told) != len(pairs):
        raise _refused("a parameter comes twice", "parameter_repeated")
    return told


def signed_text(told: Mapping[str, str]) -> bytes:
    """Join `name;value;`, sorted by name, without the checksum and the key's name."""
    return "".join(f"{name};{told[name]};" for name in sorted(told) if name not in _UNSIGNED).encode()


def _public_key(name: str, pem: str) -> RSAPublicKey:
    raw = pem.encode()
    try:
        key = load_pem_x509_certificate(raw).public_key() if b"CERTIFICATE" in raw else load_pem_public_key(raw)
    except ValueError:
        raise ValueError(f"provider {name}: a public key is no PEM of a key or a certificate") from None
    if isinstance(key, RSAPublicKey):
        return key
    raise ValueError(f"provider {name}: a public key is no RSA key")


def _name(value: str | None, longest: int) -> str | None:
    return value if value and len(value) <= longest and value.isprintable() else None


def _refused(why: str, code: str) -> Refused:
    return Refused(f"event refused: {why}", code=code)
