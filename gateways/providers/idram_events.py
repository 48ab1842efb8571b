"""What Idram posts to RESULT_URL: the question before money moves, and the confirmation after it.

Source: "Idram Payment System merchant interface description", section "Order Confirmation", which Idram hands to
merchants (edition of 2025; older ones are public, as https://www.slideshare.net/slideshow/228443396):

    (a) precheck       EDP_PRECHECK=YES, bill, account, amount. Not signed: it proves nothing, whatever it says
    (b) confirmation   bill, account, payer, amount, transaction, date, and the MD5 of all of them with SECRET_KEY

The two differ in EDP_PRECHECK alone, so whatever has that field is a question and never a payment.

The checksum joins its fields by colons. A colon inside one of them could move text from one field to the next under
the same checksum, so none but the last may hold one. Text put behind the end, which MD5 allows to whoever knows one
checksum, lands in the date: there it is no date, and says nothing about money.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from urllib.parse import parse_qsl

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.money import MAX_AMOUNT_MINOR, exponent
from gateways.errors import Refused, Unknown
from gateways.providers.base import Precheck, ProviderEvent

CURRENCY = "AMD"  # ASSUMED: the document names no currency; wallets of Idram hold drams
LONGEST_BILL = 64  # ASSUMED: the document gives no length

_MAX_FIELDS = 60
_PRECHECK = "EDP_PRECHECK"
# In the order of the checksum, [Order Confirmation (b)]; the secret stands third.
_BEFORE_SECRET = ("EDP_REC_ACCOUNT", "EDP_AMOUNT")
_AFTER_SECRET = ("EDP_BILL_NO", "EDP_PAYER_ACCOUNT", "EDP_TRANS_ID", "EDP_TRANS_DATE")
_SIGNED = (*_BEFORE_SECRET, *_AFTER_SECRET)
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2})?")  # "0.00"; "Fraction must be separated by period (dot)"
_TRANSACTION = re.compile(r"[0-9A-Za-z_-]{1,64}")  # documented: char(14)
_DATE = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")  # documented: dd/mm/yyyy


class ResultUrl:
    """Reads what comes to the RESULT_URL of one merchant."""

    def __init__(self, name: str, account: str, secrets: Sequence[str], zone: tzinfo) -> None:
        """`account` is the merchant's IdramID; several secrets are active while one is being replaced."""
        self._name = name
        self._account = account
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._zone = zone

    def precheck(self, method: str, query: str, body: bytes) -> Precheck | None:
        """Return the question, or None: this is none. Refused names what is wrong with it, and is no yes."""
        told = fields(method, query, body)
        if _PRECHECK not in told:
            return None
        if told[_PRECHECK] != "YES":
            raise _refused("EDP_PRECHECK is not YES", "precheck_unknown")
        self._require_ours(told)
        amount, reference = minor_units(told.get("EDP_AMOUNT", "")), _bill(told)
        if amount is None:
            raise _refused("its amount cannot be read", "amount_unreadable")
        if reference is None:
            raise _refused("it names no bill", "order_missing")
        return Precheck(reference, amount, CURRENCY)

    def checked(self, method: str, query: str, body: bytes) -> Mapping[str, str]:
        """Return the fields of a confirmation that is signed and ours. Refused names what is wrong."""
        told = fields(method, query, body)
        if _PRECHECK in told:
            raise _refused("a precheck is no event", "precheck")
        # A field may be empty, as the payer's is where Idram knows none, and is signed so.
        missing = [name for name in (*_SIGNED, "EDP_CHECKSUM") if name not in told]
        if missing:
            raise _refused(f"{missing[0]} is missing", "signature_missing")
        self._require_ours(told)
        if any(":" in told[name] for name in _SIGNED[:-1]):
            raise _refused("a colon within a field makes the checksum ambiguous", "field_ambiguous")
        if not self._is_genuine(told):
            raise _refused("signed with no secret of ours", "signature_mismatch")
        return told

    def event(self, method: str, query: str, body: bytes, received_at: datetime) -> ProviderEvent:
        """Return the payment that a confirmation tells of, whole: there is nobody to ask for more.

        Unknown where it is signed and cannot be read: money moved, and a person must see how much.
        """
        told = self.checked(method, query, body)
        amount, reference, transaction = minor_units(told["EDP_AMOUNT"]), _bill(told), told["EDP_TRANS_ID"].strip()
        if amount is None:
            raise self._unreadable("amount")
        if reference is None:
            raise self._unreadable("bill")
        if not _TRANSACTION.fullmatch(transaction):
            raise self._unreadable("transaction")
        capture = ProviderTransaction(
            provider_transaction_id=transaction,
            kind=TransactionKind.CAPTURE,
            amount_minor=amount,
            currency=CURRENCY,
            occurred_at=occurred_at(told["EDP_TRANS_DATE"], self._zone, received_at),
        )
        evidence = Evidence(
            reference=reference,
            provider_order_id=reference,
            state=OrderState.PAID,
            transactions=(capture,),
            asked_at=received_at,
        )
        return ProviderEvent(None, "confirmation", reference, reference, evidence)

    def _require_ours(self, told: Mapping[str, str]) -> None:
        if told.get("EDP_REC_ACCOUNT") != self._account:
            raise _refused("it is about another merchant's account", "other_account")

    def _is_genuine(self, told: Mapping[str, str]) -> bool:
        given = told["EDP_CHECKSUM"].lower().encode()
        expected = [checksum(told, secret).encode() for secret in self._secrets]
        # Every one is compared, so that the time taken tells nothing.
        return sum(hmac.compare_digest(given, one) for one in expected) > 0

    def _unreadable(self, what: str) -> Unknown:
        return Unknown(f"event of {self._name}: signed, and its {what} cannot be read", code=f"{what}_unreadable")


