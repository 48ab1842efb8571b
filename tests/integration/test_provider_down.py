"""A provider that is down, slow or asked too often: its messages wait and lose nothing, and the others go on."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, text

from contracts.commands import PaymentVerify
from contracts.evidence import OrderState
from contracts.statuses import AttemptState, InvoiceStatus
from db import links
from db.schema import messages
from gateways.errors import LoginRefused, Unavailable
from runtime.breaker import FAILURES
from runtime.checkout import press_pay
from runtime.deps import Deps
from runtime.gated import GatedProvider
from runtime.gates import Gate
from runtime.pace import LocalTurns, Rate
from tests.office_desk import breaches, give, open_order, pay
from tests.shop import Shop, accept, created, due_now, open_shop, reasons, the_attempt, the_invoice, work
from tests.support import put
from tests.unit.test_pace import Clock


class Bank(Shop):
    """A provider that may be away."""

    away = False
    asked = 0
    error = Unavailable("no connection", code="no_connection")

    def fetch_evidence(self, reference: str, provider_order_id: str | None) -> Any:
        self.asked += 1
        if self.away:
            raise self.error
        return super().fetch_evidence(reference, provider_order_id)

    check_event = parse_precheck = list_orders = None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def deps(clean_url: str, clock: Clock, bank: Bank) -> Iterator[Deps]:
    """The clock is the gate's own: it stands still until a test moves it."""
    gate = Gate("shop", Rate(1000, burst=1000), LocalTurns(clock), clock=clock)
    with open_shop(clean_url) as made:
        gated = replace(made, providers={"shop": GatedProvider(bank, gate)}, gates={"shop": gate})
        accept(gated)
        yield gated
        work(gated, hurry=False)
        assert [one for one in breaches(made) if "nobody took it" not in one.what] == []


def tries(deps: Deps) -> list[tuple[str, int]]:
    """How often each live check of the provider failed."""
    with deps.database.read() as tx:
        found = "SELECT state, failures FROM messages WHERE type = 'attempt.check.v1' ORDER BY id"
        return [(row.state, row.failures) for row in tx.execute(text(found))]


@pytest.mark.parametrize("error", [Bank.error, LoginRefused("the key was replaced there, and not yet here")])
def test_while_it_is_down_no_tries_are_used_up_and_then_all_is_found(
    deps: Deps, clock: Clock, bank: Bank, error: Unavailable
) -> None:
    attempt = open_order(deps)
    bank.error = error
    bank.away = True
    give(deps, PaymentVerify)
    work(deps, "webhook-verification", rounds=30)
    assert bank.asked == FAILURES
    for _ in range(20):
        clock.now += 61
        work(deps, "webhook-verification", rounds=3)
    assert bank.asked == FAILURES + 20, "one trial each time"
    assert tries(deps) == [("ready", FAILURES - 1)], "it waits, and no more is counted"
    bank.away = False
    bank.orders[attempt.reference] = OrderState.PAID
    clock.now += 61
    pay_there(deps, bank, attempt)
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PAID, set())


def pay_there(deps: Deps, bank: Bank, attempt: Any) -> None:
    pay(replace(deps, providers={"shop": bank}), attempt)
    work(deps)


def test_what_is_not_its_turn_is_given_back_and_comes_again(deps: Deps, clock: Clock, bank: Bank) -> None:
    attempt = open_order(deps)
    slow = Gate("shop", Rate(0.1, burst=1), LocalTurns(clock), clock=clock)
    deps = replace(deps, providers={"shop": GatedProvider(bank, slow)}, gates={"shop": slow})
    slow.call(lambda: None)
    bank.orders[attempt.reference] = OrderState.DECLINED
    give(deps, PaymentVerify)
    work(deps, "webhook-verification", rounds=5)
    assert (bank.asked, tries(deps)) == (0, [("ready", 0)])
    clock.now += 10
    work(deps, "webhook-verification", rounds=1, hurry=False)
    assert (bank.asked, the_attempt(deps).state) == (1, AttemptState.FAILED)


def test_checks_that_are_due_at_once_are_put_off_together_and_come_one_by_one(
    deps: Deps, clock: Clock, bank: Bank
) -> None:
    for number in range(2, 10):
        put(deps.database, created().model_copy(update={"invoice_id": f"I-{number}"}))
    work(deps, "link-creation", rounds=1, hurry=False)
    with deps.database.read() as tx:
        opened = links.some_active(tx, limit=9)
    for link in opened:
        press_pay(deps, link.id)
    work(deps, "checkout", rounds=1, hurry=False)
    slow = Gate("shop", Rate(0.1, burst=1), LocalTurns(clock), clock=clock)
    deps = replace(deps, providers={"shop": GatedProvider(bank, slow)}, gates={"shop": slow})

    due_now(deps)
    work(deps, "status-checks", rounds=1, hurry=False)

    assert (bank.asked, given_back(deps)) == (1, 1), "one goes, one is told to wait, and the others with it"
    assert [round(wait, -1) for wait in waits(deps)[1:]] == [20 * turn for turn in range(1, 9)]
    clock.now += 21
    due_now(deps)
    work(deps, "status-checks", rounds=1, hurry=False)
    assert (bank.asked, given_back(deps)) == (2, 2), "the next one, and whoever comes early is put off again"


def waits(deps: Deps) -> list[float]:
    """In how many seconds each check is due; after one was made, the first is the next look at the same order."""
    found = select(messages.c.available_at).where(messages.c.queue == "status-checks").order_by(messages.c.available_at)
    with deps.database.read() as tx:
        due = tx.execute(found).scalars().all()
    return [(at - datetime.now(UTC)).total_seconds() for at in due]


def given_back(deps: Deps) -> int:
    with deps.database.read() as tx:
        counted = text("SELECT count(*) FROM message_attempts WHERE outcome = 'given_back'")
        return int(tx.execute(counted).scalar_one())


def test_scheduled_checks_wait_on_their_own_queue_and_one_that_is_waited_for_leaves_it(deps: Deps) -> None:
    open_order(deps)
    assert queues(deps) == ["status-checks"]
    give(deps, PaymentVerify)
    assert queues(deps) == ["webhook-verification"]
    work(deps, "webhook-verification", rounds=1, hurry=False)
    assert queues(deps) == ["status-checks"], "the next one"


def queues(deps: Deps) -> list[str]:
    with deps.database.read() as tx:
        found = "SELECT queue FROM messages WHERE type = 'attempt.check.v1' AND state = 'ready'"
        return [row.queue for row in tx.execute(text(found))]
