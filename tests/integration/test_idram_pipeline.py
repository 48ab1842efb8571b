"""An invoice that is paid from a simulated Idram wallet, through our real door and pages, on both databases.

SIMULATED: Idram was not asked.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text, update

from contracts.commands import LinkCancel, LinkReissue, PaymentRefund
from contracts.statuses import AttemptState, InvoiceStatus, Proof
from db.schema import links
from gateways.providers.idram import IdramProvider
from runtime.build import PROVIDERS_GROUP, installed
from runtime.deps import Deps
from runtime.settings import AccountSettings
from sandbox.launch import SimulatorProcess
from tests.customer import BROWSER, Workers, path_of, served, state_of
from tests.office_desk import breaches, give, open_order
from tests.shop import accept, created, office, open_shop, reasons, the_attempt, the_invoice, the_link, work
from tests.support import put

SECRET = "secret-key-of-the-merchant"
AMOUNT = 10_000


@pytest.fixture(scope="module")
def wallet() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("idram") as process:
        yield process


@dataclass
class World:
    """An installation whose one account is at the wallet, its door, and a customer's browser."""

    deps: Deps
    wallet: SimulatorProcess
    account: str
    browser: httpx.Client

    @property
    def door(self) -> str:
        return f"{self.browser.base_url}/webhooks/shop"

    def handover(self) -> tuple[str, dict[str, str]]:
        """Press Pay; return where the form on our page leads, and what it holds."""
        with Workers(self.deps):
            page = self.browser.post(f"{path_of(self.deps, the_link(self.deps))}/pay")
        assert (page.status_code, state_of(page)) == (200, "handover")
        (action,) = re.findall(r'action="([^"]*GetPayment)"', page.text)
        held = re.findall(r'name="(EDP_[A-Z_]+)" value="([^"]*)"', page.text)
        return unescape(action), {name: unescape(value) for name, value in held}

    def pay(self, form: dict[str, str]) -> httpx.Response:
        """Post a form and press Pay there; return the answer that sends the browser back."""
        page = self.browser.post(f"{self.wallet.base_url}/Payment/GetPayment", data=form)
        return self.browser.post(page.headers["location"], data={"action": "pay"})

    def at_idram(self) -> list[dict[str, Any]]:
        return [one for bill in self.wallet.control.orders(self.account) for one in bill["transactions"]]

    def configure(self, **settings: Any) -> None:
        self.wallet.control.configure(self.account, **settings)

    def work(self) -> None:
        work(self.deps, hurry=False)

    def confirm(self, secret: str = SECRET, **changes: str) -> httpx.Response:
        """Post a confirmation of somebody's own making."""
        told = {
            "EDP_BILL_NO": the_attempt(self.deps).reference,
            "EDP_REC_ACCOUNT": self.account,
            "EDP_PAYER_ACCOUNT": "910055577",
            "EDP_AMOUNT": "100.00",
            "EDP_TRANS_ID": str(10**13 + secrets.randbelow(10**13)),
            "EDP_TRANS_DATE": f"{datetime.now(UTC) + timedelta(hours=4):%d/%m/%Y}",
        } | changes
        order = ("EDP_REC_ACCOUNT", "EDP_AMOUNT", "", "EDP_BILL_NO", "EDP_PAYER_ACCOUNT", "EDP_TRANS_ID")
        signed = ":".join([*(told[name] if name else secret for name in order), told["EDP_TRANS_DATE"]])
        told["EDP_CHECKSUM"] = hashlib.md5(signed.encode()).hexdigest()
        return httpx.post(self.door, data=told, trust_env=False)


@pytest.fixture
def world(clean_url: str, wallet: SimulatorProcess) -> Iterator[World]:
    account = str(10**11 + secrets.randbelow(9 * 10**11))
    idram = IdramProvider("shop", wallet.base_url, "none", (SECRET,), rec_account=account)
    settings = AccountSettings(adapter="idram", base_url=wallet.base_url, api_key=SecretStr("none"))
    with ExitStack() as stack:
        stack.enter_context(closing(idram))
        deps = stack.enter_context(open_shop(clean_url, accounts={"shop": settings}))
        deps = replace(deps, providers={"shop": idram})
        address = stack.enter_context(served(deps))
        browser = stack.enter_context(httpx.Client(base_url=address, headers=BROWSER, timeout=20, trust_env=False))
        way_back = f"{address}/back/shop"
        wallet.control.configure(
            account, secret=SECRET, result_url=f"{address}/webhooks/shop", success_url=way_back, fail_url=way_back
        )
        accept(deps)
        yield World(deps, wallet, account, browser)
        assert [one for one in breaches(deps) if "nobody took it" not in one.what] == []


