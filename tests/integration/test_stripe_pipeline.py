"""An invoice that is paid and refunded at a simulated Stripe account, through the real stages, on both databases."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from stripe import WebhookSignature

from contracts.commands import LinkCancel, PaymentRefund, PaymentVerify
from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from contracts.statuses import AttemptState, InvoiceStatus
from gateways.providers.stripe import StripeProvider
from rules.verdicts import Reason
from runtime.build import PROVIDERS_GROUP, installed
from runtime.checkout import note_return
from runtime.deps import Deps
from runtime.settings import AccountSettings
from sandbox.control import eventually
from sandbox.launch import SimulatorProcess
from tests.conformance.receiver import Receiver
from tests.customer import served
from tests.office_desk import breaches, give, open_order
from tests.shop import accept, office, open_shop, reasons, the_attempt, the_invoice, the_link, work
from tests.support import put

SECRET = "whsec_invented_for_these_tests"
AMOUNT = 10_000
PAID = "checkout.session.completed"


@pytest.fixture(scope="module")
def there() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("stripe", arguments=("--webhook-pause-seconds", "0.1")) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture(params=["ask"])
def deps(clean_url: str, there: SimulatorProcess, receiver: Receiver, request: Any) -> Iterator[Deps]:
    """An installation whose one account is at Stripe: it asks, trusts signed events, or holds money first."""
    name = f"acct-{new_id()}"
    key = f"sk_test_{name}"
    there.control.configure(name, password=key, webhook_secret=SECRET, webhook_url=receiver.url)
    holds = request.param == "holds"
    stripe = StripeProvider(name, there.base_url, key, (SECRET,), livemode=False, two_phase=holds, settle="PT0S")
    verification = "ask" if holds else request.param
    account = AccountSettings(
        adapter="stripe", base_url=there.base_url, api_key=SecretStr(key), verification=verification
    )
    with closing(stripe), open_shop(clean_url, accounts={"shop": account}) as made:
        yield replace(made, providers={"shop": stripe})
        # `work` makes due at once what waits for its time, which is no breach of the system's.
        assert [one for one in breaches(made) if "nobody took it" not in one.what] == []


def account_of(deps: Deps) -> str:
    return deps.providers["shop"].name


def act(deps: Deps, there: SimulatorProcess, attempt: Any, action: str, **options: Any) -> None:
    there.control.act(attempt.reference, action, account=account_of(deps), **options)


def hear(deps: Deps, receiver: Receiver, kind: str, count: int = 1) -> None:
    """Hand an event of a type on as the door would, once `count` of them came."""
    received = eventually(
        lambda: [one for one in list(receiver.received) if json.loads(one.body)["type"] == kind],
        lambda found: len(found) >= count,
    )[count - 1]
    hand_on(deps, received.headers, received.body, received.received_at)


def hand_on(deps: Deps, headers: dict[str, str], body: bytes, received_at: datetime) -> None:
    event = ProviderEventReceived(
        account="shop",
        receipt=new_id(),
        received_at=received_at,
        method="POST",
        query="",
        headers=headers,
        body_base64=base64.b64encode(body).decode(),
    )
    put(deps.database, event)
    work(deps, rounds=3)


def moved(deps: Deps) -> list[tuple[str, int]]:
    with deps.database.read() as tx:
        rows = tx.execute(text("SELECT kind, amount_minor FROM transactions ORDER BY created_at, id")).all()
        return [(row.kind, row.amount_minor) for row in rows]


def paid(deps: Deps, there: SimulatorProcess, receiver: Receiver) -> Any:
    accept(deps)
    attempt = open_order(deps)
    act(deps, there, attempt, "pay")
    hear(deps, receiver, PAID)
    return attempt


def calls(deps: Deps, there: SimulatorProcess, operation: str) -> int:
    counted: int = there.control.stats(account_of(deps))["calls"].get(operation, 0)
    return counted


def test_the_adapter_is_installed() -> None:
    assert "stripe" in installed(PROVIDERS_GROUP)


def test_an_invoice_is_paid_on_stripes_page_and_refunded(deps: Deps, there: SimulatorProcess) -> None:
    accept(deps)
    attempt = open_order(deps)
    assert attempt.state == AttemptState.OPEN
    page = there.control.orders(account_of(deps))[0]["pay_url"]
    httpx.post(page, data={"action": "decline"})
    httpx.post(page, data={"action": "pay"})
    note_return(deps, the_link(deps).id)
    work(deps, rounds=3)
    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert (office(deps).record.status, office(deps).record.currency) == (InvoiceStatus.PAID, "AMD")
    assert office(deps).record.provider_reference.startswith("pi_")

    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.PAID, 4_000)
    give(deps, PaymentRefund)
    work(deps, rounds=4)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.REFUNDED, AMOUNT)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000), ("refund", 6_000)]
    assert reasons(deps) == set()


def test_an_event_hastens_the_look_up_that_proves_it(deps: Deps, there: SimulatorProcess, receiver: Receiver) -> None:
    paid(deps, there, receiver)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    assert calls(deps, there, "sessions.retrieve") >= 1


@pytest.mark.parametrize("deps", ["trust_signed"], indirect=True)
def test_a_trusted_event_proves_it_alone_and_a_look_up_adds_nothing(
    deps: Deps, there: SimulatorProcess, receiver: Receiver
) -> None:
    accept(deps)
    attempt = open_order(deps)
    there.control.fault("error_500_before", account=account_of(deps), operation="sessions.retrieve", rate=1.0)
    act(deps, there, attempt, "pay")
    hear(deps, receiver, PAID)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    there.control.clear_faults(account_of(deps))
    give(deps, PaymentVerify)
    work(deps, rounds=3)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    # The same event again, after a refund: what it leaves out is not taken back.
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    hear(deps, receiver, PAID)
    assert (the_invoice(deps).refunded_minor, moved(deps)) == (4_000, [("capture", AMOUNT), ("refund", 4_000)])


@pytest.mark.parametrize("deps", ["trust_signed"], indirect=True)
@pytest.mark.parametrize("secret", [SECRET, "whsec_of_somebody_else"])
def test_a_forged_event_pays_nothing_though_signed_ones_are_trusted(
    deps: Deps, there: SimulatorProcess, secret: str
) -> None:
    accept(deps)
    attempt = open_order(deps)
    session = there.control.orders(account_of(deps))[0]["session"]
    says = session | {"status": "complete", "payment_status": "paid", "payment_intent": "pi_invented"}
    event = {"id": "evt_1", "object": "event", "type": PAID, "created": session["created"], "livemode": False}
    body = json.dumps(event | {"data": {"object": says}})
    header = WebhookSignature.generate_signature_header(body, secret)
    hand_on(deps, {"stripe-signature": header}, body.encode(), datetime.now(UTC))
    genuine = secret == SECRET
    assert moved(deps) == ([("capture", AMOUNT)] if genuine else [])
    assert the_invoice(deps).status == (InvoiceStatus.PAID if genuine else InvoiceStatus.PENDING)
    assert the_attempt(deps).id == attempt.id


def test_refunds_made_at_the_dashboard_are_found_by_their_events(
    deps: Deps, there: SimulatorProcess, receiver: Receiver
) -> None:
    attempt = paid(deps, there, receiver)
    for count, amount in enumerate((1_000, 2_500), 1):
        act(deps, there, attempt, "refund", amount_minor=amount)
        hear(deps, receiver, "refund.created", count)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 1_000), ("refund", 2_500)]
    assert the_invoice(deps).refunded_minor == 3_500


def test_a_refund_that_fails_afterwards_is_a_persons_case(
    deps: Deps, there: SimulatorProcess, receiver: Receiver
) -> None:
    attempt = paid(deps, there, receiver)
    give(deps, PaymentRefund)
    work(deps, rounds=4)
    assert the_invoice(deps).status == InvoiceStatus.REFUNDED
    act(deps, there, attempt, "refund_fails")
    hear(deps, receiver, "refund.failed")
    assert moved(deps) == [("capture", AMOUNT), ("refund", AMOUNT), ("capture", AMOUNT)]
    assert the_invoice(deps).status == InvoiceStatus.MANUAL_REVIEW
    assert reasons(deps) == {Reason.PAID_AFTER_REFUND}


def test_a_dispute_names_its_payment_alone_and_is_a_chargeback(
    deps: Deps, there: SimulatorProcess, receiver: Receiver
) -> None:
    attempt = paid(deps, there, receiver)
    act(deps, there, attempt, "dispute")
    hear(deps, receiver, "charge.dispute.funds_withdrawn")
    assert moved(deps) == [("capture", AMOUNT), ("chargeback", AMOUNT)]
    assert Reason.CHARGEBACK in reasons(deps)
    act(deps, there, attempt, "close_dispute", status="won")
    hear(deps, receiver, "charge.dispute.funds_reinstated")
    assert moved(deps) == [("capture", AMOUNT), ("chargeback", AMOUNT), ("capture", AMOUNT)]


def test_a_debit_is_in_progress_for_days_and_then_paid(deps: Deps, there: SimulatorProcess, receiver: Receiver) -> None:
    accept(deps)
    attempt = open_order(deps)
    act(deps, there, attempt, "pay", method="sepa_debit")
    hear(deps, receiver, PAID)
    assert (the_attempt(deps).state, the_invoice(deps).status) == (AttemptState.PROCESSING, InvoiceStatus.PENDING)
    act(deps, there, attempt, "settle")
    hear(deps, receiver, "checkout.session.async_payment_succeeded")
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before", "error_500_after"])
def test_a_refund_whose_answer_is_lost_is_made_once(
    deps: Deps, there: SimulatorProcess, receiver: Receiver, fault: str
) -> None:
    paid(deps, there, receiver)
    there.control.fault(fault, account=account_of(deps), operation="refunds.create", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000)]


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before", "error_500_after"])
def test_a_lost_order_is_found_again_with_its_page(
    deps: Deps, there: SimulatorProcess, receiver: Receiver, fault: str
) -> None:
    accept(deps)
    there.control.fault(fault, account=account_of(deps), operation="sessions.create", seconds=0.1, times=3)
    attempt = open_order(deps)
    work(deps, "checkout", rounds=3)
    fresh = the_attempt(deps)
    assert (fresh.reference, fresh.state) == (attempt.reference, AttemptState.OPEN)
    (order,) = there.control.orders(account_of(deps))
    assert order["session"]["id"] == fresh.provider_order_id
    act(deps, there, fresh, "pay")
    hear(deps, receiver, PAID)
    assert the_invoice(deps).status == InvoiceStatus.PAID


@pytest.mark.parametrize("deps", ["holds"], indirect=True)
@pytest.mark.parametrize("fault", ["", "timeout_after", "error_500_before"])
def test_held_money_is_captured_once_and_pays_the_invoice(
    deps: Deps, there: SimulatorProcess, receiver: Receiver, fault: str
) -> None:
    accept(deps)
    attempt = open_order(deps)
    if fault:
        operation = "payment_intents.capture"
        there.control.fault(fault, account=account_of(deps), operation=operation, seconds=0.1)
    act(deps, there, attempt, "pay")
    hear(deps, receiver, "payment_intent.amount_capturable_updated")
    work(deps, rounds=4)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    assert reasons(deps) == set()


@pytest.mark.parametrize("deps", ["holds"], indirect=True)
def test_what_is_held_for_a_cancelled_link_is_let_go(deps: Deps, there: SimulatorProcess, receiver: Receiver) -> None:
    accept(deps)
    attempt = open_order(deps)
    act(deps, there, attempt, "pay")
    give(deps, LinkCancel)
    hear(deps, receiver, "payment_intent.amount_capturable_updated")
    work(deps, rounds=4)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.CANCELLED, [])
    (order,) = there.control.orders(account_of(deps))
    assert order["payment_intent"]["status"] == "canceled"


@pytest.mark.parametrize("fault", ["", "timeout_after", "error_500_before"])
def test_a_cancelled_link_expires_its_session_so_that_nobody_pays_by_it(
    deps: Deps, there: SimulatorProcess, fault: str
) -> None:
    accept(deps)
    attempt = open_order(deps)
    if fault:
        there.control.fault(fault, account=account_of(deps), operation="sessions.expire", seconds=0.1)
    give(deps, LinkCancel)
    work(deps, rounds=4)
    (order,) = there.control.orders(account_of(deps))
    assert (order["session"]["status"], the_attempt(deps).id) == ("expired", attempt.id)
    assert the_invoice(deps).status == InvoiceStatus.CANCELLED


def test_who_paid_just_before_his_link_was_cancelled_has_paid(
    deps: Deps, there: SimulatorProcess, receiver: Receiver
) -> None:
    accept(deps)
    attempt = open_order(deps)
    act(deps, there, attempt, "pay")
    give(deps, LinkCancel)
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT)]


def test_stripe_calls_at_our_own_door_which_lets_its_signature_in_and_nothing_else(
    deps: Deps, there: SimulatorProcess
) -> None:
    accept(deps)
    attempt = open_order(deps)
    with served(deps) as address:
        door = f"{address}/webhooks/shop"
        forged = {"stripe-signature": "t=1700000000,v1=" + "0" * 64}
        for headers in (forged, {}):
            answer = httpx.post(door, json={"object": "event"}, headers=headers, trust_env=False)
            assert answer.status_code == 400
        there.control.configure(account_of(deps), webhook_url=door, enabled_events=[PAID])
        act(deps, there, attempt, "pay")
        eventually(
            lambda: there.control.stats(account_of(deps))["webhooks"].get("delivered", 0), lambda count: count >= 1
        )
    work(deps, "webhook-verification", rounds=3, hurry=False)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
