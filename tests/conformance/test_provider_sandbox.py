"""The sandbox adapter against the sandbox's provider, a process of its own: what is peculiar to it and its families.

What every adapter does is asked in test_every_provider, of each family too.
"""

import hashlib
import hmac
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.evidence import Evidence, OrderState, TransactionKind
from contracts.ids import new_id
from gateways.errors import GatewayError, LoginRefused, Refused, Unavailable, Unknown
from gateways.providers.base import CreateMode, Opens, OrderRequest, Provider, ProviderEvent, RefundRequest
from gateways.providers.sandbox import Family, SandboxProvider
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.launch import ProviderProcess, StartError
from tests.conformance.receiver import Received, Receiver

API_KEY = "key-of-the-merchant"
WEBHOOK_SECRET = "secret-of-the-webhook"
FAMILIES = [family.value for family in Family]
ASKABLE = ["idempotent", "unique", "overwrites"]
CALL_FAULTS = ["timeout_before", "timeout_after", "error_500_before", "error_500_after", "rate_limited_429"]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def provider_process() -> Iterator[ProviderProcess]:
    with ProviderProcess(
        api_key=API_KEY, arguments=("--webhook-pauses", "0.05,0.1", "--webhook-tries", "6")
    ) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@pytest.fixture
def control(provider_process: ProviderProcess) -> ProviderControl:
    return provider_process.control


Open = Callable[[str], tuple[SandboxProvider, str]]


@pytest.fixture
def open_account(provider_process: ProviderProcess, receiver: Receiver) -> Iterator[Open]:
    """Opens a fresh account of a family; returns its adapter and its name."""
    adapters: list[SandboxProvider] = []

    def open_one(family: str) -> tuple[SandboxProvider, str]:
        account = f"acc-{new_id()}"
        provider_process.control.configure(
            account, api_key=API_KEY, family=family, webhook_url=receiver.url, webhook_secret=WEBHOOK_SECRET
        )
        adapters.append(adapter_for(provider_process, account, family))
        return adapters[-1], account

    yield open_one
    for adapter in adapters:
        adapter.close()


def adapter_for(process: ProviderProcess, account: str, family: str, *secrets: str) -> SandboxProvider:
    return SandboxProvider(
        name=account,
        base_url=process.account_url(account),
        api_key=API_KEY,
        webhook_secrets=secrets or (WEBHOOK_SECRET,),
        family=family,
        opens=Opens.AT_PAY,
        session_life=timedelta(minutes=20),
        settle=timedelta(seconds=5),
    )


def order(**changes: Any) -> OrderRequest:
    request = OrderRequest(
        reference=new_id(),
        amount_minor=1_500_000,
        currency="AMD",
        description="Կանխավճար, договор 17",
        return_url="https://pay.example.am/l/token/return?lang=hy",
        expires_in=timedelta(minutes=10),
        locale="hy",
    )
    return replace(request, **changes)


def evidence_of(provider: Provider, reference: str) -> Evidence:
    evidence = provider.fetch_evidence(reference, None)
    assert evidence is not None
    return evidence


def parse(provider: Provider, received: Received) -> ProviderEvent:
    return provider.parse_event(
        method="POST", query="", headers=received.headers, body=received.body, received_at=received.received_at
    )


def received_count(receiver: Receiver, count: int) -> list[Received]:
    return eventually(lambda: list(receiver.received), lambda received: len(received) >= count)


# --- create and look up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_created_order_has_a_page_an_end_and_a_request_id(open_account: Open, family: str) -> None:
    provider, _ = open_account(family)
    before = datetime.now(UTC)
    created = provider.create_order(order(reference="INV-1001-1"))
    assert created.reference == "INV-1001-1"
    assert created.pay_url is not None
    assert httpx.get(created.pay_url).status_code == 200
    assert created.expires_at is not None
    assert timedelta(minutes=9) < created.expires_at - before < timedelta(minutes=11)
    assert created.provider_request_id
    assert created.pay_url not in repr(created)


def test_an_order_lives_no_longer_than_the_account_allows(open_account: Open) -> None:
    provider, _ = open_account("idempotent")
    created = provider.create_order(order(expires_in=timedelta(days=7)))
    assert created.expires_at is not None
    assert created.expires_at - datetime.now(UTC) <= timedelta(minutes=20)


