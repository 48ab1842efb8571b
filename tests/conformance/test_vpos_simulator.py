"""The simulated VPOS.am, asked with bare HTTP: what its public pages say, and what is only assumed there.

SIMULATED: VPOS.am was not asked.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from contracts.ids import new_id
from sandbox.control import ControlError, ProviderControl, eventually
from sandbox.faults import CALL_FAULTS
from sandbox.launch import SimulatorProcess
from sandbox.vpos_merchants import ASSUMED, OPERATIONS
from sandbox.vpos_sessions import PLANTED
from tests.conformance.receiver import Received, Receiver

SECRET = "secret-of-the-webhooks"
PATHS = {
    "list_path": "/v1/payment-sessions",
    "cancel_path": "/v1/payment-sessions/{id}/cancel",
    "refund_path": "/v1/payment-sessions/{id}/refunds",
}


@pytest.fixture(scope="module")
def service() -> Iterator[SimulatorProcess]:
    with SimulatorProcess("vpos", arguments=("--webhook-pause-seconds", "0.05")) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


@dataclass
class Shop:
    """One merchant, as his own backend and as his console."""

    name: str
    client: httpx.Client
    control: ProviderControl

    def create(
        self, *, key: str | None = None, headers: dict[str, str] | None = None, **changes: Any
    ) -> httpx.Response:
        given = {"idempotency-key": key or new_id()} | (headers or {})
        return self.client.post("/v1/payment-sessions", json=body(**changes), headers=given)

    def made(self, **changes: Any) -> dict[str, Any]:
        answer = self.create(**changes)
        assert answer.status_code == 201, answer.text
        session: dict[str, Any] = answer.json()
        return session

    def read(self, session: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get(f"/v1/payment-sessions/{session['id']}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def act(self, session: dict[str, Any], action: str, **options: Any) -> dict[str, Any]:
        return self.control.act(session["merchantOrderId"], action, account=self.name, **options)


Open = Callable[..., Shop]


@pytest.fixture
def shop(service: SimulatorProcess) -> Iterator[Open]:
    """Opens a merchant of its own with some settings."""
    clients: list[httpx.Client] = []

    def open_one(**settings: Any) -> Shop:
        name = api_key = f"shop-{new_id()}"
        service.control.configure(name, **{"api_key": api_key, "webhook_secret": SECRET, **settings})
        headers = {"authorization": f"Bearer {api_key}"}
        clients.append(httpx.Client(base_url=service.base_url, headers=headers, trust_env=False))
        return Shop(name, clients[-1], service.control)

    yield open_one
    for client in clients:
        client.close()


def body(**changes: Any) -> dict[str, Any]:
    """The request of the documentation's quick start, with an order id of its own."""
    whole = {
        "merchantOrderId": f"order-{new_id()}",
        "amountMinor": 15_000,
        "currency": "AMD",
        "provider": "manual",
        "returnUrl": "https://merchant.example/payments/return",
        "customer": {"email": "buyer@example.com", "phone": "+37400000000", "name": "Test Buyer"},
        "metadata": {"source": "custom-backend"},
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def test_the_quick_start_of_the_documentation_gives_a_session_and_a_page(shop: Open) -> None:
    answer = shop().create(key="order-1001-pay-attempt-1", merchantOrderId="order-1001")

    told = answer.json()
    assert answer.status_code == 201
    assert (told["merchantOrderId"], told["amountMinor"], told["currency"]) == ("order-1001", 15_000, "AMD")
    assert told["status"] == "created"
    assert told["checkoutUrl"].startswith("http")


def test_a_repeated_create_gives_the_same_result_whatever_happened_since(shop: Open) -> None:
    one = shop()
    key, request = new_id(), body()
    first = one.create(key=key, **request)

    one.act(first.json(), "pay")
    second = one.create(key=key, **request)

    assert (second.status_code, second.json()) == (201, first.json())
    assert len(one.control.orders(one.name)) == 1
    assert one.control.stats(one.name)["calls"]["create"] == 2


def test_the_same_key_with_another_body_is_a_conflict(shop: Open) -> None:
    one, key = shop(), new_id()
    one.create(key=key, merchantOrderId="order-7")

    answer = one.create(key=key, merchantOrderId="order-7", amountMinor=15_001)

    assert answer.status_code == 409
    assert [session["amount"] for session in one.control.orders(one.name)] == [15_000]


def test_another_key_is_another_attempt_at_the_same_order(shop: Open) -> None:
    one = shop()
    ids = {one.made(merchantOrderId="order-7")["id"] for _ in range(2)}
    assert len(ids) == 2


def test_one_merchants_key_is_nobody_elses(shop: Open) -> None:
    key = new_id()
    first, second = (shop().create(key=key).json() for _ in range(2))
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("merchantOrderId", ""),
        ("merchantOrderId", 7),
        ("amountMinor", 0),
        ("amountMinor", -5),
        ("amountMinor", "15000"),
        ("amountMinor", 150.5),
        ("amountMinor", True),
        ("currency", "051"),
        ("currency", "amd"),
        ("currency", ["AMD"]),
        ("provider", "nobody"),
        ("provider", {"name": "manual"}),
        ("returnUrl", "/return"),
        ("returnUrl", "javascript:alert(1)"),
        ("customer", "Test Buyer"),
        ("customer", {"card": "4111"}),
        ("customer", {"name": 7}),
        ("metadata", []),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(shop: Open, field: str, value: Any) -> None:
    one = shop()
    answer = one.create(**{field: value})
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert one.control.orders(one.name) == []


@pytest.mark.parametrize("field", ["merchantOrderId", "amountMinor", "currency", "provider", "returnUrl"])
def test_a_missing_field_is_refused_by_its_name(shop: Open, field: str) -> None:
    answer = shop().create(**{field: None})
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (400, "missing_field", field)


def test_an_unknown_field_is_refused(shop: Open) -> None:
    answer = shop().create(amount=150)
    assert (answer.status_code, answer.json()["field"]) == (400, "amount")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b"null", b"[" * 5000])
