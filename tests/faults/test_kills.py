"""SIGKILL: of every kind of process, at every named point, and again and again while invoices flow."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox.customers import Scenario, nothing
from tests.faults.conftest import Production
from tests.faults.points import POINTS, points_of
from tests.kit import PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY, Bill, Town

pytestmark = pytest.mark.timeout(420)

# A message that lost its worker waits for the end of the lease, and one that lost it within a call for the call's too.
PATIENCE_SECONDS = 180.0
ACCOUNTS = ("bank", "intl", "vpos", "wallet")


def test_each_worker_killed_at_each_point(production: Production) -> None:
    """Every queue's worker dies at each of its points, one after the other, while 24 invoices go through."""
    town = production.town
    markers = [marker for queue in POINTS for marker in town.arm(queue, points_of(queue))]
    bills = _flow(town, 24)

    _await_points(town, markers, bills)
    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)

    # Where nobody can be asked, each death between intent and conclusion leaves to a person what was in its hands: two
    # deaths (at intent, after the call), each with as many calls as the process has threads.
    assert sum(bill.was_left_to_a_person for bill in bills) <= 2 * town.plan.threads
    town.check_books()


def test_who_gives_money_back_is_killed_where_it_matters_and_gives_it_back_once(production: Production) -> None:
    """Paid invoices are refunded while workers die: before the call, after it, and before they write it down."""
    town = production.town
    bills = town.publish(12, [PAYS, PAYS_AND_LEAVES], ACCOUNTS)
    town.send_customers(bills)
    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    markers = town.arm("refunds", ["refunds.intent", "refunds.called", "refunds.concluding"])
    markers += town.arm("commands", ["commands.concluding"])

    for bill in bills:
        town.give("payment.refund.v1", bill, reason="goods came back")
        bill.scenario = Scenario("is refunded", nothing, "refunded")
    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)

    assert [marker.name for marker in markers if not marker.exists()] == []
    counts = {name: town.stack.provider.control.stats(name)["refunds"] for name in town.plan.families}
    assert counts == {name: sum(bill.account == name for bill in bills) for name in town.plan.families}
    town.check_books()


def test_relay_web_and_intake_killed_again_and_again(production: Production) -> None:
    town = production.town
    bills = _flow(town, 30)

    town.kill_by_turns(("relay", "web", "intake"), rounds=3, pause_seconds=0.5)
    town.stack.wait_ready()

    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    town.check_books()


def test_the_all_in_one_process_killed_at_the_calls(embedded: Town) -> None:
    """Where something outside had been done, and nobody had written it down; the storm stops at every point."""
    points = [
        "link-creation.called",
        "crm-update.called",
        "checkout.intent",
        "checkout.called",
        "webhook-verification.concluding",
        "manager-tasks.called",
    ]
    markers = embedded.arm("up", points)
    bills = _flow(embedded, 16)

    _await_points(embedded, markers, bills)
    embedded.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    embedded.check_books()


def test_the_all_in_one_process_killed_again_and_again(embedded: Town) -> None:
    embedded.stack.processes["up"].halts = []
    bills = _flow(embedded, 30)

    embedded.kill_by_turns(("up",), rounds=4, pause_seconds=3.0)
    embedded.stack.wait_ready()

    embedded.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    embedded.check_books()


def _flow(town: Town, count: int) -> list[Bill]:
    bills = town.publish(count, [PAYS, PAYS_HALF, PAYS_AND_LEAVES, STAYS_AWAY], ACCOUNTS)
    for bill in bills:
        bill.may_be_left_to_a_person = bill.account == "wallet"
        bill.patience_seconds = PATIENCE_SECONDS
    town.send_customers(bills)
    return bills


def _await_points(town: Town, markers: Sequence[Path], bills: list[Bill]) -> None:
    """A point that was not reached proves nothing.

    More customers come until the last one is: on a slow machine the first ones may have paid before its turn came.
    """

    def missing() -> list[str]:
        return [marker.name for marker in markers if not marker.exists()]

    def are_reached() -> bool:
        if missing() and all(town.has_gone(bill) for bill in bills):
            bills.extend(_flow(town, 8))
        return not missing()

    try:
        town.eventually(are_reached, "every point is reached", seconds=PATIENCE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"never reached: {missing()}\n{error}") from None