@pytest.mark.parametrize("family", FAMILIES)
def test_capabilities_say_what_the_family_does(open_account: Open, family: str) -> None:
    provider, _ = open_account(family)
    capabilities = provider.capabilities
    expected = {
        "idempotent": (CreateMode.IDEMPOTENT, True, True),
        "unique": (CreateMode.UNIQUE, True, False),
        "overwrites": (CreateMode.OVERWRITES, True, True),
        "no_lookup": (CreateMode.UNIQUE, False, False),
    }
    assert (capabilities.create, capabilities.lookup, capabilities.lookup_gives_page) == expected[family]
    assert capabilities.cancel
    assert capabilities.refund_idempotent
    assert capabilities.signed_events


def test_an_idempotent_provider_gives_the_first_order_again(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("idempotent")
    request = order()
    first, second = provider.create_order(request), provider.create_order(request)
    assert (second.provider_order_id, second.pay_url) == (first.provider_order_id, first.pay_url)
    with pytest.raises(Refused) as caught:
        provider.create_order(replace(request, amount_minor=1))
    assert caught.value.code == "other_parameters"
    assert control.stats(account)["orders_per_reference"] == {request.reference: 1}


def test_the_process_itself_answers_no_question_where_none_is_offered(
    open_account: Open, provider_process: ProviderProcess
) -> None:
    _, account = open_account("no_lookup")
    asker = adapter_for(provider_process, account, "idempotent")
    created = asker.create_order(order())
    for question in (
        lambda: asker.find_order(created.reference),
        lambda: asker.fetch_evidence(created.reference, created.provider_order_id),
        lambda: asker.list_orders(datetime.now(UTC) - HOUR, datetime.now(UTC)),
    ):
        with pytest.raises(Refused) as caught:
            question()
        assert caught.value.code == "not_offered"
    asker.close()


def test_a_wrong_account_or_key_is_never_taken_for_no_such_order(provider_process: ProviderProcess) -> None:
    wrong_account = adapter_for(provider_process, "nobody", "idempotent")
    with pytest.raises(Refused) as caught:
        wrong_account.find_order("x")
    assert caught.value.code == "unknown_account"
    wrong_key = SandboxProvider("x", provider_process.account_url(), "wrong", ("s",), family="unique")
    with pytest.raises(LoginRefused):
        wrong_key.fetch_evidence("x", None)
    wrong_account.close()
    wrong_key.close()


def test_an_answer_about_another_order_is_not_believed(open_account: Open) -> None:
    provider, _ = open_account("idempotent")
    created = provider.create_order(order())
    with pytest.raises(Unknown) as caught:
        provider.fetch_evidence("another-reference", created.provider_order_id)
    assert caught.value.code == "other_order"


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"currency": "amd"},
        {"reference": "with space"},
        {"reference": "x" * 65},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "/relative"},
        {"description": "x" * 513},
        {"expires_in": timedelta(0)},
    ],
)
def test_a_bad_order_is_refused(open_account: Open, changes: dict[str, Any]) -> None:
    provider, _ = open_account("idempotent")
    with pytest.raises(Refused) as caught:
        provider.create_order(order(**changes))
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("family", FAMILIES)
def test_creates_at_the_same_moment_make_one_order(open_account: Open, control: ProviderControl, family: str) -> None:
    provider, account = open_account(family)
    request = order()

    def create(_: int) -> str | None:
        try:
            return provider.create_order(request).provider_order_id
        except Refused:
            return None

    with ThreadPoolExecutor(8) as pool:
        ids = {created for created in pool.map(create, range(8)) if created}
    assert len(ids) == 1
    stats = control.stats(account)
    assert (stats["create_calls"], stats["orders_created"]) == (8, 1)


# --- what happens to an order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ASKABLE)
def test_declines_may_be_followed_by_a_capture_in_the_same_order(
    open_account: Open, control: ProviderControl, family: str
) -> None:
    provider, account = open_account(family)
    reference = provider.create_order(order()).reference
    assert evidence_of(provider, reference).state is OrderState.OPEN

    for _ in range(2):
        control.act(reference, "decline", account=account)
        declined = evidence_of(provider, reference)
        assert (declined.state, declined.retryable, declined.transactions) == (OrderState.DECLINED, True, ())

    control.act(reference, "pay", account=account)
    paid = evidence_of(provider, reference)
    assert (paid.state, paid.retryable) == (OrderState.PAID, False)
    (capture,) = paid.transactions
    assert (capture.kind, capture.amount_minor, capture.currency) == (TransactionKind.CAPTURE, 1_500_000, "AMD")
    assert abs(datetime.now(UTC) - capture.occurred_at) < timedelta(minutes=1)


