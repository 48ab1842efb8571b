"""SIGKILL of the process that is everything, on SQLite: where it matters, and again and again while invoices flow."""

import pytest

from tests.faults.flow import PATIENCE_SECONDS, await_points, flow
from tests.kit import Town

pytestmark = pytest.mark.timeout(420)


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
    bills = flow(embedded, 16)

    await_points(embedded, markers, bills)
    embedded.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    embedded.check_books()


def test_the_all_in_one_process_killed_again_and_again(embedded: Town) -> None:
    embedded.stack.processes["up"].halts = []
    bills = flow(embedded, 30)

    embedded.kill_by_turns(("up",), rounds=4, pause_seconds=3.0)
    embedded.stack.wait_ready()

    embedded.wait_for_ends(bills, seconds=PATIENCE_SECONDS)
    embedded.check_books()
