"""Invoices that flow while something dies, and the points at which it must die."""

from collections.abc import Sequence
from pathlib import Path

from tests.kit import PAYS, PAYS_AND_LEAVES, PAYS_HALF, STAYS_AWAY, Bill, Town

# A message that lost its worker waits for the end of the lease, and one that lost it within a call for the call's too.
PATIENCE_SECONDS = 180.0
ACCOUNTS = ("bank", "intl", "vpos", "wallet")


def flow(town: Town, count: int, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Bill]:
    """Let so many invoices come, and send their customers."""
    bills = town.publish(count, [PAYS, PAYS_HALF, PAYS_AND_LEAVES, STAYS_AWAY], ACCOUNTS)
    for bill in bills:
        bill.may_be_left_to_a_person = bill.account == "wallet"
        bill.patience_seconds = patience_seconds
    town.send_customers(bills)
    return bills


def await_points(town: Town, markers: Sequence[Path], bills: list[Bill]) -> None:
    """Wait until every point is reached: one that was not proves nothing.

    More customers come until the last one is: on a slow machine the first ones may have paid before its turn came.
    """

    def missing() -> list[str]:
        return [marker.name for marker in markers if not marker.exists()]

    def are_reached() -> bool:
        if missing() and all(town.has_gone(bill) for bill in bills):
            bills.extend(flow(town, 8))
        return not missing()

    try:
        town.eventually(are_reached, "every point is reached", seconds=PATIENCE_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"never reached: {missing()}\n{error}") from None