def test_a_body_that_is_no_object_makes_nothing(shop: Open, raw: bytes) -> None:
    one = shop()
    answer = one.client.post("/v1/payment-sessions", content=raw, headers={"idempotency-key": new_id()})
    assert answer.status_code == 400
    assert one.control.orders(one.name) == []


def test_customer_and_metadata_may_be_left_out(shop: Open) -> None:
    told = shop().made(customer=None, metadata=None)
    assert told["customer"]["email"] == PLANTED["email"]  # what the buyer typed at the checkout


def test_a_key_is_required_unless_the_merchant_is_told_otherwise(shop: Open) -> None:
    strict, lax = shop(), shop(key_required=False)
    assert strict.client.post("/v1/payment-sessions", json=body()).status_code == 400
    assert lax.client.post("/v1/payment-sessions", json=body()).status_code == 201


def test_without_the_token_nothing_is_answered(shop: Open) -> None:
    one = shop()
    session = one.made()
    for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": one.name}):
        for path in ("/v1/capabilities", f"/v1/payment-sessions/{session['id']}"):
            assert one.client.get(path, headers=headers).status_code == 401
        assert one.create(headers=headers).status_code == 401


def test_a_page_that_is_not_trusted_is_forbidden(shop: Open) -> None:
    one = shop(trusted_origins=["https://shop.example"])
    assert one.create(headers={"origin": "https://evil.example"}).status_code == 403
    assert one.create(headers={"origin": "https://shop.example"}).status_code == 201


def test_too_many_calls_are_told_to_wait(shop: Open) -> None:
    one = shop()
    one.control.fault("rate_limited_429", account=one.name, operation="create")
    answer = one.create()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert one.create().status_code == 201


def test_health_needs_no_key_and_refuses_other_methods(service: SimulatorProcess) -> None:
    with httpx.Client(base_url=service.base_url, trust_env=False) as anybody:
        assert anybody.get("/api/health").status_code == 200
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert anybody.request(method, "/api/health").status_code == 405


def test_capabilities_are_told_for_each_provider(shop: Open) -> None:
    def able(one: Shop) -> dict[str, dict[str, bool]]:
        told = one.client.get("/v1/capabilities").json()
        return {entry["provider"]: entry["capabilities"] for entry in told["providers"]}

    few, many = able(shop()), able(shop(providers=["manual", "arca"], fiscal="pending", **PATHS))
    assert (few["manual"]["refund"], few["manual"]["fiscalization"]) == (False, False)
    assert set(many) == {"manual", "arca"}
    assert (many["arca"]["refund"], many["arca"]["fiscalization"]) == (True, True)


