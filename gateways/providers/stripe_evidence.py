"""What a Checkout Session and its payment mean: the evidence that Stripe's answers make.

Sources: https://docs.stripe.com/api/checkout/sessions/object, /payment_intents/object, /charges/object,
/refunds/object, /disputes/object; https://docs.stripe.com/payments/paymentintents/lifecycle and
https://docs.stripe.com/checkout/fulfillment. Ids of transactions are Stripe's own, as far as it has one:

    pi_...                   the payment: it has one charge that succeeds, at most, and signed events name it alone.
                             Cumulative where it was held first: a hold may be captured part by part
    re_...                   a refund that succeeded
    re_...:returned          a refund that succeeded, failed later, and is with the merchant again: money came in
    dp_...:txn_...           a dispute's movement of the balance: a chargeback where it left, money in where it returned
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from gateways.errors import Refused
from gateways.providers.stripe_money import from_wire
from gateways.providers.stripe_wire import BalanceTransaction, Charge, Dispute, Intent, Refund, Session, moment

_RETURNED = frozenset({"failed", "canceled"})


def evidence(
    session: Session,
    refunds: Sequence[Refund],
    disputes: Sequence[Dispute],
    *,
    reference: str,
    asked_at: datetime,
    request: str | None,
) -> Evidence:
    """Return the whole word on one order. Refused when it speaks of money that we do not know."""
    state, retryable = state_of(session)
    charge = charge_of(intent_of(session))
    given_back = _real(charge, refunds) if charge else []
    moved = [*_captures(session), *_refunds(given_back, asked_at), *_disputed(disputes)]
    return Evidence(
        reference=reference,
        provider_order_id=session.id,
        state=state,
        retryable=retryable,
        transactions=tuple(sorted(moved, key=lambda one: one.occurred_at)),
        provider_request_id=request,
        asked_at=asked_at,
    )


def state_of(session: Session) -> tuple[OrderState, bool]:
    """Return how far the order got, and whether the customer may try again in it. A hold is never "paid"."""
    intent = intent_of(session)
    match intent.status if intent else None:
        case "succeeded":
            return OrderState.PAID, False
        case "requires_capture":
            return OrderState.HELD, False
        case "processing":
            return OrderState.PROCESSING, False
    if session.status == "open":
        return _state_of_open(intent)
    if session.status == "expired":
        return OrderState.EXPIRED, False
    return _state_of_complete(intent) if session.status == "complete" else (OrderState.PROCESSING, False)


def _state_of_open(intent: Intent | None) -> tuple[OrderState, bool]:
    """A page at which nothing is decided: a decline there is not the last word."""
    declined = intent is not None and intent.status == "requires_payment_method" and intent.failed_before
    return (OrderState.DECLINED, True) if declined else (OrderState.OPEN, False)


def _state_of_complete(intent: Intent | None) -> tuple[OrderState, bool]:
    """The customer has done his part, and cannot come back to this page."""
    match intent.status if intent else None:
        case "requires_payment_method":  # a debit or a transfer that failed afterwards
            return OrderState.DECLINED, False
        case "canceled":  # a hold that was let go, or ran out
            return OrderState.CANCELLED, False
    # A voucher to be paid at a shop (requires_action), and words of the future, which are no failures.
    return OrderState.PROCESSING, False


def intent_of(session: Session) -> Intent | None:
    """Return a session's payment. It has none before the first try."""
    intent = session.payment_intent
    if isinstance(intent, str):
        raise Refused("the answer leaves out the payment that was asked for", code="not_expanded")
    return intent


def charge_of(intent: Intent | None) -> Charge | None:
    """Return a payment's last charge."""
    charge = intent.latest_charge if intent else None
    if isinstance(charge, str):
        raise Refused("the answer leaves out the charge that was asked for", code="not_expanded")
    return charge


def _captures(session: Session) -> list[ProviderTransaction]:
    intent = intent_of(session)
    charge = charge_of(intent)
    if intent is None or charge is None or charge.status != "succeeded" or not charge.captured:
        return []
    return moved(
        TransactionKind.CAPTURE,
        intent.id,
        charge.amount_captured,
        charge.currency,
        moment(charge.created),
        cumulative=intent.capture_method == "manual",
    )


def _real(charge: Charge, refunds: Sequence[Refund]) -> list[Refund]:
    """Leave out what shows that a hold was let go, in whole or in part: no money had come.

    Observed (https://github.com/solidusio/solidus_stripe/pull/268): a capture of a part leaves a refund of the rest,
    which counts as refunded on the charge. It is told from one of captured money by its amount, and by what Stripe's
    reference says of `balance_transaction`: the impact on the balance, of which it has none.
    """
    if not charge.captured:
        return []
    rest = charge.amount - charge.amount_captured
    let_go = [one for one in refunds if not one.left and one.amount == rest]
    oldest = min(let_go, key=lambda one: one.created, default=None)
    return [one for one in refunds if one is not oldest]


def _refunds(refunds: Iterable[Refund], asked_at: datetime) -> list[ProviderTransaction]:
    found = []
    for one in refunds:
        came_back = one.status in _RETURNED and one.came_back
        if one.status == "succeeded" or came_back:
            found += moved(TransactionKind.REFUND, one.id, one.amount, one.currency, moment(one.created))
        if came_back:
            # Stripe does not tell when: not before it left.
            when = max(asked_at, moment(one.created))
            found += moved(TransactionKind.CAPTURE, f"{one.id}:returned", one.amount, one.currency, when)
    return found


def _disputed(disputes: Iterable[Dispute]) -> list[ProviderTransaction]:
    found = []
    for dispute in disputes:
        for one in dispute.balance_transactions:
            kind = TransactionKind.CHARGEBACK if one.amount < 0 else TransactionKind.CAPTURE
            amount, currency = _taken(dispute, one)
            found += moved(kind, f"{dispute.id}:{one.id}", amount, currency, moment(one.created))
    return found


def _taken(dispute: Dispute, one: BalanceTransaction) -> tuple[int, str]:
    """Return what moved in the customer's currency; the balance's own may be another one."""
    same = one.currency == dispute.currency or one.amount == 0
    return (abs(one.amount), one.currency) if same else (dispute.amount, dispute.currency)


def moved(
    kind: TransactionKind, name: str, amount: int, currency: str, when: datetime, *, cumulative: bool = False
) -> list[ProviderTransaction]:
    """Make a transaction, or none of nothing."""
    if amount == 0:
        return []
    try:
        minor, code = from_wire(amount, currency)
    except ValueError as error:
        raise Refused(f"fetch_evidence: money with an unknown {error}", code=f"unknown_{error}") from None
    return [
        ProviderTransaction(
            provider_transaction_id=name,
            kind=kind,
            amount_minor=minor,
            currency=code,
            occurred_at=when,
            cumulative=cumulative,
        )
    ]
