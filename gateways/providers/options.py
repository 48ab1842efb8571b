"""What adapters check alike: their options, and addresses that come from outside. Options raise ValueError."""

from datetime import timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import TypeAdapter


def require(is_right: bool, name: str, problem: str) -> None:
    """Raise ValueError that names the account and says what is wrong with an option of its."""
    if not is_right:
        raise ValueError(f"provider {name}: {problem}")


def duration(value: timedelta | str) -> timedelta:
    """Read an ISO 8601 duration, as "PT20M"."""
    return TypeAdapter(timedelta).validate_python(value)


def zone_of(name: str, zone: str) -> ZoneInfo:
    """Return a time zone by its IANA name, for the account's times that name none."""
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"provider {name}: zone is not in this system's time zone data, as Asia/Yerevan is") from None


def is_web_address(url: str | None) -> bool:
    """Tell whether a browser could be sent there: http or https, and a host."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
