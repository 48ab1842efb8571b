"""Currencies of the simulated Stripe API, as https://docs.stripe.com/currencies lists them.

AMD is a presentment currency with two decimals. It is no settlement currency and has no minimum of its own: what a
charge must come to is the minimum of the account's settlement currency, after conversion, which is not simulated.
"""

from sandbox.stripe_form import WireError

_ZERO = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
ZERO_DECIMAL = frozenset(_ZERO.split())
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
WHOLE_UNITS_OF_TWO_DECIMALS = frozenset({"isk", "ugx"})  # [Special cases]: the decimal amount is always 00
_TWO = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc "
    "cve czk dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr jmd kes kgs khr kyd "
    "kzt lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php "
    "pkr pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah usd uyu uzs "
    "wst xcd yer zar zmw"
)
CURRENCIES = ZERO_DECIMAL | THREE_DECIMAL | WHOLE_UNITS_OF_TWO_DECIMALS | set(_TWO.split())

# [Minimum and maximum charge amounts], those of our currencies, in minor units; of the SETTLEMENT currency.
MINIMUMS = {"usd": 50, "aed": 200, "chf": 50, "eur": 50, "gbp": 30, "jpy": 50, "rub": 50}


def currency(value: object, name: str) -> str:
    """Check a currency: lower case, as the page asks for. ASSUMED: upper case is refused."""
    if not isinstance(value, str) or value not in CURRENCIES:
        raise WireError(f"Invalid currency: {str(value)[:10]}. Use lower case.", param=name)
    return value


def decimals(code: str) -> int:
    """Return by how many digits an amount is shifted."""
    return 0 if code in ZERO_DECIMAL else 3 if code in THREE_DECIMAL else 2


def check_amount(amount: int, code: str, param: str) -> None:
    """Refuse an amount that its currency does not allow."""
    step = 10 if code in THREE_DECIMAL else 100 if code in WHOLE_UNITS_OF_TWO_DECIMALS else 1
    if amount % step:
        raise WireError(f"Invalid amount: must be evenly divisible by {step} in {code}", param=param)


def check_total(total: int, code: str, *, settlement: str, most: int) -> None:
    """Refuse a total below the documented minimum or above the account's maximum."""
    if code == (settlement or code) and total < MINIMUMS.get(code, 1):
        raise WireError("The Checkout Session's total amount is below the minimum.", code="amount_too_small")
    if total > most:
        raise WireError("The Checkout Session's total amount is above the maximum.", code="amount_too_large")
