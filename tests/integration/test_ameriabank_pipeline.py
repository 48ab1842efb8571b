"""An invoice that is paid and refunded at a simulated Ameriabank vPOS, through the real stages, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text, update

from contracts.commands import PaymentRefund, PaymentVerify
from contracts.ids import new_id
from contracts.statuses import AttemptState, InvoiceStatus
from db.schema import attempts
from gateways.providers.ameriabank import AmeriabankProvider
from runtime.build import PROVIDERS_GROUP, installed
from runtime.checkout import note_return, press_pay
from runtime.deps import Deps
from runtime.settings import AccountSettings
from sandbox.ameriabank_merchants import CLIENT_ID
from sandbox.launch import SimulatorProcess
from tests.customer import served
from tests.office_desk import breaches, give, open_order
from tests.shop import accept, office, open_shop, reasons, the_attempt, the_invoice, the_link, work

PASSWORD = "password-of-the-api-user"
AMOUNT = 10_000
FIRST = 30_164_001  # of the range that the bank gave


@pytest.fixture(scope="module")
def bank() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("ameriabank", password=PASSWORD) as process:
        yield process


Open = Callable[..., Deps]


@pytest.fixture
def opened(clean_url: str, bank: SimulatorProcess) -> Iterator[Open]:
    """Opens an installation whose one account is at the bank; its provider is called like the API user."""
    with ExitStack() as room:

        def open_one(*, two_phase: bool = False, **settings: Any) -> Deps:
            user = f"shop-{new_id()}"
            bank.control.configure(
                user, password=PASSWORD, two_phase=two_phase, first_order_id=FIRST, last_order_id=FIRST + 99, **settings
            )
            url = f"{bank.base_url}/VPOS"
            adapter = AmeriabankProvider(
                user, url, PASSWORD, client_id=CLIENT_ID, user_name=user, two_phase=two_phase, settle="PT0S"
            )
            room.enter_context(closing(adapter))
            account = AccountSettings(
                adapter="ameriabank",
                base_url=url,
                api_key=SecretStr(PASSWORD),
                order_numbers={"first": FIRST, "last": FIRST + 99},
            )
            deps = room.enter_context(open_shop(clean_url, accounts={"shop": account}))
            room.callback(_stands_right, deps)
            return replace(deps, providers={"shop": adapter})

        yield open_one


def _stands_right(deps: Deps) -> None:
    # `work` makes due at once what waits for its time, which is no breach of the system's.
    assert [one for one in breaches(deps) if "nobody took it" not in one.what] == []


@pytest.fixture
def deps(opened: Open) -> Deps:
    return opened()


def user_of(deps: Deps) -> str:
    return deps.providers["shop"].name


def act(deps: Deps, bank: SimulatorProcess, attempt: Any, action: str, **options: Any) -> None:
    bank.control.act(attempt.reference, action, account=user_of(deps), **options)


def come_back(deps: Deps) -> None:
    """Let the customer come back from the bank's page: the one thing that hastens a look-up here."""
    note_return(deps, the_link(deps).id)
    work(deps, rounds=3)


def moved(deps: Deps) -> list[tuple[str, int]]:
    with deps.database.read() as tx:
        rows = tx.execute(text("SELECT kind, amount_minor FROM transactions ORDER BY created_at, id")).all()
        return [(row.kind, row.amount_minor) for row in rows]


def paid(deps: Deps, bank: SimulatorProcess) -> Any:
    accept(deps)
    attempt = open_order(deps)
    act(deps, bank, attempt, "pay")
    come_back(deps)
    return attempt


def test_the_adapter_is_installed() -> None:
    assert "ameriabank" in installed(PROVIDERS_GROUP)


