"""The merchants of the simulated Idram: their settings, the forms that came, and the money that moved.

Sections in brackets are those of "Idram Payment System merchant interface description" (edition of 16 October 2025).
What it leaves open is marked ASSUMED, and listed in sandbox.idram.
"""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.faults import Faults
from sandbox.server import Gate

# What no merchant needs and every confirmation holds: the customer's own IdramID. A reader must not show it.
PLANTED = {"EDP_PAYER_ACCOUNT": "910055577"}

LANGUAGES = ("AM", "RU", "EN")  # [2]
VARIANTS = ("", "duplicate", "lost", "late", "forged", "wrong_amount", "altered")
_KNOWN = frozenset(
    {"EDP_LANGUAGE", "EDP_REC_ACCOUNT", "EDP_DESCRIPTION", "EDP_AMOUNT", "EDP_BILL_NO", "EDP_EMAIL"}  # [2]
)
_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?")  # [2] fraction after a dot; ASSUMED: two digits of it at most
_LONGEST_BILL = 255  # ASSUMED


class FormError(Exception):
    """A form, or a wish at the control interface, that is not carried out; says why."""


@dataclass(frozen=True)
class Merchant:
    """A merchant's settings, which Idram's own staff makes [1]; below the line are those of the simulator."""

    account: str  # the IdramID, EDP_REC_ACCOUNT
    secret: str
    result_url: str = ""
    success_url: str = ""
    fail_url: str = ""
    email: str = ""
    # ---
    skip_precheck: bool = False  # a fault: money moves without a question
    precheck_amount: str = "as_given"  # or 0.00; ASSUMED: the question repeats the form's own text
    confirm: str = ""  # one of VARIANTS, for every payment; a fault of that name strikes single ones
    late_seconds: float = 2.0
    unconfirmed: str = "by_status"  # [5 (b)] of 2025; "email": editions before it only send an e-mail
    confirm_tries: int = 1  # no repetition is documented; more than one is ASSUMED
    confirm_pause_seconds: float = 1.0
    patience_seconds: float = 10.0  # ASSUMED: how long an answer is waited for
    latency_ms: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no setting may be."""
        if self.confirm not in VARIANTS:
            raise FormError(f"confirm: one of {', '.join(VARIANTS[1:])}, or empty")
        if self.unconfirmed not in {"by_status", "email"} or self.precheck_amount not in {"as_given", "0.00"}:
            raise FormError("unconfirmed is by_status or email; precheck_amount is as_given or 0.00")


@dataclass
class Transaction:
    """Money that moved from a customer's IdramID to the merchant's."""

    bill: str
    cents: int
    id: str = field(default_factory=lambda: str(secrets.randbelow(9 * 10**13) + 10**13))  # [5 (b)] char(14)
    # [5 (b)] dd/mm/yyyy; ASSUMED: the day in Yerevan
    date: str = field(default_factory=lambda: time.strftime("%d/%m/%Y", time.gmtime(time.time() + 4 * 3600)))
    payer: str = PLANTED["EDP_PAYER_ACCOUNT"]
    state: str = "completed"  # or cancelled: Idram gave the money back by itself
    refunded_cents: int = 0
    answers: list[str] = field(default_factory=list)  # what the merchant said to each confirmation


@dataclass
class Submission:
    """One form that a browser posted; the page behind it lives until the customer paid or gave up."""

    fields: dict[str, str]
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "open"  # paying, paid, refused (by the precheck), abandoned, cancelled
    precheck: str = ""  # what the merchant said
    back_url: str = ""

    @property
    def bill(self) -> str:
        """The merchant's bill number."""
        return self.fields["EDP_BILL_NO"]

    @property
    def cents(self) -> int:
        """The amount in hundredths of a dram."""
        whole, _, part = self.fields["EDP_AMOUNT"].partition(".")
        return int(whole) * 100 + int(part.ljust(2, "0"))

    @property
    def own_fields(self) -> dict[str, str]:
        """The merchant's additional fields, which are given back after the payment [2]."""
        return {name: value for name, value in self.fields.items() if not name.startswith("EDP_")}


class Books:
    """One merchant with his forms, his money, his faults and his counts."""

    def __init__(self, merchant: Merchant) -> None:
        """Begin empty."""
        self.merchant = merchant
        self.submissions: list[Submission] = []
        self.transactions: list[Transaction] = []
        self.alerts: list[dict[str, str]] = []
        self.faults = Faults(frozenset({"form"}), money="confirm", events="confirm")
        self.gate = Gate(merchant.secret, self.faults, lambda: None, merchant.latency_ms / 1000)

    def submit(self, fields: Mapping[str, str]) -> Submission:
        """Take a form. ASSUMED: a bill may come, and be paid, again; only the merchant's precheck can stop it."""
        check(fields)
        self.submissions.append(Submission(dict(fields)))
        return self.submissions[-1]

    def last(self, bill: str) -> Submission:
        """Return the newest form of a bill."""
        found = next((one for one in reversed(self.submissions) if one.bill == bill), None)
        if found is None:
            raise FormError("no form of this bill was posted")
        return found

    def completed(self, bill: str) -> Transaction:
        """Return the newest transaction of a bill that stands."""
        made = [one for one in self.transactions if one.bill == bill and one.state == "completed"]
        found = made[-1] if made else None
        if found is None:
            raise FormError("nothing was paid for this bill")
        return found

    def bill(self, bill: str) -> dict[str, Any]:
        """Return all that is known of a bill."""
        forms = [one for one in self.submissions if one.bill == bill]
        return {
            "reference": bill,
            "state": forms[-1].state if forms else "unknown",
            "submissions": [asdict(one) for one in forms],
            "transactions": [asdict(one) for one in self.transactions if one.bill == bill],
        }

    def bills(self) -> list[str]:
        """Return the bill numbers, oldest first."""
        return list(dict.fromkeys(one.bill for one in self.submissions))


def single(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the fields by name. ASSUMED: a field that comes twice is no form."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise FormError("a field comes twice")
    return fields


def check(fields: Mapping[str, str]) -> None:
    """Refuse what is no payment form [2]. ASSUMED: a name with EDP_ that is not documented is refused."""
    unknown = {name for name in fields if name.startswith("EDP_")} - _KNOWN
    if unknown:
        raise FormError(f"{min(unknown)}: no such field")
    if fields.get("EDP_LANGUAGE") not in LANGUAGES:
        raise FormError("EDP_LANGUAGE: RU, EN or AM")
    if not 1 <= len(fields.get("EDP_BILL_NO", "")) <= _LONGEST_BILL:
        raise FormError("EDP_BILL_NO is missing or too long")
    amount = fields.get("EDP_AMOUNT", "")
    if not _AMOUNT.fullmatch(amount) or not amount.replace(".", "").strip("0"):
        raise FormError("EDP_AMOUNT: greater than zero, with a dot before the fraction")
