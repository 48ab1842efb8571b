"""Every row of the verdict table, driven through intake, checkout, verification, CRM and tasks, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update

from contracts.commands import InvoiceSettledElsewhere, LinkCancel, LinkReissue
from contracts.evidence import OrderState, ProviderTransaction
from contracts.messages import InvoiceCancelled, Policy
from db import attempts, ledger
from db.prove import prove
from db.schema import links as link_rows
from db.types import db_after
from rules.verdict_table import ASKED, CASES, CURRENCY, Case, decide
from runtime.checkout import press_pay
from runtime.checks import request_check
from runtime.deps import Deps
from tests.shop import created, office, open_shop, reasons, shop, the_attempt, the_invoice, the_link, work
from tests.support import put

WHO = {"crm": "office", "invoice_id": "I-1", "actor": "17", "reason": "asked", "wish": "w"}


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    with open_shop(clean_url) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_pipeline_decides_as_the_table_says(deps: Deps, case: Case) -> None:
    policy = Policy.model_validate(case.policy.model_dump(exclude_defaults=True))
    put(deps.database, created(1, ASKED).model_copy(update={"policy": policy}))
    work(deps, "link-creation", rounds=1, hurry=False)
    press_pay(deps, the_link(deps).id)
    work(deps, "checkout", rounds=1, hurry=False)
    attempt = the_attempt(deps)
    assert shop(deps).orders == {attempt.reference: OrderState.OPEN}

    before_the_money(deps, case)
    money_comes(deps, case, attempt)
    verify(deps, attempt)
    if case.cancelled == "after":
        put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
        work(deps, "link-creation", rounds=1, hurry=False)
        verify(deps, attempt)

    if case.by == "late":
        the_link_ends(deps)

    decided, invoice = decide(case), the_invoice(deps)
    with deps.database.read() as tx:
        assert ledger.rules_seen(tx) == ledger.rules_of(tx, invoice.id) == decided.rules
        assert ledger.last_rules(tx, attempt.id) == decided.rules
    assert (invoice.status, reasons(deps)) == (decided.status, decided.tasks)
    assert office(deps).record.status == decided.status
    assert tuple(office(deps).record.flags) == tuple(decided.flags)
    opened, closed = office(deps).tasks.values(), office(deps).closed
    assert len(set(opened) - set(closed)) == len(decided.tasks), "one open task for each"
    assert [breach for found in prove(deps.database).values() for breach in found.breaches] == []


def before_the_money(deps: Deps, case: Case) -> None:
    """Let happen to link and invoice what the case says."""
    if case.by == "late":
        with deps.database.begin() as tx:
            tx.execute(update(link_rows).values(expires_at=db_after(-60)))
        the_link_ends(deps)
    if case.by == "old":
        put(deps.database, LinkReissue(**WHO))
    if case.by == "cancelled":
        put(deps.database, LinkCancel(**WHO))
    if case.cancelled == "before":
        put(deps.database, InvoiceCancelled(crm="office", invoice_id="I-1", version=1))
    if case.elsewhere:
        put(deps.database, InvoiceSettledElsewhere(**WHO, amount_minor=ASKED, currency=CURRENCY, method="cash"))
    work(deps, "link-creation", "commands", rounds=2, hurry=False)


def the_link_ends(deps: Deps) -> None:
    with deps.database.begin() as tx:
        tx.execute(text("UPDATE messages SET available_at = created_at WHERE type = 'link.expire.v1'"))
    work(deps, rounds=3, hurry=False)


def money_comes(deps: Deps, case: Case, attempt: Any) -> None:
    now = datetime.now(UTC)
    shop(deps).orders[attempt.reference] = case.order
    shop(deps).money[attempt.reference] = tuple(
        ProviderTransaction(
            provider_transaction_id=f"t-{place}",
            kind=moved.kind,
            amount_minor=moved.amount_minor,
            currency=moved.currency,
            occurred_at=now + timedelta(milliseconds=place if moved.minute is None else moved.minute),
        )
        for place, moved in enumerate(case.moved)
    )


def verify(deps: Deps, attempt: Any) -> None:
    with deps.database.begin() as tx:
        request_check(tx, attempts.get(tx, attempt.id))
    work(deps, rounds=4, hurry=False)
