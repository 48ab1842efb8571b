"""An invoice that is paid and refunded at a simulated ArCa gateway, through the real stages, on both databases."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from contracts.commands import PaymentRefund, PaymentVerify
from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from contracts.statuses import AttemptState, InvoiceStatus
from db import ledger
from db.tx import Cause
from gateways.providers.arca import ArcaProvider
from runtime.build import PROVIDERS_GROUP, installed
from runtime.checkout import note_return
from runtime.deps import Deps
from runtime.settings import AccountSettings
from sandbox.control import eventually
from sandbox.launch import ArcaProcess
from tests.conformance.receiver import Receiver
from tests.customer import served
from tests.office_desk import breaches, give, open_order
from tests.shop import accept, office, open_shop, reasons, the_attempt, the_invoice, the_link, work
from tests.support import put

PASSWORD = "password-of-the-api-user"
AMOUNT = 10_000


@pytest.fixture(scope="module")
def gateway() -> Iterator[ArcaProcess]:
    with ArcaProcess(password=PASSWORD, arguments=("--callback-pause-seconds", "0.1")) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture(params=[12, 4], ids=["version-12", "version-4"])
def deps(clean_url: str, gateway: ArcaProcess, receiver: Receiver, request: Any) -> Iterator[Deps]:
    """An installation whose one account is at the gateway; version 4 tells totals of refunds alone."""
    user = f"shop-{new_id()}-api"
    gateway.control.configure(
        user, password=PASSWORD, callback_secret="s", callback_url=receiver.url, version=request.param
    )
    arca = ArcaProvider(user, gateway.rest_url, PASSWORD, ("s",), user_name=user, settle="PT0S")
    account = AccountSettings(adapter="arca", base_url=gateway.rest_url, api_key=SecretStr(PASSWORD))
    with closing(arca), open_shop(clean_url, accounts={"shop": account}) as made:
        yield replace(made, providers={"shop": arca})
        # `work` makes due at once what waits for its time, which is no breach of the system's.
        assert [one for one in breaches(made) if "nobody took it" not in one.what] == []


def user_of(deps: Deps) -> str:
    return deps.providers["shop"].name  # an account is called like its API user here


def act(deps: Deps, gateway: ArcaProcess, attempt: Any, action: str, **options: Any) -> None:
    gateway.control.act(attempt.reference, action, account=user_of(deps), **options)


def call_back(deps: Deps, receiver: Receiver, count: int) -> None:
    """Hand the callback on as the door would."""
    received = eventually(lambda: list(receiver.received), lambda received: len(received) >= count)[count - 1]
    event = ProviderEventReceived(
        account="shop",
        receipt=new_id(),
        received_at=received.received_at,
        method="GET",
        query=urlsplit(received.path).query,
        headers=received.headers,
        body_base64="",
    )
    put(deps.database, event)
    work(deps, rounds=3)


def moved(deps: Deps) -> list[tuple[str, int]]:
    with deps.database.read() as tx:
        rows = tx.execute(text("SELECT kind, amount_minor FROM transactions ORDER BY created_at, id")).all()
        return [(row.kind, row.amount_minor) for row in rows]


def paid(deps: Deps, gateway: ArcaProcess, receiver: Receiver) -> Any:
    accept(deps)
    attempt = open_order(deps)
    act(deps, gateway, attempt, "pay")
    call_back(deps, receiver, 1)
    return attempt


def test_the_adapter_is_installed() -> None:
    assert "arca" in installed(PROVIDERS_GROUP)


def test_an_invoice_is_paid_on_the_banks_page_and_refunded(
    deps: Deps, gateway: ArcaProcess, receiver: Receiver
) -> None:
    accept(deps)
    attempt = open_order(deps)
    assert attempt.state == AttemptState.OPEN
    page = gateway.control.orders(user_of(deps))[0]["pay_url"]
    httpx.post(page, data={"action": "decline"})
    httpx.post(page, data={"action": "pay"})
    note_return(deps, the_link(deps).id)
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


def test_a_callback_hastens_the_look_up_that_proves_it(deps: Deps, gateway: ArcaProcess, receiver: Receiver) -> None:
    paid(deps, gateway, receiver)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


def test_a_forged_callback_pays_nothing(deps: Deps, gateway: ArcaProcess, receiver: Receiver) -> None:
    gateway.control.configure(user_of(deps), callback_secret="of-somebody-else")
    accept(deps)
    attempt = open_order(deps)
    act(deps, gateway, attempt, "decline")
    call_back(deps, receiver, 1)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PENDING, [])


def test_refunds_made_at_the_bank_are_found_one_by_one(deps: Deps, gateway: ArcaProcess, receiver: Receiver) -> None:
    attempt = paid(deps, gateway, receiver)
    for count, amount in enumerate((1_000, 2_500), 2):
        act(deps, gateway, attempt, "refund", amount_minor=amount)
        call_back(deps, receiver, count)
        give(deps, PaymentVerify)
        work(deps, rounds=3)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 1_000), ("refund", 2_500)]
    assert the_invoice(deps).refunded_minor == 3_500


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before"])
def test_a_refund_whose_answer_is_lost_is_made_once(
    deps: Deps, gateway: ArcaProcess, receiver: Receiver, fault: str
) -> None:
    paid(deps, gateway, receiver)
    gateway.control.fault(fault, account=user_of(deps), operation="refund", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000)]
    # What never arrived is made again, once the order shows no refund; what arrived is not.
    calls = 2 if fault == "error_500_before" else 1
    assert gateway.control.stats(user_of(deps))["calls"]["refund"] == calls


@pytest.mark.parametrize("fault", ["timeout_after", "truncated"])
def test_a_lost_order_is_closed_and_the_customer_gets_another(
    deps: Deps, gateway: ArcaProcess, receiver: Receiver, fault: str
) -> None:
    accept(deps)
    gateway.control.fault(fault, account=user_of(deps), operation="register", seconds=0.1)
    lost = open_order(deps)
    work(deps, "checkout", rounds=3)
    fresh = the_attempt(deps)
    assert (fresh.reference != lost.reference, fresh.state) == (True, AttemptState.OPEN)
    states = {one["number"]: one["status"] for one in gateway.control.orders(user_of(deps))}
    assert states == {lost.reference: 6, fresh.reference: 0}
    act(deps, gateway, fresh, "pay")
    call_back(deps, receiver, 1)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_a_payment_that_settles_after_the_session_is_late_money_not_lost_money(
    deps: Deps, gateway: ArcaProcess, receiver: Receiver
) -> None:
    accept(deps)
    attempt = open_order(deps)
    act(deps, gateway, attempt, "expire")
    call_back(deps, receiver, 1)
    assert the_attempt(deps).state == AttemptState.EXPIRED
    act(deps, gateway, attempt, "settle")
    call_back(deps, receiver, 2)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_gateway_calls_at_our_own_door_which_lets_the_checksum_in_and_nothing_else(
    deps: Deps, gateway: ArcaProcess, method: str
) -> None:
    accept(deps)
    attempt = open_order(deps)
    with served(deps) as address:
        door = f"{address}/webhooks/shop"
        forged = {"mdOrder": "x", "orderNumber": attempt.reference, "operation": "deposited", "status": "1"}
        assert httpx.get(door, params=forged | {"checksum": "A" * 64}, trust_env=False).status_code == 400
        assert httpx.get(door, params=forged, trust_env=False).status_code == 400
        before = gateway.control.stats(user_of(deps))["callbacks"].get("delivered", 0)
        gateway.control.configure(user_of(deps), callback_url=door, callback_method=method, callback_date=True)
        act(deps, gateway, attempt, "pay")
        eventually(
            lambda: gateway.control.stats(user_of(deps))["callbacks"].get("delivered", 0), lambda now: now > before
        )
    work(deps, "webhook-verification", rounds=3, hurry=False)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


def test_a_growing_total_is_booked_by_its_differences(clean_url: str) -> None:
    def told(kind: TransactionKind, name: str, total: int, *, cumulative: bool = True) -> ProviderTransaction:
        return ProviderTransaction(
            provider_transaction_id=name,
            kind=kind,
            amount_minor=total,
            currency="AMD",
            occurred_at=datetime.now(UTC),
            cumulative=cumulative,
        )

    with open_shop(clean_url) as deps:
        accept(deps)
        attempt = open_order(deps)
        for total in (3_000, 3_000, 7_000, 5_000, 10_000):
            evidence = Evidence(
                reference=attempt.reference,
                provider_order_id="o-1",
                state=OrderState.HELD,
                transactions=(told(TransactionKind.CAPTURE, "o-1:capture", total),),
                asked_at=datetime.now(UTC),
            )
            with deps.database.begin(Cause.new()) as tx:
                ledger.record(tx, "shop", evidence.transactions, invoice_id=attempt.invoice_id, attempt_id=attempt.id)
        assert moved(deps) == [("capture", 3_000), ("capture", 4_000), ("capture", 3_000)]
        # Another order whose id begins alike, and another account, are other money.
        with deps.database.begin(Cause.new()) as tx:
            other = [told(TransactionKind.CAPTURE, "o-1:cap_ure", 10)]
            ledger.record(tx, "shop", other, invoice_id=attempt.invoice_id, attempt_id=attempt.id)
            (found,) = ledger.told(tx, "else", [told(TransactionKind.CAPTURE, "o-1:capture", 10)])
        assert (found.provider_transaction_id, found.amount_minor) == ("o-1:capture:10", 10)
        assert moved(deps)[3:] == [("capture", 10)]
