"""One effect: the same message at the same moment, answers that are lost after the deed, events that come first."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import httpx
import pika
import pytest

from contracts.messages import CheckoutStart, InvoiceCreated
from db import api_keys, attempts, links, message_store
from runtime.inbound import Incoming
from runtime.intake import take
from sandbox.webhooks import SIGNATURE_HEADER, sign
from tests.faults.conftest import Production
from tests.kit import PAYS, PAYS_AND_LEAVES, PAYS_HALF, Bill, Town

pytestmark = pytest.mark.timeout(240)

SENDERS = 3


def at_once(*deeds: Callable[[], object]) -> None:
    """Do all of it at the same moment, as far as threads allow."""
    gate = threading.Barrier(len(deeds))
    errors: list[BaseException] = []

    def run(deed: Callable[[], object]) -> None:
        gate.wait()
        try:
            deed()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- the same message three times at the same moment ----------------------------------------------------------------


def test_an_invoice_that_comes_by_amqp_by_http_and_directly_at_once_is_one(production: Production) -> None:
    town = production.town
    bills = [town.bill(PAYS, account) for account in ("bank", "intl")]
    for bill in bills:
        body = _event(bill)
        at_once(
            partial(_send_by_amqp, production, body),
            partial(_send_by_http, town, bill.crm, body),
            partial(take, town.deps, [Incoming(body=body, channel="operator")]),
            partial(town.create, [bill]),
        )
    town.send_customers(bills)
    town.wait_for_ends(bills)

    for bill in bills:
        invoice = town.invoice(bill)
        versions = town.rows(f"SELECT count(*) FROM invoice_versions WHERE invoice_id = '{invoice.id}'")
        made = town.rows(f"SELECT count(*) FROM links WHERE invoice_id = '{invoice.id}'")
        key = InvoiceCreated.parse(bill.data).key()
        ended = town.rows(f"SELECT count(*) FROM message_history WHERE dedup_key = '{key}'")
        assert (versions, made, ended) == ([(1,)], [(1,)], [(1,)])
    town.check_books()


def test_pay_pressed_three_times_at_once_is_one_order(production: Production) -> None:
    _press_three_times(production.town, ("bank", "vpos", "wallet"))


def test_pay_pressed_three_times_at_once_is_one_order_embedded(embedded: Town) -> None:
    _press_three_times(embedded, ("bank", "wallet"))


def _press_three_times(town: Town, accounts: Sequence[str]) -> None:
    bills = [town.bill(PAYS, account) for account in accounts]
    town.create(bills)
    for bill in bills:
        customers = [town.customer(bill) for _ in range(SENDERS)]
        at_once(*(customer.press_pay for customer in customers))
        assert len({customer.reference for customer in customers}) == 1
        customers[0].at_provider("pay")
        for customer in customers:
            customer.come_back()
            customer.close()
    town.wait_for_ends(bills)
    town.check_books()


def test_three_equal_webhooks_at_once_are_one_verdict_and_one_change_in_the_crm(production: Production) -> None:
    _send_three_webhooks(production.town)


def test_three_equal_webhooks_at_once_are_one_verdict_and_one_change_in_the_crm_embedded(embedded: Town) -> None:
    _send_three_webhooks(embedded)


def _send_three_webhooks(town: Town) -> None:
    # One provider is asked what happened; of the other one only the signed event speaks.
    bills = [town.bill(PAYS, account) for account in ("bank", "wallet")]
    town.create(bills)
    for bill in bills:
        customer = town.customer(bill)
        customer.press_pay()
        customer.bad_luck("lost")
        customer.at_provider("pay")
        body, headers = _paid_event(town, bill, customer.reference)
        url = f"{town.stack.base_url}/webhooks/{bill.account}"
        at_once(*[partial(_send_webhook, url, body, headers)] * SENDERS)
        customer.close()
    town.wait_for_ends(bills)

    for bill in bills:
        invoice = town.invoice(bill)
        said = town.rows(f"SELECT count(*) FROM verdicts WHERE invoice_id = '{invoice.id}' AND status = 'paid'")
        assert said == [(1,)]
        record = next(one for one in town.stack.crms[bill.crm].control.records() if one["id"] == bill.id)
        assert [entry["status"] for entry in record["log"]].count("paid") == 1
    town.check_books()


def test_a_delivery_that_comes_three_times_is_worked_on_once(production: Production) -> None:
    """The relay may repeat itself, and a stage may be told of a message that another thread holds."""
    town = production.town
    (bill,) = town.publish(1, [PAYS], ["bank"])
    town.send_customers([bill])
    town.wait_for_ends([bill])
    invoice = town.invoice(bill)

    with town.deps.database.read() as tx:
        (attempt,) = attempts.of_invoice(tx, invoice.id)
        link = links.newest(tx, invoice.id)
        assert link is not None
    again = CheckoutStart(invoice=invoice.id, link=link.id, attempt=attempt.id)
    results: list[message_store.AddResult] = []

    def add() -> None:
        with town.deps.database.begin() as tx:
            results.append(message_store.add(tx, again))

    at_once(*[add] * SENDERS)

    assert [type(one).__name__ for one in results] == ["Duplicate"] * SENDERS
    town.check_books()


# --- the deed was done, and its answer never came -------------------------------------------------------------------


def test_a_time_out_after_the_effect_in_each_family(production: Production) -> None:
    _lose_answers(production.town)


def test_a_time_out_after_the_effect_in_each_family_embedded(embedded: Town) -> None:
    _lose_answers(embedded)


def _lose_answers(town: Town) -> None:
    provider = town.stack.provider.control
    before = {account: provider.stats(account)["faults"].get("timeout_after", 0) for account in town.plan.families}
    for account in town.plan.families:
        provider.fault("timeout_after", account=account, operation="create", seconds=0.3)
    for crm in town.stack.crms.values():
        for operation in ("write", "task"):
            crm.control.fault("timeout_after", operation=operation, times=2, seconds=0.3)
    bills = town.publish(8, [PAYS, PAYS_HALF], list(town.plan.families))
    for bill in bills:
        bill.may_be_left_to_a_person = bill.account == "wallet"
    town.send_customers(bills)
    town.wait_for_ends(bills)

    assert [bill.was_left_to_a_person for bill in bills].count(True) == 1
    for account in town.plan.families:
        assert provider.stats(account)["faults"]["timeout_after"] == before[account] + 1
    for crm in town.stack.crms.values():
        assert crm.control.stats()["faults"]["timeout_after"] >= 2
    town.check_books()


# --- the event comes before the order is known ----------------------------------------------------------------------


def test_an_event_that_comes_while_the_create_call_still_runs(production: Production) -> None:
    _pay_before_the_answer(production.town)


def test_an_event_that_comes_while_the_create_call_still_runs_embedded(embedded: Town) -> None:
    _pay_before_the_answer(embedded)


def _pay_before_the_answer(town: Town) -> None:
    provider = town.stack.provider.control
    bills = [town.bill(PAYS_AND_LEAVES, account) for account in ("bank", "intl", "vpos", "wallet")]
    for bill in bills:
        provider.fault("slow_after", account=bill.account, operation="create", seconds=4.0)
    known = {account: {order["reference"] for order in provider.orders(account)} for account in town.plan.families}
    town.create(bills)
    pressing = [threading.Thread(target=_press_once, args=(town, bill)) for bill in bills if bill.account != "intl"]
    for thread in pressing:
        thread.start()
    for bill in bills:
        reference = _await_new_order(town, bill.account, known[bill.account])
        provider.act(reference, "pay", account=bill.account)
        (row,) = town.rows(f"SELECT state, provider_order_id FROM attempts WHERE reference = '{reference}'")
        assert row[1] is None, "the create call had ended: nothing was tested"
    for thread in pressing:
        thread.join()
    town.wait_for_ends(bills)
    town.check_books()


def test_a_customer_who_overtakes_the_early_opener_gets_an_order_that_stays_open(production: Production) -> None:
    _overtake(production.town)


def test_a_customer_who_overtakes_the_early_opener_gets_an_order_that_stays_open_embedded(embedded: Town) -> None:
    _overtake(embedded)


def _overtake(town: Town) -> None:
    """Two openers of one attempt: the second one to conclude must not take the first one's order for a leftover."""
    town.stack.provider.control.fault("slow_after", account="intl", operation="create", seconds=3.0)
    bill = town.bill(PAYS, "intl")
    town.create([bill])
    customer = town.customer(bill)
    customer.press_pay()
    invoice = town.invoice(bill)

    def both_ended() -> bool:
        openers = "type IN ('link.create.v1', 'checkout.start.v1')"
        return town.rows(f"SELECT count(*) FROM message_history WHERE subject = '{invoice.id}' AND {openers}") == [(2,)]

    town.eventually(both_ended, "both openers ended")
    customer.at_provider("pay")
    customer.close()
    town.wait_for_ends([bill])
    town.check_books()


