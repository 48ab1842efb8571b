"""Ways in which money, an invoice or a task could go astray: races between stages, late answers, odd refunds."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.messages import AttemptCheck, CrmCheck, InvoiceCancelled, InvoiceCreated
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import attempts, audit, exceptions, invoices
from db.schema import messages
from gateways.errors import Refused
from gateways.providers.base import CreateMode, Opens, OrderRequest
from rules.policy import LinkPolicy
from rules.verdicts import InvoiceView, Money, Reason, stand
from runtime.checkout import press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from tests.office_desk import open_order
from tests.shop import (
    NOW,
    accept,
    created,
    due_now,
    office,
    open_shop,
    reasons,
    shop,
    the_attempt,
    the_invoice,
    the_link,
    work,
)
from tests.support import put
from workers import decisions, registry, verify_attempt
from workers.executor import Executor, _lanes
from workers.standing import raise_exception


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url) as made:
        yield made


def test_a_check_that_overtakes_the_create_answer_keeps_the_page(deps: Deps) -> None:
    """An event of the fresh order comes before the create's answer: the customer must still get his page."""
    accept(deps)

    def event_first(order: OrderRequest) -> None:
        with deps.database.begin() as tx:
            invoices.lock(tx, the_invoice(deps).id) if deps.database.is_sqlite is False else None
            request_check(tx, attempts.get(tx, order.reference))
        Executor(deps, ["webhook-verification"]).serve("webhook-verification")

    shop(deps).before_answer = event_first
    link = the_link(deps)
    assert press_pay(deps, link.id).action == "new"
    work(deps, rounds=6)
    assert press_pay(deps, link.id).action == "resume"


def test_one_answer_of_no_such_order_does_not_close_the_link_for_ever(deps: Deps) -> None:
    accept(deps)
    link = the_link(deps)
    press_pay(deps, link.id)
    work(deps, "checkout", rounds=1, hurry=False)
    kept = shop(deps).orders.copy()
    shop(deps).orders.clear()  # a replica of the provider lags
    due_now(deps)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    shop(deps).orders.update(kept)
    with deps.database.begin() as tx:  # the customer returns, or an event comes: the provider says "open"
        request_check(tx, attempts.get(tx, the_attempt(deps).id))
    work(deps, rounds=6)
    assert press_pay(deps, link.id).action == "resume", (the_invoice(deps).status, reasons(deps))


def test_a_crm_that_is_down_does_not_stop_customers_from_paying(deps: Deps) -> None:
    """crm.check waits 60 x 5 s for the current write; then it must not call the PROVIDER's outcome unknown."""
    accept(deps)
    link = the_link(deps)
    office(deps).down = True
    with deps.database.begin() as tx:
        invoice = invoices.find(tx, "office", "I-1")
        invoices.raise_revision(tx, invoice.id)
        tx.then(CrmCheck(invoice=invoice.id, check_no=invoices.next_crm_check(tx, invoice.id)))
    work(deps, "crm-update", rounds=70)
    assert press_pay(deps, link.id).action == "new", (the_invoice(deps).status, reasons(deps))


