"""What the modules of the shared suite have in common: the desks, and how an order stands at one of them.

PAYLINKS_DESKS names folders with desks of adapters that are not ours (docs/how-to/add-a-provider.md), as PATH does.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from contracts.evidence import Evidence, OrderState, TransactionKind
from contracts.ids import new_id
from gateways.errors import Refused
from gateways.providers.base import ProviderEvent, ProviderOrder, ProviderRefund, RefundRequest
from sandbox.control import eventually
from tests.conformance.desk import Desk
from tests.conformance.receiver import Received

_HERE = Path(__file__).parent
_ELSEWHERE = [Path(folder).resolve() for folder in os.environ.get("PAYLINKS_DESKS", "").split(os.pathsep) if folder]
sys.path += [str(folder) for folder in _ELSEWHERE if str(folder) not in sys.path]

INSTALLED = sorted(point.name for point in entry_points(group="paylinks.providers"))
# The name of each adapter that has a desk, and the desk's module.
_MODULES = {
    path.stem.removeprefix("desk_"): f"tests.conformance.{path.stem}" if folder is _HERE else path.stem
    for folder in (*_ELSEWHERE, _HERE)
    for path in folder.glob("desk_*.py")
}
DESKS = sorted(_MODULES)

NO_MONEY: dict[str, int] = {}
CLOSED = {OrderState.CANCELLED, OrderState.EXPIRED}
MOVED = ["timeout_after", "truncated", "error_500_after"]  # the effect is there, its answer is not
NOTHING_MOVED = ["timeout_before", "error_500_before"]
LOST = [*MOVED, *NOTHING_MOVED]  # whoever calls cannot tell these from each other


@dataclass(frozen=True)
class Case:
    """One provider with one set of options: the suite runs for each."""

    name: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @contextmanager
    def open(self, **options: Any) -> Iterator[Desk]:
        module = import_module(_MODULES[self.name])
        with module.open_desk(**{**_variants(self.name)[self.variant], **options}) as desk:
            yield desk


def _variants(name: str) -> dict[str, dict[str, Any]]:
    variants: dict[str, dict[str, Any]] = getattr(import_module(_MODULES[name]), "VARIANTS", {})
    return {"": {}} | variants


# By default each provider's plain account; `make storm` runs the others too.
CASES = [
    pytest.param(Case(name, variant), marks=pytest.mark.storm) if variant else Case(name)
    for name in DESKS
    for variant in _variants(name)
]


# --- orders ---------------------------------------------------------------------------------------------------------


def made(desk: Desk, **changes: Any) -> ProviderOrder:
    return desk.provider.create_order(desk.order(**changes))


def paid(desk: Desk, **changes: Any) -> ProviderOrder:
    created = made(desk, **changes)
    desk.pay(created)
    expect(desk, created, {"capture": desk.order(**changes).amount_minor}, OrderState.PAID)
    return created


def makes_no_calls(desk: Desk) -> bool:
    """Whether an order of this provider is made without a call: the customer's own browser brings it there.

    Ask after an order was made. Such a provider has no interface to call at all, or the desk cannot count.
    """
    if desk.calls("create"):
        return False
    told = desk.provider.capabilities
    assert not any([told.lookup, told.refund, told.cancel, told.capture, told.statement])
    return True


def wish(desk: Desk, created: ProviderOrder, amount_minor: int, name: str | None = None) -> RefundRequest:
    currency = desk.order().currency
    return RefundRequest(name or new_id(), created.reference, created.provider_order_id, amount_minor, currency)


# --- how an order stands ----------------------------------------------------------------------------------------------


def totals(evidence: Evidence) -> dict[str, int]:
    """Sum what moved, by kind."""
    summed: Counter[str] = Counter()
    for one in evidence.transactions:
        summed[one.kind.value] += one.amount_minor
    return dict(summed)


def ids(evidence: Evidence, kind: str) -> list[str]:
    """Return the transactions' ids as the ledger keeps them: totals so far by their sum."""
    return [
        f"{one.provider_transaction_id}:{one.amount_minor}" if one.cumulative else one.provider_transaction_id
        for one in evidence.transactions
        if one.kind.value == kind
    ]


def look_up(desk: Desk, created: ProviderOrder) -> Evidence:
    evidence = desk.provider.fetch_evidence(created.reference, created.provider_order_id)
    assert evidence is not None
    return evidence


def expect(desk: Desk, created: ProviderOrder, money: dict[str, int], *states: OrderState) -> Evidence | None:
    """Assert how the order stands: by a look-up, or where there is none by what its events have told.

    Without look-up, what moved no money may never be told; then no event may speak of money.
    """
    if desk.provider.capabilities.lookup:
        found = look_up(desk, created)
        assert (totals(found), found.state in (states or OrderState)) == (money, True), found
        return found
    if not money:
        assert not [one for one in told(desk, created) if one.transactions]
        return None

    def right() -> list[Evidence]:
        return [one for one in told(desk, created) if totals(one) == money and one.state in (states or OrderState)]

    return eventually(right, bool)[-1]


def told(desk: Desk, created: ProviderOrder) -> list[Evidence]:
    """Return the evidence that events have carried so far."""
    return [event.evidence for event in parsed(desk, created) if event.evidence is not None]


def parsed(desk: Desk, created: ProviderOrder) -> list[ProviderEvent]:
    """Return the events of this order so far."""
    every = [parse(desk, received) for received in desk.events(0)] if desk.provider.capabilities.push else []
    payments = captures(desk, created) if any(one.payment for one in every) else set()
    return [one for one in every if is_about(one, created) or one.payment in payments]


def captures(desk: Desk, created: ProviderOrder) -> set[str | None]:
    """Return the provider's ids of what this order captured: an event may name one of these alone."""
    evidence = desk.provider.fetch_evidence(created.reference, created.provider_order_id)
    moved = evidence.transactions if evidence is not None else ()
    return {one.provider_transaction_id for one in moved if one.kind is TransactionKind.CAPTURE}


def parse(desk: Desk, received: Received) -> ProviderEvent:
    return desk.provider.parse_event(**desk.event_of(received))


def is_about(event: ProviderEvent, created: ProviderOrder) -> bool:
    return event.reference == created.reference or (
        event.provider_order_id is not None
        and event.provider_order_id.lower() == created.provider_order_id.lower() != ""
    )


def shown(desk: Desk, created: ProviderOrder, refund: ProviderRefund) -> bool:
    """Whether evidence names the refund as its answer did."""
    evidence = [look_up(desk, created)] if desk.provider.capabilities.lookup else told(desk, created)
    return any(refund.provider_transaction_id in ids(one, "refund") for one in evidence)


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused. AssertionError when it is not."""
    try:
        value = call()
    except Refused as refusal:
        return refusal.code
    raise AssertionError(f"not refused: {value!r}")
