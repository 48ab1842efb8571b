"""What the policy makes of odd money, new versions and amounts: through the whole pipeline, on both databases."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text, update

from contracts.commands import Command, InvoiceResolve, LinkCancel, LinkReissue, LinkResend, LinkRetry, PaymentVerify
from contracts.evidence import OrderState, TransactionKind
from contracts.messages import Policy
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import audit, customer_pages, links
from db.schema import links as link_rows
from db.types import db_after
from gateways.providers.base import CreateMode, Opens
from rules.pages import PageState, page_state
from rules.policy import LinkPolicy
from runtime.checkout import press_pay
from runtime.deps import Deps
from runtime.settings import PolicySettings, Route, Settings
from runtime.tokens import LinkTokens, token_hash
from tests.office_desk import CRM, breaches, give, open_order, pay
from tests.shop import accept, created, office, open_shop, reasons, shop, the_attempt, the_invoice, the_link, work
from tests.support import DATA_KEY, put


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, crms={"office": CRM}) as made:
        yield made
        work(made, rounds=2)
        assert breaches(made) == []


def send(deps: Deps, version: int = 1, amount: int = 10_000, **policy: Any) -> None:
    """The CRM sends a version; its link is made, and nobody has shown it yet."""
    put(deps.database, created(version, amount).model_copy(update={"policy": Policy(**policy)}))
    work(deps, "link-creation", rounds=1, hurry=False)


def all_links(deps: Deps) -> list[Any]:
    with deps.database.read() as tx:
        return list(tx.execute(link_rows.select().order_by(link_rows.c.number)).all())


def page_of(deps: Deps, link: Any) -> PageState:
    """Which page the customer sees."""
    with deps.database.read() as tx:
        view = customer_pages.by_token_hash(tx, link.token_hash)
    assert view is not None
    return page_state(view.facts)


# --- the rest -------------------------------------------------------------------------------------------------------


def test_the_rest_is_paid_by_the_same_link_and_asks_for_no_more_than_the_rest(deps: Deps) -> None:
    send(deps, partial="collect")
    pay(deps, open_order(deps), amount=4_000)
    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PENDING, ("partial",))
    assert (reasons(deps), the_link(deps).state) == (set(), LinkState.ACTIVE)
    assert page_of(deps, the_link(deps)) is PageState.REST

    second = open_order(deps)
    assert second.amount_minor == 6_000
    pay(deps, second, amount=6_000)

    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PAID, ())
    assert (the_link(deps).state, len(all_links(deps))) == (LinkState.SETTLED, 1)
    assert the_link(deps).amount_minor == 10_000, "the link's amount is locked"


def test_a_part_whose_link_ends_becomes_a_persons_case(deps: Deps) -> None:
    send(deps, partial="collect")
    pay(deps, open_order(deps), amount=4_000)
    with deps.database.begin() as tx:
        tx.execute(update(link_rows).values(expires_at=db_after(-1)))
        tx.execute(text("UPDATE messages SET available_at = created_at WHERE type = 'link.expire.v1'"))
    work(deps)

    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.MANUAL_REVIEW, {"partial_payment"})
    assert page_of(deps, the_link(deps)) is PageState.PARTLY_PAID


def test_a_part_that_a_person_must_look_at_shows_what_is_paid_and_takes_no_more(deps: Deps) -> None:
    send(deps)
    pay(deps, open_order(deps), amount=4_000)
    assert page_of(deps, the_link(deps)) is PageState.PARTLY_PAID
    assert press_pay(deps, the_link(deps).id).action == "refused"


def test_the_link_of_a_part_may_be_replaced_where_the_rest_is_collected(deps: Deps) -> None:
    send(deps, partial="collect")
    pay(deps, open_order(deps), amount=4_000)
    assert give(deps, LinkReissue).outcome == "done"
    work(deps, rounds=3)
    assert open_order(deps).amount_minor == 6_000
    pay(deps, the_attempt(deps), amount=6_000)
    assert the_invoice(deps).status == InvoiceStatus.PAID


def test_the_order_of_the_rest_whose_page_was_lost_is_replaced_by_one_for_the_rest(deps: Deps) -> None:
    """The provider answered nobody, and cannot show its page again: the next order must not ask for all."""
    send(deps, partial="collect")
    pay(deps, open_order(deps), amount=4_000)
    shop(deps).capabilities = replace(shop(deps).capabilities, create=CreateMode.UNIQUE)
    shop(deps).lost = True
    lost = open_order(deps)
    shop(deps).lost = False
    work(deps, "checkout", rounds=3)

    assert the_attempt(deps).number == lost.number + 1
    assert the_attempt(deps).amount_minor == 6_000
    pay(deps, the_attempt(deps), amount=6_000)
    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PAID, ())


@pytest.mark.parametrize("command", [LinkRetry, LinkReissue])
def test_an_order_that_a_command_opens_early_asks_for_the_rest_alone(deps: Deps, command: type[Command]) -> None:
    send(deps, partial="collect")
    pay(deps, open_order(deps), amount=4_000)
    shop(deps).capabilities = replace(shop(deps).capabilities, opens=Opens.EARLY)
    assert give(deps, command).outcome == "done"
    assert the_attempt(deps).amount_minor == 6_000
    work(deps, "link-creation", rounds=1, hurry=False)
    pay(deps, the_attempt(deps), amount=6_000)
    assert the_invoice(deps).status == InvoiceStatus.PAID


# --- what a person is to look at ------------------------------------------------------------------------------------


def test_money_by_an_old_link_waits_for_a_person_where_the_policy_says_so_and_he_may_take_it(deps: Deps) -> None:
    send(deps, old_link="review")
    old = open_order(deps)
    give(deps, LinkReissue)
    pay(deps, old)
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.MANUAL_REVIEW, {"old_link_payment"})
    assert press_pay(deps, the_link(deps).id).action == "refused", "nobody pays twice meanwhile"

    assert give(deps, InvoiceResolve, case="old_link_payment", reason="it is his").outcome == "done"
    work(deps)
    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PAID, ("old_link",))
    assert the_link(deps).state == LinkState.SETTLED


def test_money_on_the_old_link_pays_the_invoice_and_the_new_link_takes_none(deps: Deps) -> None:
    send(deps)
    old = open_order(deps)
    give(deps, LinkReissue)
    new = the_link(deps)
    assert new.id != old.link_id
    pay(deps, old)

    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PAID, ("old_link",))
    assert the_link(deps).state == LinkState.SETTLED
    assert press_pay(deps, new.id).action == "refused"
    assert page_of(deps, new) is PageState.PAID_ELSEWHERE


def test_too_much_money_is_no_task_where_the_policy_takes_it(deps: Deps) -> None:
    send(deps, over="accept")
    pay(deps, open_order(deps), amount=12_000)
    assert (the_invoice(deps).status, office(deps).record.flags) == (InvoiceStatus.PAID, ("overpaid",))
    assert (reasons(deps), office(deps).tasks) == (set(), {})


# --- new versions ---------------------------------------------------------------------------------------------------


def test_a_link_that_nobody_was_shown_takes_the_new_amount(deps: Deps) -> None:
    send(deps)
    before = the_link(deps)
    send(deps, 2, amount=25_000, expires_in=timedelta(days=30))

    (link,) = all_links(deps)
    assert (link.id, link.token_hash) == (before.id, before.token_hash)
    assert (link.amount_minor, link.invoice_version) == (25_000, 2)
    assert link.expires_at - before.expires_at > timedelta(days=22)
    assert LinkPolicy.kept(link.policy).expires_in == timedelta(days=30)
    with deps.database.read() as tx:
        deeds = [row.action for row in audit.of_subject(tx, the_invoice(deps).id)]
    assert deeds == ["link.created", "link.amended"]
    work(deps, "crm-update", rounds=2)
    assert office(deps).record.amount_minor == 25_000


@pytest.mark.parametrize("how", ["written to the CRM", "sent by a person", "an order was begun", "policy"])
def test_a_link_that_was_shown_is_replaced_by_a_new_version(deps: Deps, how: str) -> None:
    send(deps)
    before = the_link(deps)
    if how == "written to the CRM":
        work(deps, "crm-update", rounds=1, hurry=False)
    if how == "sent by a person":
        give(deps, LinkResend)
    if how == "an order was begun":
        press_pay(deps, before.id)
    send(deps, 2, amount=25_000, **({"unsent": "replace"} if how == "policy" else {}))

    old, new = all_links(deps)
    assert (old.state, old.amount_minor) == (LinkState.SUPERSEDED, 10_000)
    assert (new.state, new.amount_minor) == (LinkState.ACTIVE, 25_000)


def test_the_end_of_an_amended_link_is_its_new_one(deps: Deps) -> None:
    send(deps, expires_in=timedelta(minutes=5))
    send(deps, 2, expires_in=timedelta(days=30))
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET available_at = created_at WHERE type = 'link.expire.v1'"))
    work(deps)
    assert the_link(deps).state == LinkState.ACTIVE


def begin_to_pay(deps: Deps) -> Any:
    """The customer paid by a way that takes a while."""
    accept(deps)
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.PROCESSING
    give(deps, PaymentVerify)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    assert the_attempt(deps).state == AttemptState.PROCESSING
    return attempt


def test_a_version_that_comes_during_a_payment_waits_and_a_person_is_told(deps: Deps) -> None:
    attempt = begin_to_pay(deps)
    before = the_link(deps)
    put(deps.database, created(2, 25_000))
    work(deps, "link-creation", "manager-tasks", rounds=2)

    assert (the_link(deps).id, the_invoice(deps).amount_minor) == (before.id, 10_000)
    assert reasons(deps) == {"changed_during_payment"}
    assert len(office(deps).tasks) == 1

    shop(deps).orders[attempt.reference] = OrderState.DECLINED
    give(deps, PaymentVerify)
    work(deps, rounds=6)

    assert (the_link(deps).amount_minor, the_link(deps).state) == (25_000, LinkState.ACTIVE)
    assert (reasons(deps), the_invoice(deps).version) == (set(), 2)
    assert office(deps).closed == list(office(deps).tasks.values())


def test_a_version_that_comes_during_a_payment_which_succeeds_is_a_persons_case(deps: Deps) -> None:
    attempt = begin_to_pay(deps)
    put(deps.database, created(2, 25_000))
    work(deps, "link-creation", rounds=2)
    pay(deps, attempt)
    work(deps, rounds=6)

    assert (the_invoice(deps).status, the_invoice(deps).amount_minor) == (InvoiceStatus.PAID, 10_000)
    assert reasons(deps) == {"changed_after_payment"}


def test_two_versions_that_wait_end_in_the_newer_one(deps: Deps) -> None:
    attempt = begin_to_pay(deps)
    put(deps.database, created(2, 25_000))
    put(deps.database, created(3, 35_000))
    work(deps, "link-creation", rounds=2)
    shop(deps).orders[attempt.reference] = OrderState.DECLINED
    give(deps, PaymentVerify)
    work(deps, rounds=6)

    assert (the_invoice(deps).version, the_link(deps).amount_minor) == (3, 35_000)
    with deps.database.read() as tx:
        assert links.newest(tx, the_invoice(deps).id).state == LinkState.ACTIVE


# --- what the customer sees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [LinkCancel, None], ids=["cancelled", "expired"])
def test_a_link_that_ended_names_its_successor(deps: Deps, command: type[Command] | None) -> None:
    send(deps)
    old = the_link(deps)
    if command is not None:
        give(deps, command)
    else:
        with deps.database.begin() as tx:
            tx.execute(update(link_rows).values(expires_at=db_after(-1)))
            tx.execute(text("UPDATE messages SET available_at = created_at WHERE type = 'link.expire.v1'"))
        work(deps)
    assert page_of(deps, old) is (PageState.CANCELLED if command else PageState.EXPIRED)
    assert give(deps, LinkReissue).outcome == "done"

    assert page_of(deps, old) is PageState.REPLACED
    assert page_of(deps, the_link(deps)) is PageState.READY


def test_after_money_in_another_currency_went_back_the_customer_can_pay(deps: Deps) -> None:
    send(deps)
    attempt = open_order(deps)
    pay(deps, attempt, currency="USD")
    assert page_of(deps, the_link(deps)) is PageState.REVIEW
    (came,) = shop(deps).money[attempt.reference]
    back = came.model_copy(update={"kind": TransactionKind.REFUND, "provider_transaction_id": "t-back"})
    shop(deps).money[attempt.reference] = (came, back)
    give(deps, PaymentVerify)
    work(deps)

    assert (the_invoice(deps).status, page_of(deps, the_link(deps))) == (InvoiceStatus.PENDING, PageState.READY)
    pay(deps, open_order(deps))
    assert the_invoice(deps).status == InvoiceStatus.PAID


# --- the key of a link ----------------------------------------------------------------------------------------------


def test_a_new_link_key_breaks_no_link_that_is_out(deps: Deps) -> None:
    send(deps)
    old = the_link(deps)
    before = deps.tokens.url(old.id, old.generation, old.key_id)
    rotated = replace(deps, tokens=LinkTokens([("k2", "n" * 32), ("k1", "s" * 32)], "http://127.0.0.1:8080"))

    assert rotated.tokens.url(old.id, old.generation, old.key_id) == before
    assert give(rotated, LinkReissue).outcome == "done"
    new = the_link(deps)
    assert (old.key_id, new.key_id) == ("k1", "k2")
    for link in (old, new):
        token = rotated.tokens.url(link.id, link.generation, link.key_id).rpartition("/")[2]
        with deps.database.read() as tx:
            view = customer_pages.by_token_hash(tx, token_hash(token))
        assert view is not None
        assert view.link_id == link.id
    work(rotated)


# --- the account ----------------------------------------------------------------------------------------------------


def settings(**more: Any) -> Settings:
    account = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k"}
    given: dict[str, Any] = {
        "database_url": "sqlite://",
        "data_keys": [DATA_KEY],
        "link_keys": [{"id": "k1", "secret": "s" * 32}],
        "accounts": dict.fromkeys(("wallet", "bank", "other"), account),
    }
    return Settings(**{**given, **more})


def test_the_account_is_chosen_by_crm_currency_and_amount() -> None:
    crm = CRM.model_dump() | {"routing": {"AMD": [Route(account="other", up_to_minor=100)]}}
    found = settings(
        routing={"AMD": [{"account": "wallet", "up_to_minor": 5_000}, {"account": "bank"}], "*": "bank"},
        crms={"office": crm},
    )
    assert found.account_for("shop", "AMD", 5_000, None) == "wallet"
    assert found.account_for("shop", "AMD", 5_001, None) == "bank"
    assert found.account_for("shop", "USD", 1, None) == "bank"
    assert found.account_for("office", "AMD", 100, None) == "other"
    assert found.account_for("office", "AMD", 101, None) == "wallet", "what its own routes do not take, the others do"
    assert found.account_for("shop", "AMD", 1, "other") == "other"
    assert found.account_for("shop", "AMD", 1, "gone") is None


def test_an_amount_that_no_route_takes_has_no_account() -> None:
    found = settings(routing={"AMD": [{"account": "wallet", "up_to_minor": 5_000}]})
    assert found.account_for("shop", "AMD", 5_001, None) is None


@pytest.mark.parametrize(
    ("routing", "names"),
    [
        ({"AMD": [{"account": "bank"}, {"account": "wallet", "up_to_minor": 5}]}, "AMD"),
        ({"AMD": [{"account": "bank", "up_to_minor": 5}, {"account": "wallet", "up_to_minor": 5}]}, "AMD"),
        ({"AMD": []}, "AMD"),
        ({"XXX": "bank"}, "XXX"),
        ({"AMD": [{"account": "nobody"}]}, "nobody"),
        ({"AMD": [{"account": "bank", "up_to_minor": 0}]}, "up_to_minor"),
    ],
)
def test_routes_that_cannot_be_meant_are_refused_by_name(routing: dict[str, Any], names: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(routing=routing)
    assert names in str(caught.value)


def test_a_crms_routes_to_nowhere_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"crms\.office\.routing"):
        settings(crms={"office": CRM.model_dump() | {"routing": {"*": "nobody"}}})


@pytest.mark.parametrize("word", ["partial", "over", "late", "old_link", "unsent"])
def test_a_policy_word_that_nobody_knows_is_refused(word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        PolicySettings(**{word: "perhaps"})
