"""The Stripe adapter, and our simulator, beside a fake that others wrote: localstripe, https://pypi.org/project/localstripe/.

It has payments, charges, refunds and lists, but no Checkout Sessions, no idempotency keys and no check of what is left
to give back. So the session alone is ours here, made of localstripe's own payment; every other call reaches it. Its
licence is the GPL: it is installed in an environment of its own, run as a separate process, and is part of nothing of
ours. In the storm, since it must be fetched.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.evidence import Evidence, OrderState
from contracts.ids import new_id
from gateways.errors import Refused
from gateways.providers.base import RefundRequest
from gateways.providers.stripe import StripeProvider
from gateways.providers.stripe_wire import REFERENCE
from sandbox.launch import SimulatorProcess
from tests.services.environments import python_with
from tests.services.processes import free_port, wait_until

pytestmark = [pytest.mark.storm, pytest.mark.timeout(300)]

_REQUIREMENTS = Path(__file__).with_name("requirements-localstripe.txt")
_ENVIRONMENT = Path(__file__).parents[2] / "var" / "localstripe-venv"
_ITS_STORE = Path("/tmp/localstripe.pickle")
_KEY = "sk_test_invented"
_GOOD_CARD, _BAD_CARD = "4242424242424242", "4000000000000341"
AMOUNT = 150_000
# What two fakes must say alike of one story.
_DECIDE = {
    *("object", "status", "amount", "currency", "captured", "paid", "refunded", "amount_refunded", "livemode"),
    *("failure_code", "last_payment_error", "has_more"),
}


@pytest.fixture(scope="module")
def localstripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a fresh localstripe."""
    python = python_with(_REQUIREMENTS, _ENVIRONMENT)
    port = free_port()
    with (tmp_path_factory.mktemp("localstripe") / "log").open("w") as log:
        process = subprocess.Popen(
            [python.with_name("localstripe"), "--port", str(port), "--from-scratch"], stdout=log, stderr=log
        )
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(_KEY, "")) as client:
            try:
                assert wait_until(lambda: _answers(client), timeout_seconds=30), "it does not answer"
                yield client
            finally:
                process.terminate()
                process.wait(10)
                _ITS_STORE.unlink(missing_ok=True)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/refunds").is_success
    except httpx.TransportError:
        return False


class Beside(httpx.BaseTransport):
    """Answers about sessions from localstripe's payments, and passes every other call on."""

    def __init__(self, localstripe: httpx.Client) -> None:
        self._localstripe = localstripe
        self._http = httpx.HTTPTransport()
        self._payments: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def pays(self, card: str = _GOOD_CARD, **more: str) -> tuple[str, str]:
        """Let a customer pay; return our reference and the session's id."""
        method = self._localstripe.post(
            "/v1/payment_methods",
            data={
                "type": "card",
                "card[number]": card,
                "card[exp_month]": "12",
                "card[exp_year]": "2090",
                "card[cvc]": "123",
            },
        ).json()
        wanted = {"amount": str(AMOUNT), "currency": "amd", "payment_method": method["id"]}
        made = self._localstripe.post("/v1/payment_intents", data=wanted | more).json()
        self._localstripe.post(f"/v1/payment_intents/{made['id']}/confirm")
        reference, session = new_id(), f"cs_test_{new_id()}"
        self._payments[session], self._references[session] = made["id"], reference
        return reference, session

    def payment_of(self, session: str) -> dict[str, Any]:
        found: dict[str, Any] = self._localstripe.get(f"/v1/payment_intents/{self._payments[session]}").json()
        return found

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/v1/checkout/sessions/"):
            return httpx.Response(200, json=self._session(path.rpartition("/")[2]))
        answer = self._http.handle_request(request)
        answer.read()
        if not path.startswith("/v1/payment_intents/") or not answer.is_success:
            return answer
        # Stripe names the charge alone unless it is asked for more; localstripe always shows the whole.
        payment = answer.json()
        return httpx.Response(200, json=payment | {"latest_charge": payment["latest_charge"]["id"]})

    def close(self) -> None:
        self._http.close()

    def _session(self, name: str) -> dict[str, Any]:
        payment = self.payment_of(name)
        charge = payment["latest_charge"]
        if charge is not None:
            del charge["refunds"]  # Stripe has left them out since 2022 unless they are asked for: let them be listed
            charge["amount_captured"] = charge["amount"] if charge["captured"] else 0
        is_done = payment["status"] in ("succeeded", "requires_capture", "canceled")
        return {
            "id": name,
            "object": "checkout.session",
            "status": "complete" if is_done else "open",
            "payment_status": "paid" if payment["status"] == "succeeded" else "unpaid",
            "client_reference_id": self._references[name],
            "metadata": {REFERENCE: self._references[name]},
            "livemode": False,
            "created": payment["created"],
            "expires_at": payment["created"] + 86_400,
            "payment_intent": payment,
        }


@pytest.fixture
def beside(localstripe: httpx.Client) -> Beside:
    return Beside(localstripe)


@pytest.fixture
def adapter(beside: Beside, localstripe: httpx.Client) -> Iterator[StripeProvider]:
    made = StripeProvider("acct", str(localstripe.base_url), _KEY, two_phase=True, livemode=False, transport=beside)
    yield made
    made.close()


def told(adapter: StripeProvider, order: tuple[str, str]) -> Evidence:
    evidence = adapter.fetch_evidence(*order)
    assert evidence is not None
    return evidence


def money(evidence: Evidence) -> list[tuple[str, int]]:
    return sorted((one.kind.value, one.amount_minor) for one in evidence.transactions)