def test_a_payment_that_comes_later_is_processing_first(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    created = provider.create_order(order())
    control.act(created.reference, "pay_later", account=account, seconds=0.3)
    assert evidence_of(provider, created.reference).state is OrderState.PROCESSING
    with pytest.raises(Refused) as caught:
        provider.cancel_order(created.reference, created.provider_order_id)
    assert caught.value.code == "order_processing"
    eventually(lambda: evidence_of(provider, created.reference).state, lambda state: state is OrderState.PAID)


def test_a_final_decline_ends_the_order(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    created = provider.create_order(order())
    control.act(created.reference, "decline", account=account, final=True)
    declined = evidence_of(provider, created.reference)
    assert (declined.state, declined.retryable) == (OrderState.DECLINED, False)
    assert created.pay_url is not None
    assert "<button" not in httpx.get(created.pay_url).text
    with pytest.raises(ControlError):
        control.act(created.reference, "pay", account=account)


def test_a_decline_after_the_money_is_told_beside_it(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.act(reference, "pay", account=account)
    with pytest.raises(ControlError):
        control.act(reference, "decline", account=account)
    control.act(reference, "decline", account=account, force=True)
    found = evidence_of(provider, reference)
    assert (found.state, found.retryable) == (OrderState.DECLINED, False)
    assert [entry.kind for entry in found.transactions] == [TransactionKind.CAPTURE]


def test_the_word_paid_may_come_without_money(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.act(reference, "say_paid", account=account)
    said = evidence_of(provider, reference)
    assert (said.state, said.transactions) == (OrderState.PAID, ())
    control.act(reference, "pay", account=account, force=True)
    assert len(evidence_of(provider, reference).transactions) == 1


def test_a_refund_may_be_told_before_its_payment(
    open_account: Open, control: ProviderControl, receiver: Receiver
) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order(amount_minor=1000)).reference
    control.act(reference, "pay", account=account, untold=True)
    assert evidence_of(provider, reference).transactions == ()
    now = datetime.now(UTC)
    assert provider.list_orders(now - HOUR, now + HOUR) == []

    control.act(reference, "refund", account=account)
    assert [entry.kind for entry in evidence_of(provider, reference).transactions] == [TransactionKind.REFUND]
    control.act(reference, "tell", account=account)
    told = evidence_of(provider, reference).transactions
    assert [entry.kind for entry in told] == [TransactionKind.CAPTURE, TransactionKind.REFUND]
    assert told[0].occurred_at <= told[1].occurred_at
    events = [parse(provider, one) for one in received_count(receiver, 2)]
    assert {event.event_type for event in events} == {"payment.refunded", "order.updated"}, "none of the payment"


def test_a_provider_tells_again_how_an_order_stands(
    open_account: Open, control: ProviderControl, receiver: Receiver
) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.act(reference, "pay", account=account)
    received_count(receiver, 1)
    before = evidence_of(provider, reference)
    control.act(reference, "tell", account=account)
    first, again = (parse(provider, one) for one in received_count(receiver, 2))
    assert first.event_id != again.event_id
    assert again.evidence is not None
    assert again.evidence.transactions == before.transactions


def test_an_order_expires_by_itself_and_only_force_pays_it_then(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order(expires_in=timedelta(seconds=1))).reference
    eventually(lambda: evidence_of(provider, reference).state, lambda state: state is OrderState.EXPIRED)
    with pytest.raises(ControlError):
        control.act(reference, "pay", account=account)
    control.act(reference, "pay", account=account, force=True)
    assert evidence_of(provider, reference).state is OrderState.PAID


def test_refund_reversal_and_chargeback_are_further_transactions(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order(amount_minor=1000)).reference
    control.act(reference, "pay", account=account)
    control.act(reference, "refund", account=account, amount_minor=100)
    control.act(reference, "reverse", account=account, amount_minor=200)
    control.act(reference, "chargeback", account=account)
    found = evidence_of(provider, reference)
    assert found.state is OrderState.PAID
    assert [(entry.kind, entry.amount_minor) for entry in found.transactions] == [
        (TransactionKind.CAPTURE, 1000),
        (TransactionKind.REFUND, 100),
        (TransactionKind.REVERSAL, 200),
        (TransactionKind.CHARGEBACK, 700),
    ]
    assert len({entry.provider_transaction_id for entry in found.transactions}) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refund_happens_once_per_reference_and_never_beyond_the_capture(
    open_account: Open, control: ProviderControl, family: str
) -> None:
    provider, account = open_account(family)
    created = provider.create_order(order(amount_minor=1000))
    request = RefundRequest("R-1", created.reference, created.provider_order_id, 600, "AMD")
    with pytest.raises(Refused) as caught:
        provider.refund(request)
    assert caught.value.code == "exceeds_captured"

    control.act(created.reference, "pay", account=account)
    first, again = provider.refund(request), provider.refund(request)
    assert first == again
    assert first.amount_minor == 600
    for refused, code in [
        (replace(request, amount_minor=500), "refund_reference_reused"),
        (replace(request, refund_reference="R-2"), "exceeds_captured"),
    ]:
        with pytest.raises(Refused) as caught:
            provider.refund(refused)
        assert caught.value.code == code
    provider.refund(replace(request, refund_reference="R-2", amount_minor=400))
    stats = control.stats(account)
    assert (stats["refunds"], stats["returned_minor"]) == (2, {"AMD": 1000})


@pytest.mark.parametrize("family", ASKABLE)
def test_a_listing_holds_every_order_with_a_transaction_in_the_window(
    open_account: Open, control: ProviderControl, family: str
) -> None:
    provider, account = open_account(family)
    references = [provider.create_order(order()).reference for _ in range(203)]
    for reference in references[:202]:
        control.act(reference, "pay", account=account)
    now = datetime.now(UTC)
    listed = provider.list_orders(now - HOUR, now + HOUR)
    assert [evidence.reference for evidence in listed] == references[:202]
    assert provider.list_orders(now + HOUR, now + 2 * HOUR) == []

    moment = listed[0].transactions[0].occurred_at
    assert references[0] in {evidence.reference for evidence in provider.list_orders(moment, now + HOUR)}
    assert references[0] not in {evidence.reference for evidence in provider.list_orders(now - HOUR, moment)}


# --- faults of calls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", CALL_FAULTS)
@pytest.mark.parametrize("family", ["unique", "overwrites", "no_lookup"])
def test_a_create_that_is_not_idempotent_fails_by_what_is_known(
    open_account: Open, control: ProviderControl, family: str, fault: str
) -> None:
    provider, account = open_account(family)
    control.fault(fault, account=account, operation="create", seconds=0.1)
    with pytest.raises(GatewayError) as caught:
        provider.create_order(order())
    expected = Unavailable if fault == "rate_limited_429" else Unknown
    assert type(caught.value) is expected
    stats = control.stats(account)
    assert stats["orders_created"] == (1 if fault.endswith("_after") else 0)
    assert (stats["create_calls"], stats["faults"]) == (1, {fault: 1})


@pytest.mark.parametrize("fault", CALL_FAULTS)
def test_an_idempotent_create_survives_every_fault_with_one_order(
    open_account: Open, control: ProviderControl, fault: str
) -> None:
    provider, account = open_account("idempotent")
    control.fault(fault, account=account, operation="create", seconds=0.1)
    created = provider.create_order(order())
    assert created.pay_url is not None
    stats = control.stats(account)
    assert (stats["create_calls"], stats["orders_created"]) == (2, 1)


@pytest.mark.parametrize("fault", CALL_FAULTS)
def test_look_up_refund_and_listing_are_repeated_until_they_succeed(
    open_account: Open, control: ProviderControl, fault: str
) -> None:
    provider, account = open_account("unique")
    created = provider.create_order(order(amount_minor=1000))
    control.act(created.reference, "pay", account=account)

    control.fault(fault, account=account, operation="lookup", seconds=0.1)
    assert evidence_of(provider, created.reference).state is OrderState.PAID
    control.fault(fault, account=account, operation="refund", seconds=0.1)
    provider.refund(RefundRequest("R-1", created.reference, created.provider_order_id, 600, "AMD"))
    control.fault(fault, account=account, operation="list", seconds=0.1)
    now = datetime.now(UTC)
    assert len(provider.list_orders(now - HOUR, now + HOUR)) == 1

    stats = control.stats(account)
    assert (stats["refunds"], stats["faults"]) == (1, {fault: 3})


def test_a_busy_provider_says_when_to_come_back(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("idempotent")
    control.fault("rate_limited_429", account=account, operation="create", seconds=40)
    with pytest.raises(Unavailable) as caught:
        provider.create_order(order())
    assert (caught.value.retry_after_seconds, caught.value.code) == (40.0, "rate_limited")
    assert caught.value.provider_request_id


def test_faults_come_by_rate_for_one_reference_and_can_be_dropped(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    unlucky = order()
    control.fault("error_500_before", account=account, rate=1.0, reference=unlucky.reference)
    provider.create_order(order())
    for _ in range(2):
        with pytest.raises(Unknown):
            provider.create_order(unlucky)
    control.clear_faults(account)
    provider.create_order(unlucky)


def test_metadata_and_magic_amounts_ask_for_faults_once(open_account: Open, control: ProviderControl) -> None:
    _, account = open_account("idempotent")
    body = body_of(order()) | {"metadata": {"sandbox_fault": "error_500_after"}}
    assert control.create(body, api_key=API_KEY, account=account).status_code == 500
    assert control.create(body, api_key=API_KEY, account=account).status_code == 200

    body = body_of(order(amount_minor=106_603))
    assert control.create(body, api_key=API_KEY, account=account).status_code == 201
    control.configure(account, magic_amounts=True)
    body = body_of(order(amount_minor=106_603))
    assert control.create(body, api_key=API_KEY, account=account).status_code == 500
    assert control.create(body, api_key=API_KEY, account=account).status_code == 201


def test_wrong_money_is_captured_on_demand(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("unique")
    first, second, third = (provider.create_order(order()).reference for _ in range(3))
    control.fault("wrong_amount", account=account)
    control.act(first, "pay", account=account)
    control.fault("wrong_currency", account=account)
    control.act(second, "pay", account=account)
    control.act(third, "pay", account=account, amount_minor=2_000_000, currency="EUR")
    money = [evidence_of(provider, name).transactions[0] for name in (first, second, third)]
    assert [(entry.amount_minor, entry.currency) for entry in money] == [
        (750_000, "AMD"),
        (1_500_000, "USD"),
        (2_000_000, "EUR"),
    ]


# --- events ---------------------------------------------------------------------------------------------------------


def test_an_event_is_repeated_with_its_id_until_somebody_says_2xx(
    open_account: Open, control: ProviderControl, receiver: Receiver
) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    receiver.statuses = [503, 302, 400]
    control.act(reference, "pay", account=account)
    events = [parse(provider, received) for received in received_count(receiver, 4)]
    assert len({event.event_id for event in events}) == 1
    counted = eventually(lambda: control.stats(account)["webhooks"], lambda webhooks: webhooks["waiting"] == 0)
    assert (counted["events"], counted["tries"], counted["delivered"], counted["failed"]) == (1, 4, 1, 0)


def test_an_event_is_given_up_after_its_tries(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    receiver.status = 500
    control.act(reference, "pay", account=account)
    counted = eventually(lambda: control.stats(account)["webhooks"], lambda webhooks: webhooks["failed"] == 1)
    assert (counted["tries"], counted["waiting"]) == (6, 0)


def test_a_doubled_event_has_one_id(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("duplicate", account=account)
    control.act(reference, "pay", account=account)
    events = [parse(provider, received) for received in received_count(receiver, 2)]
    assert events[0] == events[1]
    assert control.stats(account)["webhooks"]["made_duplicate"] == 1


def test_a_lost_event_never_comes(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("lost", account=account)
    control.act(reference, "decline", account=account)
    control.act(reference, "pay", account=account)
    (received,) = received_count(receiver, 1)
    assert parse(provider, received).event_type == "payment.captured"
    counted = eventually(lambda: control.stats(account)["webhooks"], lambda webhooks: webhooks["waiting"] == 0)
    assert (counted["events"], counted["made_lost"], counted["delivered"]) == (2, 1, 1)


def test_a_late_event_comes_late(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("late", account=account, seconds=0.6)
    begin = datetime.now(UTC)
    control.act(reference, "pay", account=account)
    (received,) = received_count(receiver, 1)
    assert received.received_at - begin >= timedelta(seconds=0.55)
    assert parse(provider, received).evidence is not None


def test_a_reordered_event_comes_after_a_later_one(
    open_account: Open, control: ProviderControl, receiver: Receiver
) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("reordered", account=account)
    control.act(reference, "decline", account=account)
    control.act(reference, "pay", account=account)
    events = [parse(provider, received) for received in received_count(receiver, 2)]
    assert [event.event_type for event in events] == ["payment.captured", "payment.declined"]
    late = events[1].evidence
    assert late is not None
    assert (late.state, late.transactions) == (OrderState.DECLINED, ())


def test_a_forged_event_comes_beside_the_true_one_and_is_refused(
    open_account: Open, control: ProviderControl, receiver: Receiver
) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("forged", account=account)
    control.act(reference, "decline", account=account)
    received = received_count(receiver, 2)
    believed, refused = [], []
    for one in received:
        try:
            believed.append(parse(provider, one))
        except Refused as error:
            refused.append(error.code)
    assert refused == ["signature_mismatch"]
    assert [event.event_type for event in believed] == ["payment.declined"]
    assert evidence_of(provider, reference).state is OrderState.DECLINED
    counted = eventually(lambda: control.stats(account)["webhooks"], lambda webhooks: webhooks["waiting"] == 0)
    assert (counted["forged"], counted["delivered"]) == (1, 1)


def test_a_stale_event_is_refused(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    reference = provider.create_order(order()).reference
    control.fault("stale", account=account)
    control.act(reference, "pay", account=account)
    (received,) = received_count(receiver, 1)
    with pytest.raises(Refused) as caught:
        parse(provider, received)
    assert caught.value.code == "timestamp_outside_tolerance"


def test_a_hint_has_neither_id_nor_facts(open_account: Open, control: ProviderControl, receiver: Receiver) -> None:
    provider, account = open_account("unique")
    created = provider.create_order(order())
    control.fault("hint_only", account=account)
    control.act(created.reference, "pay", account=account)
    (received,) = received_count(receiver, 1)
    event = parse(provider, received)
    assert (event.event_id, event.evidence) == (None, None)
    assert (event.reference, event.provider_order_id) == (created.reference, created.provider_order_id)


# --- signatures, without the process --------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BODY = b'{"id": "evt_1", "type": "x", "data": {"order": {"id": "o", "reference": "r"}}, "new": {"field": [1]}}'


def signed(body: bytes = BODY, secret: str = WEBHOOK_SECRET, at: datetime = NOW, version: str = "v1") -> str:
    timestamp = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},{version}={digest}"


def offline(*secrets: str) -> SandboxProvider:
    return SandboxProvider("acme", "http://127.0.0.1:9/acme", "key", secrets or (WEBHOOK_SECRET,))


def parse_raw(provider: SandboxProvider, header: str | None, body: bytes = BODY, method: str = "POST") -> ProviderEvent:
    headers = {} if header is None else {"sandbox-signature": header}
    return provider.parse_event(method=method, query="", headers=headers, body=body, received_at=NOW)


def refusal(header: str | None, body: bytes = BODY, method: str = "POST") -> str:
    with pytest.raises(Refused) as caught:
        parse_raw(offline(), header, body, method)
    return caught.value.code


def test_every_active_secret_signs_and_a_retired_one_does_not() -> None:
    provider = offline("new", "old")
    assert parse_raw(provider, signed(secret="new")).event_id == "evt_1"
    assert parse_raw(provider, signed(secret="old")).event_id == "evt_1"
    assert parse_raw(provider, f"{signed(secret='other')},{signed(secret='old').partition(',')[2]}").event_id == "evt_1"
    with pytest.raises(Refused):
        parse_raw(provider, signed(secret="retired"))


def test_without_a_secret_nothing_is_believed_and_an_empty_one_is_no_secret() -> None:
    none = SandboxProvider("acme", "http://127.0.0.1:9/acme", "key", ())
    with pytest.raises(Refused):
        parse_raw(none, signed(secret=""))
    with pytest.raises(ValueError):
        offline("good", "")


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_an_event_within_five_minutes_of_its_signature_is_taken(seconds: int) -> None:
    assert parse_raw(offline(), signed(at=NOW + timedelta(seconds=seconds))).reference == "r"


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_an_older_or_a_future_event_is_refused(seconds: int) -> None:
    assert refusal(signed(at=NOW + timedelta(seconds=seconds))) == "timestamp_outside_tolerance"


@pytest.mark.parametrize(
    "header",
    [
        "t=1,v0=aa",
        "v1=aa",
        "t=1",
        "t=x,v1=aa",
        "t=1,t=1,v1=aa",
        "t=-1,v1=aa",
        "t=１,v1=aa",
        "t=999999999999999,v1=a",
        "=,",
    ],
)
def test_a_malformed_signature_is_refused(header: str) -> None:
    assert refusal(header) == "signature_malformed"


@pytest.mark.parametrize("header", ["t=1763805600,v1=Ա", "t=1763805600,v1=\ud800", "t=1763805600,v1="])
def test_a_signature_that_is_no_digest_matches_nothing(header: str) -> None:
    assert refusal(header) == "signature_mismatch"


def test_a_missing_signature_another_method_and_a_changed_body_are_refused() -> None:
    assert refusal(None) == "signature_missing"
    assert refusal("") == "signature_missing"
    assert refusal(signed(), method="GET") == "method"
    assert refusal(signed(), body=BODY + b" ") == "signature_mismatch"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b"{", b'{"a": "\\u0000"}', b"[" * 50_000])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert refusal(signed(body), body=body) == "body_invalid"


@pytest.mark.parametrize(
    "order_facts",
    [None, "x", {}, {"id": 5, "reference": ["r"]}, {"id": "o", "reference": "r", "status": "paid"}],
)
def test_signed_facts_that_cannot_be_read_leave_a_hint(order_facts: Any) -> None:
    body = json.dumps({"id": "e", "type": "t", "data": {"order": order_facts}}).encode()
    assert parse_raw(offline(), signed(body), body=body).evidence is None


def test_facts_with_a_negative_amount_are_not_evidence() -> None:
    entry = {"id": "t", "kind": "capture", "amount_minor": -5, "currency": "AMD", "occurred_at": NOW.isoformat()}
    facts = {"id": "o", "reference": "r", "status": "paid", "transactions": [entry]}
    body = json.dumps({"id": "e", "type": "t", "data": {"order": facts}}).encode()
    assert parse_raw(offline(), signed(body), body=body).evidence is None


# --- the customer's page --------------------------------------------------------------------------------------------


def body_of(request: OrderRequest) -> dict[str, Any]:
    return {
        "reference": request.reference,
        "amount_minor": request.amount_minor,
        "currency": request.currency,
        "description": request.description,
        "return_url": request.return_url,
        "expires_in_seconds": int(request.expires_in.total_seconds()),
        "locale": request.locale,
    }


def page_of(provider: SandboxProvider, **changes: Any) -> tuple[str, str]:
    created = provider.create_order(order(**changes))
    assert created.pay_url is not None
    return created.pay_url, created.reference


@pytest.mark.parametrize(("locale", "word"), [("hy", "Վճարել"), ("ru", "Оплатить"), ("en", "Pay")])
def test_the_page_speaks_the_customers_language_and_escapes_the_purpose(
    open_account: Open, locale: str, word: str
) -> None:
    provider, _ = open_account("idempotent")
    url, reference = page_of(provider, locale=locale, description="<script>alert(1)</script>")
    page = httpx.get(url)
    assert page.status_code == 200
    assert f'<html lang="{locale}">' in page.text
    assert f">{word}</button>" in page.text
    assert "15\N{NO-BREAK SPACE}000.00 AMD" in page.text
    assert "<script>" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert evidence_of(provider, reference).state is OrderState.OPEN


@pytest.mark.parametrize(
    ("action", "state"),
    [
        ("pay", OrderState.PAID),
        ("decline", OrderState.DECLINED),
        ("pay_later", OrderState.PROCESSING),
        ("abandon", OrderState.OPEN),
    ],
)
def test_each_button_leads_back_to_the_merchant(open_account: Open, action: str, state: OrderState) -> None:
    provider, _ = open_account("idempotent")
    url, reference = page_of(provider)
    answer = httpx.post(url, data={"action": action})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://pay.example.am/l/token/return?lang=hy&reference={reference}"
    assert evidence_of(provider, reference).state is state


def test_a_second_press_charges_nothing_more(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("idempotent")
    url, _ = page_of(provider)
    httpx.post(url, data={"action": "decline"})
    for _ in range(3):
        httpx.post(url, data={"action": "pay"})
    assert control.stats(account)["captures"] == 1
    assert "Վճարումը" not in httpx.get(url).text
    assert "Պատվերը վճարված է" in httpx.get(url).text


def test_a_closed_order_cannot_be_paid_on_its_page(open_account: Open, control: ProviderControl) -> None:
    provider, account = open_account("idempotent")
    url, reference = page_of(provider)
    control.act(reference, "expire", account=account)
    assert httpx.post(url, data={"action": "pay"}).status_code == 409
    assert control.stats(account)["captures"] == 0


def test_the_page_needs_its_token(open_account: Open) -> None:
    provider, _ = open_account("idempotent")
    url, _ = page_of(provider)
    wrong = url[:-4] + ("0000" if url[-4:] != "0000" else "1111")
    assert httpx.get(wrong).status_code == 404
    assert httpx.post(wrong, data={"action": "pay"}).status_code == 404
    assert httpx.post(url, data={"action": "refund"}).status_code == 400


# --- the process ----------------------------------------------------------------------------------------------------


def test_everything_survives_a_killed_process(tmp_path: Path) -> None:
    with Receiver(status=503) as receiver:
        process = ProviderProcess(
            api_key=API_KEY,
            webhook_url=receiver.url,
            webhook_secret=WEBHOOK_SECRET,
            state=tmp_path / "provider.sqlite",
            arguments=("--webhook-pauses", "0.2"),
        )
        with process:
            provider = adapter_for(process, "main", "idempotent")
            process.control.configure("second", api_key="k2", family="unique")
            created = [provider.create_order(order()) for _ in range(3)]
            process.control.act(created[0].reference, "pay")
            process.control.act(created[1].reference, "pay_later", seconds=1.0)
            process.control.fault("error_500_before", operation="lookup", times=1)
            received_count(receiver, 1)
            before, dump = process.control.stats(), process.control.orders()
            address = process.base_url

            process.kill()
            process.start()

            assert process.base_url == address
            after = process.control.stats()
            assert after["orders_created"] == before["orders_created"] == 3
            assert after["calls"] == before["calls"]
            assert [entry["id"] for entry in process.control.orders()] == [entry["id"] for entry in dump]
            assert process.control.stats("second")["family"] == "unique"

            receiver.status = 200
            counted = eventually(lambda: process.control.stats()["webhooks"], lambda hooks: hooks["waiting"] == 0)
            paid_late = eventually(lambda: process.control.stats(), lambda stats: stats["captures"] == 2)
            assert counted["failed"] == 0
            assert paid_late["faults"] == {}
            assert evidence_of(provider, created[1].reference).state is OrderState.PAID
            assert process.control.stats()["faults"] == {"error_500_before": 1}
            provider.close()


def test_a_second_process_on_the_same_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "provider.sqlite"
    with ProviderProcess(state=state), pytest.raises(StartError, match="another process"):
        ProviderProcess(state=state).start()


def test_a_process_ends_when_its_starter_is_gone() -> None:
    script = (
        "import sys\nfrom sandbox.launch import ProviderProcess\n"
        "process = ProviderProcess().start()\nprint(process.base_url, flush=True)\nimport os\nos._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    url = done.stdout.strip()

    def is_gone() -> bool:
        try:
            httpx.get(f"{url}/readyz", timeout=1.0)
        except httpx.TransportError:
            return True
        return False

    eventually(is_gone, bool)


def test_control_needs_its_key(provider_process: ProviderProcess) -> None:
    stranger = ProviderControl(provider_process.base_url, "wrong")
    for question in (stranger.stats, stranger.orders, lambda: stranger.act("x", "pay"), lambda: stranger.fault("lost")):
        with pytest.raises(ControlError, match="401"):
            question()
    stranger.close()


def test_a_wrong_fault_is_refused_with_the_words_to_use(control: ProviderControl) -> None:
    for rule in ({"fault": "earthquake"}, {"fault": "lost", "operation": "create"}, {"fault": "lost", "rate": 2}):
        with pytest.raises(ControlError, match=r"use one of|strikes|a number"):
            control.fault(**rule)


def test_secrets_stand_in_no_process_list(provider_process: ProviderProcess) -> None:
    command = Path(f"/proc/{provider_process.pid}/cmdline").read_bytes()
    assert API_KEY.encode() not in command
    assert provider_process.webhook_secret.encode() not in command
