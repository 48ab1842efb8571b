"""Refunds: what goes back, how often the provider is called, and who must agree, on both databases."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from contracts.commands import Command, InvoiceResolve, PaymentRefund, RefundApprove, RefundReject
from contracts.statuses import InvoiceStatus
from db import attempts
from gateways.errors import Refused, Unavailable, Unknown
from runtime.deps import Deps
from runtime.settings import RefundSettings
from tests.office_desk import CRM, breaches, deeds, give, open_order, pay
from tests.shop import accept, office, open_shop, reasons, shop, the_invoice, work
from tests.support import put

LIMITED = CRM.model_copy(update={"refunds": RefundSettings(second_person_above={"AMD": 5_000})})


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, crms={"office": LIMITED}) as made:
        accept(made)
        pay(made, open_order(made))
        assert the_invoice(made).status == InvoiceStatus.PAID
        yield made
        assert breaches(made) == []


def kept(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return list(tx.execute(text("SELECT * FROM refunds ORDER BY id")).all())


def refund_id(deps: Deps) -> str:
    return str(kept(deps)[-1].id)


def not_idempotent(deps: Deps, **more: Any) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, refund_idempotent=False, **more)


# --- the sum --------------------------------------------------------------------------------------------------------


def test_a_part_goes_back_and_the_crm_is_told(deps: Deps) -> None:
    answer = give(deps, PaymentRefund, amount_minor=4_000, currency="AMD", reason="half of it was returned")
    assert (answer.outcome, "is on its way" in answer.detail) == ("done", True)
    work(deps, rounds=4)

    invoice = the_invoice(deps)
    assert (invoice.status, invoice.refunded_minor) == (InvoiceStatus.PAID, 4_000)
    assert office(deps).record.flags == ("partially_refunded",)
    (refund,) = kept(deps)
    assert (refund.state, refund.provider_transaction_id) == ("done", "r-1")
    trail = [(row.action, row.actor, row.reason) for row in deeds(deps) if row.action.startswith("refund.")]
    assert trail == [
        ("refund.asked", "crm:office:17", "half of it was returned"),
        ("refund.made", "paylinks", ""),
    ]


def test_all_that_is_left_goes_back_without_naming_a_sum(deps: Deps) -> None:
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    give(deps, PaymentRefund)
    give(deps, RefundApprove, actor="18", refund=refund_id(deps))
    work(deps, rounds=4)

    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.REFUNDED, 10_000)
    assert [one.amount_minor for one in kept(deps)] == [4_000, 6_000]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"amount_minor": 10_001, "currency": "AMD"}, "no payment has so much left"),
        ({"amount_minor": 100, "currency": "USD"}, "no payment has so much left"),
        ({"amount_minor": 100, "currency": "AMD", "payment": "t-other"}, "no payment named t-other"),
    ],
)
def test_more_than_came_or_other_money_is_refused(deps: Deps, asked: dict[str, Any], why: str) -> None:
    answer = give(deps, PaymentRefund, **asked)
    assert (answer.outcome, why in answer.detail, "100.00 AMD" in answer.detail) == ("refused", True, True)
    assert kept(deps) == []


def test_what_is_on_its_way_back_is_not_given_back_again(deps: Deps) -> None:
    shop(deps).refund_fails = lambda request: Unavailable("down")
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    third = give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")

    assert third.outcome == "refused"
    shop(deps).refund_fails = lambda request: None
    work(deps, rounds=6)
    assert the_invoice(deps).refunded_minor == 8_000


def test_a_refund_that_is_done_and_not_yet_in_the_books_holds_its_money(deps: Deps) -> None:
    give(deps, PaymentRefund, amount_minor=5_000, currency="AMD")
    work(deps, "refunds", rounds=1)
    assert the_invoice(deps).refunded_minor == 0, "the check that brings it into the books has not run yet"

    assert give(deps, PaymentRefund, amount_minor=5_001, currency="AMD").outcome == "refused"
    assert give(deps, PaymentRefund, amount_minor=5_000, currency="AMD").outcome == "done"
    work(deps, rounds=6)
    assert the_invoice(deps).refunded_minor == 10_000


def test_two_payments_and_a_refund_that_names_neither_is_refused(deps: Deps) -> None:
    with deps.database.read() as tx:
        (first,) = attempts.of_invoice(tx, the_invoice(deps).id)
    money = shop(deps).money[first.reference]
    with deps.database.begin() as tx:
        second = attempts.reserve(tx, _link_row(tx, first.link_id), "shop")
        # As one that was made before the first was paid.
        tx.execute(text("UPDATE attempts SET amount_minor = 10000 WHERE id = :id"), {"id": second.id})
    shop(deps).orders[second.reference] = shop(deps).orders[first.reference]
    shop(deps).money[second.reference] = (money[0].model_copy(update={"provider_transaction_id": "t-second"}),)
    with deps.database.begin() as tx:
        attempts.opened(tx, second.id, provider_order_id="o-" + second.reference, pay_url="http://x", expires_at=None)
        _check(tx, second.id)
    work(deps, rounds=4)
    assert reasons(deps) == {"duplicate_payment"}

    unnamed = give(deps, PaymentRefund, amount_minor=5_000, currency="AMD")
    assert (unnamed.outcome, "name one" in unnamed.detail, second.reference in unnamed.detail) == (
        "refused",
        True,
        True,
    )
    give(deps, PaymentRefund, payment="t-second")
    give(deps, RefundApprove, actor="18", refund=refund_id(deps))
    work(deps, rounds=5)

    assert kept(deps)[-1].attempt_id == second.id
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PAID, set())


def _link_row(tx: Any, link_id: str) -> Any:
    from db import links

    return links.get(tx, link_id)


def _check(tx: Any, attempt_id: str) -> None:
    from runtime.checks import request_check

    request_check(tx, attempts.get(tx, attempt_id))


# --- the call -------------------------------------------------------------------------------------------------------


def test_a_lost_answer_of_an_idempotent_provider_is_asked_for_again_under_the_same_name(deps: Deps) -> None:
    lose_once(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=5)

    assert shop(deps).refund_calls == [refund_id(deps)] * 2
    assert len(shop(deps).refunds) == 1
    assert the_invoice(deps).refunded_minor == 4_000


def test_a_lost_answer_elsewhere_is_never_repeated_but_looked_for(deps: Deps) -> None:
    not_idempotent(deps)
    lose_once(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=6)

    assert shop(deps).refund_calls == [refund_id(deps)]
    assert (kept(deps)[0].state, kept(deps)[0].provider_transaction_id) == ("done", "r-1")
    assert the_invoice(deps).refunded_minor == 4_000


def test_the_event_may_bring_the_refund_into_the_books_before_we_look_for_it(deps: Deps) -> None:
    """A refund that is in the books already is found as ours, not taken for somebody else's and made again."""
    not_idempotent(deps)
    lose_once(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, "refunds", rounds=1, hurry=False)
    with deps.database.begin() as tx:
        (attempt,) = attempts.of_invoice(tx, the_invoice(deps).id)
        _check(tx, attempt.id)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    assert the_invoice(deps).refunded_minor == 4_000
    work(deps, rounds=6)

    assert len(shop(deps).refund_calls) == 1
    assert kept(deps)[0].state == "done"


