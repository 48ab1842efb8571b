"""Which calls the ordered faults strike."""

from typing import Any

import pytest

from sandbox.faults import CALL_FAULTS, EVENT_FAULTS, MONEY_FAULTS, Fault, Faults

CALLS = frozenset({"create", "lookup"})


def faults() -> Faults:
    return Faults(CALLS, money="pay", events="webhook", seed=7)


def test_without_rules_nothing_goes_wrong() -> None:
    assert faults().pick("create", "r") is None


def test_a_rule_strikes_once_unless_it_says_how_often() -> None:
    given = faults()
    given.add({"fault": "slow"})
    given.add({"fault": "timeout_after", "times": 2, "seconds": 0.5})
    struck = [given.pick("create", "r") for _ in range(4)]
    assert [fault.name if fault else None for fault in struck] == ["slow", "timeout_after", "timeout_after", None]
    assert struck[1] == Fault("timeout_after", 0.5)
    assert given.struck == {"slow": 1, "timeout_after": 2}


def test_a_rule_strikes_only_its_operation_and_reference() -> None:
    given = faults()
    given.add({"fault": "error_500_before", "operation": "create", "reference": "r"})
    assert given.pick("lookup", "r") is None
    assert given.pick("create", "other") is None
    assert given.pick("create", "r") is not None


def test_a_rate_strikes_about_so_often() -> None:
    given = faults()
    given.add({"fault": "lost", "rate": 0.25})
    count = sum(given.pick("webhook", None) is not None for _ in range(2000))
    assert 400 < count < 600


@pytest.mark.parametrize(
    ("kind", "operation"), [(CALL_FAULTS, "create"), (MONEY_FAULTS, "pay"), (EVENT_FAULTS, "webhook")]
)
def test_each_fault_strikes_its_own_kind_of_operation(kind: frozenset[str], operation: str) -> None:
    for name in kind:
        given = faults()
        given.add({"fault": name})
        for other in {"create", "pay", "webhook"} - {operation}:
            assert given.pick(other, None) is None
        assert given.pick(operation, None) is not None


def test_a_call_may_ask_for_its_own_fault_but_not_for_one_that_does_not_fit() -> None:
    given = faults()
    assert given.pick("create", None, "slow") == Fault("slow", 1.0)
    assert given.pick("create", None, "lost") is None
    assert given.pick("create", None, "nonsense") is None


def test_rules_can_be_kept_and_brought_back() -> None:
    given, later = faults(), faults()
    given.add({"fault": "slow", "times": 3, "seconds": 2})
    given.pick("create", None)
    for rule in given.rules():
        later.add(rule)
    assert later.rules() == given.rules()
    assert later.rules()[0]["times"] == 2
    later.clear()
    assert later.pick("create", None) is None


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"fault": "earthquake"},
        {"fault": "slow", "operation": "webhook"},
        {"fault": "slow", "operation": 5},
        {"fault": "slow", "times": 0},
        {"fault": "slow", "times": True},
        {"fault": "slow", "times": 1.5},
        {"fault": "slow", "rate": 1.5},
        {"fault": "slow", "rate": "often"},
        {"fault": "slow", "rate": float("nan")},
        {"fault": "slow", "seconds": -1},
        {"fault": "slow", "colour": "red"},
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        faults().add(rule)