def test_an_invoice_is_paid_on_the_banks_page_and_refunded(deps: Deps, bank: SimulatorProcess) -> None:
    accept(deps)
    attempt = open_order(deps)
    assert (attempt.state, attempt.reference) == (AttemptState.OPEN, str(FIRST))
    page = bank.control.orders(user_of(deps))[0]["pay_url"]
    back = urlsplit(httpx.post(page, data={"action": "pay"}).headers["location"])
    assert (back.path.endswith("/return"), "resposneCode=00" in back.query) == (True, True)
    with served(deps) as address:
        answer = httpx.get(f"{address}{back.path}?{back.query}", trust_env=False)
    # What the bank appends goes no further.
    assert (answer.status_code, answer.headers["location"].partition("?")[2]) == (303, "returned=1")
    work(deps, rounds=3)
    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert (office(deps).record.status, office(deps).record.currency) == (InvoiceStatus.PAID, "AMD")

    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.PAID, 4_000)
    give(deps, PaymentRefund)
    work(deps, rounds=4)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.REFUNDED, AMOUNT)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000), ("refund", 6_000)]
    assert reasons(deps) == set()


def test_a_forged_return_pays_nothing_and_the_door_takes_no_event(deps: Deps, bank: SimulatorProcess) -> None:
    accept(deps)
    attempt = open_order(deps)
    forged = {"orderID": attempt.reference, "resposneCode": "00", "paymentID": attempt.provider_order_id, "opaque": ""}
    with served(deps) as address:
        httpx.get(f"{address}/webhooks/shop", params=forged, trust_env=False)
    come_back(deps)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PENDING, [])


def test_a_declined_customer_gets_another_order_under_the_next_number(deps: Deps, bank: SimulatorProcess) -> None:
    accept(deps)
    first = open_order(deps)
    act(deps, bank, first, "decline")
    come_back(deps)
    assert the_attempt(deps).state == AttemptState.FAILED
    second = open_order(deps)
    assert second.reference == str(FIRST + 1)
    act(deps, bank, second, "pay")
    come_back(deps)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


def test_refunds_made_at_the_bank_are_found_as_steps_of_its_total(deps: Deps, bank: SimulatorProcess) -> None:
    attempt = paid(deps, bank)
    for amount in (1_000, 2_500):
        act(deps, bank, attempt, "refund", amount_minor=amount)
        give(deps, PaymentVerify)
        work(deps, rounds=3)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 1_000), ("refund", 2_500)]
    assert the_invoice(deps).refunded_minor == 3_500


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_after", "error_500_before"])
def test_a_refund_whose_answer_is_lost_is_made_once(deps: Deps, bank: SimulatorProcess, fault: str) -> None:
    paid(deps, bank)
    bank.control.fault(fault, account=user_of(deps), operation="RefundPayment", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000)]
    # What never arrived is made again, once the order shows no refund; what arrived is not.
    calls = 2 if fault == "error_500_before" else 1
    assert bank.control.stats(user_of(deps))["calls"]["RefundPayment"] == calls


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before"])
@pytest.mark.parametrize("duplicate", ["same_id", "refuse", "refuse_01"])
def test_a_lost_order_is_found_again_with_its_page(
    opened: Open, bank: SimulatorProcess, fault: str, duplicate: str
) -> None:
    deps = opened(duplicate=duplicate)
    accept(deps)
    bank.control.fault(fault, account=user_of(deps), operation="InitPayment", seconds=0.1)
    lost = open_order(deps)
    assert lost.state != AttemptState.OPEN
    work(deps, "checkout", rounds=3)
    found = the_attempt(deps)
    assert (found.reference, found.state) == (lost.reference, AttemptState.OPEN)
    assert [one["registrations"] for one in bank.control.orders(user_of(deps))] == [1]
    act(deps, bank, found, "pay")
    come_back(deps)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