def test_an_equal_refund_from_before_is_not_taken_for_this_one(deps: Deps) -> None:
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    not_idempotent(deps)
    shop(deps).refund_fails = fail_once(Unknown("lost on the way there"))
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=3)
    with deps.database.begin() as tx:  # the lost call cannot be under way any more
        tx.execute(text("UPDATE intents SET deadline = created_at WHERE operation = 'make_refund'"))
    settle(deps)
    work(deps, rounds=6)

    assert the_invoice(deps).refunded_minor == 8_000
    assert [one.provider_transaction_id for one in kept(deps)] == ["r-1", "r-3"]


def test_where_nobody_can_be_asked_a_person_decides_and_may_let_it_be_tried_again(deps: Deps) -> None:
    not_idempotent(deps, lookup=False)
    shop(deps).refund_fails = fail_once(Unknown("lost"))
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=5)
    assert (kept(deps)[0].state, reasons(deps)) == ("unknown", {"refund_failed"})
    assert give(deps, PaymentRefund, amount_minor=7_000, currency="AMD").outcome == "refused", "its money is held"

    assert give(deps, RefundApprove, actor="17", refund=refund_id(deps)).outcome == "refused"
    assert give(deps, RefundApprove, actor="18", refund=refund_id(deps)).outcome == "done"
    work(deps, rounds=5)

    assert (kept(deps)[0].state, len(shop(deps).refund_calls), reasons(deps)) == ("done", 2, set())
    assert the_invoice(deps).refunded_minor == 4_000, "its answer is booked where no question can be asked"


