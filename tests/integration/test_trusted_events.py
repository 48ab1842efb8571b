"""Verification by account: an event hastens a question, or decides by itself where its account trusts signed ones."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.evidence import OrderState, ProviderTransaction, TransactionKind
from contracts.ids import new_id
from contracts.messages import ProviderEventReceived
from contracts.statuses import InvoiceStatus
from gateways.providers.base import ProviderEvent
from runtime.deps import Deps
from runtime.settings import AccountSettings
from tests.office_desk import breaches, open_order
from tests.shop import accept, open_shop, shop, the_invoice, work
from tests.support import put


def account(verification: str) -> AccountSettings:
    given = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "k", "verification": verification}
    return AccountSettings.model_validate(given)


@pytest.fixture
def deps(clean_url: str, request: pytest.FixtureRequest) -> Iterator[Deps]:
    with open_shop(clean_url, accounts={"shop": account(request.param)}) as made:
        accept(made)
        yield made
        work(made, hurry=False)
        assert breaches(made) == []


def event_comes(deps: Deps, attempt: Any) -> None:
    """The provider says in an event that the order was paid; it carries all facts."""
    shop(deps).orders[attempt.reference] = OrderState.PAID
    shop(deps).money[attempt.reference] = (
        ProviderTransaction(
            provider_transaction_id="t-1",
            kind=TransactionKind.CAPTURE,
            amount_minor=10_000,
            currency="AMD",
            occurred_at=datetime.now(UTC),
        ),
    )
    evidence = shop(deps).fetch_evidence(attempt.reference, None)
    order = "o-" + attempt.reference
    shop(deps).parse_event = lambda **_: ProviderEvent("e-1", "paid", attempt.reference, order, evidence)
    body = base64.b64encode(b"paid").decode()
    put(
        deps.database,
        ProviderEventReceived(account="shop", receipt=new_id(), received_at=datetime.now(UTC), body_base64=body),
    )


def nobody_answers(*_: Any) -> Any:
    raise AssertionError("the provider was asked")


@pytest.mark.parametrize("deps", ["trust_signed"], indirect=True)
def test_a_signed_event_with_all_facts_decides_where_the_account_trusts_it(deps: Deps) -> None:
    attempt = open_order(deps)
    event_comes(deps, attempt)
    real, shop(deps).fetch_evidence = shop(deps).fetch_evidence, nobody_answers
    work(deps, "webhook-verification", rounds=1, hurry=False)
    shop(deps).fetch_evidence = real
    assert the_invoice(deps).status == InvoiceStatus.PAID


@pytest.mark.parametrize("deps", ["ask"], indirect=True)
def test_otherwise_the_provider_is_asked(deps: Deps) -> None:
    attempt = open_order(deps)
    event_comes(deps, attempt)
    shop(deps).orders[attempt.reference] = OrderState.OPEN
    shop(deps).money[attempt.reference] = ()
    work(deps, "webhook-verification", rounds=2, hurry=False)
    assert the_invoice(deps).status == InvoiceStatus.PENDING, "what the provider itself says counts"


@pytest.mark.parametrize("deps", ["trust_signed"], indirect=True)
def test_an_event_that_is_not_signed_is_never_believed(deps: Deps) -> None:
    shop(deps).capabilities = replace(shop(deps).capabilities, signed_events=False)
    attempt = open_order(deps)
    event_comes(deps, attempt)
    shop(deps).orders[attempt.reference] = OrderState.OPEN
    shop(deps).money[attempt.reference] = ()
    work(deps, "webhook-verification", rounds=2, hurry=False)
    assert the_invoice(deps).status == InvoiceStatus.PENDING
