"""What happens to a payment of the simulated Ameriabank vPOS without a call of its merchant."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from sandbox import ameriabank_payments as payments
from sandbox.ameriabank_payments import Payment


def _expire(payment: Payment, _: Mapping[str, Any]) -> None:
    payment.ends_at = time.time() - 1
    payments.lapse(payment)


def _grow_old(payment: Payment, told: Mapping[str, Any]) -> None:
    seconds = float(told.get("seconds", 0))
    payment.initiated_at, payment.ends_at = payment.initiated_at - seconds, payment.ends_at - seconds
    payment.tried_at -= seconds if payment.attempted else 0.0
    payments.lapse(payment)


# What a customer, his bank, the merchant at the bank's own desk, or the time does. `amount_minor` where it says amount.
ACTIONS: dict[str, Callable[[Payment, Mapping[str, Any]], None]] = {
    "pay": lambda payment, told: payments.pay(payment, told.get("amount_minor")),  # amount
    "hold": lambda payment, told: payments.pay(payment, told.get("amount_minor"), hold=True),  # amount
    "settle_late": lambda payment, told: payments.pay(payment, told.get("amount_minor"), late=True),  # amount
    "decline": lambda payment, told: payments.decline(payment, str(told.get("code", payments.NOT_ENOUGH_MONEY))),
    "pending": lambda payment, told: payments.begin(payment, str(told.get("code", payments.BEGUN))),
    "expire": _expire,
    "confirm": lambda payment, told: payments.confirm(payment, told.get("amount_minor") or payment.approved),  # amount
    "refund": lambda payment, told: payments.refund(payment, told.get("amount_minor") or payment.deposited),  # amount
    "reverse": lambda payment, _: payments.cancel(payment),
    "grow_old": _grow_old,  # `seconds`: the payment began, and was paid, so much earlier
}
