"""SIGKILL of every kind of process, at every named point, and again and again while invoices flow."""

import pytest

from sandbox.customers import Scenario, nothing
from tests.faults.conftest import Production
from tests.faults.flow import ACCOUNTS, PATIENCE_SECONDS, await_points, flow
from tests.faults.points import POINTS, points_of
from tests.kit import PAYS, PAYS_AND_LEAVES

pytestmark = pytest.mark.timeout(420)


def test_each_worker_killed_at_each_point(production: Production) -> None:
    """Every queue's worker dies at each of its points, one after the other, while 24 invoices go through."""
    town = production.town
    markers = [marker for queue in POINTS for marker in town.arm(queue, points_of(queue))]
    bills = flow(town, 24)

    await_points(town, markers, bills)
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
    bills = flow(town, 30)

    town.kill_by_turns(("relay", "web", "intake"), rounds=3, pause_seconds=0.5)
    town.stack.wait_ready()

    town.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    town.check_books()
