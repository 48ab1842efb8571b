"""Money of an order that is nobody's: kept, shown with candidates, never guessed; a person assigns or refunds it."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cli import inbox as desk
from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from contracts.statuses import InvoiceStatus
from db import audit, inbox, links
from db.tx import Cause
from gateways.errors import Refused, Unknown
from runtime.deps import Deps
from runtime.settings import RefundSettings
from tests.office_desk import CRM, breaches, open_order, pay
from tests.shop import accept, open_shop, reasons, shop, the_attempt, the_invoice, work
from tests.support import put

THEIRS = "I-1/from-the-bank"


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, crms={"office": CRM}) as made:
        accept(made)
        yield made
        assert breaches(made) == []


def money_comes(deps: Deps, amount: int = 10_000, *, currency: str = "AMD", reference: str = THEIRS) -> Any:
    """The provider tells of an order that nobody here made; return its entry."""
    shop(deps).orders[reference] = OrderState.PAID
    shop(deps).money[reference] = (moved(f"t-{reference}", amount, currency),)
    tell(deps, reference)
    return entries(deps)[0]


def moved(name: str, amount: int, currency: str, kind: TransactionKind = TransactionKind.CAPTURE) -> Any:
    return ProviderTransaction(
        provider_transaction_id=name,
        kind=kind,
        amount_minor=amount,
        currency=currency,
        occurred_at=datetime.now(UTC),
    )


def tell(deps: Deps, reference: str) -> None:
    event = ProviderEventReceived(
        account="shop",
        receipt=new_id(),
        received_at=datetime.now(UTC),
        body_base64=base64.b64encode(reference.encode()).decode(),
    )
    put(deps.database, event)
    work(deps, "webhook-verification", rounds=30)
    work(deps)


def entries(deps: Deps, *, every: bool = False) -> list[Any]:
    with deps.database.read() as tx:
        return inbox.listed(tx, every=every)


def left(deps: Deps, entry_id: str) -> str:
    with deps.database.read() as tx:
        found = inbox.find(tx, entry_id)
        assert found is not None
        return str(found.state)


def test_trap_22_it_is_kept_once_and_announced_and_no_invoice_is_paid_by_guess(deps: Deps) -> None:
    entry = money_comes(deps)
    tell(deps, THEIRS)

    assert [one.id for one in entries(deps)] == [entry.id]
    assert (entry.rule_id, entry.provider_order_id) == ("money.unmatched", f"o-{THEIRS}")
    assert (the_invoice(deps).status, the_invoice(deps).paid_minor) == (InvoiceStatus.PENDING, 0)
    with deps.database.read() as tx:
        assert [row.action for row in audit.of_subject(tx, entry.id)] == ["money.unmatched"]
        said = "SELECT payload FROM message_history WHERE type = 'money.unmatched.v1'"
        found = tx.connection.exec_driver_sql(said).all()
    assert len(found) == 1
    assert '"amount_minor":10000' in found[0][0]


def test_candidates_are_named_with_what_speaks_for_them(deps: Deps) -> None:
    entry = money_comes(deps)
    with deps.database.read() as tx:
        (candidate,) = inbox.candidates(tx, entry)
    assert candidate.invoice.external_id == "I-1"
    assert candidate.because == ("the order names it", "it asks for this amount")


def test_an_invoice_that_is_paid_or_asks_for_something_else_is_no_candidate(deps: Deps) -> None:
    pay(deps, open_order(deps))
    entry = money_comes(deps, reference="something-else")
    with deps.database.read() as tx:
        assert inbox.candidates(tx, entry) == []


@pytest.mark.parametrize("is_asked", [True, False], ids=["look-up", "events alone"])
def test_assigned_money_pays_the_invoice_by_the_usual_rules(deps: Deps, is_asked: bool) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, lookup=is_asked)
    entry = money_comes(deps)
    told = desk.assign(deps, entry.id, the_invoice(deps).id, actor="nune", reason="his letter names the order")
    work(deps, rounds=4)

    assert "assigned to I-1 of office" in told
    assert (the_invoice(deps).status, the_invoice(deps).paid_minor) == (InvoiceStatus.PAID, 10_000)
    assert left(deps, entry.id) == "assigned"
    assert the_attempt(deps).unmatched_id == entry.id
    with deps.database.read() as tx:
        (deed,) = [row for row in audit.of_subject(tx, the_invoice(deps).id) if row.action == "money.assigned"]
    assert (deed.actor, deed.reason) == ("nune", "his letter names the order")


def test_assigned_money_for_a_paid_invoice_is_a_second_payment(deps: Deps) -> None:
    pay(deps, open_order(deps))
    entry = money_comes(deps)
    desk.assign(deps, entry.id, the_invoice(deps).id, actor="nune", reason="as he says")
    work(deps, rounds=4)
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PAID, {"duplicate_payment"})


def test_refunded_money_leaves_the_inbox(deps: Deps) -> None:
    entry = money_comes(deps)
    assert "is on its way" in desk.refund(deps, entry.id, actor="nune", reason="nobody knows him")
    with pytest.raises(desk.NotPossible, match="nothing is left"):
        desk.refund(deps, entry.id, actor="nune", reason="again")
    work(deps, rounds=4)

    assert (left(deps, entry.id), entries(deps)) == ("refunded", [])
    assert len(shop(deps).refund_calls) == 1
    tell(deps, THEIRS)
    assert left(deps, entry.id) == "refunded", "the event of the refund itself opens nothing"


def test_a_refund_that_the_provider_refuses_leaves_the_money_in_the_inbox(deps: Deps) -> None:
    shop(deps).refund_fails = lambda request: Refused("too old")
    entry = money_comes(deps)
    desk.refund(deps, entry.id, actor="nune", reason="nobody knows him")
    work(deps, rounds=4)
    assert left(deps, entry.id) == "open"


def test_money_that_the_provider_gave_back_by_itself_leaves_the_inbox(deps: Deps) -> None:
    entry = money_comes(deps)
    back = moved("t-back", 10_000, "AMD", TransactionKind.REVERSAL)
    shop(deps).money[THEIRS] = (*shop(deps).money[THEIRS], back)
    tell(deps, THEIRS)
    assert left(deps, entry.id) == "refunded"


def test_above_the_limit_a_second_person_agrees(clean_url: str) -> None:
    with open_shop(clean_url, refunds=RefundSettings(second_person_above={"AMD": 9_999})) as deps:
        accept(deps)
        entry = money_comes(deps)
        told = desk.refund(deps, entry.id, actor="nune", reason="nobody knows him")
        refund_id = told.split()[1]
        work(deps, rounds=3)
        assert shop(deps).refund_calls == []
        with pytest.raises(desk.NotPossible, match="another person"):
            desk.approve(deps, refund_id, actor=" Nune", reason="me again")
        desk.approve(deps, refund_id, actor="aram", reason="seen")
        work(deps, rounds=4)
        assert (left(deps, entry.id), shop(deps).refund_calls) == ("refunded", [refund_id])
        assert breaches(deps) == []


def test_a_rejected_refund_leaves_the_money_in_the_inbox(clean_url: str) -> None:
    with open_shop(clean_url, refunds=RefundSettings(second_person_above={"AMD": 0})) as deps:
        accept(deps)
        entry = money_comes(deps)
        refund_id = desk.refund(deps, entry.id, actor="nune", reason="nobody knows him").split()[1]
        desk.reject(deps, refund_id, actor="aram", reason="he wrote to us")
        with pytest.raises(desk.NotPossible, match="it is rejected"):
            desk.approve(deps, refund_id, actor="aram", reason="after all")
        desk.assign(deps, entry.id, the_invoice(deps).id, actor="aram", reason="he wrote to us")
        work(deps, rounds=4)
        assert the_invoice(deps).status == InvoiceStatus.PAID
        assert breaches(deps) == []


def test_money_whose_refund_is_on_its_way_is_not_assigned(deps: Deps) -> None:
    entry = money_comes(deps)
    desk.refund(deps, entry.id, actor="nune", reason="nobody knows him")
    with pytest.raises(desk.NotPossible, match="on its way"):
        desk.assign(deps, entry.id, the_invoice(deps).id, actor="aram", reason="he wrote to us")
    work(deps, rounds=4)
    assert (left(deps, entry.id), the_invoice(deps).paid_minor) == ("refunded", 0)


def test_a_refund_of_which_nobody_knows_is_a_persons_to_decide(deps: Deps) -> None:
    entry = money_comes(deps)
    shop(deps).capabilities = replace(shop(deps).capabilities, refund_idempotent=False, lookup=False)
    shop(deps).refund_fails = lambda request: Unknown("lost")
    refund_id = desk.refund(deps, entry.id, actor="nune", reason="nobody knows him").split()[1]
    work(deps, rounds=5)
    shop(deps).refund_fails = lambda request: None
    desk.approve(deps, refund_id, actor="aram", reason="the bank says that it never happened")
    work(deps, rounds=5)
    assert (left(deps, entry.id), len(shop(deps).refunds)) == ("refunded", 1)


def test_an_entry_is_closed_once(deps: Deps) -> None:
    entry = money_comes(deps)
    desk.assign(deps, entry.id, the_invoice(deps).id, actor="nune", reason="his letter")
    with pytest.raises(desk.NotPossible, match="not open"):
        desk.assign(deps, entry.id, the_invoice(deps).id, actor="nune", reason="again")
    with pytest.raises(desk.NotPossible, match="not open"):
        desk.refund(deps, entry.id, actor="nune", reason="again")
    with pytest.raises(desk.NotPossible, match="no entry"):
        desk.refund(deps, "nothing", actor="nune", reason="again")
    work(deps, rounds=4)


def test_an_order_of_ours_that_was_only_late_in_our_books_leaves_the_inbox_by_itself(deps: Deps) -> None:
    """The event came before the order's own row, and waited in vain: once the row is there, the money is its."""
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.PAID
    shop(deps).money[attempt.reference] = (moved(f"t-{attempt.reference}", 10_000, "AMD"),)
    with deps.database.begin(Cause.new(None)) as tx:
        evidence = shop(deps).fetch_evidence(attempt.reference, None)
        entry = inbox.keep(tx, "shop", evidence, message_id=new_id())
    pay(deps, attempt)

    assert left(deps, entry.id) == "assigned"
    assert (the_invoice(deps).status, the_invoice(deps).paid_minor) == (InvoiceStatus.PAID, 10_000)
    with deps.database.read() as tx:
        assert links.newest(tx, the_invoice(deps).id).state == "settled"
