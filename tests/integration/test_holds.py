"""Money that is held first: captured while the invoice wants it, else let go; by intent, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from contracts.commands import LinkCancel, PaymentCapture, PaymentRelease, PaymentVerify
from contracts.evidence import OrderState
from contracts.statuses import AttemptState, InvoiceStatus
from db.schema import intents
from gateways.errors import Refused, Unavailable, Unknown
from runtime.deps import Deps
from runtime.settings import AccountSettings
from tests.office_desk import breaches, deeds, give, open_order
from tests.shop import CAPABILITIES, accept, open_shop, reasons, shop, the_attempt, the_invoice, work

HOLDS = replace(CAPABILITIES, capture=True, settle=timedelta(0))


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    yield from opened(clean_url, "at_once")


@pytest.fixture
def by_command(clean_url: str) -> Iterator[Deps]:
    yield from opened(clean_url, "by_command")


def opened(url: str, capture: str) -> Iterator[Deps]:
    given = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k", "capture": capture}
    with open_shop(url, accounts={"shop": AccountSettings.model_validate(given)}) as made:
        shop(made).capabilities = HOLDS
        accept(made)
        yield made
        work(made, hurry=False)
        assert [one for one in breaches(made) if "nobody took it" not in one.what] == []


def hold(deps: Deps) -> Any:
    """The customer pays, the money is held, and we hear of it."""
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.HELD
    give(deps, PaymentVerify)
    return attempt


def check(deps: Deps) -> None:
    work(deps, "webhook-verification", rounds=1, hurry=False)


def settle(deps: Deps, rounds: int = 4) -> None:
    work(deps, "webhook-verification", "refunds", rounds=rounds)


def the_calls(deps: Deps) -> list[str]:
    return [call for call in shop(deps).calls if not call.startswith("cancel")]


def test_held_money_is_captured_once_and_pays_the_invoice(deps: Deps) -> None:
    hold(deps)
    check(deps)
    assert (the_invoice(deps).status, the_attempt(deps).state) == (InvoiceStatus.PENDING, AttemptState.PROCESSING)
    settle(deps)
    assert (the_invoice(deps).status, the_attempt(deps).state) == (InvoiceStatus.PAID, AttemptState.PAID)
    assert (the_calls(deps), reasons(deps)) == (["capture 10000 AMD"], set())
    assert [deed.action for deed in deeds(deps) if deed.action.startswith("hold.")] == ["hold.captured"]


def test_what_is_held_for_a_cancelled_link_is_let_go_and_never_taken(deps: Deps) -> None:
    hold(deps)
    give(deps, LinkCancel)
    settle(deps)
    work(deps)
    assert the_calls(deps) == ["release"]
    assert (the_invoice(deps).status, the_attempt(deps).state) == (InvoiceStatus.CANCELLED, AttemptState.CLOSED)


@pytest.mark.parametrize("operation", ["capture", "release"])
def test_a_lost_answer_is_asked_about_and_nothing_is_called_twice(deps: Deps, operation: str) -> None:
    shop(deps).loses.add(operation)
    hold(deps)
    if operation == "release":
        give(deps, LinkCancel)
    settle(deps, rounds=6)
    work(deps)
    assert len(the_calls(deps)) == 1
    wanted = InvoiceStatus.PAID if operation == "capture" else InvoiceStatus.CANCELLED
    assert the_invoice(deps).status == wanted


def test_a_call_that_never_arrived_is_made_again_but_only_after_its_time(deps: Deps) -> None:
    shop(deps).capabilities = replace(HOLDS, settle=timedelta(hours=1))
    shop(deps).fails["capture"] = Unknown("lost on the way there")
    hold(deps)
    settle(deps, rounds=4)
    assert the_calls(deps) == ["capture 10000 AMD"]  # it may still arrive
    with deps.database.begin() as tx:
        tx.execute(update(intents).values(deadline=datetime.now(UTC) - timedelta(hours=2)))
    settle(deps, rounds=4)
    assert the_calls(deps) == ["capture 10000 AMD"] * 2
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_a_yes_that_captured_nothing_is_asked_about_and_said_again_after_its_time(deps: Deps) -> None:
    shop(deps).lies = True
    hold(deps)
    settle(deps, rounds=4)
    assert (the_calls(deps), the_attempt(deps).state) == (["capture 10000 AMD"], AttemptState.PROCESSING)
    with deps.database.begin() as tx:
        tx.execute(update(intents).values(deadline=datetime.now(UTC) - timedelta(hours=2)))
    settle(deps, rounds=4)
    assert (the_calls(deps), the_invoice(deps).status) == (["capture 10000 AMD"] * 2, InvoiceStatus.PAID)


def test_what_is_away_is_simply_tried_again(deps: Deps) -> None:
    shop(deps).fails["capture"] = Unavailable("maintenance")
    hold(deps)
    settle(deps)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_a_refused_capture_is_a_persons_case_and_is_not_repeated_by_itself(deps: Deps) -> None:
    shop(deps).fails["capture"] = Refused("no", code="hold_expired")
    hold(deps)
    settle(deps, rounds=6)
    assert the_calls(deps) == ["capture 10000 AMD"]
    assert (reasons(deps), the_invoice(deps).status) == ({"held_not_captured"}, InvoiceStatus.MANUAL_REVIEW)
    # The person looks, and has it done.
    assert give(deps, PaymentCapture).outcome == "done"
    settle(deps)
    assert (reasons(deps), the_invoice(deps).status) == (set(), InvoiceStatus.PAID)


def test_by_command_a_person_captures_a_part_or_all(by_command: Deps) -> None:
    deps = by_command
    hold(deps)
    settle(deps)
    assert (the_calls(deps), reasons(deps)) == ([], {"held_not_captured"})
    refused = give(deps, PaymentCapture, amount_minor=10_001, currency="AMD")
    assert (refused.outcome, "so much or less" in refused.detail) == ("refused", True)
    assert give(deps, PaymentCapture, amount_minor=10_000, currency="USD").outcome == "refused"
    assert give(deps, PaymentCapture, amount_minor=4_000, currency="AMD").outcome == "done"
    assert give(deps, PaymentRelease).detail == "what is held is being settled already: look again in a minute"
    settle(deps)
    assert the_calls(deps) == ["capture 4000 AMD"]
    assert (the_invoice(deps).paid_minor, reasons(deps)) == (4_000, {"partial_payment"})


def test_by_command_a_person_lets_it_go(by_command: Deps) -> None:
    deps = by_command
    hold(deps)
    check(deps)
    assert give(deps, PaymentRelease).outcome == "done"
    settle(deps)
    assert (the_calls(deps), the_attempt(deps).state, reasons(deps)) == (["release"], AttemptState.CLOSED, set())
    assert give(deps, PaymentRelease).outcome == "refused"


def test_nothing_held_nothing_captured(deps: Deps) -> None:
    open_order(deps)
    for command in (PaymentCapture, PaymentRelease):
        answer = give(deps, command)
        assert (answer.outcome, answer.detail[:13]) == ("refused", "no money is h")


def test_a_lost_cancel_is_asked_about_before_it_is_repeated(deps: Deps) -> None:
    attempt = open_order(deps)
    shop(deps).loses.add("cancel")
    give(deps, LinkCancel)
    work(deps, rounds=6)
    assert shop(deps).orders[attempt.reference] is OrderState.CANCELLED
    assert the_attempt(deps).state == AttemptState.CLOSED

    with deps.database.read() as tx:
        ended = tx.execute(text("SELECT result FROM intents WHERE operation = 'cancel_order'")).scalar_one()
    assert ended in ("done", "not_done")


def test_a_cancel_that_may_still_arrive_is_waited_for(deps: Deps) -> None:
    shop(deps).capabilities = replace(HOLDS, settle=timedelta(hours=1))
    attempt = open_order(deps)
    shop(deps).fails["cancel"] = Unknown("lost on the way there")
    give(deps, LinkCancel)
    work(deps, "link-creation", rounds=4)
    assert shop(deps).calls == [f"cancel {attempt.reference}"]
    with deps.database.begin() as tx:
        tx.execute(update(intents).values(deadline=datetime.now(UTC) - timedelta(hours=2)))
    work(deps, "link-creation", rounds=4)
    assert shop(deps).calls == [f"cancel {attempt.reference}"] * 2
    work(deps)
    assert the_attempt(deps).state == AttemptState.CLOSED
