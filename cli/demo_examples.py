"""The demo's example invoices: the last version of each is the one whose customer acts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.demo_cases import Case, Ending, Scene
from cli.stack import ACCOUNTS
from sandbox.customers import ASKABLE, EVENTS_ONLY, Scenario

FILE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "invoices.jsonl"


def published() -> list[dict[str, Any]]:
    """Return what the CRMs publish, in order: versions, repetitions and conflicts too."""
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]


def cases() -> list[Case]:
    """Give each invoice the next scenario of its account."""
    found: dict[tuple[str, str, str], Case] = {}
    turns = dict.fromkeys(ACCOUNTS, 0)
    for data in published():
        account = next(name for name, (_, _, currency) in ACCOUNTS.items() if currency == data["currency"])
        scenarios = EVENTS_ONLY if ACCOUNTS[account][0] == "no_lookup" else ASKABLE
        case = _case(data, scenarios[turns[account] % len(scenarios)], account)
        if case.name not in found:
            found[case.name] = case
            turns[account] += 1
        else:
            _repeat(found[case.name], data)
    return list(found.values())


def _repeat(known: Case, data: dict[str, Any]) -> None:
    """A later version replaces; the same one with another amount is a conflict."""
    before, now = known.data.get("version") or 1, data.get("version") or 1
    if now > before:
        known.data, known.other_amounts = data, set()
    elif now == before:
        known.other_amounts.add(data["amount_minor"])


def _case(data: dict[str, Any], scenario: Scenario, account: str) -> Case:
    return Case(data, scenario.name, account, _acting(scenario), Ending(scenario.status, scenario.flags))


def _acting(scenario: Scenario) -> Callable[[Scene], None]:
    return lambda scene: scenario.act(scene.customer)
