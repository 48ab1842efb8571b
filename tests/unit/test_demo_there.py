"""The demo at the simulators of real providers: its stories, what differs between the providers, and the comparison."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import pytest

from cli import demo_compare, demo_stories, operate
from cli.demo_cases import Case, Ending
from cli.demo_stories import STORIES, Story, told_and_left_out
from cli.simulated import HOLDS, SHOP, SILENT, UNLUCKY, Money, Place, Simulation, Simulator, Till, simulator
from gateways.errors import Refused
from gateways.providers.base import Provider
from runtime.build import make_provider
from runtime.settings import AccountSettings
from sandbox import ameriabank_payments, arca_orders, vpos_sessions
from sandbox.idram_bills import Books, Merchant, Transaction

NAMES = [one.value for one in operate.At if one is not operate.At.SANDBOX]
AMOUNT, PART = 10_000, 2_500
A_DAY_AHEAD = datetime.now(UTC).timestamp() + 86_400


def place(there: Simulator, till: Till = SHOP) -> Place:
    return Place(
        till, till.number if there.numbered else till.name, "sk_test_invented", "signing", "http://127.0.0.1:1"
    )


def adapter(name: str, till: Till = SHOP) -> Provider:
    """The adapter of an account, made of the settings that the demo writes for it."""
    there = simulator(name)
    common = {"adapter": there.program, "base_url": f"http://127.0.0.1:1{there.path}"}
    return make_provider(till.name, AccountSettings.model_validate(common | there.account(place(there, till))))


def stories(name: str) -> list[Story]:
    with closing(adapter(name)) as provider:
        return told_and_left_out(Simulation(simulator(name)), provider.capabilities)[0]


def test_no_two_stories_are_about_one_invoice() -> None:
    assert [name for name, count in Counter(story.number for story in STORIES).items() if count > 1] == []


def test_every_story_is_told_somewhere_and_says_what_it_needs() -> None:
    told = [{story.number for story in stories(name)} for name in NAMES]
    assert {story.number for story in STORIES} == set().union(*told)
    for story in STORIES:
        assert story.needs or all(story.number in numbers for numbers in told), story.number


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_has_a_dozen_invoices_and_none_whose_deed_it_does_not_know(name: str) -> None:
    told = stories(name)
    assert 12 <= len(told) <= 20
    assert set().union(*(story.deeds for story in told)) == set(simulator(name).deeds)
    assert {story.till for story in told} == set(simulator(name).tills)


@pytest.mark.parametrize("name", NAMES)
def test_every_account_can_be_made_and_holds_where_its_till_says_so(name: str) -> None:
    for till in simulator(name).tills:
        with closing(adapter(name, till)) as provider:
            assert provider.capabilities.capture == till.holds


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_is_what_is_not_told(name: str) -> None:
    with closing(adapter(name)) as provider:
        told, left_out = told_and_left_out(Simulation(simulator(name)), provider.capabilities)
    assert {story.number for story in told} | {story.number for story in left_out} == {one.number for one in STORIES}
    assert not {story.number for story in told} & {story.number for story in left_out}


def test_the_money_of_a_simulator_goes_nowhere_near_a_silent_door() -> None:
    there = simulator("arca")
    assert place(there, SILENT).door == ""
    assert place(there, UNLUCKY).door.endswith("/webhooks/unlucky")


def test_a_story_is_an_invoice_that_names_its_account() -> None:
    there = Simulation(simulator("arca"))
    cases = demo_stories.cases(there, [story for story in STORIES if story.till is HOLDS])
    assert {case.data["account"] for case in cases} == {"holds"}
    assert [case.data["invoice_id"] for case in cases] == [story.number for story in STORIES if story.till is HOLDS]


# --- what the dumps say ---------------------------------------------------------------------------------------------


def arca_order(**changes: Any) -> arca_orders.Order:
    order = arca_orders.Order("n-1", AMOUNT, "051", "http://127.0.0.1/", "d", "en", False, A_DAY_AHEAD, 3)
    return replace(order, **changes)


def ameria_payment(**changes: Any) -> ameriabank_payments.Payment:
    payment = ameriabank_payments.Payment(
        1, AMOUNT, "051", "d", "http://127.0.0.1/", "", "", two_phase=False, ends_at=A_DAY_AHEAD, tries_allowed=3
    )
    return replace(payment, **changes)


def vpos_session() -> vpos_sessions.Session:
    return vpos_sessions.Session("o-1", AMOUNT, "AMD", "manual", "http://127.0.0.1/", {}, {}, "k", A_DAY_AHEAD)


def idram_bill(*made: Transaction) -> dict[str, Any]:
    books = Books(Merchant("100000101", "secret"))
    books.transactions += made
    return books.bill("b-1")


def stripe_order(*moved: tuple[str, int], held: int = 0) -> dict[str, Any]:
    intent = {"amount_capturable": held} if moved or held else None
    return {"payment_intent": intent, "balance_transactions": [{"type": kind, "amount": one} for kind, one in moved]}


def test_money_is_read_from_the_dump_of_arca() -> None:
    order, held = arca_order(), arca_order(two_phase=True)
    money = simulator("arca").money
    assert money(asdict(order)) == Money()
    arca_orders.pay(order)
    arca_orders.refund(order, PART)
    assert money(asdict(order)) == Money(AMOUNT, PART)
    arca_orders.pay(held)
    assert money(asdict(held)) == Money(held=AMOUNT)
    arca_orders.reverse(held)
    assert money(asdict(held)) == Money()


def test_money_is_read_from_the_dump_of_ameriabank() -> None:
    payment, held = ameria_payment(), ameria_payment(two_phase=True)
    money = simulator("ameriabank").money
    assert money(asdict(payment)) == Money()
    ameriabank_payments.pay(payment)
    ameriabank_payments.refund(payment, PART)
    assert money(asdict(payment)) == Money(AMOUNT, PART)
    ameriabank_payments.pay(held)
    assert money(asdict(held)) == Money(held=AMOUNT)


def test_money_is_read_from_the_dump_of_vpos() -> None:
    session, money = vpos_session(), simulator("vpos").money
    assert money(asdict(session)) == Money()
    vpos_sessions.pay(session)
    vpos_sessions.refund(session, PART)
    assert money(asdict(session)) == Money(AMOUNT, PART)


def test_money_is_read_from_the_dump_of_idram_and_what_it_cancelled_is_none() -> None:
    money = simulator("idram").money
    assert money(idram_bill()) == Money()
    made = [Transaction("b-1", AMOUNT, refunded_cents=PART), Transaction("b-1", AMOUNT, state="cancelled")]
    assert money(idram_bill(*made)) == Money(AMOUNT, PART)


def test_money_is_read_from_the_balance_of_stripe() -> None:
    money = simulator("stripe").money
    assert money(stripe_order()) == Money()
    assert money(stripe_order(("charge", AMOUNT), ("refund", -PART))) == Money(AMOUNT, PART)
    assert money(stripe_order(held=AMOUNT)) == Money(held=AMOUNT)


ORDERS = {
    "arca": lambda: asdict(arca_order()) | {"reference": "n-1"},
    "idram": lambda: {"reference": "b-1"},
    "stripe": lambda: {"session": {"id": "cs_1", "object": "checkout.session", "client_reference_id": "r-1"}},
    "vpos": lambda: asdict(vpos_session()) | {"reference": "o-1"},
}


@pytest.mark.parametrize("name", ORDERS)
def test_what_a_liar_sends_is_refused_by_the_adapter_for_its_signature(name: str) -> None:
    there = simulator(name)
    told = there.forge(place(there).merchant, ORDERS[name]())
    request = httpx.Request(url="http://127.0.0.1:1/webhooks/shop", **told)
    with closing(adapter(name)) as provider, pytest.raises(Refused):
        provider.check_event(
            method=request.method,
            query=request.url.query.decode(),
            headers=dict(request.headers),
            body=request.content,
            received_at=datetime.now(UTC),
        )


# --- the comparison -------------------------------------------------------------------------------------------------


class Invoice:
    status, amount_minor, currency = "paid", AMOUNT, "AMD"
    paid_minor, refunded_minor = AMOUNT, PART


def case() -> Case:
    return Case({"invoice_id": "X", "crm": "c"}, "x", "shop", lambda _: None, Ending("paid"))


def beside_provider(one: Case, *money: Money) -> list[str]:
    return demo_compare._beside_provider(one, cast(Any, Invoice()), money)


def test_an_invoice_whose_orders_hold_its_money_agrees() -> None:
    one = case()
    assert beside_provider(one, Money(), Money(AMOUNT, PART)) == []
    assert one.at_provider == "2 orders: 100.00, 25.00 back"


@pytest.mark.parametrize("money", [Money(), Money(AMOUNT), Money(AMOUNT + 1, PART), Money(AMOUNT, PART, held=1)])
def test_other_money_at_the_provider_is_said(money: Money) -> None:
    assert len(beside_provider(case(), money)) == 1


def test_another_word_in_the_crm_is_said() -> None:
    payment = {name: getattr(Invoice, name) for name in demo_compare._COMPARED}
    one = case()
    assert demo_compare._beside_crm(one, cast(Any, Invoice()), payment) == []
    assert one.in_crm == "paid"
    wrong = demo_compare._beside_crm(one, cast(Any, Invoice()), payment | {"status": "pending", "paid_minor": 0})
    assert wrong == ["the CRM has another status, paid_minor"]
    assert len(demo_compare._beside_crm(one, cast(Any, Invoice()), {})) == 1
