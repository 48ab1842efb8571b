"""Which way a fiscal receipt may go: it has a state of its own, beside the payment's.

not_required ──> pending ──> issued ──> returned
                    │  ^        ^
                    v  │        │
                   failed ──────┘
"""

from contracts.statuses import FiscalStatus

FISCAL_MOVES: dict[FiscalStatus, frozenset[FiscalStatus]] = {
    FiscalStatus.NOT_REQUIRED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED, FiscalStatus.FAILED}),
    FiscalStatus.PENDING: frozenset({FiscalStatus.ISSUED, FiscalStatus.FAILED, FiscalStatus.NOT_REQUIRED}),
    FiscalStatus.FAILED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED, FiscalStatus.NOT_REQUIRED}),
    FiscalStatus.ISSUED: frozenset({FiscalStatus.RETURNED}),
    # After a return another sale of the same invoice has a receipt of its own.
    FiscalStatus.RETURNED: frozenset({FiscalStatus.PENDING, FiscalStatus.ISSUED}),
}


def fiscal_refusal(now: FiscalStatus, to: FiscalStatus) -> str | None:
    """Return why a receipt cannot go there from here, or None; where it is already, nothing is in the way."""
    if to is now or to in FISCAL_MOVES[now]:
        return None
    allowed = ", ".join(sorted(FISCAL_MOVES[now]))
    return f"the receipt is {now}, and cannot become {to}: it can become {allowed}"