def moved(world: World) -> list[tuple[str, int, str]]:
    with world.deps.database.read() as tx:
        rows = tx.execute(text("SELECT kind, amount_minor, proof FROM transactions ORDER BY created_at, id")).all()
        return [(row.kind, row.amount_minor, row.proof) for row in rows]


PAID = [("capture", AMOUNT, "signed_event")]


def test_the_adapter_is_installed() -> None:
    assert "idram" in installed(PROVIDERS_GROUP)


def test_the_customer_presses_pay_posts_the_form_and_the_confirmation_pays_the_invoice(world: World) -> None:
    action, form = world.handover()
    reference = the_attempt(world.deps).reference
    assert action == f"{world.wallet.base_url}/Payment/GetPayment"
    assert form == {
        "EDP_LANGUAGE": form["EDP_LANGUAGE"],
        "EDP_REC_ACCOUNT": world.account,
        "EDP_DESCRIPTION": "p",
        "EDP_AMOUNT": "100.00",
        "EDP_BILL_NO": reference,
    }
    back = world.pay(form)
    assert back.headers["location"] == f"{world.browser.base_url}/back/shop"
    home = world.browser.get(back.headers["location"])
    assert home.headers["location"] == f"{path_of(world.deps, the_link(world.deps))}/return"
    (there,) = world.at_idram()
    assert (there["state"], there["answers"]) == ("completed", ["200 OK"])

    world.work()
    assert (the_invoice(world.deps).status, the_attempt(world.deps).state) == (InvoiceStatus.PAID, AttemptState.PAID)
    assert moved(world) == PAID
    told = office(world.deps).record
    assert (told.status, told.provider_reference, told.proof) == (InvoiceStatus.PAID, there["id"], Proof.SIGNED_EVENT)
    assert reasons(world.deps) == set()


def test_a_link_that_is_paid_takes_no_second_payment(world: World) -> None:
    _, form = world.handover()
    world.pay(form)
    world.work()
    world.pay(form)  # the page that the browser still has in another tab
    assert len(world.at_idram()) == 1
    assert moved(world) == PAID


@pytest.mark.parametrize("amount", ["1", "99.99", "100.01", "10000", "0.01"])
def test_another_amount_than_the_links_moves_no_money(world: World, amount: str) -> None:
    _, form = world.handover()
    world.pay(form | {"EDP_AMOUNT": amount})
    assert world.at_idram() == []
    world.pay(form | {"EDP_AMOUNT": "100"})  # written otherwise, it is the same money
    world.work()
    assert moved(world) == PAID


@pytest.mark.parametrize("command", [LinkCancel, LinkReissue])
def test_a_link_that_was_cancelled_or_replaced_moves_no_money(world: World, command: Any) -> None:
    _, form = world.handover()
    give(world.deps, command)
    world.pay(form)
    assert world.at_idram() == []
    world.work()
    assert moved(world) == []


