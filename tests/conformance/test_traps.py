"""Every trap is shown to be avoided by tests that exist."""

import re

import pytest

from tests.conformance.traps import TRAPS, Trap, existing, named_after


def test_every_trap_has_its_number() -> None:
    assert [trap.number for trap in TRAPS] == list(range(1, 31))


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: str(trap.number))
def test_a_trap_is_shown_by_tests_that_exist(trap: Trap) -> None:
    tests = existing()
    assert [one for one in trap.shown_by if one not in tests] == []
    assert {*trap.shown_by, *named_after(trap.number, tests)}


def test_no_test_is_named_after_a_trap_that_there_is_not() -> None:
    numbers = {int(found.group(1)) for one in existing() if (found := re.search(r"::test_trap_(\d+)_", one))}
    assert numbers <= {trap.number for trap in TRAPS}
