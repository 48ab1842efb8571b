"""An invoice that is paid at simulated VPOS.am payment sessions, through the real stages, on both databases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text, update

from contracts.commands import PaymentRefund, PaymentVerify
from contracts.ids import new_id
from contracts.statuses import AttemptState, FiscalStatus, InvoiceStatus
from db.schema import messages
from gateways.providers.vpos import VposProvider
from rules.verdicts import Reason
from runtime.build import PROVIDERS_GROUP, installed
from runtime.checkout import note_return
from runtime.deps import Deps
from runtime.settings import AccountSettings
from sandbox.control import eventually
from sandbox.launch import SimulatorProcess
from tests.customer import served
from tests.office_desk import breaches, give, open_order
from tests.shop import NOW, accept, office, open_shop, reasons, the_attempt, the_invoice, the_link, work

AMOUNT = 10_000
SECRET = "webhook-secret-of-the-merchant"
REFUNDS = "/v1/payment-sessions/{id}/refunds"
Open = Callable[..., Deps]


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("vpos", arguments=("--webhook-pause-seconds", "0.1")) as running:
        yield running


@pytest.fixture
def shop(clean_url: str, process: SimulatorProcess) -> Iterator[Open]:
    """Opens an installation whose one account is a merchant of its own there."""
    with ExitStack() as room:
        opened: list[Deps] = []

        def open_one(options: dict[str, Any] | None = None, verification: str = "ask", **settings: Any) -> Deps:
            name, token = f"shop-{new_id()}", f"token-{new_id()}"
            process.control.configure(name, api_key=token, webhook_secret=SECRET, **settings)
            given = {"provider": "manual", "event_session": "data.session", "settle": "PT0S", **(options or {})}
            vpos = room.enter_context(closing(VposProvider(name, process.base_url, token, (SECRET,), **given)))
            account = AccountSettings.model_validate(
                {"adapter": "vpos", "base_url": process.base_url, "api_key": SecretStr(token)}
                | {"webhook_secrets": [SECRET], "options": given, "verification": verification}
            )
            made = room.enter_context(open_shop(clean_url, accounts={"shop": account}))
            opened.append(replace(made, providers={"shop": vpos}))
            accept(opened[0])
            return opened[0]

        yield open_one
        # `work` makes due at once what waits for its time, which is no breach of the system's.
        assert [one for one in breaches(opened[0]) if "nobody took it" not in one.what] == []


def name_of(deps: Deps) -> str:
    return deps.providers["shop"].name  # an account is called like its merchant here


def act(deps: Deps, process: SimulatorProcess, attempt: Any, action: str, **options: Any) -> None:
    process.control.act(attempt.reference, action, account=name_of(deps), **options)


def look(deps: Deps) -> None:
    give(deps, PaymentVerify)
    work(deps, rounds=3)


def moved(deps: Deps) -> list[tuple[str, int]]:
    with deps.database.read() as tx:
        rows = tx.execute(text("SELECT kind, amount_minor FROM transactions ORDER BY created_at, id")).all()
        return [(row.kind, row.amount_minor) for row in rows]


def test_the_adapter_is_installed() -> None:
    assert "vpos" in installed(PROVIDERS_GROUP)


def test_an_invoice_is_paid_on_their_page_and_a_return_alone_pays_nothing(
    shop: Open, process: SimulatorProcess
) -> None:
    deps = shop()
    attempt = open_order(deps)
    assert attempt.state == AttemptState.OPEN
    (session,) = process.control.orders(name_of(deps))
    assert session["customer"] == session["customer"] | {"email": "anahit@example.am"}  # typed there, not sent by us
    note_return(deps, the_link(deps).id)
    work(deps, rounds=3)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PENDING, [])
    httpx.post(session["pay_url"], data={"action": "pay"})
    note_return(deps, the_link(deps).id)
    work(deps, rounds=3)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    assert (office(deps).record.status, office(deps).record.currency) == (InvoiceStatus.PAID, "AMD")
    assert reasons(deps) == set()


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before"])
def test_a_lost_session_is_asked_for_again_under_its_key(shop: Open, process: SimulatorProcess, fault: str) -> None:
    deps = shop()
    process.control.fault(fault, account=name_of(deps), operation="create", seconds=0.1)
    lost = open_order(deps)
    work(deps, "checkout", rounds=3)
    attempt = the_attempt(deps)
    assert (attempt.reference, attempt.state) == (lost.reference, AttemptState.OPEN)
    assert len(process.control.orders(name_of(deps))) == 1
    act(deps, process, attempt, "pay")
    look(deps)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_a_word_that_nobody_mapped_becomes_a_persons_case_and_no_verdict(shop: Open, process: SimulatorProcess) -> None:
    deps = shop()
    attempt = open_order(deps)
    act(deps, process, attempt, "odd_status", word="settlement_hold")
    look(deps)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PENDING, [])
    assert (reasons(deps), the_attempt(deps).state) == ({Reason.DEAD_LETTER}, AttemptState.OPEN)
    act(deps, process, attempt, "pay")
    look(deps)
    assert moved(deps) == [("capture", AMOUNT)]


def test_what_the_matrix_denies_is_a_persons_case(shop: Open, process: SimulatorProcess) -> None:
    deps = shop(providers=["another"])
    attempt = open_order(deps)
    assert attempt.state == AttemptState.FAILED
    assert reasons(deps) == {Reason.PROVIDER_REFUSED}
    assert process.control.orders(name_of(deps)) == []


@pytest.mark.parametrize("action", ["expire", "decline"])
def test_a_payment_that_settles_after_the_end_is_late_money_not_lost_money(
    shop: Open, process: SimulatorProcess, action: str
) -> None:
    deps = shop()
    attempt = open_order(deps)
    act(deps, process, attempt, action)
    look(deps)
    assert the_attempt(deps).state in {AttemptState.EXPIRED, AttemptState.FAILED}
    act(deps, process, attempt, "settle_late")
    look(deps)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])


def test_their_own_receipt_is_told_to_the_crm_apart_from_the_payment(shop: Open, process: SimulatorProcess) -> None:
    deps = shop(fiscal="pending")
    attempt = open_order(deps)
    act(deps, process, attempt, "pay")
    look(deps)
    assert (office(deps).record.status, office(deps).record.fiscal_status) == (InvoiceStatus.PAID, FiscalStatus.PENDING)
    act(deps, process, attempt, "fiscal", status="issued")
    with deps.database.begin() as tx:  # nobody told: it is looked for, after an hour
        tx.execute(update(messages).where(messages.c.queue == "status-checks").values(available_at=NOW))
    work(deps, "status-checks", "crm-update", rounds=3)
    assert (office(deps).record.status, office(deps).record.fiscal_status) == (InvoiceStatus.PAID, FiscalStatus.ISSUED)
    # What cannot be, as a receipt that was issued and is pending again, is not believed.
    act(deps, process, attempt, "fiscal", status="pending")
    look(deps)
    assert office(deps).record.fiscal_status == FiscalStatus.ISSUED


def test_refunds_by_command_and_at_their_console_are_booked_one_by_one(shop: Open, process: SimulatorProcess) -> None:
    deps = shop({"refund_path": REFUNDS}, refund_path=REFUNDS)
    attempt = open_order(deps)
    act(deps, process, attempt, "pay")
    look(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    act(deps, process, attempt, "refund", amount_minor=1_000)
    look(deps)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.PAID, 5_000)
    give(deps, PaymentRefund)
    work(deps, rounds=4)
    assert (the_invoice(deps).status, the_invoice(deps).refunded_minor) == (InvoiceStatus.REFUNDED, AMOUNT)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000), ("refund", 1_000), ("refund", 5_000)]


@pytest.mark.parametrize("fault", ["timeout_after", "truncated", "error_500_before"])
def test_a_refund_whose_answer_is_lost_is_made_once(shop: Open, process: SimulatorProcess, fault: str) -> None:
    deps = shop({"refund_path": REFUNDS}, refund_path=REFUNDS)
    act(deps, process, open_order(deps), "pay")
    look(deps)
    process.control.fault(fault, account=name_of(deps), operation="refund", seconds=0.1)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert moved(deps) == [("capture", AMOUNT), ("refund", 4_000)]
    (session,) = process.control.orders(name_of(deps))
    assert [one["amount"] for one in session["refunds"]] == [4_000]


def test_a_refund_is_not_begun_where_no_call_can_make_it(shop: Open, process: SimulatorProcess) -> None:
    deps = shop()
    act(deps, process, open_order(deps), "pay")
    look(deps)
    assert give(deps, PaymentRefund, amount_minor=4_000, currency="AMD").outcome == "refused"
    assert moved(deps) == [("capture", AMOUNT)]


def test_a_refund_that_the_matrix_denies_moves_nothing_and_a_person_is_told(
    shop: Open, process: SimulatorProcess
) -> None:
    deps = shop({"refund_path": REFUNDS})
    act(deps, process, open_order(deps), "pay")
    look(deps)
    give(deps, PaymentRefund, amount_minor=4_000, currency="AMD")
    work(deps, rounds=4)
    assert (moved(deps), reasons(deps)) == ([("capture", AMOUNT)], {Reason.REFUND_FAILED})


@pytest.mark.parametrize("scheme", ["hmac-sha256-hex", "t-v1"])
@pytest.mark.parametrize("verification", ["ask", "trust_signed"])
def test_they_call_at_our_own_door_which_lets_their_signature_in_and_nothing_else(
    shop: Open, process: SimulatorProcess, scheme: str, verification: str
) -> None:
    named = {"signature_scheme": scheme}
    deps = shop(named, verification, **named)
    attempt = open_order(deps)
    asked = process.control.stats(name_of(deps))["calls"].get("get", 0)
    with served(deps) as address:
        door = f"{address}/webhooks/shop"
        for headers in ({}, {"x-vpos-signature": "0" * 64}):
            assert httpx.post(door, json={"id": "e"}, headers=headers, trust_env=False).status_code == 400
        process.control.configure(name_of(deps), webhook_url=door)
        process.control.fault("forged", account=name_of(deps))
        act(deps, process, attempt, "pay")
        told = eventually(
            lambda: process.control.stats(name_of(deps))["webhooks"],
            lambda told: told.get("delivered", 0) >= 1 and told.get("forged", 0) >= 1,
        )
        assert told.get("forged_answered_2xx", 0) == 0
    work(deps, "webhook-verification", rounds=3, hurry=False)
    assert (the_invoice(deps).status, moved(deps)) == (InvoiceStatus.PAID, [("capture", AMOUNT)])
    believed = verification == "trust_signed" and scheme == "t-v1"  # without a signed time it is a hint for ever
    assert (process.control.stats(name_of(deps))["calls"].get("get", 0) == asked) is believed
