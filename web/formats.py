"""Money and time as customers here read them.

The locale data of common libraries writes drams with two decimals and, in two of our languages, without the sign;
nobody in Armenia does, so the few rules stand here.
"""

from datetime import datetime, timedelta, timezone

from contracts.messages import Locale
from contracts.money import exponent

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"

_SIGNS = {"AMD": "֏", "EUR": "€", "GBP": "£", "GEL": "₾", "JPY": "¥", "KZT": "₸", "RUB": "₽", "USD": "$"}
_SEPARATORS: dict[Locale, tuple[str, str]] = {"hy": (NARROW_SPACE, ","), "ru": (NARROW_SPACE, ","), "en": (",", ".")}
# Armenia has had no summer time since 2012; a fixed offset needs no zone data, which slim images lack.
YEREVAN = timezone(timedelta(hours=4))


def format_money(amount_minor: int, currency: str, language: Locale) -> str:
    """Write an amount: format_money(15000000, "AMD", "en") == "150,000 ֏", drams without luma where there are none."""
    grouping, point = _SEPARATORS[language]
    digits = exponent(currency)
    whole, part = divmod(amount_minor, 10**digits)
    number = f"{whole:,}".replace(",", grouping)
    if digits and (part or currency != "AMD"):
        number += f"{point}{part:0{digits}d}"
    return f"{number}{NO_BREAK_SPACE}{_SIGNS.get(currency, currency)}"


def format_time(at: datetime) -> str:
    """Write a time in Yerevan, in the order that all three languages read: 29.11.2026, 14:05."""
    return at.astimezone(YEREVAN).strftime("%d.%m.%Y, %H:%M")
