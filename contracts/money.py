"""Money in minor units, and the currencies that we accept.

Exponents are ISO 4217's (the dram has two, although no luma coin is in use). A provider that counts
otherwise is converted in its adapter and nowhere else.
"""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt

# ISO 4217 alphabetic code -> (numeric code, number of decimals).
CURRENCIES: dict[str, tuple[str, int]] = {
    "AED": ("784", 2),
    "AMD": ("051", 2),
    "CHF": ("756", 2),
    "CNY": ("156", 2),
    "EUR": ("978", 2),
    "GBP": ("826", 2),
    "GEL": ("981", 2),
    "JPY": ("392", 0),
    "KWD": ("414", 3),
    "KZT": ("398", 2),
    "RUB": ("643", 2),
    "USD": ("840", 2),
}

# A thousand million major units of a two-decimal currency: above it, a unit was mistaken.
MAX_AMOUNT_MINOR = 100_000_000_000


def known_currency(code: str) -> str:
    """Return the code, or raise ValueError that says which codes are accepted."""
    if code not in CURRENCIES:
        raise ValueError(f"unknown currency; use one of {', '.join(sorted(CURRENCIES))} (ISO 4217, upper case)")
    return code


Currency = Annotated[str, AfterValidator(known_currency), Field(json_schema_extra={"enum": [*sorted(CURRENCIES)]})]

# Strict: 10.0, "10" and True are not amounts. What is meant is a whole number of minor units.
AmountMinor = Annotated[StrictInt, Field(gt=0, le=MAX_AMOUNT_MINOR)]


def exponent(currency: str) -> int:
    """Return the number of decimals of a known currency."""
    return CURRENCIES[currency][1]


def major(amount_minor: int, currency: str) -> Decimal:
    """Return the amount in major units, exactly: major(150050, "AMD") == Decimal("1500.50")."""
    return Decimal(amount_minor).scaleb(-exponent(currency))


def display(amount_minor: int, currency: str) -> str:
    """Return the amount for logs, tables and CRM notes: "1,500.50 AMD"."""
    return f"{major(amount_minor, currency):,} {currency}"
