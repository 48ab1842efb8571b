"""Webhooks of VPOS.am: which are genuine, and which session they speak of.

Source: https://api.vpos.am/docs says that events are signed, and that fulfilment waits for one or for a look-up. The
header's name, what is signed, and the shape of an event are not public: all of them are settings, ASSUMED by default.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from contracts.evidence import Evidence
from gateways.errors import Refused
from gateways.http import decode_json
from gateways.providers.base import ProviderEvent
from gateways.providers.vpos_evidence import Reading
from gateways.providers.vpos_options import Options, Scheme
from gateways.providers.vpos_wire import Fields, dig

_HEX = re.compile(r"[0-9a-fA-F]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MAX_PARTS = 20


class EventReader:
    """Checks and reads the events of one account."""

    def __init__(self, name: str, options: Options, secrets: Sequence[str], fields: Fields, reading: Reading) -> None:
        """Several secrets are active while one is being replaced. ValueError: there is none, or an empty one."""
        scheme = options.signature_scheme
        if scheme is not Scheme.OFF and not (secrets and all(secrets)):
            raise ValueError(f"provider {name}: signature_scheme = {scheme} needs webhook_secrets, none of them empty")
        self._scheme = scheme
        self._header = options.signature_header.lower()
        self._secrets = [secret.encode() for secret in secrets]
        self._tolerance = options.timestamp_tolerance
        self._path, self._id_path = options.event_session, options.event_id
        self._fields = fields
        self._reading = reading

    def check(self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime) -> str | None:
        """Check signature and age alone, and return the event's own id."""
        _, event = self._checked(method, headers, body, received_at)
        return self._id_of(event)

    def read(self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime) -> ProviderEvent:
        """Return what a genuine event speaks of. Refused names what is wrong."""
        signed_at, event = self._checked(method, headers, body, received_at)
        told = dig(event, self._path)
        order_id, reference = _name(self._fields.told(told, "id")), _name(self._fields.told(told, "order"))
        if order_id is None and reference is None:
            raise _refused("it names no session", "order_missing")
        kind = dig(event, "type")
        return ProviderEvent(
            event_id=self._id_of(event),
            event_type=kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "unknown",
            reference=reference,
            provider_order_id=order_id,
            evidence=None if signed_at is None else self._evidence(told, signed_at),
        )

    def _id_of(self, event: object) -> str | None:
        return _name(dig(event, self._id_path)) if self._id_path else None

    def _evidence(self, told: object, signed_at: datetime) -> Evidence | None:
        """Return the facts; None where they are incomplete or mean nothing to us: then the session is asked about."""
        try:
            return self._reading.evidence(self._fields.read(told), signed_at, None)
        except (ValueError, Refused):
            return None

    def _checked(
        self, method: str, headers: Mapping[str, str], body: bytes, received_at: datetime
    ) -> tuple[datetime | None, object]:
        """Return when it was signed, if that is signed too, and the event."""
        if self._scheme is Scheme.OFF:
            raise _refused("this account has none", "not_offered")
        if method != "POST":
            raise _refused("events come by POST", "method")
        given = headers.get(self._header, "")
        if not given:
            raise _refused("no signature", "signature_missing")
        signed_at = None
        if self._scheme is Scheme.STAMPED:
            signed_at = self._check_stamped(given, body)
            if abs(received_at - signed_at) > self._tolerance:
                raise _refused("signed too long before or after it came", "timestamp_outside_tolerance")
        elif not self._is_genuine([given.removeprefix("sha256=")], body):
            raise _refused("signed with no secret of ours", "signature_mismatch")
        return signed_at, _object(body)

    def _check_stamped(self, given: str, body: bytes) -> datetime:
        pairs = [part.strip().partition("=") for part in given.split(",", _MAX_PARTS)]
        times = [value for name, _, value in pairs if name == "t"]
        signatures = [value for name, _, value in pairs if name == "v1"]
        if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 11) or not signatures:
            raise _refused("the signature is not t=<unix seconds>,v1=<hex>", "signature_malformed")
        if not self._is_genuine(signatures, times[0].encode() + b"." + body):
            raise _refused("signed with no secret of ours", "signature_mismatch")
        return datetime.fromtimestamp(int(times[0]), UTC)

    def _is_genuine(self, signatures: Sequence[str], text: bytes) -> bool:
        given = [one.lower().encode() for one in signatures if _HEX.fullmatch(one)]
        expected = [hmac.digest(secret, text, "sha256").hex().encode() for secret in self._secrets]
        # Every pair is compared, so that the time taken tells nothing.
        return sum(hmac.compare_digest(left, right) for left in given for right in expected) > 0


def _object(body: bytes) -> object:
    try:
        decoded = decode_json(body)
    except ValueError:
        raise _refused("the body is not JSON", "body_invalid") from None
    if not isinstance(decoded, dict):
        raise _refused("the body is not a JSON object", "body_invalid")
    return decoded


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() else None


def _refused(why: str, code: str) -> Refused:
    return Refused(f"event refused: {why}", code=code)