def test_a_session_of_another_merchant_is_not_found(shop: Open) -> None:
    session = shop().made()
    assert shop().client.get(f"/v1/payment-sessions/{session['id']}").status_code == 404


def test_the_buyer_pays_on_the_page_and_comes_back_with_what_proves_nothing(shop: Open) -> None:
    one = shop()
    session = one.made()
    page = one.client.get(session["checkoutUrl"])
    assert 'name="action" value="pay"' in page.text
    assert one.read(session)["status"] == "created"

    back = one.client.post(session["checkoutUrl"], data={"action": "pay"})

    assert back.status_code == 303
    assert back.headers["location"].startswith("https://merchant.example/payments/return?sessionId=")
    told = one.read(session)
    assert (told["status"], told["paidAmountMinor"], told["paidCurrency"]) == ("paid", 15_000, "AMD")
    assert told["providerReference"]
    assert told["paidAt"].endswith("Z")


def test_a_page_that_is_paid_takes_no_second_payment(shop: Open) -> None:
    one = shop()
    session = one.made()
    for _ in range(2):
        one.client.post(session["checkoutUrl"], data={"action": "pay"})
    assert 'value="pay"' not in one.client.get(session["checkoutUrl"]).text
    with pytest.raises(ControlError, match="not_payable"):
        one.act(session, "pay")


@pytest.mark.parametrize(
    ("acts", "status"),
    [
        (("decline",), "failed"),
        (("pending",), "pending"),
        (("pending", "processing"), "processing"),
        (("pending", "pay"), "paid"),
        (("expire",), "expired"),
        (("cancel",), "cancelled"),
        (("expire", "settle_late"), "paid"),
        (("cancel", "settle_late"), "paid"),
        (("pay", "refund"), "refunded"),
    ],
)
def test_acts_bring_a_session_through_its_life(shop: Open, acts: tuple[str, ...], status: str) -> None:
    one = shop()
    session = one.made()
    for action in acts:
        one.act(session, action)
    assert one.read(session)["status"] == status


@pytest.mark.parametrize("action", ["decline", "pending", "expire", "cancel", "pay", "settle_late"])
def test_a_paid_session_stays_paid(shop: Open, action: str) -> None:
    one = shop()
    session = one.made()
    one.act(session, "pay")
    with pytest.raises(ControlError):
        one.act(session, action)
    assert one.read(session)["status"] == "paid"


def test_what_a_bank_works_on_does_not_expire(shop: Open) -> None:
    one = shop(session_seconds=0)
    expired = one.made()
    assert one.read(expired)["status"] == "expired"
    one.control.configure(one.name, session_seconds=1800)
    session = one.made()
    one.act(session, "pending")
    with pytest.raises(ControlError, match="is_pending"):
        one.act(session, "expire")


def test_a_word_that_nobody_knows_hides_what_happened(shop: Open) -> None:
    one = shop()
    session = one.made()
    one.act(session, "odd_status", word="settling_maybe")
    assert one.read(session)["status"] == "settling_maybe"
    one.act(session, "pay")
    assert one.read(session)["status"] == "paid"


def test_words_and_names_are_the_merchants_to_set(shop: Open) -> None:
    one = shop(words={"paid": "SUCCEEDED"}, names={"id": "sessionId", "status": "state"})
    session = one.create().json()
    one.control.act(session["sessionId"], "pay", account=one.name)
    told = one.client.get(f"/v1/payment-sessions/{session['sessionId']}").json()
    assert told["state"] == "SUCCEEDED"
    assert not {"id", "status"} & set(told)


def test_the_look_up_has_the_path_that_is_set(shop: Open) -> None:
    one = shop(lookup_path="/v1/payments/{id}/status")
    session = one.made()
    assert one.client.get(f"/v1/payments/{session['id']}/status").json()["id"] == session["id"]
    assert one.client.get(f"/v1/payment-sessions/{session['id']}").status_code == 404


