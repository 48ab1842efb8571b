"""Amounts as Stripe counts them. Converted here and nowhere else.

Source: https://docs.stripe.com/currencies, "Minor units in API amounts", "Zero-decimal", "Three-decimal" and "Special
cases". Most currencies have two decimals on the wire. What is otherwise:

    JPY, KRW, CLP, VND, XAF, ...   none
    BHD, JOD, KWD, OMR, TND        three, and the last digit must be 0
    ISK, UGX                       whole in life, two decimals on the wire: multiples of 100
    HUF, TWD                       two; only payouts know no fractions, and payouts are not ours

AMD is on the list of currencies that a customer may be charged in, with two decimals, as in ISO 4217.
"""

from contracts.money import CURRENCIES, exponent

_ZERO_DECIMAL_TEXT = """BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"""
_ZERO_DECIMAL = frozenset(_ZERO_DECIMAL_TEXT.split())
_THREE_DECIMAL = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})
_WHOLE = frozenset({"ISK", "UGX"})


def decimals(currency: str) -> int:
    """Return the decimals of Stripe's amounts in an ISO 4217 currency."""
    if currency in _ZERO_DECIMAL:
        return 0
    return 3 if currency in _THREE_DECIMAL else 2


def smallest_step(currency: str) -> int:
    """Return what an amount on the wire must be a multiple of."""
    if currency in _WHOLE:
        return 100
    return 10 if currency in _THREE_DECIMAL else 1


def to_wire(amount_minor: int, currency: str) -> tuple[int, str]:
    """Return amount and currency for Stripe. ValueError names the one that Stripe would not take."""
    if currency not in CURRENCIES:
        raise ValueError("currency")
    amount = rescaled(amount_minor, exponent(currency), decimals(currency))
    if amount <= 0 or amount % smallest_step(currency):
        raise ValueError("amount")
    return amount, currency.lower()


def from_wire(amount: int, currency: str) -> tuple[int, str]:
    """Return minor units and the ISO code of an amount of Stripe's. ValueError when we know no such money."""
    code = currency.upper()
    if code not in CURRENCIES:
        raise ValueError("currency")
    return rescaled(amount, decimals(code), exponent(code)), code


def rescaled(amount: int, of: int, to: int) -> int:
    """Return an amount with other decimals, exactly. ValueError where a fraction would be lost."""
    factor = int(10 ** abs(to - of))
    if to >= of:
        return amount * factor
    if amount % factor:
        raise ValueError("amount")
    return amount // factor