def test_an_expired_link_moves_no_money(world: World) -> None:
    _, form = world.handover()
    with world.deps.database.begin() as tx:
        tx.execute(update(links).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    world.pay(form)
    assert world.at_idram() == []


def test_an_older_versions_form_moves_no_money_and_the_new_links_does(world: World) -> None:
    _, old = world.handover()
    put(world.deps.database, created(version=2, amount=12_000))
    work(world.deps, "link-creation", rounds=2, hurry=False)
    world.pay(old)
    assert world.at_idram() == []
    _, form = world.handover()
    assert (form["EDP_AMOUNT"], form["EDP_BILL_NO"] != old["EDP_BILL_NO"]) == ("120.00", True)
    world.pay(form)
    world.work()
    assert moved(world) == [("capture", 12_000, "signed_event")]


def test_a_bill_that_is_nobodys_moves_no_money(world: World) -> None:
    _, form = world.handover()
    world.pay(form | {"EDP_BILL_NO": "1806"})
    assert world.at_idram() == []


def test_a_question_is_no_payment_however_often_it_is_asked(world: World) -> None:
    attempt = open_order(world.deps)
    question = {
        "EDP_PRECHECK": "YES",
        "EDP_BILL_NO": attempt.reference,
        "EDP_REC_ACCOUNT": world.account,
        "EDP_AMOUNT": "100.00",
    }
    answers = [httpx.post(world.door, data=question, trust_env=False) for _ in range(3)]
    assert [(one.status_code, one.text == "OK") for one in answers] == [(200, True), (409, False), (409, False)]
    world.work()
    assert (the_invoice(world.deps).status, moved(world)) == (InvoiceStatus.PENDING, [])


def test_a_forged_confirmation_changes_nothing_and_cancels_nothing(world: World) -> None:
    attempt = open_order(world.deps)
    forgeries = [
        world.confirm("a-guess"),
        world.confirm("none"),  # the api_key
        world.confirm(EDP_REC_ACCOUNT="100000114"),
        httpx.post(world.door, data={"EDP_BILL_NO": attempt.reference, "EDP_AMOUNT": "100.00"}, trust_env=False),
        httpx.post(world.door, content=b"\xff", trust_env=False),
        httpx.get(world.door, params={"EDP_BILL_NO": attempt.reference}, trust_env=False),
    ]
    assert {one.status_code for one in forgeries} == {400}  # an error: Idram itself would let its money stand
    world.work()
    assert (the_invoice(world.deps).status, moved(world)) == (InvoiceStatus.PENDING, [])


def test_a_confirmation_that_comes_twice_pays_once(world: World) -> None:
    _, form = world.handover()
    world.configure(confirm="duplicate")
    world.pay(form)
    world.work()
    world.wallet.control.act(form["EDP_BILL_NO"], "repeat", account=world.account)
    world.work()
    assert (the_invoice(world.deps).status, moved(world)) == (InvoiceStatus.PAID, PAID)


def test_an_amount_that_differs_after_all_is_a_persons_case(world: World) -> None:
    _, form = world.handover()
    world.configure(confirm="wrong_amount")
    world.pay(form)
    world.work()
    assert moved(world) == [("capture", AMOUNT * 2, "signed_event")]
    assert reasons(world.deps) != set()


def test_money_that_was_let_through_before_the_link_was_cancelled_is_not_lost(world: World) -> None:
    _, form = world.handover()
    world.configure(confirm="lost")
    world.pay(form)
    give(world.deps, LinkCancel)
    world.configure(confirm="")
    world.wallet.control.act(form["EDP_BILL_NO"], "repeat", account=world.account)
    world.work()
    assert moved(world) == PAID
    assert world.at_idram()[0]["answers"] == ["200 OK"]


def test_two_payments_of_one_bill_are_both_kept(world: World) -> None:
    """Money moves twice where Idram asked nobody; the second is a person's case, never silently swallowed."""
    _, form = world.handover()
    world.configure(skip_precheck=True)
    world.pay(form)
    world.pay(form)
    world.work()
    assert moved(world) == PAID * 2
    assert (the_invoice(world.deps).paid_minor, reasons(world.deps) != set()) == (2 * AMOUNT, True)


def test_a_refund_is_refused_with_the_way_to_make_it_and_is_never_said_to_be_done(world: World) -> None:
    _, form = world.handover()
    world.pay(form)
    world.work()
    answer = give(world.deps, PaymentRefund)
    assert (answer.outcome, "no money back by a call" in answer.detail) == ("refused", True)
    work(world.deps, rounds=4)
    assert (moved(world), the_invoice(world.deps).refunded_minor) == (PAID, 0)


def test_a_confirmation_while_we_are_away_cancels_nothing_and_counts_when_it_is_sent_again(world: World) -> None:
    _, form = world.handover()
    reference = form["EDP_BILL_NO"]
    world.configure(skip_precheck=True, result_url="http://127.0.0.1:9/")
    world.pay(form)
    assert world.at_idram()[0]["state"] == "completed"
    world.configure(result_url=world.door)
    world.wallet.control.act(reference, "repeat", account=world.account)
    world.work()
    assert (the_invoice(world.deps).status, moved(world)) == (InvoiceStatus.PAID, PAID)


def test_a_signed_payment_that_cannot_be_read_ends_where_a_person_sees_it(world: World) -> None:
    open_order(world.deps)
    answer = world.confirm(EDP_AMOUNT="100,00")
    assert (answer.status_code, answer.text) == (200, "OK")
    work(world.deps, "webhook-verification", rounds=14)
    with world.deps.database.read() as tx:
        dead = tx.execute(text("SELECT error FROM messages WHERE state = 'dead'")).scalars().all()
    assert ["amount cannot be read" in one for one in dead] == [True]
    assert (the_invoice(world.deps).status, moved(world)) == (InvoiceStatus.PENDING, [])


def test_a_payment_of_a_bill_that_nobody_here_made_lies_in_the_inbox(world: World) -> None:
    open_order(world.deps)
    assert world.confirm(EDP_BILL_NO="1806").text == "OK"
    work(world.deps, "webhook-verification", rounds=30)
    assert moved(world) == PAID
    assert (the_invoice(world.deps).status, the_invoice(world.deps).paid_minor) == (InvoiceStatus.PENDING, 0)
