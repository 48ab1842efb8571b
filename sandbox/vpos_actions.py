"""What a buyer, his bank, the merchant at VPOS.am's own console, or the time does to a session of the simulation."""

from collections.abc import Callable, Mapping
from typing import Any

from sandbox import vpos_sessions as sessions
from sandbox.server import Refusal
from sandbox.vpos_merchants import Books
from sandbox.vpos_sessions import FISCAL, Session


def _pay(books: Books, session: Session, options: Mapping[str, Any], *, late: bool = False) -> None:
    fault = books.faults.pick("pay", session.order_id)
    amount, currency = options.get("amount_minor"), str(options.get("currency", ""))
    if fault and fault.name == "wrong_amount":
        amount = session.amount // 2 or 1
    if fault and fault.name == "wrong_currency":
        currency = "USD" if session.currency != "USD" else "AMD"
    sessions.pay(session, amount, currency, late=late)
    session.fiscal = books.merchant.fiscal or None


def _fiscal(_: Books, session: Session, options: Mapping[str, Any]) -> None:
    status = str(options.get("status"))
    if status not in FISCAL or session.paid_at is None:
        raise Refusal(409, f"fiscal: a paid session, and one of {', '.join(FISCAL)}")
    if session.refunds and options.get("of") == "refund":
        session.refunds[-1].fiscal = status
    else:
        session.fiscal = status


def _plain(change: Callable[[Session], None]) -> Callable[[Books, Session, Mapping[str, Any]], None]:
    return lambda _, session, __: change(session)


def _refund(books: Books, session: Session, options: Mapping[str, Any]) -> None:
    sessions.refund(session, options.get("amount_minor", 0), "at the console", books.merchant.fiscal or None)


# What a buyer, his bank, the merchant at VPOS.am's own console, or the time does.
ACTIONS: dict[str, Callable[[Books, Session, Mapping[str, Any]], None]] = {
    "pay": _pay,  # amount_minor, currency
    "settle_late": lambda books, session, told: _pay(books, session, told, late=True),  # of a session that has ended
    "decline": _plain(sessions.decline),
    "pending": _plain(sessions.pend),
    "processing": _plain(sessions.process),
    "expire": _plain(sessions.expire),
    "cancel": _plain(sessions.cancel),
    "refund": _refund,  # amount_minor; none: all
    "odd_status": lambda _, session, told: sessions.say_oddly(session, str(told.get("word", "half_done"))),  # word
    "fiscal": _fiscal,  # status; of="refund" for the last refund's
}