def test_a_refusal_of_the_provider_moves_nothing_and_becomes_a_task(deps: Deps) -> None:
    shop(deps).refund_fails = fail_once(Refused("the settlement is closed"))
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)

    assert (kept(deps)[0].state, kept(deps)[0].error) == ("refused", "the settlement is closed")
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PAID, {"refund_failed"})
    assert give(deps, PaymentRefund, amount_minor=5_000, currency="AMD").outcome == "done", "its money is free again"
    assert give(deps, InvoiceResolve, case="refund_failed").outcome == "done"
    work(deps, rounds=4)


def test_a_provider_without_refunds_is_told_before_anything_is_kept(deps: Deps) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, refund=False)
    answer = give(deps, PaymentRefund)
    assert (answer.outcome, "do it there" in answer.detail) == ("refused", True)
    assert kept(deps) == []


@pytest.mark.parametrize("decision", [RefundApprove, RefundReject])
def test_a_refund_whose_message_gave_up_is_a_persons_to_decide(deps: Deps, decision: type[Command]) -> None:
    shop(deps).refund_fails = lambda request: Unavailable("down")
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    at_work = give(deps, decision, actor="18", refund=refund_id(deps))
    assert at_work.outcome == "refused", "while something works on it, nobody decides"
    work(deps, rounds=14)
    assert (kept(deps)[0].state, reasons(deps)) == ("pending", {"dead_letter"})

    shop(deps).refund_fails = lambda request: None
    assert give(deps, decision, actor="18", refund=refund_id(deps)).outcome == "done"
    work(deps, rounds=4)

    back = 4_000 if decision is RefundApprove else 0
    assert (the_invoice(deps).refunded_minor, len(shop(deps).refunds)) == (back, 1 if back else 0)
    assert kept(deps)[0].state == ("done" if back else "rejected")


# --- the second person ----------------------------------------------------------------------------------------------


def test_above_the_limit_nothing_moves_until_another_person_agrees(deps: Deps) -> None:
    answer = give(deps, PaymentRefund, amount_minor=5_001, currency="AMD")
    assert (answer.outcome, "waits for a second person" in answer.detail) == ("done", True)
    work(deps, rounds=4)
    assert (shop(deps).refund_calls, reasons(deps)) == ([], {"refund_waits_for_approval"})

    himself = give(deps, RefundApprove, actor="17", refund=refund_id(deps))
    assert (himself.outcome, "another person" in himself.detail) == ("refused", True)
    assert give(deps, RefundApprove, actor="18", refund=refund_id(deps), reason="seen the goods").outcome == "done"
    work(deps, rounds=4)

    assert (len(shop(deps).refund_calls), reasons(deps), the_invoice(deps).refunded_minor) == (1, set(), 5_001)
    assert kept(deps)[0].decided_by == "crm:office:18"
    again = give(deps, RefundApprove, actor="19", refund=refund_id(deps))
    assert (again.outcome, "no refund of this id waits" in again.detail) == ("refused", True)


def test_a_rejected_refund_moves_nothing_and_frees_its_money(deps: Deps) -> None:
    give(deps, PaymentRefund)
    assert give(deps, PaymentRefund, amount_minor=1, currency="AMD").outcome == "refused"
    assert give(deps, RefundReject, actor="17", refund=refund_id(deps), reason="a mistake").outcome == "done"
    work(deps, rounds=4)

    assert (shop(deps).refund_calls, reasons(deps)) == ([], set())
    assert give(deps, PaymentRefund, amount_minor=5_000, currency="AMD").outcome == "done"
    work(deps, rounds=4)


def test_the_same_wish_at_the_same_moment_is_one_refund(deps: Deps) -> None:
    wish = {"crm": "office", "invoice_id": "I-1", "actor": "17", "reason": "asked", "wish": "once"}
    command = PaymentRefund(**wish, amount_minor=3_000, currency="AMD")
    put(deps.database, command)
    put(deps.database, command)
    workers = [threading.Thread(target=work, args=(deps,), kwargs={"rounds": 4}) for _ in range(2)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    work(deps, rounds=3)

    assert (len(kept(deps)), len(shop(deps).refunds)) == (1, 1)
    assert the_invoice(deps).refunded_minor == 3_000


def lose_once(deps: Deps) -> None:
    shop(deps).refund_loses = fail_once(Unknown("lost"))


def fail_once(error: Exception) -> Any:
    left = [error]
    return lambda request: left.pop() if left else None


def settle(deps: Deps) -> None:
    """What the shop needs to know of a lost call has passed."""
    shop(deps).capabilities = replace(shop(deps).capabilities, settle=shop(deps).capabilities.settle * 0)
