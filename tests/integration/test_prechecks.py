"""A provider that takes a form, asks before money moves, and cannot be asked: through the real door, both databases."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from contracts.commands import LinkCancel, LinkReissue
from contracts.evidence import Evidence, OrderState, ProviderTransaction, TransactionKind
from contracts.statuses import AttemptState, InvoiceStatus, Proof
from db import invoices
from db.database import Database
from db.schema import attempts, links
from gateways.errors import Refused
from gateways.providers.base import OrderRequest, Precheck, ProviderEvent, ProviderOrder, References
from runtime.deps import Deps
from runtime.settings import AccountSettings
from tests.customer import BROWSER, Workers, path_of, served, state_of
from tests.office_desk import breaches, give, open_order
from tests.shop import (
    CAPABILITIES,
    Shop,
    accept,
    created,
    due_now,
    office,
    open_shop,
    reasons,
    shop,
    the_attempt,
    the_invoice,
    the_link,
    work,
)
from tests.support import put
from workers import decisions

PAGE = "https://kiosk.example/pay"
KIOSK = replace(
    CAPABILITIES,
    lookup=False,
    cancel=False,
    refund=False,
    refund_idempotent=False,
    precheck=True,
    answer="OK",
    settle=timedelta(minutes=1),
)


@dataclass
class Kiosk(Shop):
    """`ask <reference> <amount> <currency>` asks; `paid <reference> <amount>` is a signed confirmation."""

    capabilities: Any = KIOSK

    def create_order(self, order: OrderRequest) -> ProviderOrder:
        fields = {"BILL": order.reference, "AMOUNT": str(order.amount_minor), "NOTE": '"<b>'}
        return ProviderOrder(order.reference, order.reference, PAGE, None, pay_fields=fields)

    def check_event(self, *, body: bytes, **_: Any) -> str | None:
        if not body.startswith(b"paid "):
            raise Refused("forged", code="bad_signature")
        return None

    def parse_precheck(self, *, body: bytes, **_: Any) -> Precheck | None:
        words = body.decode().split()
        if words[0] != "ask":
            return None
        if len(words) != 4:
            raise Refused("not readable", code="unreadable")
        return Precheck(words[1], int(words[2]), words[3])

    def parse_event(self, *, body: bytes, **_: Any) -> ProviderEvent:
        self.check_event(body=body)
        _, reference, amount = body.decode().split()
        capture = ProviderTransaction(
            provider_transaction_id=f"t-{reference}",
            kind=TransactionKind.CAPTURE,
            amount_minor=int(amount),
            currency="AMD",
            occurred_at=datetime.now(UTC),
        )
        evidence = Evidence(
            reference=reference,
            provider_order_id=reference,
            state=OrderState.PAID,
            transactions=(capture,),
            asked_at=datetime.now(UTC),
        )
        return ProviderEvent(None, "paid", reference, reference, evidence)


def account(**more: Any) -> AccountSettings:
    given = {"adapter": "sandbox", "base_url": "https://kiosk.example", "api_key": "k", **more}
    return AccountSettings.model_validate(given)


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, accounts={"shop": account()}) as made:
        made = replace(made, providers={"shop": Kiosk()})
        accept(made)
        yield made
        # `work` makes due at once what waits for its time, which is no breach of the system's.
        assert [one for one in breaches(made) if "nobody took it" not in one.what] == []


@pytest.fixture
def door(deps: Deps) -> Iterator[httpx.Client]:
    with ExitStack() as stack:
        address = stack.enter_context(served(deps))
        yield stack.enter_context(httpx.Client(base_url=address, headers=BROWSER, timeout=20, trust_env=False))


def earlier(deps: Deps, column: Any, row: str, by: timedelta) -> None:
    """Let a time lie further back."""
    with deps.database.begin() as tx:
        tx.execute(update(column.table).where(column.table.c.id == row).values({column: datetime.now(UTC) - by}))


def asked(door: httpx.Client, reference: str, amount: int = 10_000, currency: str = "AMD") -> httpx.Response:
    return door.post("/webhooks/shop", content=f"ask {reference} {amount} {currency}")


def may_move(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.text) == (200, "OK")


def confirmed(door: httpx.Client, reference: str, amount: int = 10_000) -> httpx.Response:
    return door.post("/webhooks/shop", content=f"paid {reference} {amount}")


def test_the_customer_takes_the_form_pays_and_the_invoice_says_how_it_was_proven(
    deps: Deps, door: httpx.Client
) -> None:
    with Workers(deps):
        page = door.post(f"{path_of(deps, the_link(deps))}/pay")
    assert (page.status_code, state_of(page)) == (200, "handover")
    assert f'action="{PAGE}"' in page.text
    reference = the_attempt(deps).reference
    told = dict(re.findall(r'name="([A-Z]+)" value="([^"]*)"', page.text))
    assert told == {"BILL": reference, "AMOUNT": "10000", "NOTE": "&#34;&lt;b&gt;"}

    assert may_move(asked(door, reference))
    assert the_invoice(deps).status == InvoiceStatus.PENDING  # a question proves nothing
    assert may_move(confirmed(door, reference))  # the literal word, nothing else
    work(deps, hurry=False)
    assert (the_invoice(deps).status, the_attempt(deps).state) == (InvoiceStatus.PAID, AttemptState.PAID)
    assert office(deps).record.proof == Proof.SIGNED_EVENT
    assert not may_move(asked(door, reference))


def test_the_way_back_leads_the_browser_that_left_to_its_link_and_nobody_else(deps: Deps, door: httpx.Client) -> None:
    stranger = door.get("/back/shop")
    assert (stranger.status_code, state_of(stranger)) == (200, "come_back")
    open_order(deps)
    door.post(f"{path_of(deps, the_link(deps))}/pay")
    back = door.get("/back/shop", params={"EDP_BILL_NO": "whatever"})
    assert (back.status_code, back.headers["location"]) == (303, f"{path_of(deps, the_link(deps))}/return")
    door.cookies.clear()
    door.cookies.set("paylinks_way_back", "https://evil.example/")
    assert state_of(door.get("/back/shop")) == "come_back"


@pytest.mark.parametrize(
    ("amount", "currency"), [(9_999, "AMD"), (10_001, "AMD"), (10_000, "USD"), (0, "AMD"), (-10_000, "AMD")]
)
def test_other_money_never_moves(deps: Deps, door: httpx.Client, amount: int, currency: str) -> None:
    attempt = open_order(deps)
    answer = asked(door, attempt.reference, amount, currency)
    assert (answer.status_code, answer.json()["detail"]) == (409, "order: other_amount")


def test_an_unknown_order_and_a_broken_question_are_no_yes(deps: Deps, door: httpx.Client) -> None:
    open_order(deps)
    assert asked(door, "somebody-elses").json()["detail"] == "order: unknown_order"
    assert door.post("/webhooks/shop", content=b"ask").status_code == 400


@pytest.mark.parametrize("command", [LinkCancel, LinkReissue])
def test_no_money_moves_by_a_link_that_is_cancelled_or_replaced(deps: Deps, door: httpx.Client, command: Any) -> None:
    attempt = open_order(deps)
    give(deps, command)
    answer = asked(door, attempt.reference)
    assert answer.status_code == 409
    assert answer.json()["detail"] in ("order: closed", "order: link_superseded")


def test_no_money_moves_by_an_expired_link_even_before_its_expiry_was_worked_on(deps: Deps, door: httpx.Client) -> None:
    attempt = open_order(deps)
    earlier(deps, links.c.expires_at, the_link(deps).id, timedelta(days=99))
    assert asked(door, attempt.reference).json()["detail"] == "order: link_expired"


def test_no_money_moves_for_a_new_versions_old_order(deps: Deps, door: httpx.Client) -> None:
    attempt = open_order(deps)
    put(deps.database, created(version=2, amount=12_000))
    work(deps, "link-creation", rounds=2, hurry=False)
    assert not may_move(asked(door, attempt.reference))


def test_two_who_pay_the_same_order_at_the_same_moment_are_not_both_let_through(deps: Deps, door: httpx.Client) -> None:
    attempt = open_order(deps)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: may_move(asked(door, attempt.reference)), range(8)))
    assert answers.count(True) == 1
    # Whoever was let through and did not pay after all may try again a little later.
    earlier(deps, attempts.c.prechecked_at, attempt.id, timedelta(seconds=61))
    assert may_move(asked(door, attempt.reference))


def test_a_yes_that_nobody_confirmed_becomes_a_persons_case(deps: Deps, door: httpx.Client) -> None:
    attempt = open_order(deps)
    assert may_move(asked(door, attempt.reference))
    check_later(deps)
    assert reasons(deps) == set()
    earlier(deps, attempts.c.prechecked_at, attempt.id, timedelta(hours=1))
    check_later(deps)
    assert (reasons(deps), the_invoice(deps).status) == ({"provider_outcome_unknown"}, InvoiceStatus.MANUAL_REVIEW)
    assert decisions.give_up_attempt(deps, attempt.id, actor="ani", reason="nothing in the cabinet")
    assert (the_attempt(deps).state, reasons(deps)) == (AttemptState.CLOSED, set())
    # The confirmation comes after all.
    confirmed(door, attempt.reference)
    work(deps)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def check_later(deps: Deps) -> None:
    due_now(deps)
    work(deps, "status-checks", rounds=1, hurry=False)


@pytest.mark.parametrize("clean_url", ["postgresql"], indirect=True)  # SQLite waits for as long as 15 seconds
def test_no_lock_no_yes(deps: Deps, door: httpx.Client, clean_url: str) -> None:
    attempt = open_order(deps)
    # Another process: threads of one process wait for each other where there is one writer.
    other = Database(clean_url, deps.database.sealer)
    with other.begin() as tx:
        invoices.lock(tx, attempt.invoice_id)
        answer = asked(door, attempt.reference)
    other.dispose()
    assert (answer.status_code, answer.json()["detail"]) == (409, "order: unavailable")
    assert may_move(asked(door, attempt.reference))


def test_numbers_count_up_for_each_account_and_end_where_the_bank_says(clean_url: str) -> None:
    settings = account(order_numbers={"first": 7, "last": 8})
    with open_shop(clean_url, accounts={"shop": settings}) as deps:
        shop(deps).capabilities = replace(CAPABILITIES, reference=References.NUMBER)
        accept(deps)
        first = open_order(deps)
        assert (first.reference, first.state) == ("7", AttemptState.OPEN)
        shop(deps).orders["7"] = OrderState.EXPIRED
        due_now(deps)
        work(deps, rounds=2)
        assert open_order(deps).reference == "8"
        shop(deps).orders["8"] = OrderState.EXPIRED
        due_now(deps)
        work(deps, rounds=2)
        open_order(deps)
        assert the_attempt(deps).reference == "8"
        assert reasons(deps) == {"provider_refused"}
