"""The Idram adapter against a simulated wallet, a process of its own that was written from Idram's document.

SIMULATED: Idram was not asked. Tests are named after the traps that such wallets set.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from contracts.evidence import OrderState
from gateways.errors import Refused
from gateways.providers.base import Precheck, ProviderEvent, ProviderOrder
from sandbox.control import ControlError, eventually
from tests.conformance.desk_idram import IdramDesk, open_desk
from tests.conformance.receiver import Received

AMOUNT = 1_500_000


@pytest.fixture
def desk() -> Iterator[IdramDesk]:
    with open_desk() as one:
        yield one


def made(desk: IdramDesk, **changes: Any) -> ProviderOrder:
    return desk.provider.create_order(desk.order(**changes))


def read(desk: IdramDesk, received: Received) -> ProviderEvent:
    return desk.provider.parse_event(**desk.event_of(received))


def money(event: ProviderEvent) -> list[tuple[str, int]]:
    assert event.evidence is not None
    return [(one.kind.value, one.amount_minor) for one in event.evidence.transactions]


def at_idram(desk: IdramDesk, order: ProviderOrder) -> dict[str, Any]:
    return next(one for one in desk.control.orders(desk.account) if one["reference"] == order.reference)


# --- the whole way --------------------------------------------------------------------------------------------------


def test_a_browser_posts_the_form_the_precheck_agrees_and_the_confirmation_proves_it(desk: IdramDesk) -> None:
    order = made(desk)
    with httpx.Client(trust_env=False) as browser:
        page = browser.post(str(order.pay_url), data=dict(order.pay_fields))
        assert page.status_code == 303
        shown = browser.get(page.headers["location"])
        assert ("15,000.00 AMD" in shown.text, "Կանխավճար" in shown.text) == (True, True)
        assert desk.door.asked == []
        browser.post(page.headers["location"], data={"action": "pay"})
    assert desk.door.asked == [Precheck(order.reference, AMOUNT, "AMD")]
    (received,) = desk.events(1)
    event = read(desk, received)
    assert (event.reference, event.provider_order_id) == (order.reference, order.provider_order_id)
    assert money(event) == [("capture", AMOUNT)]
    assert event.evidence is not None
    assert event.evidence.state is OrderState.PAID
    (there,) = at_idram(desk, order)["transactions"]
    assert event.evidence.transactions[0].provider_transaction_id == there["id"]
    assert (there["state"], there["answers"]) == ("completed", ["200 OK"])
    assert abs(event.evidence.transactions[0].occurred_at - received.received_at).total_seconds() < 90


@pytest.mark.parametrize("locale", ["hy", "ru", "en", "it"])
def test_the_form_is_taken_in_every_language(desk: IdramDesk, locale: str) -> None:
    order = made(desk, locale=locale)
    desk.submit(order)
    assert at_idram(desk, order)["state"] == "open"


@pytest.mark.parametrize("amount", [1, 100, 150_050, 100_000_000_000])
def test_trap_13_every_amount_arrives_as_it_was_sent(desk: IdramDesk, amount: int) -> None:
    desk.pay(made(desk, amount_minor=amount))
    assert desk.door.asked[0].amount_minor == amount
    assert money(read(desk, desk.events(1)[0])) == [("capture", amount)]


def test_the_merchant_may_have_his_own_address_for_alarms() -> None:
    with open_desk(email="alarm@example.am") as desk:
        desk.door.broken = True
        desk.control.configure(desk.account, unconfirmed="email")
        desk.pay(made(desk))
        raw = desk.control._ask("GET", f"/control/{desk.account}/orders")
        assert [alert["to"] for alert in raw["alerts"]] == ["alarm@example.am"]


# --- before money moves ---------------------------------------------------------------------------------------------


def test_a_precheck_that_is_refused_moves_no_money_and_tells_no_event(desk: IdramDesk) -> None:
    order = made(desk)
    desk.door.agrees = lambda _: False
    desk.pay(order)
    assert (at_idram(desk, order)["state"], at_idram(desk, order)["transactions"]) == ("refused", [])
    assert desk.door.events == []


def test_what_the_customer_wrote_into_the_form_is_asked_about_as_he_wrote_it(desk: IdramDesk) -> None:
    order = made(desk)
    desk.door.agrees = lambda asked: asked.amount_minor == AMOUNT
    desk.submit(order, EDP_AMOUNT="1")
    desk.act(order, "pay")
    assert desk.door.asked == [Precheck(order.reference, 100, "AMD")]
    assert at_idram(desk, order)["transactions"] == []


def test_a_precheck_whose_money_cannot_be_read_is_no_yes(desk: IdramDesk) -> None:
    order = made(desk)
    desk.submit(order, EDP_AMOUNT="9999999999")  # more than any amount of ours
    desk.act(order, "pay")
    assert (desk.door.asked, desk.door.refusals) == ([], ["amount_unreadable"])
    assert at_idram(desk, order)["transactions"] == []


def test_a_door_that_is_broken_at_the_question_moves_no_money(desk: IdramDesk) -> None:
    order = made(desk)
    desk.control.configure(desk.account, result_url="http://127.0.0.1:9/", patience_seconds=0.5)
    desk.pay(order)
    assert at_idram(desk, order)["transactions"] == []


@pytest.mark.parametrize(("word", "moves"), [("OK", 1), ("ok", 0), ("OK\n", 0), ("<p>OK</p>", 0), ("", 0)])
def test_trap_26_nothing_but_the_literal_word_lets_money_move(desk: IdramDesk, word: str, moves: int) -> None:
    assert desk.provider.capabilities.answer == "OK"
    other = desk.adapter()
    other.capabilities = replace(other.capabilities, answer=word)
    desk.door.provider = other
    desk.pay(made(desk))
    assert desk.control.stats(desk.account)["transactions"] == moves


def test_a_precheck_is_never_money_whoever_sends_it(desk: IdramDesk) -> None:
    order = made(desk)
    question = {
        "EDP_PRECHECK": "YES",
        "EDP_BILL_NO": order.reference,
        "EDP_REC_ACCOUNT": desk.account,
        "EDP_AMOUNT": "15000.00",
    }
    answer = httpx.post(desk.door.url, data=question, trust_env=False)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert desk.door.events == []
    for received in desk.prechecks():
        with pytest.raises(Refused) as caught:
            read(desk, received)
        assert caught.value.code == "precheck"


# --- after it -------------------------------------------------------------------------------------------------------


def test_trap_9_a_confirmation_that_comes_twice_is_the_same_fact(desk: IdramDesk) -> None:
    desk.control.fault("duplicate", account=desk.account)
    desk.pay(made(desk))
    first, second = (read(desk, one) for one in desk.events(2))
    assert first.event_id is second.event_id is None
    assert money(first) == money(second)
    assert _ids(first) == _ids(second)


def _ids(event: ProviderEvent) -> list[str]:
    assert event.evidence is not None
    return [one.provider_transaction_id for one in event.evidence.transactions]


def test_a_bill_that_is_paid_twice_is_two_payments(desk: IdramDesk) -> None:
    """Nothing at Idram stops it but the precheck; if both were let through, both are told and neither is lost."""
    order = made(desk)
    for _ in range(2):
        desk.pay(order)
    first, second = (_ids(read(desk, one)) for one in desk.events(2))
    assert first != second


def test_an_amount_that_is_not_the_orders_is_told_as_it_is(desk: IdramDesk) -> None:
    desk.control.fault("wrong_amount", account=desk.account)
    desk.pay(made(desk))
    assert money(read(desk, desk.events(1)[0])) == [("capture", AMOUNT + 10_000)]


@pytest.mark.parametrize(("fault", "code"), [("forged", "signature_mismatch"), ("altered", "signature_mismatch")])
def test_trap_2_what_is_not_signed_by_idram_is_refused_with_an_error_which_cancels_nothing(
    desk: IdramDesk, fault: str, code: str
) -> None:
    if fault == "altered":
        desk.control.configure(desk.account, confirm="altered")
    else:
        desk.control.fault(fault, account=desk.account)
    order = made(desk)
    desk.pay(order)
    eventually(lambda: list(desk.door.refusals), lambda refusals: refusals == [code])
    assert at_idram(desk, order)["transactions"][0]["state"] == "completed"


def test_every_alteration_is_refused_at_the_door_and_behind_it(desk: IdramDesk) -> None:
    desk.pay(made(desk))
    (received,) = desk.events(1)
    for event in desk.altered(received):
        for call in (desk.provider.check_event, desk.provider.parse_event):
            with pytest.raises(Refused):
                call(**event)


def test_a_secret_changes_without_a_payment_lost(desk: IdramDesk) -> None:
    desk.pay(made(desk))
    desk.sign_with("the-new-secret")
    both = desk.adapter(webhook_secrets=("the-new-secret", desk.secret))
    desk.door.provider = both
    desk.pay(made(desk))
    assert [both.parse_event(**desk.event_of(one)).reference for one in desk.events(2)]
    with pytest.raises(Refused):
        desk.adapter(webhook_secrets=("the-new-secret",)).parse_event(**desk.event_of(desk.events(2)[0]))


def test_trap_25_a_confirmation_that_was_not_kept_is_answered_with_an_error_and_the_money_stays(
    desk: IdramDesk,
) -> None:
    desk.door.broken = True
    order = made(desk)
    desk.pay(order)
    assert desk.door.events == []
    assert at_idram(desk, order)["transactions"][0]["state"] == "completed"
    desk.door.broken = False
    desk.act(order, "repeat")  # by a person at Idram, on our wish
    assert money(read(desk, desk.events(1)[0])) == [("capture", AMOUNT)]


def test_what_a_proxy_wrote_anew_still_counts(desk: IdramDesk) -> None:
    desk.pay(made(desk))
    (received,) = desk.events(1)
    told = parse_qsl(received.body.decode(), keep_blank_values=True)
    anew = urlencode([("utm_source", "cdn"), *reversed(told)]).encode()
    event = desk.event_of(received)
    assert desk.provider.parse_event(**{**event, "body": anew}) == desk.provider.parse_event(**event)


def test_money_given_back_in_the_cabinet_is_not_told(desk: IdramDesk) -> None:
    order = made(desk)
    desk.pay(order)
    desk.refund_there(order, 500_000)
    assert len(desk.events(1)) == 1  # so it is a person's, who notes it here by hand


def test_trap_23_the_customers_own_account_reaches_no_evidence_and_no_error(desk: IdramDesk) -> None:
    desk.pay(made(desk))
    (received,) = desk.events(1)
    seen = [repr(read(desk, received))]
    for event in desk.altered(received):
        with pytest.raises(Refused) as caught:
            desk.provider.parse_event(**event)
        seen += [repr(caught.value), repr(caught.value.__cause__)]
    assert all(planted in received.body.decode() for planted in desk.planted())
    assert not [text for text in seen for planted in (*desk.planted(), desk.secret) if planted in text]


def test_two_merchants_do_not_hear_each_others_payments(desk: IdramDesk) -> None:
    with open_desk() as other:
        desk.pay(made(desk))
        (received,) = desk.events(1)
        with pytest.raises(Refused) as caught:
            other.provider.parse_event(**desk.event_of(received))
        assert caught.value.code == "other_account"


def test_the_wallet_takes_no_form_of_another_merchant(desk: IdramDesk) -> None:
    order = made(desk)
    with pytest.raises(ControlError):
        desk.submit(order, EDP_REC_ACCOUNT="1")
