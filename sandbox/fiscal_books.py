"""The devices of the simulated fiscal service: their counters, their receipts, and what they refuse."""

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.faults import Faults
from sandbox.server import Gate

OPERATIONS = frozenset({"print", "find", "counter"})
_RETURNS = {"return": "sale", "advance_return": "advance"}
_KINDS = frozenset({"sale", "advance", *_RETURNS})


@dataclass(frozen=True)
class Device:
    """A device's settings."""

    name: str
    api_key: str
    last_seq: int = 0  # where the counter stands when the device is opened; later changes are not looked at
    repeat: str = "refused"  # or "gives_first": what the same number with the same content does
    currencies: tuple[str, ...] = ()  # empty: any
    refuse: str = ""  # a code that every new receipt is refused with: out of paper, not registered
    latency_ms: float = 0.0


@dataclass(frozen=True)
class Printed:
    """One receipt."""

    seq: int
    number: str
    receipt: str | None  # the caller's id of it
    kind: str
    amount_minor: int
    currency: str
    purpose: str
    original_number: str | None

    def shown(self) -> dict[str, Any]:
        """What an answer says."""
        return {"seq": self.seq, "number": self.number, "receipt": self.receipt}


class NotPrinted(Exception):
    """A request was refused; the counter did not move."""

    def __init__(self, code: str, detail: str, status: int = 409) -> None:
        """Keep the answer."""
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.status = status


class Books:
    """One device with its receipts, its faults and its counts."""

    def __init__(self, device: Device) -> None:
        """Begin empty, with the counter where the settings say."""
        self.device = device
        self.last_seq = device.last_seq
        self.receipts: dict[int, Printed] = {}
        self.refused: Counter[str] = Counter()
        self.faults = Faults(OPERATIONS)
        self.gate = Gate(device.api_key, self.faults, lambda: None, device.latency_ms / 1000)

    def change(self, device: Device) -> None:
        """Change the settings; the counter goes on."""
        self.device = device
        self.gate.latency_seconds = device.latency_ms / 1000

    def kinds(self) -> dict[str, int]:
        """Count receipts by kind."""
        return dict(Counter(one.kind for one in self.receipts.values()))

    def print(self, body: Mapping[str, Any]) -> Printed:
        """Print, once for each number."""
        try:
            wanted = _wanted(body)
            return self._repeated(wanted) if wanted.seq <= self.last_seq else self._printed(wanted)
        except NotPrinted as error:
            self.refused[error.code] += 1
            raise

    def print_by_hand(self) -> Printed:
        """Take the next number without any program's doing."""
        by_hand = Printed(self.last_seq + 1, "", None, "sale", 100, "AMD", "by hand", None)
        return self._kept(by_hand)

    def _repeated(self, wanted: Printed) -> Printed:
        first = self.receipts.get(wanted.seq)
        is_same = first is not None and _content(first) == _content(wanted)
        if first is not None and is_same and self.device.repeat == "gives_first":
            return first
        code = "already_printed" if is_same else "seq_out_of_step"
        raise NotPrinted(code, f"the number {wanted.seq} was used")

    def _printed(self, wanted: Printed) -> Printed:
        if wanted.seq != self.last_seq + 1:
            raise NotPrinted("seq_out_of_step", f"the next number is {self.last_seq + 1}")
        if self.device.refuse:
            raise NotPrinted(self.device.refuse, "the device is set to refuse")
        if self.device.currencies and wanted.currency not in self.device.currencies:
            raise NotPrinted("currency_not_allowed", "this device prints no receipt in this currency")
        if wanted.kind in _RETURNS:
            self._check_return(wanted)
        return self._kept(wanted)

    def _check_return(self, wanted: Printed) -> None:
        """Refuse a return of what was not sold here, of another kind, or of more than was sold."""
        of = [one for one in self.receipts.values() if one.number == wanted.original_number]
        if not of or of[0].kind != _RETURNS[wanted.kind] or of[0].currency != wanted.currency:
            raise NotPrinted("original_not_found", "no receipt of this number can be returned so")
        back = [one.amount_minor for one in self.receipts.values() if one.original_number == wanted.original_number]
        if sum(back) + wanted.amount_minor > of[0].amount_minor:
            raise NotPrinted("returned_too_much", "more would be returned than was sold")

    def _kept(self, wanted: Printed) -> Printed:
        self.last_seq = wanted.seq
        number = f"{wanted.seq:08d}-{secrets.token_hex(3)}"
        self.receipts[wanted.seq] = Printed(**{**vars(wanted), "number": number})
        return self.receipts[wanted.seq]


def _content(one: Printed) -> tuple[Any, ...]:
    return (one.receipt, one.kind, one.amount_minor, one.currency, one.purpose, one.original_number)


def _wanted(body: Mapping[str, Any]) -> Printed:
    """Read a request strictly: NotPrinted names the field."""
    for name, type_ in (("seq", int), ("receipt", str), ("kind", str), ("amount_minor", int), ("currency", str)):
        if not isinstance(body.get(name), type_) or isinstance(body.get(name), bool):
            raise NotPrinted("invalid_request", name, 400)
    original, purpose = body.get("original_number"), body.get("purpose")
    if body["kind"] not in _KINDS or (original is None) is (body["kind"] in _RETURNS):
        raise NotPrinted("invalid_request", "kind, original_number", 400)
    if body["amount_minor"] <= 0 or not isinstance(purpose, str) or not purpose:
        raise NotPrinted("invalid_request", "amount_minor, purpose", 400)
    return Printed(
        seq=body["seq"],
        number="",
        receipt=body["receipt"],
        kind=body["kind"],
        amount_minor=body["amount_minor"],
        currency=body["currency"],
        purpose=purpose,
        original_number=original,
    )