@pytest.mark.parametrize("clean_url", ["postgresql"], indirect=True)  # SQLite has one writer: no such moment
def test_a_cancellation_at_the_same_moment_as_its_invoice_is_not_lost(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers import accept_invoice

    real, made, go = accept_invoice._answer, threading.Event(), threading.Event()

    def slow(*args: Any) -> None:
        made.set()
        go.wait(5)
        real(*args)

    monkeypatch.setattr(accept_invoice, "_answer", slow)
    put(deps.database, created())
    accepting = threading.Thread(target=lambda: Executor(deps, ["link-creation"]).serve("link-creation"))
    accepting.start()
    assert made.wait(5)
    put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
    cancelling = threading.Thread(target=lambda: Executor(deps, ["link-creation"]).serve("link-creation"))
    cancelling.start()
    cancelling.join(1)
    go.set()
    accepting.join(5)
    cancelling.join(5)
    work(deps, rounds=3)
    assert the_link(deps).state == LinkState.CANCELLED or press_pay(deps, the_link(deps).id).action == "refused"


def test_an_older_content_without_version_does_not_replace_a_newer_one(deps: Deps) -> None:
    put(deps.database, created(None, 10_000, "first"))
    threading.Event().wait(0.01)
    put(deps.database, created(None, 20_000, "second"))
    with deps.database.begin() as tx:  # the first was given back: busy, or its worker died
        tx.execute(
            update(messages)
            .where(messages.c.id == select(messages.c.id).order_by(messages.c.id).limit(1).scalar_subquery())
            .values(available_at=datetime(2099, 1, 1, tzinfo=UTC))
        )
    work(deps, "link-creation", rounds=1, hurry=False)
    due_now(deps)
    work(deps, "link-creation", rounds=2, hurry=False)
    assert the_invoice(deps).amount_minor == 20_000


def test_an_order_whose_attempt_was_closed_during_its_creation_is_closed_at_the_provider(deps: Deps) -> None:
    accept(deps)

    def cancelled_meanwhile(order: OrderRequest) -> None:
        put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
        work(deps, "link-creation", rounds=2, hurry=False)

    shop(deps).before_answer = cancelled_meanwhile
    press_pay(deps, the_link(deps).id)
    work(deps, rounds=6)
    assert shop(deps).orders[the_attempt(deps).reference] is not OrderState.OPEN, the_attempt(deps).state


def test_a_second_openers_refusal_does_not_fail_an_open_attempt(deps: Deps) -> None:
    """Early attempt being created, the customer presses Pay: two openers; the provider refuses other parameters."""
    shop(deps).capabilities = replace(shop(deps).capabilities, opens=Opens.EARLY)
    put(deps.database, created())
    accepted = Executor(deps, ["link-creation"])
    calls: list[str] = []

    def second(order: OrderRequest) -> None:
        calls.append(order.reference)
        if len(calls) == 1:  # while the early create runs, Pay is pressed and a second worker opens, and wins
            press_pay(deps, the_link(deps).id)
            Executor(deps, ["checkout"]).serve("checkout")
            raise Refused("same key, other parameters", code="idempotency_mismatch")

    shop(deps).before_answer = second
    accepted.serve("link-creation")
    work(deps, "link-creation", "checkout", rounds=2, hurry=False)
    assert the_attempt(deps).state == AttemptState.OPEN, reasons(deps)


def test_a_case_that_ended_while_its_task_was_being_made_leaves_no_open_task(deps: Deps) -> None:
    accept(deps)
    office(deps).loses_task_answer = True
    with deps.database.begin() as tx:
        raise_exception(tx, the_invoice(deps).id, Reason.CRM_REFUSED, "d")
    work(deps, "manager-tasks", rounds=1, hurry=False)  # created, answer lost
    office(deps).down = True
    with deps.database.begin() as tx:
        exceptions.clear(tx, the_invoice(deps).id, Reason.CRM_REFUSED)
    for _ in range(64):  # the closing comes each second, the opening rests for its growing pauses
        with deps.database.begin() as tx:
            closing = (messages.c.state == "ready") & (messages.c.type == "exception.cleared.v1")
            tx.execute(update(messages).where(closing).values(available_at=NOW))
        work(deps, "manager-tasks", rounds=1, hurry=False)
    office(deps).down = False
    work(deps, "manager-tasks", rounds=8)
    assert list(office(deps).tasks.values()) == office(deps).closed


def test_pay_waits_while_money_is_on_its_way_by_the_link_before(deps: Deps) -> None:
    accept(deps)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    old = the_attempt(deps).reference
    shop(deps).orders[old] = OrderState.PROCESSING
    due_now(deps)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    put(deps.database, created(2, 12_000))
    work(deps, rounds=3)
    assert press_pay(deps, the_link(deps).id).action != "new"


def test_an_invoice_whose_create_nobody_can_ask_about_can_be_paid_by_a_new_version(deps: Deps) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, lookup=False, create=CreateMode.UNIQUE)
    accept(deps)
    shop(deps).lost = True
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=4)
    shop(deps).lost = False
    assert reasons(deps) == {Reason.OUTCOME_UNKNOWN}
    put(deps.database, created(2, 12_000))
    work(deps, rounds=70)
    assert press_pay(deps, the_link(deps).id).action == "new", (the_invoice(deps).status, reasons(deps))


