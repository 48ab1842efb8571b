"""The words of fiscal receipts: what one is, and which of them answer each other."""

from enum import StrEnum


class ReceiptKind(StrEnum):
    """What a receipt says happened to money."""

    SALE = "sale"
    RETURN = "return"
    ADVANCE = "advance"  # money for what is delivered later
    ADVANCE_RETURN = "advance_return"
    FOREIGN = "foreign"  # printed past us, at the device itself: it only explains a number


RETURN_OF: dict[ReceiptKind, ReceiptKind] = {
    ReceiptKind.SALE: ReceiptKind.RETURN,
    ReceiptKind.ADVANCE: ReceiptKind.ADVANCE_RETURN,
}
# A receipt for money that came; the others are for money that went back.
MONEY_CAME = frozenset(RETURN_OF)
