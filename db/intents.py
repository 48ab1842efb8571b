"""Intents: committed notes that we are about to do something outside that cannot be repeated safely.

Who finds an intent without a result never calls: he asks. Results: done, not_done (surely nothing happened), given_up.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Float, bindparam, insert, select, update

from contracts.ids import new_id
from db.hot import Hot
from db.message_store import Claimed
from db.schema import intents
from db.tx import Tx
from db.types import db_after, db_now

_LOCK = Hot(
    select(intents, db_now().label("now"))
    .where(intents.c.operation == bindparam("of_operation"), intents.c.reference == bindparam("of_reference"))
    .with_for_update()
)
_DECLARE = Hot(
    insert(intents)
    .values(
        id=bindparam("new_id"),
        operation=bindparam("the_operation"),
        reference=bindparam("the_reference"),
        message_id=bindparam("the_message"),
        claim_no=bindparam("the_claim"),
        deadline=db_after(bindparam("seconds", type_=Float)),
    )
    .returning(intents.c.id)
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """An intent that was declared before and has no result: it may have happened."""

    deadline: datetime  # after it, the call cannot still be on its way from us
    now: datetime
    by: tuple[str, int]  # the message and claim that declared it


def declare(tx: Tx, operation: str, reference: str, claimed: Claimed, *, call_seconds: float) -> Earlier | None:
    """Declare the intent and return None, or return the earlier one that is still open (declare nothing then)."""
    same = (intents.c.operation == operation, intents.c.reference == reference)
    known = _LOCK.first(tx, of_operation=operation, of_reference=reference)
    if known is None:
        _DECLARE.rows(
            tx,
            new_id=new_id(),
            the_operation=operation,
            the_reference=reference,
            the_message=claimed.id,
            the_claim=claimed.claim_no,
            seconds=call_seconds,
        )
        return None
    if known.result in (None, "done", "given_up"):
        return Earlier(known.deadline, known.now, (known.message_id, known.claim_no))
    tx.execute(
        update(intents)
        .where(*same)
        .values(
            message_id=claimed.id,
            claim_no=claimed.claim_no,
            deadline=db_after(call_seconds),
            result=None,
            resolved_at=None,
        )
    )
    return None


def resolve(tx: Tx, operation: str, reference: str, result: str, *, by: tuple[str, int] | None = None) -> None:
    """Write what became of an intent; with `by` only if that message and claim declared it last."""
    mine = (intents.c.message_id == by[0], intents.c.claim_no == by[1]) if by else ()
    same = (intents.c.operation == operation, intents.c.reference == reference, intents.c.result.is_(None))
    tx.execute(update(intents).where(*same, *mine).values(result=result, resolved_at=db_now()))


def reopen(tx: Tx, operation: str, reference: str, by: tuple[str, int]) -> None:
    """Note that nothing came of what this message and claim declared last, whatever was believed: it is done anew."""
    mine = (intents.c.message_id == by[0], intents.c.claim_no == by[1])
    same = (intents.c.operation == operation, intents.c.reference == reference)
    tx.execute(update(intents).where(*same, *mine).values(result="not_done", resolved_at=db_now()))


def ended_unheard(tx: Tx, operation: str, reference: str, by: tuple[str, int]) -> None:
    """Note that the call is over at our side without an answer: from now on only the other side's own time counts."""
    mine = (intents.c.message_id == by[0], intents.c.claim_no == by[1], intents.c.result.is_(None))
    same = (intents.c.operation == operation, intents.c.reference == reference)
    tx.execute(update(intents).where(*same, *mine).values(deadline=db_now()))


def is_open(tx: Tx, operation: str, reference: str) -> bool:
    """Tell whether the intent was declared and has no result."""
    found = select(intents.c.id).where(
        intents.c.operation == operation, intents.c.reference == reference, intents.c.result.is_(None)
    )
    return tx.execute(found).first() is not None