@pytest.mark.parametrize("never_attempted", ["500", "550"])
def test_silence_about_an_order_is_neither_a_failure_nor_an_end(
    opened: Open, bank: SimulatorProcess, never_attempted: str
) -> None:
    deps = opened(never_attempted=never_attempted)
    accept(deps)
    attempt = open_order(deps)
    come_back(deps)
    assert (the_attempt(deps).state, reasons(deps)) == (AttemptState.OPEN, set())
    act(deps, bank, attempt, "pay")
    come_back(deps)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_a_payment_that_settles_after_the_session_is_late_money_not_lost_money(
    deps: Deps, bank: SimulatorProcess
) -> None:
    accept(deps)
    attempt = open_order(deps)
    act(deps, bank, attempt, "expire")
    come_back(deps)
    assert the_attempt(deps).state == AttemptState.EXPIRED
    act(deps, bank, attempt, "settle_late")
    give(deps, PaymentVerify)
    work(deps, rounds=3)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


def test_a_hold_is_captured_at_once_and_then_paid(opened: Open, bank: SimulatorProcess) -> None:
    deps = opened(two_phase=True)
    paid(deps, bank)
    work(deps, rounds=4)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000)]


@pytest.mark.parametrize("fault", ["timeout_after", "error_500_before"])
def test_a_capture_whose_answer_is_lost_is_made_once(opened: Open, bank: SimulatorProcess, fault: str) -> None:
    deps = opened(two_phase=True)
    accept(deps)
    attempt = open_order(deps)
    act(deps, bank, attempt, "pay")
    bank.control.fault(fault, account=user_of(deps), operation="ConfirmPayment", seconds=0.1)
    come_back(deps)
    work(deps, rounds=6)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    calls = 2 if fault == "error_500_before" else 1
    assert bank.control.stats(user_of(deps))["calls"]["ConfirmPayment"] == calls


def refunded(deps: Deps, bank: SimulatorProcess) -> int:
    back: int = bank.control.orders(user_of(deps))[0]["refunded"]
    return back


def test_an_order_that_stays_open_after_its_session_lets_the_customer_pay_again(
    opened: Open, bank: SimulatorProcess
) -> None:
    deps = opened(never_attempted="500", expired="never_attempted")
    accept(deps)
    attempt = open_order(deps)
    act(deps, bank, attempt, "expire")
    with deps.database.begin() as tx:
        tx.execute(update(attempts).values(expires_at=datetime.now(UTC) - timedelta(minutes=5)))
    for _ in range(3):
        press_pay(deps, the_link(deps).id)
        work(deps, rounds=3)
    assert the_attempt(deps).reference != attempt.reference or the_attempt(deps).state == AttemptState.EXPIRED


def test_a_lost_refund_beside_one_that_is_not_booked_yet_is_made_once(opened: Open, bank: SimulatorProcess) -> None:
    deps = opened()
    paid(deps, bank)
    give(deps, PaymentRefund, amount_minor=3_000, currency="AMD")
    work(deps, "refunds", rounds=1)  # made, and its check has not run yet
    bank.control.fault("timeout_after", account=user_of(deps), operation="RefundPayment", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=2_000, currency="AMD")
    work(deps, "refunds", rounds=5)
    assert refunded(deps, bank) == 5_000


def test_a_lost_refund_beside_one_at_the_banks_desk_is_never_made_twice(opened: Open, bank: SimulatorProcess) -> None:
    deps = opened()
    attempt = paid(deps, bank)
    bank.control.fault("timeout_after", account=user_of(deps), operation="RefundPayment", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=3_000, currency="AMD")
    work(deps, rounds=1)
    act(deps, bank, attempt, "refund", amount_minor=500)
    work(deps, rounds=6)
    assert refunded(deps, bank) == 3_500
    assert reasons(deps) == {"refund_failed"}, "3,500 may be it and another, or another alone: a person looks"


def test_a_look_that_shows_no_payment_at_all_does_not_say_that_a_refund_never_happened(
    opened: Open, bank: SimulatorProcess
) -> None:
    deps = opened(every_500_alike=True)
    paid(deps, bank)
    bank.control.fault("timeout_after", account=user_of(deps), operation="RefundPayment", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=3_000, currency="AMD")
    work(deps, rounds=1)
    bank.control.fault("error_500_before", account=user_of(deps), operation="GetPaymentDetails", times=2)
    work(deps, rounds=6)
    assert refunded(deps, bank) == 3_000
