"""Where an invoice's receipts stand together, and which one a return returns."""

from dataclasses import replace

import pytest

from contracts.fiscal import ReceiptKind
from contracts.statuses import FiscalStatus
from rules.fiscal import ReceiptState, Slip, fiscal_status, original_of

SALE = Slip("s1", "till", ReceiptKind.SALE, ReceiptState.ISSUED, 100, "AMD", attempt="a1")
BACK = Slip("r1", "till", ReceiptKind.RETURN, ReceiptState.ISSUED, 100, "AMD", attempt="a1", original="s1")
WANTED, FAILED, WAIVED = ReceiptState.WANTED, ReceiptState.FAILED, ReceiptState.WAIVED


@pytest.mark.parametrize(
    ("slips", "status"),
    [
        ([], FiscalStatus.NOT_REQUIRED),
        ([SALE], FiscalStatus.ISSUED),
        ([replace(SALE, kind=ReceiptKind.ADVANCE)], FiscalStatus.ISSUED),
        ([replace(SALE, state=WANTED)], FiscalStatus.PENDING),
        ([replace(SALE, state=ReceiptState.SENT)], FiscalStatus.PENDING),
        ([replace(SALE, state=FAILED)], FiscalStatus.FAILED),
        ([replace(SALE, state=WAIVED)], FiscalStatus.NOT_REQUIRED),
        ([SALE, replace(SALE, id="s2", state=WANTED)], FiscalStatus.PENDING),
        ([replace(SALE, state=FAILED), replace(SALE, id="s2", state=WANTED)], FiscalStatus.FAILED),
        ([SALE, BACK], FiscalStatus.RETURNED),
        ([SALE, replace(BACK, state=WANTED)], FiscalStatus.ISSUED),
        ([SALE, replace(BACK, state=FAILED)], FiscalStatus.ISSUED),
        ([SALE, replace(BACK, amount_minor=99)], FiscalStatus.ISSUED),
        ([SALE, replace(BACK, amount_minor=60), replace(BACK, id="r2", amount_minor=40)], FiscalStatus.RETURNED),
        ([SALE, BACK, replace(SALE, id="s2", attempt="a2")], FiscalStatus.ISSUED),
    ],
)
def test_receipts_stand_together(slips: list[Slip], status: FiscalStatus) -> None:
    assert fiscal_status(slips) is status


def test_money_that_we_printed_nothing_for_returns_nothing() -> None:
    for slips in ([], [replace(SALE, state=WAIVED)], [replace(SALE, attempt="a2")], [replace(SALE, currency="USD")]):
        assert original_of("a1", 100, "AMD", slips) is None


def test_a_return_takes_the_first_receipt_of_its_payment_that_has_so_much_left() -> None:
    small, large = replace(SALE, amount_minor=50), replace(SALE, id="s2", amount_minor=80)
    assert original_of("a1", 50, "AMD", [small, large]) == small
    assert original_of("a1", 60, "AMD", [small, large]) == large
    assert original_of("a1", 20, "AMD", [small, large, replace(BACK, amount_minor=40)]) == large
    assert original_of("a1", 130, "AMD", [small, large]) == large, "too much for one: the device refuses, a person sees"


def test_a_return_that_is_still_wanted_counts_as_taken() -> None:
    second = replace(SALE, id="s2")
    assert original_of("a1", 1, "AMD", [SALE, replace(BACK, state=WANTED), second]) == second
