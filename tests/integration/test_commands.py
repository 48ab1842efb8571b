"""Commands about a link: what each does, what it refuses, and that one wish has one effect, on both databases."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text, update
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from contracts.commands import (
    Command,
    FiscalStatusChanged,
    InvoiceResolve,
    InvoiceReview,
    InvoiceSettledElsewhere,
    LinkCancel,
    LinkExtend,
    LinkReissue,
    LinkResend,
    LinkRetry,
    LinkSent,
    PaymentVerify,
)
from contracts.evidence import OrderState, TransactionKind
from contracts.messages import InvoiceCancelled, Policy
from contracts.statuses import AttemptState, InvoiceStatus, LinkState
from db import api_keys, attempts, links
from db.schema import links as link_rows
from db.types import db_after
from gateways.errors import Unavailable
from runtime.checkout import ask_for_link, press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from runtime.inbound import Incoming
from runtime.intake import take
from runtime.settings import PolicySettings
from tests.commands import run, use_settings
from tests.office_desk import CRM, answers, breaches, deeds, give, open_order, pay
from tests.shop import accept, created, office, open_shop, reasons, shop, the_invoice, the_link, work
from tests.support import DATA_KEY, put
from web.api import routes
from web.requests import RequestIds
from workers.executor import Executor


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url, crms={"office": CRM}) as made:
        accept(made)
        yield made
        assert breaches(made) == []


# --- each command ---------------------------------------------------------------------------------------------------


def test_three_resends_and_one_payment_are_three_log_rows_and_one_paid_write(deps: Deps) -> None:
    written: list[str] = []
    real = office(deps).write_result
    office(deps).write_result = lambda payable, result: (written.append(result.status), real(payable, result))
    link = the_link(deps)
    for _ in range(3):
        assert give(deps, LinkResend).outcome == "done"
    pay(deps, open_order(deps))

    resent = [row for row in deeds(deps) if row.action == "link.resent"]
    assert [(row.actor, row.reason) for row in resent] == [("crm:office:17", "asked")] * 3
    assert written.count("paid") == 1
    assert the_link(deps).id == link.id
    assert office(deps).record.status is InvoiceStatus.PAID


def test_a_link_that_was_sent_is_noted_with_a_masked_address(deps: Deps) -> None:
    sent_at = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
    give(deps, LinkSent, channel="email", recipient="ani@example.am", sent_at=sent_at)

    (row,) = [row for row in deeds(deps) if row.action == "link.sent"]
    detail = json.loads(row.detail)
    assert (detail["channel"], detail["recipient"], detail["sent_at"]) == ("email", "a***@e***.am", sent_at.isoformat())
    assert the_link(deps).sent_at is not None
    with deps.database.read() as tx:
        for table in ("messages", "message_history", "audit"):
            column = "detail" if table == "audit" else "payload"
            texts = tx.execute(text(f"SELECT {column} FROM {table}")).scalars()
            assert not any("ani@example.am" in one for one in texts)


def test_a_cancelled_link_is_closed_at_the_provider_and_takes_no_payment(deps: Deps) -> None:
    attempt = open_order(deps)

    assert give(deps, LinkCancel, reason="pays in cash").outcome == "done"
    work(deps, rounds=4)

    assert the_link(deps).state == LinkState.CANCELLED
    assert the_invoice(deps).status == InvoiceStatus.CANCELLED == office(deps).record.status
    assert shop(deps).orders[attempt.reference] is OrderState.CANCELLED
    assert press_pay(deps, the_link(deps).id).action == "refused"
    again = give(deps, LinkCancel)
    assert (again.outcome, again.detail) == ("done", "it was cancelled before")
    assert [row.reason for row in deeds(deps) if row.action == "link.cancelled"] == ["pays in cash"]


def test_an_expired_link_can_be_cancelled(deps: Deps) -> None:
    expire(deps)
    assert give(deps, LinkCancel).outcome == "done"
    assert the_link(deps).state == LinkState.CANCELLED


def test_money_on_the_old_link_pays_the_invoice_and_the_new_link_can_no_longer_be_paid(deps: Deps) -> None:
    old = open_order(deps)
    shop(deps).before_answer = lambda order: None
    assert give(deps, LinkReissue, expires_in=timedelta(days=3)).outcome == "done"
    new = the_link(deps)
    pay(deps, old)

    assert new.id != old.link_id
    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert json.loads(the_invoice(deps).flags) == ["old_link"]
    assert the_link(deps).state == LinkState.SETTLED
    assert press_pay(deps, new.id).action == "refused"


def test_a_reissued_link_replaces_the_old_one_at_the_provider_too(deps: Deps) -> None:
    old = open_order(deps)
    before = the_link(deps)

    answer = give(deps, LinkReissue, expires_in=timedelta(days=3))
    new = the_link(deps)
    work(deps, rounds=4)

    assert answer.link == new.id
    with deps.database.read() as tx:
        assert links.get(tx, before.id).state == LinkState.SUPERSEDED
    assert shop(deps).orders[old.reference] is OrderState.CANCELLED
    assert timedelta(days=2, hours=23) < new.expires_at - datetime.now(UTC) < timedelta(days=3, hours=1)
    assert press_pay(deps, before.id).action == "refused"
    assert press_pay(deps, new.id).action == "new"
    (row,) = [row for row in deeds(deps) if row.action == "link.reissued"]
    assert (row.actor, row.reason) == ("crm:office:17", "asked")


def test_an_expired_or_cancelled_link_is_reissued(deps: Deps) -> None:
    for end in (lambda: expire(deps), lambda: give(deps, LinkCancel)):
        end()
        assert give(deps, LinkReissue).outcome == "done"
        assert the_link(deps).state == LinkState.ACTIVE
        assert the_invoice(deps).status == InvoiceStatus.PENDING


def test_nothing_is_reissued_while_a_payment_is_running(deps: Deps) -> None:
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.PROCESSING
    give(deps, PaymentVerify)
    work(deps, "webhook-verification", rounds=1, hurry=False)
    link = the_link(deps)

    for model in (LinkReissue, LinkRetry):
        answer = give(deps, model)
        assert answer.outcome == "refused"
        assert "a payment is running" in answer.detail
    assert the_link(deps).id == link.id


def test_a_retry_closes_the_open_order_and_pay_begins_a_new_one(deps: Deps) -> None:
    first = open_order(deps)
    link = the_link(deps)

    assert give(deps, LinkRetry).outcome == "done"
    work(deps, rounds=4)
    second = open_order(deps)

    assert second.id != first.id
    assert (second.link_id, second.state) == (link.id, AttemptState.OPEN)
    assert shop(deps).orders[first.reference] is OrderState.CANCELLED


def test_an_extended_link_outlives_the_end_that_was_planned_before(deps: Deps) -> None:
    link = the_link(deps)
    assert give(deps, LinkExtend, expires_in=timedelta(days=30)).outcome == "done"
    fire_ends(deps, only_first=True)
    assert the_link(deps).state == LinkState.ACTIVE
    assert the_link(deps).expires_at > link.expires_at + timedelta(days=22)

    expire(deps)
    assert the_link(deps).state == LinkState.EXPIRED


def test_a_link_can_be_shortened(deps: Deps) -> None:
    give(deps, LinkExtend, expires_in=timedelta(minutes=5))
    assert the_link(deps).expires_at < datetime.now(UTC) + timedelta(minutes=6)
    expire(deps)
    assert the_link(deps).state == LinkState.EXPIRED


def test_verify_finds_a_payment_of_which_nobody_told(deps: Deps) -> None:
    pay(deps, open_order(deps))
    assert the_invoice(deps).status == InvoiceStatus.PAID
    assert any(row.action == "payment.verified" for row in deeds(deps))


PAST = {"amount_minor": 10_000, "currency": "AMD", "method": "bank_transfer", "reference": "PO 4711"}


def test_what_was_paid_past_the_link_closes_it_and_says_so(deps: Deps) -> None:
    attempt = open_order(deps)
    at = datetime(2026, 11, 25, 9, tzinfo=UTC)

    assert give(deps, InvoiceSettledElsewhere, **PAST, settled_at=at).outcome == "done"
    work(deps, rounds=4)

    invoice, record = the_invoice(deps), office(deps).record
    assert (invoice.status, json.loads(invoice.flags), invoice.paid_minor) == ("paid", ["settled_elsewhere"], 0)
    assert (record.status, record.paid_at, record.provider) == (InvoiceStatus.PAID, at, None)
    assert the_link(deps).state == LinkState.SETTLED
    assert shop(deps).orders[attempt.reference] is OrderState.CANCELLED
    assert press_pay(deps, the_link(deps).id).action == "refused"
    (row,) = [row for row in deeds(deps) if row.action == "invoice.settled_elsewhere"]
    assert json.loads(row.detail)["reference"] == "PO 4711"


def test_money_in_flight_of_an_invoice_that_was_paid_past_its_link_needs_a_person(deps: Deps) -> None:
    attempt = open_order(deps)
    give(deps, InvoiceSettledElsewhere, **PAST)
    pay(deps, attempt)

    invoice = the_invoice(deps)
    assert (invoice.status, json.loads(invoice.flags)) == ("paid", ["duplicate", "settled_elsewhere"])
    assert reasons(deps) == {"duplicate_payment"}
    with deps.database.read() as tx:
        rules = tx.execute(text("SELECT rule_id FROM verdicts")).scalars().all()
    assert "elsewhere.second" in rules

    moved = shop(deps).money[attempt.reference]
    back = moved[0].model_copy(update={"provider_transaction_id": "r", "kind": TransactionKind.REFUND})
    shop(deps).money[attempt.reference] = (*moved, back)
    give(deps, PaymentVerify)
    with deps.database.begin() as tx:
        request_check(tx, attempts.get(tx, attempt.id))
    work(deps, rounds=4)
    assert reasons(deps) == set(), "the second payment went back"
    assert the_invoice(deps).status == InvoiceStatus.PAID


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"amount_minor": 9_999}, "the invoice asks for"), ({"currency": "USD"}, "the invoice asks for")],
)
def test_another_amount_is_not_settled(deps: Deps, changes: dict[str, Any], named: str) -> None:
    answer = give(deps, InvoiceSettledElsewhere, **{**PAST, **changes})
    assert (answer.outcome, named in answer.detail) == ("refused", True)
    assert the_link(deps).state == LinkState.ACTIVE


def test_a_payment_that_is_still_to_come_settles_nothing(deps: Deps) -> None:
    answer = give(deps, InvoiceSettledElsewhere, **PAST, settled_at=datetime.now(UTC) + timedelta(days=366))
    assert (answer.outcome, "still to come" in answer.detail) == ("refused", True)
    assert the_invoice(deps).status == InvoiceStatus.PENDING


def test_a_settlement_by_mistake_is_undone_by_the_crm(deps: Deps) -> None:
    give(deps, InvoiceSettledElsewhere, **PAST)
    put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
    work(deps, rounds=2)
    assert the_invoice(deps).status == InvoiceStatus.CANCELLED

    put(deps.database, created(2, 20_000))
    work(deps, rounds=2)
    assert (the_invoice(deps).status, the_invoice(deps).amount_minor) == (InvoiceStatus.PENDING, 20_000)
    assert (the_link(deps).state, the_link(deps).amount_minor) == (LinkState.ACTIVE, 20_000)
    assert press_pay(deps, the_link(deps).id).action == "new"


def test_a_new_version_of_what_was_paid_past_its_link_needs_a_person(deps: Deps) -> None:
    give(deps, InvoiceSettledElsewhere, **PAST)
    put(deps.database, created(2, 20_000))
    work(deps, rounds=2)
    assert (the_invoice(deps).amount_minor, the_invoice(deps).status) == (10_000, InvoiceStatus.PAID)
    assert reasons(deps) == {"changed_after_payment"}


def test_trap_21_a_customers_wish_for_a_new_link_is_one_task_until_there_is_one(deps: Deps) -> None:
    expire(deps)
    for _ in range(3):
        ask_for_link(deps, the_link(deps).id)
    work(deps, rounds=3, hurry=False)

    assert reasons(deps) == {"link_wanted"}
    assert the_invoice(deps).status == InvoiceStatus.EXPIRED, "a wish is no review"
    assert len(office(deps).tasks) == 1

    give(deps, LinkReissue)
    work(deps, rounds=3, hurry=False)
    assert reasons(deps) == set()
    assert office(deps).closed == list(office(deps).tasks.values())


def test_nobody_needs_a_new_link_for_what_is_paid(deps: Deps) -> None:
    old = open_order(deps)
    expire(deps)
    ask_for_link(deps, the_link(deps).id)
    work(deps, rounds=3, hurry=False)
    pay(deps, old)
    assert (reasons(deps), the_invoice(deps).status) == (set(), InvoiceStatus.PAID)
    ask_for_link(deps, the_link(deps).id)
    work(deps, rounds=3, hurry=False)
    assert reasons(deps) == set()


def test_an_invoice_that_is_marked_for_review_is_not_paid_until_that_is_resolved(deps: Deps) -> None:
    assert give(deps, InvoiceReview, reason="disputed").outcome == "done"
    work(deps, rounds=2, hurry=False)

    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.MANUAL_REVIEW, {"marked_for_review"})
    assert press_pay(deps, the_link(deps).id).action == "refused"
    assert len(office(deps).tasks) == 1

    assert give(deps, InvoiceResolve, case="marked_for_review", reason="agreed").outcome == "done"
    work(deps, rounds=2, hurry=False)
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PENDING, set())
    assert office(deps).closed == list(office(deps).tasks.values())
    assert press_pay(deps, the_link(deps).id).action == "new"
    assert [row.reason for row in deeds(deps) if row.action == "exception.resolved"] == ["agreed"]


def test_money_of_another_currency_is_not_resolved_by_a_word(deps: Deps) -> None:
    pay(deps, open_order(deps), currency="USD")
    assert reasons(deps) == {"wrong_currency"}
    refused = give(deps, InvoiceResolve, case="wrong_currency")
    assert (refused.outcome, "closes by itself" in refused.detail) == ("refused", True)
    unknown = give(deps, InvoiceResolve, case="nothing")
    assert (unknown.outcome, "open are: wrong_currency" in unknown.detail) == ("refused", True)
    assert reasons(deps) == {"wrong_currency"}


def test_a_part_that_a_person_takes_pays_the_invoice_and_says_that_it_is_a_part(deps: Deps) -> None:
    pay(deps, open_order(deps), amount=4_000)
    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.MANUAL_REVIEW, {"partial_payment"})

    assert give(deps, InvoiceResolve, case="partial_payment", reason="the rest is a discount").outcome == "done"
    work(deps, rounds=4)

    assert (the_invoice(deps).status, reasons(deps)) == (InvoiceStatus.PAID, set())
    assert office(deps).record.flags == ("partial",)
    assert the_link(deps).state == LinkState.SETTLED
    assert office(deps).closed == list(office(deps).tasks.values())


def test_what_a_person_accepted_is_asked_again_when_more_money_moves(deps: Deps) -> None:
    attempt = open_order(deps)
    pay(deps, attempt, amount=12_000)
    assert give(deps, InvoiceResolve, case="overpaid", reason="a credit, as agreed").outcome == "done"
    give(deps, PaymentVerify)
    work(deps, rounds=4)
    assert reasons(deps) == set(), "the same money again changes nothing"

    money = shop(deps).money[attempt.reference]
    shop(deps).money[attempt.reference] = (
        *money,
        money[0].model_copy(update={"provider_transaction_id": "t-more", "amount_minor": 500}),
    )
    give(deps, PaymentVerify)
    work(deps, rounds=4)

    assert reasons(deps) == {"overpaid"}
    assert the_invoice(deps).paid_minor == 12_500


# --- what is refused ------------------------------------------------------------------------------------------------

EVERY = (LinkResend, LinkCancel, LinkReissue, LinkRetry, LinkExtend)


def _of(model: type[Command]) -> dict[str, Any]:
    if model is InvoiceSettledElsewhere:
        return PAST
    return {"expires_in": timedelta(days=1)} if model is LinkExtend else {}


@pytest.mark.parametrize("model", [*EVERY, InvoiceSettledElsewhere])
def test_a_paid_invoice_is_left_alone(deps: Deps, model: type[Command]) -> None:
    pay(deps, open_order(deps))
    answer = give(deps, model, **_of(model))
    assert (answer.outcome, the_invoice(deps).status) == ("refused", InvoiceStatus.PAID)
    assert "paid" in answer.detail


@pytest.mark.parametrize("model", [*EVERY, InvoiceSettledElsewhere])
def test_a_command_for_an_unknown_invoice_says_so(deps: Deps, model: type[Command]) -> None:
    answer = give(deps, model, invoice_id="nobody", **_of(model))
    assert answer.outcome == "refused"
    assert "no invoice of this name" in answer.detail


@pytest.mark.parametrize("model", EVERY)
def test_a_policy_forbids(clean_sqlite: str, model: type[Command]) -> None:
    words = ("resend", "cancel", "reissue", "retry", "extend")
    with open_shop(clean_sqlite, crms={"office": CRM}, policy=PolicySettings(**dict.fromkeys(words, False))) as deps:
        accept(deps)
        answer = give(deps, model, **_of(model))
        assert (answer.outcome, answer.detail) == ("refused", "the policy of this link does not allow it")


def test_what_the_crm_cancelled_is_not_reissued(deps: Deps) -> None:
    put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
    work(deps, rounds=2)
    assert "the CRM cancelled the invoice" in give(deps, LinkReissue).detail


# --- one wish, one effect -------------------------------------------------------------------------------------------


def test_the_same_wish_again_is_one_wish(deps: Deps) -> None:
    for _ in range(3):
        give(deps, LinkReissue, wish="once")
    with deps.database.read() as tx:
        count = tx.execute(text("SELECT count(*) FROM links")).scalar_one()
    assert (count, len(answers(deps))) == (2, 1)


@pytest.mark.parametrize("clean_url", ["postgresql"], indirect=True)  # SQLite has one writer: no such moment
def test_conflicting_commands_at_the_same_moment_have_one_effect_each(deps: Deps) -> None:
    wishes = [
        model(crm="office", invoice_id="I-1", actor=str(number), reason="now", wish=str(number))
        for number, model in enumerate([LinkCancel, LinkReissue] * 5)
    ]
    put(deps.database, *wishes)
    executors = [Executor(deps, ["commands"]) for _ in range(4)]
    threads = [threading.Thread(target=one.serve, args=("commands",)) for one in executors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    work(deps, rounds=6)

    with deps.database.read() as tx:
        states = tx.execute(text("SELECT state FROM links ORDER BY number")).scalars().all()
    assert len(answers(deps)) == 10
    assert states.count("active") <= 1
    assert len(states) == 6, "the first link, and one for each reissue"


# --- policy ---------------------------------------------------------------------------------------------------------


def test_the_most_specific_word_counts_and_is_kept_with_the_link(clean_sqlite: str) -> None:
    crm = CRM.model_copy(update={"policy": PolicySettings(attempts=2, resend=False)})
    deployment = PolicySettings(expires_in=timedelta(days=1), attempts=9, cancel=False)
    with open_shop(clean_sqlite, crms={"office": crm}, policy=deployment) as deps:
        put(deps.database, created().model_copy(update={"policy": Policy(resend=True)}))
        work(deps, "link-creation", rounds=1, hurry=False)
        kept = json.loads(the_link(deps).policy)

        assert (kept["expires_in"], kept["attempts"], kept["resend"], kept["cancel"]) == ("P1D", 2, True, False)
        changed = deps.settings.model_copy(update={"policy": PolicySettings(cancel=True)})
        object.__setattr__(deps, "settings", changed)
        assert give(deps, LinkCancel).outcome == "refused", "the policy that was in force when the link was made"


def test_the_number_of_attempts_is_bounded(clean_sqlite: str) -> None:
    with open_shop(clean_sqlite, crms={"office": CRM}, policy=PolicySettings(attempts=2)) as deps:
        accept(deps)
        for _ in range(2):
            attempt = open_order(deps)
            shop(deps).orders[attempt.reference] = OrderState.DECLINED
            give(deps, PaymentVerify)
            work(deps, rounds=2)
        result = press_pay(deps, the_link(deps).id)
        assert (result.action, result.reason) == ("refused", "exhausted")


def test_a_policy_is_checked_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {
        "database_url": f"sqlite:///{tmp_path}/a.db",
        "data_keys": [DATA_KEY],
        "link_keys": [{"id": "k1", "secret": "s" * 32}],
        "policy": {"expires_in": "PT0S", "attempts": 0, "amount_lock": False},
    }
    use_settings(monkeypatch, tmp_path, settings)
    result = run("check-config")
    assert result.exit_code == 3
    for named in ("policy.expires_in", "policy.attempts", "policy.amount_lock"):
        assert named in result.output


# --- the doors ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(deps: Deps) -> Iterator[TestClient]:
    with deps.database.begin() as tx:
        secret = api_keys.create(tx, "test", ("office",), actor="ani", reason="test")[1]
    with TestClient(Starlette(routes=routes(deps), middleware=[Middleware(RequestIds)])) as made:
        made.headers["authorization"] = f"Bearer {secret}"
        yield made


@pytest.fixture
def worker(deps: Deps) -> Iterator[None]:
    """Serve the queues that a door waits for."""
    over = threading.Event()

    def serve() -> None:
        executor = Executor(deps, ["commands", "webhook-verification", "refunds"])
        while not over.wait(0.02):
            for queue in executor.queues:
                executor.serve(queue)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    over.set()
    thread.join(10)


WHO = {"crm": "office", "invoice_id": "I-1", "actor": "17", "reason": "asked"}


def test_over_http_the_answer_tells_what_was_done(deps: Deps, client: TestClient, worker: None) -> None:
    answer = client.post("/v1/commands/link.cancel", json=WHO, headers={"idempotency-key": "a"})
    again = client.post("/v1/commands/link.cancel", json=WHO, headers={"idempotency-key": "a"})

    assert (answer.status_code, answer.json()["status"]) == (200, "done")
    assert again.json()["command_id"] == answer.json()["command_id"]
    assert client.get(answer.json()["href"]).json()["detail"] == "the link is cancelled"
    assert the_link(deps).state == LinkState.CANCELLED


def test_over_http_a_verification_tells_what_the_provider_says_beside_what_we_hold(
    deps: Deps, client: TestClient, worker: None
) -> None:
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.PROCESSING
    told = client.post("/v1/commands/payment.verify", json=WHO).json()

    assert told["is_complete"] is True
    (order,) = told["orders"]
    assert (order["ours"], order["theirs"]) == ("processing", "processing")
    assert order["provider_order_id"] == "o-" + attempt.reference
    assert order["asked_at"] is not None


def test_over_http_a_verification_without_an_answer_says_so(
    deps: Deps, client: TestClient, worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = open_order(deps)
    shop(deps).fetch_evidence = lambda *_: (_ for _ in ()).throw(Unavailable("down"))
    monkeypatch.setattr("web.api.COMMAND_SECONDS", 0.5)
    told = client.post("/v1/commands/payment.verify", json=WHO).json()
    assert (told["is_complete"], told["orders"][0]["attempt"]) == (False, attempt.id)
    del shop(deps).fetch_evidence


def test_over_http_a_refusal_is_a_conflict_with_a_remedy(client: TestClient, worker: None) -> None:
    answer = client.post("/v1/commands/link.resend", json={**WHO, "invoice_id": "other"})
    assert answer.status_code == 409
    assert "send the invoice first" in answer.json()["errors"][0]["problem"]


def test_over_http_a_command_without_a_worker_is_accepted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.api.COMMAND_SECONDS", 0.2)
    answer = client.post("/v1/commands/link.resend", json=WHO)
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")


def test_a_command_that_does_not_fit_its_address_is_not_carried_out(deps: Deps, client: TestClient) -> None:
    event = {"specversion": "1.0", "id": "e", "source": "/crm/office", "type": "link.reissue.v1", "data": WHO}
    answer = client.post("/v1/commands/link.cancel", json=event)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "type")
    with deps.database.read() as tx:
        assert tx.execute(text("SELECT count(*) FROM messages WHERE queue = 'commands'")).scalar_one() == 0


def test_over_http_a_command_that_gave_up_is_told(deps: Deps, client: TestClient) -> None:
    put(deps.database, LinkResend(**WHO, wish="w"))
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET state = 'dead' WHERE type = 'link.resend.v1'"))
        (command,) = tx.execute(text("SELECT id FROM messages WHERE type = 'link.resend.v1'")).scalars()
    answer = client.get(f"/v1/commands/{command}")
    assert (answer.status_code, "support can try it again" in answer.text) == (500, True)


@pytest.mark.parametrize(
    ("name", "body", "status", "named"),
    [
        ("link.burn", WHO, 404, "link.cancel, link.extend"),
        ("link.cancel", {**WHO, "crm": "other"}, 403, "crm"),
        ("link.cancel", {**WHO, "reason": ""}, 400, "reason"),
        ("link.cancel", {name: value for name, value in WHO.items() if name != "actor"}, 400, "actor"),
        ("link.extend", {**WHO, "expires_in": "PT0S"}, 400, "PT5M to P366D"),
        ("link.extend", {**WHO, "expires_in": "P10Y"}, 400, "PT5M to P366D"),
        ("link.sent", {**WHO, "channel": "pigeon"}, 400, "channel"),
    ],
)
def test_over_http_bad_input_is_named(
    client: TestClient, name: str, body: dict[str, Any], status: int, named: str
) -> None:
    answer = client.post(f"/v1/commands/{name}", json=body)
    assert answer.status_code == status
    assert named in answer.text


def test_a_strangers_command_is_not_shown(deps: Deps, client: TestClient, worker: None) -> None:
    command = client.post("/v1/commands/link.resend", json=WHO).json()["command_id"]
    with deps.database.begin() as tx:
        secret = api_keys.create(tx, "other", ("elsewhere",), actor="ani", reason="test")[1]
    assert client.get(f"/v1/commands/{command}", headers={"authorization": f"Bearer {secret}"}).status_code == 404
    assert client.get("/v1/commands/nobody").status_code == 404


def test_by_amqp_a_command_is_answered_with_the_link(deps: Deps) -> None:
    data = {**WHO, "by": "operator", "wish": "imitated"}
    event = {"specversion": "1.0", "id": "e-1", "source": "/crm/office", "type": "link.reissue.v1", "data": data}
    incoming = Incoming(body=json.dumps(event).encode(), channel="amqp", routing_key="link.reissue")
    first, again = take(deps, [incoming]) + take(deps, [incoming])
    work(deps, "commands", rounds=1, hurry=False)

    assert (first.outcome, again.outcome) == ("accepted", "duplicate")
    (answer,) = answers(deps)
    assert (answer.outcome, answer.link) == ("done", the_link(deps).id)
    (row,) = [row for row in deeds(deps) if row.action == "link.reissued"]
    assert row.actor == "crm:office:17", "a CRM's user is no operator, whatever he writes"
    sent: list[Any] = []
    deps_with_events = replace(deps, events=SimpleNamespace(publish=lambda key, body, message_id: sent.append(body)))
    work(deps_with_events, "outbound", rounds=1, hurry=False)
    published = [json.loads(body) for body in sent if b"command.answered" in body]
    link = the_link(deps)
    assert [one["data"]["link_url"] for one in published] == [deps.tokens.url(link.id, link.generation, link.key_id)]


def test_the_name_of_a_command_with_other_content_is_a_conflict(deps: Deps, client: TestClient, worker: None) -> None:
    client.post("/v1/commands/link.resend", json=WHO, headers={"idempotency-key": "k"})
    other = client.post("/v1/commands/link.resend", json={**WHO, "reason": "else"}, headers={"idempotency-key": "k"})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (409, "Idempotency-Key")


def test_by_the_command_line(
    deps: Deps, worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean_url: str
) -> None:
    settings = {
        "database_url": clean_url,
        "data_keys": [DATA_KEY],
        "link_keys": [{"id": "k1", "secret": "s" * 32}],
        "crms": {"office": {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "token": "t" * 16}},
    }
    use_settings(monkeypatch, tmp_path, settings)
    old = the_link(deps)

    reissued = run("link", "reissue", "I-1", "--reason", "wrong address", "--actor", "karen", "--json")
    assert reissued.exit_code == 0, reissued.output
    new = the_link(deps)
    said = json.loads(reissued.stdout[reissued.stdout.index("{") :])  # the worker's log stands before it
    assert said["link_url"] == deps.tokens.url(new.id, new.generation, new.key_id)
    assert new.id != old.id
    assert "done: " in run("link", "cancel", "office/I-1", "--reason", "cash", "--actor", "karen").stdout
    refused = run("link", "extend", the_invoice(deps).id, "--expires-in", "P1D", "--reason", "r")
    assert (refused.exit_code, "reissue makes a new one" in refused.output) == (1, True)
    assert run("link", "cancel", "I-1").exit_code == 2
    assert run("link", "cancel", "nothing", "--reason", "r").exit_code == 1
    actors = {row.actor for row in deeds(deps) if row.action in ("link.reissued", "link.cancelled")}
    assert actors == {"operator:karen"}


def test_by_the_command_line_the_providers_answer_stands_beside_ours_and_money_goes_back(
    deps: Deps, worker: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean_url: str
) -> None:
    account = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1/main", "api_key": "k", "webhook_secrets": ["s"]}
    use_settings(
        monkeypatch,
        tmp_path,
        {
            "database_url": clean_url,
            "data_keys": [DATA_KEY],
            "link_keys": [{"id": "k1", "secret": "s" * 32}],
            "crms": {"office": {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "token": "t" * 16}},
            "accounts": {"shop": account},
        },
    )
    attempt = open_order(deps)
    shop(deps).orders[attempt.reference] = OrderState.DECLINED
    verified = run("link", "verify", "I-1", "--reason", "he says that he paid")
    assert verified.exit_code == 0, verified.output
    order = "o-" + attempt.reference
    (line,) = [line for line in verified.stdout.splitlines() if order in line and "stage" not in line]
    assert line.split()[:4] == ["shop", order, "failed", "declined"]

    pay(deps, open_order(deps))
    back = run("link", "refund", "I-1", "--amount-minor", "100", "--currency", "AMD", "--reason", "a part came back")
    assert (back.exit_code, "is on its way" in back.output) == (0, True)
    much = run("link", "refund", "I-1", "--amount-minor", "999999", "--currency", "AMD", "--reason", "all")
    assert (much.exit_code, "no payment has so much left" in much.output) == (1, True)
    lone = run("link", "refund", "I-1", "--amount-minor", "100", "--reason", "no currency")
    assert (lone.exit_code, "amount_minor and currency go together" in lone.output) == (1, True)
    none = run("link", "approve-refund", "I-1", "nothing", "--reason", "yes")
    assert (none.exit_code, "no refund of this id waits" in none.output) == (1, True)
    work(deps, rounds=4)


# --- time -----------------------------------------------------------------------------------------------------------


def expire(deps: Deps) -> None:
    """Let the time of the newest link be over."""
    with deps.database.begin() as tx:
        tx.execute(update(link_rows).where(link_rows.c.id == the_link_id(tx, deps)).values(expires_at=db_after(-1)))
    fire_ends(deps)


def the_link_id(tx: Any, deps: Deps) -> str:
    found = links.newest(tx, tx.execute(text("SELECT id FROM invoices WHERE external_id = 'I-1'")).scalar_one())
    return str(found.id)


def fire_ends(deps: Deps, *, only_first: bool = False) -> None:
    """Make the ends of links due now, and serve them."""
    with deps.database.begin() as tx:
        found = tx.execute(
            text("SELECT id FROM messages WHERE type = 'link.expire.v1' AND state = 'ready' ORDER BY id")
        ).scalars()
        for message_id in list(found)[: 1 if only_first else None]:
            tx.execute(
                text("UPDATE messages SET available_at = created_at WHERE id = :id"),
                {"id": message_id},
            )
    work(deps, "link-creation", rounds=1, hurry=False)


# --- the fiscal receipt ---------------------------------------------------------------------------------------------


def test_the_crm_is_told_of_each_state_of_the_receipt_and_the_payment_is_not_touched(deps: Deps) -> None:
    pay(deps, open_order(deps))
    told: list[str] = []
    real = office(deps).write_result
    office(deps).write_result = lambda payable, result: (told.append(result.fiscal_status), real(payable, result))
    for status in ("pending", "failed", "issued", "issued", "returned"):
        assert give(deps, FiscalStatusChanged, actor="1c", status=status, receipt_no="00012345").outcome == "done"
        work(deps, "crm-update", rounds=2)

    assert told == ["pending", "failed", "issued", "returned"], "the same word again is told to nobody"
    assert the_invoice(deps).status == InvoiceStatus.PAID
    trail = [json.loads(row.detail) for row in deeds(deps) if row.action == "fiscal.changed"]
    assert [(one["before"], one["status"]) for one in trail][-1] == ("issued", "returned")
    assert {one["receipt_no"] for one in trail} == {"00012345"}
    work(deps)


def test_a_receipt_that_was_issued_does_not_become_pending_again(deps: Deps) -> None:
    give(deps, FiscalStatusChanged, actor="1c", status="issued")
    answer = give(deps, FiscalStatusChanged, actor="1c", status="pending")
    assert (answer.outcome, "it can become returned" in answer.detail) == ("refused", True)
    work(deps, rounds=2)