def test_a_person_may_give_up_an_attempt_that_nobody_can_ask_about(deps: Deps) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, lookup=False, create=CreateMode.UNIQUE)
    accept(deps)
    shop(deps).lost = True
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=4)
    shop(deps).lost = False
    assert press_pay(deps, the_link(deps).id).action == "refused"

    assert decisions.give_up_attempt(deps, the_attempt(deps).id, actor="ani", reason="not in the cabinet")

    assert reasons(deps) == set()
    assert press_pay(deps, the_link(deps).id).action == "new"
    with deps.database.read() as tx:
        (row,) = [row for row in audit.of_subject(tx, the_invoice(deps).id) if row.action == "attempt.given_up"]
    assert (row.actor, row.reason) == ("ani", "not in the cabinet")


def paid(amount: int) -> tuple[ProviderTransaction, ...]:
    return (
        ProviderTransaction(
            provider_transaction_id=f"c-{amount}",
            kind=TransactionKind.CAPTURE,
            amount_minor=amount,
            currency="AMD",
            occurred_at=datetime.now(UTC),
        ),
    )


def test_a_part_payment_that_was_given_back_leaves_the_invoice_payable(deps: Deps) -> None:
    """The task says "ask for the rest, or refund": after the refund a new version must get a link."""
    accept(deps)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    reference = the_attempt(deps).reference
    capture = paid(6_000)
    shop(deps).money[reference] = capture
    shop(deps).orders[reference] = OrderState.PAID
    due_now(deps)
    work(deps, rounds=4)
    refund = capture[0].model_copy(update={"kind": TransactionKind.REFUND, "provider_transaction_id": "r"})
    shop(deps).money[reference] = (*capture, refund)
    with deps.database.begin() as tx:
        request_check(tx, attempts.get(tx, reference))
    work(deps, rounds=4)
    put(deps.database, created(2, 10_000))
    work(deps, rounds=4)
    assert the_link(deps).number == 2, (the_invoice(deps).status, the_link(deps).state, reasons(deps))


def test_a_hold_that_the_bank_released_lets_the_customer_pay_again(deps: Deps) -> None:
    accept(deps)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    reference = the_attempt(deps).reference
    shop(deps).orders[reference] = OrderState.HELD
    due_now(deps)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    shop(deps).orders[reference] = OrderState.EXPIRED
    work(deps, rounds=4)
    assert press_pay(deps, the_link(deps).id).action == "new", (the_attempt(deps).state, reasons(deps))


def test_a_second_wish_to_close_an_attempt_is_not_swallowed(deps: Deps) -> None:
    """Closing was refused while the customer paid; he failed, the order is open again; then the invoice is settled."""
    accept(deps)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    reference = the_attempt(deps).reference
    shop(deps).orders[reference] = OrderState.PROCESSING
    put(deps.database, created(2, 10_000))
    work(deps, rounds=3)  # attempt.close: refused, it is being paid
    shop(deps).orders[reference] = OrderState.OPEN  # his bank said no, and he may try again
    work(deps, rounds=2)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    second = the_attempt(deps).reference
    assert second != reference
    shop(deps).orders[second], shop(deps).money[second] = OrderState.PAID, paid(10_000)
    work(deps, rounds=5)
    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert shop(deps).orders[reference] is not OrderState.OPEN


def test_processing_for_ever_is_told_to_a_person(deps: Deps) -> None:
    """The provider says "paid" and names no money, for weeks: nobody is told, and nobody can pay."""
    accept(deps)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    shop(deps).orders[the_attempt(deps).reference] = OrderState.PAID
    work(deps, rounds=60)
    assert reasons(deps), (the_attempt(deps).state, press_pay(deps, the_link(deps).id))


def test_slow_checks_are_not_bound_to_two_threads() -> None:
    registry.load_all()
    lanes = _lanes("webhook-verification", timedelta(minutes=2), is_shared=True)
    lane = next(one for one in lanes if AttemptCheck.TYPE in one.stages)
    lane.drains = 2
    assert not lane.is_full, f"size {lane.size}: a stage of 15 s counts as quick"


def test_a_busy_kind_does_not_hide_another_kind_from_the_poller(deps: Deps) -> None:
    """Without a relay: invoices keep coming, and a retry of attempt.close in the same queue is due."""
    executor = Executor(deps, ["link-creation"])
    executor.serve("link-creation", "x", InvoiceCreated.TYPE)
    assert executor.served_at("link-creation") == 0.0, "the poller believes that every kind was looked at"


