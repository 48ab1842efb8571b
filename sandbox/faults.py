"""Faults on demand: which call goes wrong, how, and how often.

timeout_before      no effect; the connection is held, then dropped
timeout_after       the effect happens; the answer never comes
error_500_before    HTTP 500 without the effect
error_500_after     HTTP 500 although the effect happened
rate_limited_429    HTTP 429 with Retry-After, no effect
slow                the call takes long: effect and answer come late
slow_after          the effect happens at once; the answer comes late
truncated           the effect happens; half of the answer comes
wrong_amount        the customer's payment captures another amount
wrong_currency      the customer's payment captures another currency
duplicate           the event is sent twice, at the same moment
reordered           the event waits until a later one of the same order has arrived
lost                the event is never sent
late                the event is sent some seconds later
forged              one more event, with a bad signature and invented facts
stale               the event is signed with a time stamp of an hour ago, on every try
hint_only           the event has neither facts nor an id of its own
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

CALL_FAULTS = frozenset(
    {"timeout_before", "timeout_after", "error_500_before", "error_500_after", "rate_limited_429"}
    | {"slow", "slow_after", "truncated"}
)
MONEY_FAULTS = frozenset({"wrong_amount", "wrong_currency"})
EVENT_FAULTS = frozenset({"duplicate", "reordered", "lost", "late", "forged", "stale", "hint_only"})

# How long a fault lasts where nobody said it: held connections, Retry-After, delays, the age of a stale stamp.
_SECONDS = {
    "timeout_before": 2.0,
    "timeout_after": 2.0,
    "rate_limited_429": 1.0,
    "slow": 1.0,
    "slow_after": 1.0,
    "reordered": 3.0,
    "late": 5.0,
    "stale": 3600.0,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that strikes now."""

    name: str
    seconds: float


@dataclass(slots=True)
class Rule:
    """A standing order for faults: by chance (`rate`), or for the next `times` calls that match."""

    fault: str
    operation: str | None = None
    reference: str | None = None
    rate: float | None = None
    times: int | None = None
    seconds: float | None = None


class Faults:
    """The faults of one account, and how often each struck."""

    def __init__(self, calls: frozenset[str], *, money: str = "", events: str = "", seed: int | None = None) -> None:
        """`calls` names the operations that call faults strike, `money` and `events` those of the other two kinds."""
        self._operations: dict[str, frozenset[str]] = dict.fromkeys(CALL_FAULTS, calls)
        if money:
            self._operations |= dict.fromkeys(MONEY_FAULTS, frozenset({money}))
        if events:
            self._operations |= dict.fromkeys(EVENT_FAULTS, frozenset({events}))
        self._random = random.Random(seed)
        self._rules: list[Rule] = []
        self.struck: Counter[str] = Counter()

    def add(self, settings: Mapping[str, Any]) -> Rule:
        """Add a rule. ValueError names the field that is wrong and what it may be."""
        rule = _rule(settings)
        if rule.fault not in self._operations:
            raise ValueError(f"fault: use one of {', '.join(sorted(self._operations))}")
        allowed = self._operations[rule.fault]
        if rule.operation is not None and rule.operation not in allowed:
            raise ValueError(f"operation: {rule.fault} strikes {', '.join(sorted(allowed))}")
        if rule.rate is None and rule.times is None:
            rule.times = 1
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop every rule."""
        self._rules.clear()

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that may still strike, as JSON."""
        return [asdict(rule) for rule in self._rules]

    def pick(self, operation: str, reference: str | None, asked: str | None = None) -> Fault | None:
        """Return the fault that strikes this call: the one `asked` for by the call itself, else the first rule's."""
        if asked and operation in self._operations.get(asked, ()):
            return self._strike(asked, None)
        for rule in self._rules:
            if self._matches(rule, operation, reference):
                self._spend(rule)
                return self._strike(rule.fault, rule.seconds)
        return None

    def _matches(self, rule: Rule, operation: str, reference: str | None) -> bool:
        named = {rule.operation} if rule.operation else self._operations[rule.fault]
        if operation not in named or (rule.reference is not None and rule.reference != reference):
            return False
        return rule.rate is None or self._random.random() < rule.rate

    def _spend(self, rule: Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times <= 0:
            self._rules.remove(rule)

    def _strike(self, name: str, seconds: float | None) -> Fault:
        self.struck[name] += 1
        return Fault(name, _SECONDS.get(name, 0.0) if seconds is None else seconds)


def _rule(settings: Mapping[str, Any]) -> Rule:
    unknown = set(settings) - {"fault", "operation", "reference", "rate", "times", "seconds"}
    if unknown:
        raise ValueError(f"{min(unknown)}: no such field; use fault, operation, reference, rate, times, seconds")
    return Rule(
        fault=str(settings.get("fault", "")),
        operation=_text(settings, "operation"),
        reference=_text(settings, "reference"),
        rate=_number(settings, "rate", 1.0),
        times=_whole(settings, "times"),
        seconds=_number(settings, "seconds", 86_400.0),
    )


def _text(settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: a text")
    return value


def _number(settings: Mapping[str, Any], name: str, highest: float) -> float | None:
    value = settings.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= highest:
        raise ValueError(f"{name}: a number from 0 to {highest:g}")
    return float(value)


def _whole(settings: Mapping[str, Any], name: str) -> int | None:
    value = settings.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: a whole number from 1")
    return value
