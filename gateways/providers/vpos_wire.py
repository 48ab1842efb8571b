"""What VPOS.am answers about a payment session, read by names that are settings.

Source: https://api.vpos.am/docs and https://api.vpos.am/openapi.yaml (version 0.1.0). Public are the fields of the
request: merchantOrderId, amountMinor, currency, provider, returnUrl, customer, metadata. The names in an answer are
not, so each is a setting whose default is ASSUMED. A session may hold the buyer's name, e-mail and card: no field of
ours holds them, so they reach no log, no error and no ledger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import RootModel

_LONGEST_ID = 100
_LARGEST = 10**15


class Body(RootModel[dict[str, Any]]):
    """Any JSON object."""


@dataclass(frozen=True, slots=True)
class Session:
    """One payment session, as far as it matters here. Amounts are in the units of the wire."""

    id: str
    order: str
    amount: int
    currency: str
    status: str
    page: str | None
    expires_at: datetime | None
    paid_at: datetime | None
    paid_amount: int | None
    paid_currency: str | None
    refunded_amount: int | None
    fiscal: str | None = None
    fiscal_number: str | None = None


class Fields:
    """Reads sessions by the names of one account."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths` name each field of a session."""
        self._paths = paths

    def told(self, body: object, field: str) -> object:
        """Return one field as it stands there; None: it does not."""
        return dig(body, self._paths[field])

    def read(self, body: object) -> Session:
        """Return the session. ValueError names a deciding field that is missing or of another type, never its value."""

        def told(field: str) -> object:
            return self.told(body, field)

        return Session(
            id=_text("id", told("id"), _LONGEST_ID),
            order=_text("order", told("order"), 256),
            amount=_whole("amount", told("amount")),
            currency=_text("currency", told("currency"), 8),
            status=_text("status", told("status"), 64),
            page=_optional(_text, "page", told("page"), 2048),
            expires_at=_moment(told("expires_at")),
            paid_at=_moment(told("paid_at")),
            paid_amount=_optional(_whole, "paid_amount", told("paid_amount")),
            paid_currency=_optional(_text, "paid_currency", told("paid_currency"), 8),
            refunded_amount=_optional(_whole, "refunded_amount", told("refunded_amount")),
            fiscal=_optional(_text, "fiscal", told("fiscal"), 64),
            fiscal_number=_optional(_text, "fiscal_number", told("fiscal_number"), 64),
        )


def dig(body: object, path: str) -> object:
    """Follow a dotted name into objects; None where it leads nowhere. An empty path is the body itself."""
    found = body
    for name in path.split(".") if path else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def error_code(body: Any) -> object:
    """Pick the short code out of an error's body. ASSUMED: error, error.code or code; the shape is not public."""
    error = body.get("error", body.get("code"))
    return error.get("code") if isinstance(error, Mapping) else error


def _optional(read: Any, field: str, value: object, *limits: int) -> Any:
    return None if value is None else read(field, value, *limits)


def _text(field: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ValueError(field)
    return value


def _whole(field: str, value: object) -> int:
    """Let whole numbers through: true, 1.0 and "1" are no amounts."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise ValueError(field)
    return value


def _moment(value: object) -> datetime | None:
    """Read ISO 8601. A time without a zone is no time: nobody knows whose clock it was."""
    if not isinstance(value, str):
        return None
    try:
        told = datetime.fromisoformat(value)
        return told.astimezone(UTC) if told.tzinfo else None
    except (ValueError, OverflowError):
        return None
