"""The end of a link: at its second, after a last question to the provider, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.statuses import InvoiceStatus, LinkState
from db import attempts
from db.prove import prove
from db.schema import attempts as attempt_rows
from db.schema import links as link_rows
from db.schema import messages
from db.types import db_after
from gateways.errors import Unavailable
from runtime.checkout import press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from tests.shop import accept, office, open_shop, reasons, shop, the_attempt, the_invoice, the_link, work


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url) as made:
        accept(made)
        yield made
        assert [breach for found in prove(made.database).values() for breach in found.breaches] == []


@pytest.fixture
def written(deps: Deps) -> list[str]:
    """Every status that the CRM was told."""
    told: list[str] = []
    real = office(deps).write_result
    office(deps).write_result = lambda payable, result: (told.append(result.status), real(payable, result))
    return told


def open_order(deps: Deps) -> Any:
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    return the_attempt(deps)


def let_it_end(deps: Deps, *, rounds: int = 5) -> None:
    """Let the time of the link be over, and the work that follows be done."""
    with deps.database.begin() as tx:
        tx.execute(update(link_rows).values(expires_at=db_after(-1)))
    for _ in range(rounds):
        with deps.database.begin() as tx:
            ends = messages.c.type == "link.expire.v1", messages.c.state == "ready"
            tx.execute(update(messages).where(*ends).values(available_at=db_after(-1)))
        work(deps, rounds=1, hurry=False)


def pay(deps: Deps, attempt: Any, at: datetime) -> None:
    shop(deps).orders[attempt.reference] = OrderState.PAID
    moved = {"provider_transaction_id": "t", "kind": TransactionKind.CAPTURE, "amount_minor": 10_000, "currency": "AMD"}
    shop(deps).money[attempt.reference] = (ProviderTransaction(**moved, occurred_at=at),)


def test_a_payment_that_nobody_told_of_is_found_before_the_link_expires(deps: Deps, written: list[str]) -> None:
    pay(deps, open_order(deps), datetime.now(UTC) - timedelta(minutes=1))

    let_it_end(deps)

    assert (the_invoice(deps).status, the_link(deps).state) == (InvoiceStatus.PAID, LinkState.SETTLED)
    assert "expired" not in written, "the CRM never hears that a paid invoice had expired"
    assert written[-1] == "paid"


def test_an_order_that_nobody_paid_expires_and_is_closed(deps: Deps, written: list[str]) -> None:
    attempt = open_order(deps)

    let_it_end(deps)

    assert (the_invoice(deps).status, the_link(deps).state) == (InvoiceStatus.EXPIRED, LinkState.EXPIRED)
    assert shop(deps).orders[attempt.reference] is OrderState.CANCELLED
    assert written[-1] == "expired"


def test_an_order_that_ended_is_watched_for_a_day_and_silent_money_is_found(deps: Deps) -> None:
    """The provider cancelled the order, has its money all the same, and tells nobody."""
    attempt = open_order(deps)
    let_it_end(deps)
    pauses = []
    for hours in (0, 1, 6, 24):
        with deps.database.begin() as tx:
            ended = datetime.now(UTC) - timedelta(hours=hours)
            tx.execute(update(attempt_rows).where(attempt_rows.c.id == attempt.id).values(ended_at=ended))
            request_check(tx, attempts.get(tx, attempt.id))
        work(deps, "webhook-verification", rounds=1, hurry=False)
        with deps.database.read() as tx:
            found = select(messages.c.available_at).where(messages.c.type == "attempt.check.v1")
            due = tx.execute(found).scalars().all()
        pauses.append([round((at - datetime.now(UTC)).total_seconds() / 3600) for at in due])
    assert pauses == [[1], [5], [18], []]

    pay(deps, attempt, datetime.now(UTC))
    with deps.database.begin() as tx:
        tx.execute(update(attempt_rows).where(attempt_rows.c.id == attempt.id).values(ended_at=datetime.now(UTC)))
        request_check(tx, attempts.get(tx, attempt.id))
    work(deps, rounds=3, hurry=False)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_without_an_order_there_is_nothing_to_ask(deps: Deps) -> None:
    let_it_end(deps, rounds=1)
    assert the_link(deps).state == LinkState.EXPIRED


def test_a_provider_that_is_away_keeps_no_link_alive_and_money_is_found_later(
    deps: Deps, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = open_order(deps)
    real = shop(deps).fetch_evidence

    def away(reference: str, provider_order_id: str | None) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(shop(deps), "fetch_evidence", away)
    let_it_end(deps)
    assert the_link(deps).state == LinkState.EXPIRED

    monkeypatch.setattr(shop(deps), "fetch_evidence", real)
    pay(deps, attempt, datetime.now(UTC) + timedelta(minutes=5))
    with deps.database.begin() as tx:
        request_check(tx, attempts.get(tx, attempt.id))
    work(deps, rounds=2, hurry=False)

    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert the_invoice(deps).flags == '["late"]'
    assert reasons(deps) == set()


def test_a_link_is_not_paid_by_a_new_order_while_the_last_question_is_asked(deps: Deps) -> None:
    open_order(deps)
    let_it_end(deps, rounds=1)
    assert the_link(deps).state == LinkState.ACTIVE, "the question was asked in this round"
    with deps.database.read() as tx:
        before = tx.execute(text("SELECT count(*) FROM attempts")).scalar_one()
    press_pay(deps, the_link(deps).id)
    with deps.database.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM attempts")).scalar_one() == before
    let_it_end(deps)
    assert the_link(deps).state == LinkState.EXPIRED
