"""A provider that tells totals so far is compared by the movements that they were booked by, on both databases."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from cli.outside import Books, compare
from contracts.commands import PaymentVerify
from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from db.prove import prove
from runtime.deps import Deps
from tests.office_desk import give, open_order
from tests.shop import Shop, accept, open_shop, shop, work

AMOUNT = 10_000


@dataclass
class Statement(Shop):
    """The shop's provider, which also lists its orders."""

    def list_orders(self, since: datetime, until: datetime) -> list[Evidence]:
        found = [self._evidence(reference) for reference in self.orders]
        return [one for one in found if any(since <= moved.occurred_at < until for moved in one.transactions)]


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url) as made:
        yield made


def total(deps: Deps, reference: str, amount_minor: int) -> None:
    """The provider tells how much was captured so far."""
    known = shop(deps).money.get(reference)
    shop(deps).money[reference] = (
        ProviderTransaction(
            provider_transaction_id=f"p-{reference}",
            kind=TransactionKind.CAPTURE,
            amount_minor=amount_minor,
            currency="AMD",
            occurred_at=known[0].occurred_at if known else datetime.now(UTC),
            cumulative=True,
        ),
    )


def paid_in_two_parts(deps: Deps) -> str:
    accept(deps)
    reference = str(open_order(deps).reference)
    for amount, state in ((AMOUNT // 4, OrderState.HELD), (AMOUNT, OrderState.PAID)):
        total(deps, reference, amount)
        shop(deps).orders[reference] = state
        give(deps, PaymentVerify)
        work(deps, "webhook-verification", rounds=1, hurry=False)
    return reference


def found(deps: Deps) -> list[str]:
    """What prove finds about money when it asks this provider."""
    asked = Statement(orders=shop(deps).orders, money=shop(deps).money)
    reports = prove(deps.database)
    compare(replace(deps, providers={"shop": asked}, crms={}), reports, Books())
    return [breach.what for breach in reports[5].breaches]


def test_parts_that_make_the_total_are_no_breach(deps: Deps) -> None:
    paid_in_two_parts(deps)
    assert found(deps) == []


def test_a_total_above_our_parts_names_the_rest(deps: Deps) -> None:
    reference = paid_in_two_parts(deps)
    total(deps, reference, AMOUNT + 5)
    assert found(deps) == [
        f"capture p-{reference}:{AMOUNT + 5} of 5 AMD (minor units) is not in our books",
    ]


def test_a_total_below_our_parts_hides_nothing(deps: Deps) -> None:
    reference = paid_in_two_parts(deps)
    total(deps, reference, AMOUNT // 2)
    breaches = found(deps)
    assert sum("provider shop says nothing" in one for one in breaches) == 2
    assert f"capture p-{reference} of {AMOUNT // 2} AMD (minor units) is not in our books" in breaches