def _press_once(town: Town, bill: Bill) -> None:
    customer = town.customer(bill)
    customer.press("pay")
    customer.close()


def _await_new_order(town: Town, account: str, known: set[str]) -> str:
    found: list[str] = []

    def is_there() -> bool:
        orders = town.stack.provider.control.orders(account)
        found[:] = [order["reference"] for order in orders if order["reference"] not in known]
        return bool(found)

    town.eventually(is_there, f"an order at {account}")
    return found[0]


# --- senders --------------------------------------------------------------------------------------------------------


def _event(bill: Bill) -> bytes:
    event = {"specversion": "1.0", "id": f"same-{bill.id}", "source": "/tests", "type": "invoice.created.v1"}
    return json.dumps(event | {"data": bill.data}).encode()


def _send_by_amqp(production: Production, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(production.rabbit.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        exchange = f"{production.town.plan.queue_prefix}intake"
        channel.basic_publish(exchange, "invoice.created", body, mandatory=True)


def _send_by_http(town: Town, crm: str, body: bytes) -> None:
    with town.deps.database.begin() as tx:
        _, key = api_keys.create(tx, f"at once {time.monotonic()}", [crm], actor="tests", reason="one more sender")
    headers = {"authorization": f"Bearer {key}", "content-type": "application/cloudevents+json"}
    _accepted(httpx.post(f"{town.stack.base_url}/v1/invoices", content=body, headers=headers))


def _send_webhook(url: str, body: bytes, headers: dict[str, str]) -> None:
    _accepted(httpx.post(url, content=body, headers=headers))


def _accepted(answer: httpx.Response) -> None:
    assert answer.is_success, (answer.status_code, answer.text)


def _paid_event(town: Town, bill: Bill, reference: str) -> tuple[bytes, dict[str, str]]:
    """What the provider would have sent, signed with its secret."""
    orders = town.stack.provider.control.orders(bill.account)
    order = next(order for order in orders if order["reference"] == reference)
    body = json.dumps({"id": f"evt-{reference}", "type": "order.paid", "data": {"order": order}}).encode()
    secret = town.stack.settings().accounts[bill.account].webhook_secrets[0].get_secret_value()
    signed = {SIGNATURE_HEADER: sign(secret, body, int(time.time())), "content-type": "application/json"}
    return body, signed