def test_what_is_not_in_the_public_scope_is_not_there_until_it_is_set(shop: Open) -> None:
    one = shop()
    session = one.made()
    base = f"/v1/payment-sessions/{session['id']}"
    answers = [
        one.client.get("/v1/payment-sessions"),
        *(one.client.post(f"{base}/{op}") for op in ("cancel", "refunds")),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_a_session_is_cancelled_once(shop: Open) -> None:
    one = shop(**PATHS)
    session = one.made()
    path = f"/v1/payment-sessions/{session['id']}/cancel"
    assert one.client.post(path).json()["status"] == "cancelled"
    assert one.client.post(path).status_code == 409


def test_refunds_add_up_and_never_exceed_what_was_paid(shop: Open) -> None:
    one = shop(**PATHS)
    session = one.made()
    one.act(session, "pay")

    def refund(amount: int, key: str | None = None) -> httpx.Response:
        path = f"/v1/payment-sessions/{session['id']}/refunds"
        headers = {"idempotency-key": key or new_id()}
        return one.client.post(path, json={"amountMinor": amount, "reason": "returned"}, headers=headers)

    key = new_id()
    first, again = refund(5_000, key), refund(5_000, key)
    assert (first.status_code, again.json()) == (201, first.json())
    assert refund(4_000, key).status_code == 409
    assert one.read(session)["status"] == "partially_refunded"
    assert refund(10_001).status_code == 409
    assert refund(10_000).status_code == 201
    told = one.read(session)
    assert (told["status"], told["refundedAmountMinor"]) == ("refunded", 15_000)
    assert [entry["amountMinor"] for entry in told["refunds"]] == [5_000, 10_000]


def test_nothing_is_refunded_that_was_not_paid(shop: Open) -> None:
    one = shop()
    session = one.made()
    with pytest.raises(ControlError, match="not_refundable"):
        one.act(session, "refund")


def test_sessions_are_listed_by_order_and_by_time(shop: Open) -> None:
    one = shop(**PATHS)
    first, second = one.made(), one.made()

    def listed(**query: str) -> list[str]:
        told = one.client.get("/v1/payment-sessions", params=query).json()
        return [session["id"] for session in told["sessions"]]

    assert listed(merchantOrderId=second["merchantOrderId"]) == [second["id"]]
    assert listed(**{"from": first["createdAt"], "to": "2999-01-01T00:00:00.000Z"}) == [first["id"], second["id"]]
    assert listed(to=first["createdAt"]) == []


def test_the_fiscal_result_comes_later_and_is_no_part_of_paid(shop: Open) -> None:
    one = shop(fiscal="pending")
    session = one.made()
    assert "fiscalStatus" not in one.read(session)
    one.act(session, "pay")
    assert (one.read(session)["status"], one.read(session)["fiscalStatus"]) == ("paid", "pending")
    one.act(session, "fiscal", status="failed")
    assert (one.read(session)["status"], one.read(session)["fiscalStatus"]) == ("paid", "failed")
    one.act(session, "refund", amount_minor=1_000)
    one.act(session, "fiscal", status="issued", of="refund")
    told = one.read(session)
    assert (told["fiscalStatus"], told["refunds"][0]["fiscalStatus"]) == ("failed", "issued")


def digest(text: bytes) -> str:
    return hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()


def arrived(receiver: Receiver, count: int) -> list[Received]:
    return eventually(lambda: list(receiver.received), lambda all_: len(all_) >= count)


def test_a_change_is_told_by_a_signed_webhook(shop: Open, receiver: Receiver) -> None:
    one = shop(webhook_url=receiver.url)
    session = one.made()
    one.act(session, "pay")
    (received,) = arrived(receiver, 1)
    told = json.loads(received.body)
    assert received.headers["x-vpos-signature"] == digest(received.body)
    assert (told["type"], told["data"]["session"]["id"]) == ("payment_session.paid", session["id"])
    assert told["id"]


def test_the_other_scheme_signs_the_time_too_under_the_header_that_is_set(shop: Open, receiver: Receiver) -> None:
    one = shop(webhook_url=receiver.url, signature_scheme="t-v1", signature_header="Webhook-Proof")
    one.act(one.made(), "decline")
    (received,) = arrived(receiver, 1)
    stamp, signature = (part.partition("=")[2] for part in received.headers["webhook-proof"].split(","))
    assert signature == digest(f"{stamp}.".encode() + received.body)


def test_a_webhook_is_repeated_until_it_is_taken(shop: Open, receiver: Receiver) -> None:
    receiver.statuses = [503, 500]
    one = shop(webhook_url=receiver.url)
    one.act(one.made(), "pay")
    bodies = [received.body for received in arrived(receiver, 3)]
    assert len(set(bodies)) == 1
    eventually(lambda: one.control.stats(one.name)["webhooks"], lambda counts: counts.get("delivered") == 1)


@pytest.mark.parametrize(("fault", "count"), [("duplicate", 2), ("forged", 2), ("hint_only", 1), ("late", 1)])
def test_webhooks_are_damaged_on_demand(shop: Open, receiver: Receiver, fault: str, count: int) -> None:
    one = shop(webhook_url=receiver.url)
    one.control.fault(fault, account=one.name, seconds=0.05)
    one.act(one.made(), "decline")
    told = [
        (one.headers["x-vpos-signature"] == digest(one.body), json.loads(one.body)) for one in arrived(receiver, count)
    ]
    assert sum(is_signed for is_signed, _ in told) == (1 if fault == "forged" else count)
    assert ("id" in told[0][1]) == (fault != "hint_only")
    assert one.control.stats(one.name)["struck"] == {fault: 1}


def test_a_lost_webhook_never_comes_and_a_later_one_does(shop: Open, receiver: Receiver) -> None:
    one = shop(webhook_url=receiver.url)
    session = one.made()
    one.control.fault("lost", account=one.name)
    one.act(session, "pending")
    one.act(session, "pay")
    (received,) = arrived(receiver, 1)
    assert json.loads(received.body)["type"] == "payment_session.paid"


@pytest.mark.parametrize(
    ("fault", "amount", "currency"), [("wrong_amount", 7_500, "AMD"), ("wrong_currency", 15_000, "USD")]
)
def test_other_money_may_come(shop: Open, fault: str, amount: int, currency: str) -> None:
    one = shop()
    session = one.made()
    one.control.fault(fault, account=one.name)
    one.act(session, "pay")
    told = one.read(session)
    assert (told["paidAmountMinor"], told["paidCurrency"]) == (amount, currency)
    assert (told["amountMinor"], told["currency"]) == (15_000, "AMD")


def test_every_call_fault_may_strike_every_operation(shop: Open) -> None:
    one = shop()
    for fault in sorted(CALL_FAULTS):
        for operation in sorted(OPERATIONS):
            one.control.fault(fault, account=one.name, operation=operation)
    one.control.clear_faults(one.name)


def test_a_lost_answer_may_have_made_the_session(shop: Open) -> None:
    one, key, request = shop(), new_id(), body()
    one.control.fault("timeout_after", account=one.name, operation="create", seconds=0.05)
    with pytest.raises(httpx.TransportError):
        one.create(key=key, **request)
    assert len(one.control.orders(one.name)) == 1
    assert one.create(key=key, **request).status_code == 201
    assert len(one.control.orders(one.name)) == 1


def test_the_dump_names_what_is_assumed(shop: Open, service: SimulatorProcess) -> None:
    one = shop()
    one.made()
    raw = one.control._ask("GET", f"/control/{one.name}/orders")
    assert set(raw["ASSUMED"]) == set(ASSUMED)
    assert {"reference", "pay_url"} <= set(raw["orders"][0])


def test_a_setting_that_cannot_be_is_refused(shop: Open) -> None:
    one = shop()
    for wrong in ({"signature_scheme": "md5"}, {"lookup_path": "/v1/x"}, {"colour": "red"}, {"api_key": ""}):
        with pytest.raises(ControlError, match=next(iter(wrong))):
            one.control.configure(one.name, **wrong)
    with pytest.raises(ControlError, match="another merchant"):
        one.control.configure(f"shop-{new_id()}", api_key=one.name)


def test_paid_sessions_hold_personal_data_to_look_for(shop: Open) -> None:
    one = shop()
    session = one.made(customer=None)
    one.act(session, "pay")
    text = json.dumps(one.read(session), ensure_ascii=False)
    assert [value for value in PLANTED.values() if value not in text] == []
