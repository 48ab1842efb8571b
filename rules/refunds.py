"""Which payment a refund is taken from, and who may decide: pure, the caller holds the invoice's lock.

A refund goes back the way that the money came, so it is always of one payment, and never of more than is left of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.money import display

# The intent of a refund that its provider would not recognise as the same.
MAKE_REFUND = "make_refund"


class RefundState(StrEnum):
    """From the wish to the provider's answer."""

    WAITING = "waiting"  # for a second person
    PENDING = "pending"  # on its way
    DONE = "done"
    REFUSED = "refused"  # by the provider
    REJECTED = "rejected"  # by a person
    UNKNOWN = "unknown"  # it may have happened, and nobody can be asked: a person decides


# In these its money is spoken for.
HOLDING = (RefundState.WAITING, RefundState.PENDING, RefundState.UNKNOWN)
# In these a person decides.
UNDECIDED = frozenset({RefundState.WAITING, RefundState.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Payment:
    """Money of one order in one currency. `left_minor`: captured, and neither given back nor about to be."""

    attempt: str
    account: str
    reference: str
    provider_order_id: str
    currency: str
    left_minor: int
    names: frozenset[str]  # what a person may call it: the provider's transactions and order, our attempt


def choose(
    payments: Sequence[Payment], *, amount_minor: int | None, currency: str | None, named: str | None
) -> Payment | str:
    """Return the payment that a refund is taken from, or a sentence that says why there is none."""
    found = [one for one in payments if one.left_minor > 0]
    if named is not None:
        found = [one for one in found if named in one.names]
    if not found:
        what = f"no payment named {named} has money left" if named is not None else "no money is left"
        return f"{what} to give back here{_known(payments)}"
    if amount_minor is None:
        return found[0] if len(found) == 1 else f"money came by several payments: name one{_known(payments)}"
    fitting = [one for one in found if one.currency == currency and one.left_minor >= amount_minor]
    if not fitting:
        return f"no payment has so much left{_known(payments)}"
    return fitting[0] if len(fitting) == 1 else f"several payments have so much left: name one{_known(payments)}"


def _known(payments: Sequence[Payment]) -> str:
    left = [f"{one.provider_order_id} ({display(one.left_minor, one.currency)})" for one in payments]
    return f"; left are {', '.join(left)}" if left else ""


def is_another_person(asked: str, decides: str) -> bool:
    """Tell whether two authors (crm:acme:17, operator:17) are surely two persons."""
    return asked.rpartition(":")[2].strip().casefold() != decides.rpartition(":")[2].strip().casefold()
