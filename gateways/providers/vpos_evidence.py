"""What a payment session of VPOS.am means: the evidence that its status and its amounts make.

Source: https://api.vpos.am/docs: amounts are minor units, a browser's return proves nothing. The words of a status are
not public, so they are a setting; a word that nobody mapped is neither success nor failure but a person's case.
Ids of transactions are derived:

    {session}:capture     what the buyer paid
    {session}:refund      all that went back so far, cumulative: single refunds are not public
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NoReturn

from contracts.evidence import Evidence, OrderState, ProviderReceipt, ProviderTransaction, TransactionKind
from contracts.money import CURRENCIES
from contracts.statuses import FiscalStatus
from gateways.errors import Refused
from gateways.providers.vpos_wire import Session

_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Money:
    """Amounts on the wire and here. An account may count a currency in other decimals than ISO 4217 does."""

    def __init__(self, decimals: Mapping[str, int]) -> None:
        """`decimals` are the account's, where they are fewer."""
        self._factors = {one: int(10 ** (CURRENCIES[one][1] - count)) for one, count in decimals.items()}

    def to_wire(self, amount_minor: int, currency: str) -> int | None:
        """Return what is sent; None where the account's unit is too coarse for it."""
        whole, rest = divmod(amount_minor, self._factors.get(currency, 1))
        return None if rest else whole

    def from_wire(self, amount: int, currency: str) -> int:
        """Return minor units of ISO 4217."""
        return amount * self._factors.get(currency, 1)


class Reading:
    """How an account's sessions are to be read."""

    def __init__(
        self,
        name: str,
        states: Mapping[str, OrderState],
        refund_words: Collection[str],
        money: Money,
        fiscal: Mapping[str, FiscalStatus],
    ) -> None:
        """`refund_words` are those status words which say that money went back; `fiscal` are those of receipts."""
        self._name = name
        self._states = states
        self._refund_words = refund_words
        self._money = money
        self._fiscal = fiscal

    def evidence(self, session: Session, asked_at: datetime, request: str | None) -> Evidence:
        """Return the whole word on one session. Refused where nobody knows what it means."""
        return Evidence(
            reference=session.order,
            provider_order_id=session.id,
            state=self._state(session),
            transactions=self._transactions(session, asked_at),
            provider_request_id=request,
            asked_at=asked_at,
            receipt=self._receipt(session),
        )

    def _receipt(self, session: Session) -> ProviderReceipt | None:
        """Return how VPOS.am's own receipt stands, where it tells in a word that is mapped."""
        status = self._fiscal.get(session.fiscal or "")
        return ProviderReceipt(status=status, number=session.fiscal_number) if status else None

    def refunded(self, session: Session) -> tuple[int, int]:
        """Return what came and what went back in all, in minor units."""
        currency = self._currency(session)
        captured, refunded = self._captured(session), session.refunded_amount or 0
        return self._money.from_wire(captured, currency), self._money.from_wire(refunded, currency)

    def _state(self, session: Session) -> OrderState:
        state = self._states.get(session.status)
        if state is None:
            # A status word is like an error's code; anything else could be somebody's name.
            word = session.status if _WORD.fullmatch(session.status) else "?"
            self._refuse("unmapped_status", f"the account's statuses do not map the word {word}")
        return state

    def _transactions(self, session: Session, asked_at: datetime) -> tuple[ProviderTransaction, ...]:
        captured, refunded = self._captured(session), session.refunded_amount or 0
        if session.status in self._refund_words and not refunded:
            self._refuse("amounts_missing", "money went back, and the answer does not say how much")
        if refunded > captured:
            self._refuse("amounts_contradict", "more went back than came")
        if not captured:
            return ()
        currency = self._currency(session)
        capture = ProviderTransaction(
            provider_transaction_id=f"{session.id}:capture",
            kind=TransactionKind.CAPTURE,
            amount_minor=self._money.from_wire(captured, currency),
            currency=currency,
            occurred_at=session.paid_at or asked_at,
        )
        if not refunded:
            return (capture,)
        refund = ProviderTransaction(
            provider_transaction_id=f"{session.id}:refund",
            kind=TransactionKind.REFUND,
            amount_minor=self._money.from_wire(refunded, currency),
            currency=currency,
            occurred_at=max(asked_at, capture.occurred_at),
            cumulative=True,
        )
        return capture, refund

    def _captured(self, session: Session) -> int:
        """Return what was paid: as it is told, else the session's own amount, which a buyer cannot change.

        Money that is told counts in every state: a session that expired may have been paid all the same.
        """
        is_paid = self._state(session) is OrderState.PAID
        if session.paid_amount is None:
            return session.amount if is_paid else 0
        if is_paid and not session.paid_amount:
            self._refuse("amounts_contradict", "it is paid, and nothing came")
        return session.paid_amount

    def _currency(self, session: Session) -> str:
        code = session.paid_currency or session.currency
        if code not in CURRENCIES:
            self._refuse("unknown_currency", "the answer names no currency that is known here")
        return code

    def _refuse(self, code: str, why: str) -> NoReturn:
        raise Refused(f"session at {self._name}: {why}", code=code)