def wish(order: tuple[str, str], amount_minor: int, name: str) -> RefundRequest:
    reference, session = order
    return RefundRequest(
        reference=reference,
        provider_order_id=session,
        refund_reference=name,
        amount_minor=amount_minor,
        currency="AMD",
    )


def test_a_payment_is_given_back_in_parts_and_none_of_them_twice(adapter: StripeProvider, beside: Beside) -> None:
    """It keeps no idempotency keys: only looking first keeps a repeated refund from being a second one."""
    order = beside.pays()
    assert told(adapter, order).state is OrderState.PAID
    assert money(told(adapter, order)) == [("capture", AMOUNT)]

    first, other = new_id(), new_id()
    made = adapter.refund(wish(order, 1_000, first))
    assert adapter.refund(wish(order, 1_000, first)) == made
    assert adapter.refund(wish(order, 2_500, other)) != made

    assert money(told(adapter, order)) == [("capture", AMOUNT), ("refund", 1_000), ("refund", 2_500)]
    assert beside.payment_of(order[1])["latest_charge"]["amount_refunded"] == 3_500


def test_more_refunds_than_a_page_holds_are_all_seen(
    adapter: StripeProvider, beside: Beside, localstripe: httpx.Client
) -> None:
    order = beside.pays()
    payment = beside.payment_of(order[1])["id"]
    for _ in range(120):
        localstripe.post("/v1/refunds", data={"payment_intent": payment, "amount": "10"}).raise_for_status()
    assert money(told(adapter, order)) == [("capture", AMOUNT), *[("refund", 10)] * 120]


def test_held_money_is_captured_once(adapter: StripeProvider, beside: Beside) -> None:
    order = beside.pays(capture_method="manual")
    assert (told(adapter, order).state, money(told(adapter, order))) == (OrderState.HELD, [])
    with pytest.raises(Refused, match="nothing was paid"):
        adapter.refund(wish(order, 1_000, new_id()))

    adapter.capture_order(*order, AMOUNT, "AMD")

    assert (told(adapter, order).state, money(told(adapter, order))) == (OrderState.PAID, [("capture", AMOUNT)])
    for again in (lambda: adapter.capture_order(*order, AMOUNT, "AMD"), lambda: adapter.release_order(*order)):
        with pytest.raises(Refused, match="nothing is held"):
            again()


def test_held_money_is_let_go(adapter: StripeProvider, beside: Beside) -> None:
    order = beside.pays(capture_method="manual")
    adapter.release_order(*order)
    assert (told(adapter, order).state, money(told(adapter, order))) == (OrderState.CANCELLED, [])
    assert beside.payment_of(order[1])["status"] == "canceled"


def test_a_declined_card_is_no_last_word(adapter: StripeProvider, beside: Beside) -> None:
    order = beside.pays(_BAD_CARD)
    evidence = told(adapter, order)
    assert (evidence.state, evidence.retryable, money(evidence)) == (OrderState.DECLINED, True, [])


def test_our_simulator_tells_the_same_story_in_the_same_words(beside: Beside, localstripe: httpx.Client) -> None:
    """A payment of which a part went back: what both have is of one kind, and what decides is equal."""
    order = beside.pays()
    theirs = beside.payment_of(order[1])
    localstripe.post("/v1/refunds", data={"payment_intent": theirs["id"], "amount": "1000"}).raise_for_status()
    with SimulatorProcess("stripe") as process:
        process.control.configure("acct", password=_KEY)
        with httpx.Client(base_url=process.base_url, headers={"authorization": f"Bearer {_KEY}"}) as ours:
            mine = _payment_of_ours(ours, process)
            ours.post("/v1/refunds", data={"payment_intent": mine["id"], "amount": "1000"}).raise_for_status()
            told = [_story(client, payment["id"]) for client, payment in ((localstripe, theirs), (ours, mine))]
    for name, (one, other) in {name: (told[0][name], told[1][name]) for name in told[0]}.items():
        shared = one.keys() & other.keys()
        assert len(shared) > 3, name
        set_by_both = [key for key in shared if None not in (one[key], other[key])]
        assert [key for key in set_by_both if type(one[key]) is not type(other[key])] == [], name
        assert [key for key in shared & _DECIDE if one[key] != other[key]] == [], name


def _payment_of_ours(ours: httpx.Client, process: SimulatorProcess) -> dict[str, Any]:
    wanted = {
        "mode": "payment",
        "client_reference_id": "story",
        "success_url": "https://pay.example.am/back",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "amd",
        "line_items[0][price_data][unit_amount]": str(AMOUNT),
        "line_items[0][price_data][product_data][name]": "story",
    }
    session = ours.post("/v1/checkout/sessions", data=wanted).raise_for_status().json()
    process.control.act("story", "pay", account="acct")
    asked = ours.get(f"/v1/checkout/sessions/{session['id']}", params={"expand[]": "payment_intent"})
    payment: dict[str, Any] = asked.raise_for_status().json()["payment_intent"]
    return payment


def _story(client: httpx.Client, payment: str) -> dict[str, dict[str, Any]]:
    """Ask for a payment, its charge and its refunds."""
    asked = client.get(f"/v1/payment_intents/{payment}", params={"expand[]": "latest_charge"}).raise_for_status().json()
    charge = asked.pop("latest_charge")
    refunds = client.get("/v1/refunds", params={"charge": charge["id"]}).raise_for_status().json()
    return {"payment": asked, "charge": charge, "refunds": refunds, "refund": refunds["data"][0]}