def fields(method: str, query: str, body: bytes) -> dict[str, str]:
    """Return the fields that begin with EDP_, decoded once, exactly as they came. Others are the merchant's own.

    The document says POST, x-www-form-urlencoded, and "parameters with query string": they are taken from both. A
    name twice could be read in two ways, so it is refused.
    """
    if method != "POST":
        raise _refused("Idram posts", "method")
    try:
        pairs = [pair for text in (query, body.decode()) for pair in _pairs(text)]
    except ValueError:
        raise _refused("its fields are not form-encoded UTF-8", "body_invalid") from None
    ours = [(name, value) for name, value in pairs if name.startswith("EDP_")]
    told = dict(ours)
    if len(told) != len(ours):
        raise _refused("a field comes twice", "field_repeated")
    return told


def _pairs(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)


def checksum(told: Mapping[str, str], secret: bytes) -> str:
    """Return the MD5 that Idram prescribes, over the fields as they came, in lower-case hex."""
    parts = (
        [told[name].encode() for name in _BEFORE_SECRET] + [secret] + [told[name].encode() for name in _AFTER_SECRET]
    )
    # MD5 is the provider's choice, not ours: it accepts nothing else, and the secret inside is what protects it.
    return hashlib.md5(b":".join(parts), usedforsecurity=False).hexdigest()


def minor_units(amount: str) -> int | None:
    """Return an amount in major units as minor ones; None where it is no amount, or none that can be."""
    if not _AMOUNT.fullmatch(amount):
        return None
    minor = int(Decimal(amount).scaleb(exponent(CURRENCY)))
    return minor if 0 < minor <= MAX_AMOUNT_MINOR else None


def occurred_at(told: str, zone: tzinfo, received_at: datetime) -> datetime:
    """Return when money moved: the date names a day alone. On that day it was just now; else as that day ended.

    ASSUMED: the day is that of `zone`. A date that is none, or lies ahead, counts as now.
    """
    found = _DATE.fullmatch(told)
    if found is None:
        return received_at
    day, month, year = (int(part) for part in found.groups())
    try:
        ends = datetime.combine(date(year, month, day), time(23, 59, 59), zone)
        return min(received_at, ends.astimezone(UTC))
    except (ValueError, OverflowError):
        return received_at


def _bill(told: Mapping[str, str]) -> str | None:
    bill = told.get("EDP_BILL_NO", "")
    return bill if 1 <= len(bill) <= LONGEST_BILL and bill.isprintable() else None


def _refused(why: str, code: str) -> Refused:
    return Refused(f"event refused: {why}", code=code)