# --- rules ----------------------------------------------------------------------------------------------------------


def view() -> InvoiceView:
    return InvoiceView(
        amount_minor=100,
        currency="AMD",
        cancelled_at=None,
        policy=LinkPolicy(),
        link=LinkState.ACTIVE,
        any_open_attempt=False,
        last_attempt=AttemptState.PAID,
    )


def money(kind: TransactionKind, amount: int, minute: int, currency: str = "AMD") -> Money:
    return Money(
        kind, amount, currency, NOW + timedelta(minutes=minute), "a", LinkState.ACTIVE, NOW + timedelta(days=1), True
    )


def test_money_kept_of_a_part_payment_needs_a_person() -> None:
    standing = stand(view(), [money(TransactionKind.CAPTURE, 60, 1), money(TransactionKind.REFUND, 10, 2)])
    assert Reason.PARTIAL in standing.reasons, standing.status


def test_money_after_a_whole_refund_needs_a_person() -> None:
    facts = [
        money(TransactionKind.CAPTURE, 100, 1),
        money(TransactionKind.REFUND, 100, 2),
        money(TransactionKind.CAPTURE, 100, 3),
    ]
    assert Reason.PAID_AFTER_REFUND in stand(view(), facts).reasons, stand(view(), facts)


def test_other_currency_that_was_given_back_needs_nobody() -> None:
    facts = [money(TransactionKind.CAPTURE, 100, 1, "USD"), money(TransactionKind.REFUND, 100, 2, "USD")]
    standing = stand(view(), facts)
    assert Reason.WRONG_CURRENCY not in standing.reasons
    assert standing.status is not InvoiceStatus.MANUAL_REVIEW


def check_as_scheduled(deps: Deps) -> None:
    due_now(deps)
    work(deps, "status-checks", "webhook-verification", rounds=1, hurry=False)


def test_an_order_that_is_open_as_before_is_noted_and_nothing_else_is_done(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(deps)
    open_order(deps)
    check_as_scheduled(deps)
    before, stood = the_attempt(deps), the_invoice(deps)
    monkeypatch.setattr(verify_attempt, "take_word", None)  # whoever calls it fails

    check_as_scheduled(deps)

    after = the_attempt(deps)
    assert (after.state, after.told, after.check_no) == (before.state, before.told, before.check_no + 1)
    assert after.told_at > before.told_at
    assert the_invoice(deps) == stood
    assert reasons(deps) == set()


def test_an_order_that_is_open_again_closes_the_case_that_was_opened_of_it(deps: Deps) -> None:
    accept(deps)
    open_order(deps)
    check_as_scheduled(deps)
    with deps.database.begin() as tx:
        raise_exception(tx, the_invoice(deps).id, Reason.NO_EVIDENCE, "the provider did not know it")

    check_as_scheduled(deps)

    assert reasons(deps) == set()


@pytest.mark.parametrize("told", [OrderState.HELD, OrderState.DECLINED, OrderState.PROCESSING])
def test_an_open_order_that_was_told_otherwise_before_is_news(deps: Deps, told: OrderState) -> None:
    accept(deps)
    open_order(deps)
    check_as_scheduled(deps)
    assert not _is_news(deps)
    with deps.database.begin() as tx:
        attempts.note_answer(tx, the_attempt(deps).id, provider_order_id=None, told=told)
    assert _is_news(deps)


def test_an_open_answer_that_comes_late_hides_nothing_that_was_heard_meanwhile(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(deps)
    open_order(deps)
    check_as_scheduled(deps)
    looked = attempts.still_waits

    def look_and_lose_time(tx: Any, attempt_id: str) -> bool:
        waits = looked(tx, attempt_id)
        with deps.database.begin() as other:
            attempts.note_answer(other, attempt_id, provider_order_id=None, told=OrderState.HELD)
            attempts.move(other, attempt_id, AttemptState.PROCESSING)
        return waits

    monkeypatch.setattr(attempts, "still_waits", look_and_lose_time)
    check_as_scheduled(deps)
    after = the_attempt(deps)
    assert (after.state, after.told) == (AttemptState.PROCESSING, OrderState.HELD)


def _is_news(deps: Deps) -> bool:
    with deps.database.read() as tx:
        return not attempts.still_waits(tx, the_attempt(deps).id)
