"""SIGKILL of whoever has fiscal receipts printed: each receipt is printed once, and every number is explained."""

from collections.abc import Iterator

import pytest

from cli.stack import Plan
from sandbox.customers import Scenario, nothing
from tests.faults.conftest import LEASE_SECONDS, TIME_SCALE
from tests.kit import PAYS, Town

pytestmark = pytest.mark.timeout(300)

# A dead worker's message comes back when its lease is over, and its request counts as lost when its own time is.
PATIENCE_SECONDS = 180.0
POINTS = ("fiscal.intent", "fiscal.called", "fiscal.concluding")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    plan = Plan(
        folder=tmp_path_factory.mktemp("fiscal"),
        time_scale=TIME_SCALE,
        lease_seconds=LEASE_SECONDS,
        settle="PT1S",
        fiscal=True,
    )
    with Town(plan) as made:
        yield made


def test_who_prints_is_killed_where_it_matters_and_each_receipt_is_printed_once(town: Town) -> None:
    """Workers die before the call, after it, and before they write it down, while payments and refunds go on."""
    markers = town.arm("up", POINTS)
    bills = town.publish(4, [PAYS], ["bank", "vpos"])
    town.send_customers(bills)
    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    for bill in bills[:2]:
        town.give("payment.refund.v1", bill, reason="goods came back")
        bill.scenario = Scenario("is refunded", nothing, "refunded")
    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)

    def is_printed() -> bool:
        found = "SELECT count(*) FROM fiscal_receipts WHERE state = 'issued'"
        return all(marker.exists() for marker in markers) and town.rows(found) == [(6,)]

    town.eventually(is_printed, "every receipt is printed, and every point was reached", seconds=PATIENCE_SECONDS)
    town.wait_for_ends(bills)
    assert town.stack.fiscal is not None
    printed = town.stack.fiscal.control.receipts()
    ours = town.rows("SELECT id, seq, number FROM fiscal_receipts ORDER BY seq")
    assert [(one["receipt"], one["seq"], one["number"]) for one in printed] == ours
    assert [one["seq"] for one in printed] == list(range(1, 7))
    shown = town.rows("SELECT fiscal_status, count(*) FROM invoices GROUP BY fiscal_status ORDER BY fiscal_status")
    assert shown == [("issued", 2), ("returned", 2)]
    records = [one for crm in town.stack.crms.values() for one in crm.control.records()]
    assert sorted(one["payment"]["fiscal_status"] for one in records) == ["issued"] * 2 + ["returned"] * 2
    town.check_books()
