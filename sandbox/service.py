"""What happens at the sandbox's provider: customers pay, time passes, merchants are told.

Actions of the control interface, and the event that each sends (what they do to an order is in sandbox.orders):

pay  amount_minor, currency, force, untold      payment.captured; with `untold` none
pay_later  seconds                              order.processing, then payment.captured by itself
hold                                            order.held; a later `pay` captures it
decline  final, force                           payment.declined
expire                                          order.expired; comes by itself too
refund, reverse, chargeback  amount_minor       payment.refunded, payment.reversed, payment.charged_back
say_paid                                        order.paid, without any money
tell                                            order.updated: how the order stands, once more; nothing is kept back
abandon                                         none

An event that is to come after a later one is the fault `reordered` (sandbox.faults).
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from sandbox import orders
from sandbox.accounts import Account, Family, Settings, amount, conflict, currency, settings_from
from sandbox.orders import Conflict, Order
from sandbox.server import Refusal
from sandbox.store import Store
from sandbox.webhooks import DEFAULT_PAUSES, DEFAULT_TRIES, Courier, parcels_for

_EVENTS = {
    "pay": "payment.captured",
    "decline": "payment.declined",
    "pay_later": "order.processing",
    "hold": "order.held",
    "expire": "order.expired",
    "cancel": "order.cancelled",
    "refund": "payment.refunded",
    "reverse": "payment.reversed",
    "chargeback": "payment.charged_back",
    "say_paid": "order.paid",
    "tell": "order.updated",
}
ACTIONS = frozenset(_EVENTS) - {"cancel"} | {"abandon"}
_WEBHOOK_COUNTS = ("events", "tries", "delivered", "failed", "forged", "forged_answered_2xx")
_TAKEN_BACK = {"refund": "refund", "reverse": "reversal", "chargeback": "chargeback"}


class ProviderService:
    """Every account, the clock and the courier. Lives in one event loop."""

    def __init__(self, store: Store, *, pauses: tuple[float, ...] = DEFAULT_PAUSES, tries: int = DEFAULT_TRIES) -> None:
        """Begin without accounts; `load` brings back what the store kept. Pauses and tries are those of webhooks."""
        self._store = store
        self._accounts: dict[str, Account] = {}
        self._courier = Courier(store, self.account, pauses=pauses, tries=tries)
        self._courier_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take up what an earlier process left, and begin to deliver. Call inside the event loop."""
        for account in self._accounts.values():
            for order in account.orders():
                self._set_clock(account, order)
        self._courier.load()
        self._courier_task = asyncio.create_task(self._courier.run())

    async def stop(self) -> None:
        """Stop delivering and write what is left."""
        if self._courier_task is not None:
            self._courier_task.cancel()
            await asyncio.gather(self._courier_task, return_exceptions=True)
        self._courier.close()
        self._store.close()

    def load(self, accounts: list[Settings]) -> None:
        """Read the store; settings given now win over settings kept."""
        for document in self._store.load("account"):
            account = Account(settings_from(document["settings"]), self._store)
            account.restore(document)
            self._accounts[account.settings.name] = account
        for settings in accounts:
            self.configure(settings)
        kept = [Order(**document) for document in self._store.load("order")]
        for order in sorted(kept, key=lambda order: order.created_at):
            self.account(order.account).adopt(order)
        self._store.flush()

    def configure(self, settings: Settings) -> Account:
        """Open an account, or change the settings of an open one."""
        account = self._accounts.get(settings.name)
        if account is None:
            account = self._accounts[settings.name] = Account(settings, self._store)
        account.configure(settings)
        account.remember()
        return account

    def account(self, name: str) -> Account:
        """Return the account, or refuse."""
        account = self._accounts.get(name)
        if account is None:
            raise Refusal(404, "unknown_account")
        return account

    def find(self, order_id: str) -> tuple[Account, Order]:
        """Return an order of any account, or refuse."""
        for account in self._accounts.values():
            if account.reference_of(order_id) is not None:
                return account, account.order(order_id)
        raise Refusal(404, "order_not_found")

    def create(self, account: Account, body: Mapping[str, Any]) -> tuple[Order, bool]:
        """Create an order for a merchant; True when it is new."""
        order, is_new = account.create(body, time.time())
        if is_new or account.settings.family is Family.OVERWRITES:
            self._set_clock(account, order)
        return order, is_new

    def cancel(self, account: Account, order: Order) -> None:
        """Cancel for the merchant."""
        try:
            orders.cancel(order)
        except Conflict as error:
            raise conflict(error) from None
        self._tell(account, order, "cancel")

    def refund(self, account: Account, order: Order, refund_reference: str, amount_minor: int) -> dict[str, Any]:
        """Refund for the merchant; the same reference again gives the first refund."""
        before = len(order.transactions)
        try:
            entry = orders.refund(order, time.time(), refund_reference, amount_minor)
        except Conflict as error:
            raise conflict(error) from None
        if len(order.transactions) > before:
            account.counts["refund"] += 1
            self._tell(account, order, "refund")
        return entry

    def act(self, account: Account, order: Order, action: str, options: Mapping[str, Any] | None = None) -> None:
        """Do what a customer, his bank or the passing time does."""
        if action not in ACTIONS:
            raise Refusal(400, "invalid_request", "action")
        try:
            self._move(account, order, action, options or {})
        except Conflict as error:
            raise conflict(error) from None
        if action == "pay" and _is_set(options, "untold"):
            account.save(order)
        elif action != "abandon":
            self._tell(account, order, action)

    def stats(self, account: Account) -> dict[str, Any]:
        """Return exact counts, those of the courier included."""
        counted = dict.fromkeys(_WEBHOOK_COUNTS, 0) | account.webhooks
        return account.stats() | {"webhooks": {**counted, "waiting": self._courier.waiting(account.settings.name)}}

    def _move(self, account: Account, order: Order, action: str, options: Mapping[str, Any]) -> None:
        now = time.time()
        match action:
            case "pay":
                self._pay(account, order, options, now)
            case "pay_later":
                orders.pay_later(order, now, float(options.get("seconds", account.settings.pay_later_seconds)))
                self._set_clock(account, order)
            case "hold":
                orders.hold(order)
            case "say_paid":
                orders.say_paid(order)
            case "tell":
                orders.tell(order)
            case "decline":
                orders.decline(order, final=_is_set(options, "final"), force=_is_set(options, "force"))
                account.counts["declines"] += 1
            case "expire":
                orders.expire(order)
            case "refund" | "reverse" | "chargeback":
                sum_back = amount(options) if "amount_minor" in options else None
                orders.take_back(order, now, _TAKEN_BACK[action], sum_back)
                account.counts[_TAKEN_BACK[action]] += 1

    def _pay(self, account: Account, order: Order, options: Mapping[str, Any], now: float) -> None:
        asked = account.asked_fault("pay", order.reference, order.amount_minor, order.metadata)
        fault = account.faults.pick("pay", order.reference, asked)
        paid_minor, paid_currency = _money(order, fault.name if fault else "")
        orders.pay(
            order,
            now,
            amount_minor=amount(options) if "amount_minor" in options else paid_minor,
            currency=currency(options) if "currency" in options else paid_currency,
            force=_is_set(options, "force"),
            untold=_is_set(options, "untold"),
        )
        account.counts["capture"] += 1

    def _tell(self, account: Account, order: Order, action: str) -> None:
        """Save what happened, and send the merchant his event."""
        account.save(order)
        if not account.webhook_url:
            return
        asked = account.asked_fault("webhook", order.reference, order.amount_minor, order.metadata)
        fault = account.faults.pick("webhook", order.reference, asked)
        account.webhooks["events"] += 1
        if fault is not None:
            account.webhooks[f"made_{fault.name}"] += 1
        for parcel in parcels_for(order, _EVENTS[action], fault, time.time()):
            self._courier.post(parcel)

    def _set_clock(self, account: Account, order: Order) -> None:
        """Wake up when the order expires, when money in flight arrives, and when the account pays by itself."""
        loop = asyncio.get_running_loop()
        if order.is_payable:
            loop.call_later(order.expires_at - time.time(), self._time_is_over, account, order)
            if account.settings.auto_pay_seconds is not None:
                loop.call_later(account.settings.auto_pay_seconds, self._pay_by_itself, account, order)
        if order.settles_at is not None:
            loop.call_later(order.settles_at - time.time(), self._settle, account, order)

    def _time_is_over(self, account: Account, order: Order) -> None:
        if order.is_payable and order.expires_at <= time.time() + 0.01:
            self.act(account, order, "expire")
            account.flush()

    def _settle(self, account: Account, order: Order) -> None:
        if order.status == "processing" and order.settles_at is not None and order.settles_at <= time.time() + 0.01:
            self.act(account, order, "pay")
            account.flush()

    def _pay_by_itself(self, account: Account, order: Order) -> None:
        if order.status == "open":
            self.act(account, order, "pay")
            account.flush()


def _is_set(options: Mapping[str, Any] | None, name: str) -> bool:
    return (options or {}).get(name) is True


def _money(order: Order, fault: str) -> tuple[int, str]:
    """Return what is captured: the order's own money, or what a fault makes of it."""
    if fault == "wrong_amount":
        return max(order.amount_minor // 2, 1) if order.amount_minor > 1 else 2, order.currency
    if fault == "wrong_currency":
        return order.amount_minor, "EUR" if order.currency == "USD" else "USD"
    return order.amount_minor, order.currency
