"""Whatever arrives, the answer names the field and what to do, and never raises."""

import base64
import json
from typing import Any

import pytest

from contracts.envelope import MAX_BODY_BYTES, Problem
from contracts.messages import InvoiceCancelled, InvoiceCreated, ProviderEventReceived
from runtime.inbound import read
from tests.doors import ACME, BOUND, FOREIGN, by_amqp, by_http, event, invoice, make_settings

SETTINGS = make_settings()


def problems_of(incoming: Any) -> dict[str, str]:
    reading = read(incoming, SETTINGS)
    assert reading.message is None
    assert reading.problems
    return {problem.field: problem.problem for problem in reading.problems}


def surrogate_body() -> bytes:
    return json.dumps(event(invoice(purpose="\ud83d"))).encode()


def nul_body() -> bytes:
    return json.dumps(event(invoice(purpose="a\x00b"))).encode()


def deep_body(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


# What came, the field that is named, and words of the remedy.
WRONG_DATA: list[tuple[dict[str, Any], str, str]] = [
    ({"amount_minor": None}, "amount_minor", "missing"),
    ({"crm": None}, "crm", "missing"),
    ({"invoice_id": None}, "invoice_id", "missing"),
    ({"purpose": None}, "purpose", "missing"),
    ({"amount_minor": -1}, "amount_minor", "greater than 0"),
    ({"amount_minor": 0}, "amount_minor", "greater than 0"),
    ({"amount_minor": 10.5}, "amount_minor", "minor units"),
    ({"amount_minor": 100.0}, "amount_minor", "minor units"),
    ({"amount_minor": "100"}, "amount_minor", "without quotes"),
    ({"amount_minor": True}, "amount_minor", "minor units"),
    ({"amount_minor": 100_000_000_001}, "amount_minor", "less than or equal to 100000000000"),
    ({"amount_minor": 10**400}, "amount_minor", ""),
    ({"amount_minor": [1]}, "amount_minor", "minor units"),
    ({"currency": "amd"}, "currency", "upper case"),
    ({"currency": "XXX"}, "currency", "use one of AED, AMD"),
    ({"currency": 51}, "currency", "string"),
    ({"customer": {"locale": "fr"}}, "customer.locale", "'hy', 'ru' or 'en'"),
    ({"customer": {"email": "nobody"}}, "customer.email", "match"),
    ({"customer": "Ani"}, "customer", "dictionary"),
    ({"invoice_id": ""}, "invoice_id", "at least 1 character"),
    ({"invoice_id": "x" * 65}, "invoice_id", "at most 64"),
    ({"invoice_id": " INV"}, "invoice_id", "trim it"),
    ({"invoice_id": "a\nb"}, "invoice_id", "control characters"),
    ({"version": 0}, "version", "greater than or equal to 1"),
    ({"version": "1"}, "version", "whole number"),
    ({"type": "subscription"}, "type", "'invoice', 'deal' or 'order'"),
    ({"policy": {"expires_in": "P2Y"}}, "policy.expires_in", "PT5M to P366D"),
    ({"policy": {"expires_in": "soon"}}, "policy.expires_in", "duration"),
    ({"purpose": "x" * 201}, "purpose", "at most 200"),
]


@pytest.mark.parametrize(("changes", "field", "words"), WRONG_DATA, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named_with_its_remedy(changes: dict[str, Any], field: str, words: str) -> None:
    data = invoice(**changes)

    assert words in problems_of(by_amqp(event(data)))[f"data.{field}"]
    # Over HTTP the data may stand alone, and its fields are named as they stand there.
    assert words in problems_of(by_http(data))[field]


def test_an_exponent_that_is_not_the_currencys_is_explained() -> None:
    (problem,) = problems_of(by_amqp(event(invoice(currency="JPY", currency_exponent=2)))).values()
    assert "JPY has 0 decimals (ISO 4217)" in problem


def test_all_wrong_fields_are_named_at_once() -> None:
    found = problems_of(by_amqp(event(invoice(amount_minor=-1, currency="?", purpose=None)), routing_key="other"))
    assert set(found) == {"routing_key", "data.amount_minor", "data.currency", "data.purpose"}


WRONG_BODIES: list[tuple[str, bytes, str, str]] = [
    ("not JSON", b"amount=1", "body", "send one JSON object"),
    ("empty", b"", "body", "send one JSON object"),
    ("a list", b"[]", "body", "send one object per message"),
    ("a number", b"1", "body", "send one object per message"),
    ("not a number", b'{"a": NaN}', "body", "not JSON"),
    ("a number without end", b'{"a": ' + b"9" * 5000 + b"}", "body", "not JSON"),
    ("not UTF-8", '{"a": "Ա"}'.encode("utf-16"), "body", "encode the JSON as UTF-8"),
    ("half of UTF-8", b'{"a": "\xd4"}', "body", "encode the JSON as UTF-8"),
    ("NUL", nul_body(), "data.purpose", "NUL"),
    ("a NUL in a name", b'{"a": {"\\u0000": 1}}', "a (a field's name)", "NUL"),
    ("half a surrogate pair", surrogate_body(), "data.purpose", "send whole characters"),
    ("33 levels", deep_body(40), ".".join(["a"] * 33), "nested deeper than 32 levels"),
    ("100,000 levels", deep_body(20_000), "body", "nested deeper than 32 levels"),
    ("10 MB", b'{"a": "' + b"x" * 10_000_000 + b'"}', "body", f"larger than {MAX_BODY_BYTES} bytes"),
]


@pytest.mark.parametrize(
    ("body", "field", "words"), [case[1:] for case in WRONG_BODIES], ids=[case[0] for case in WRONG_BODIES]
)
def test_a_body_that_is_no_event_is_explained(body: bytes, field: str, words: str) -> None:
    for incoming in (by_amqp(body), by_http(body)):
        assert words in problems_of(incoming)[field]


WRONG_ENVELOPES: list[tuple[dict[str, Any], str, str]] = [
    ({"specversion": "0.3"}, "specversion", "'1.0'"),
    ({"id": None}, "id", "missing"),
    ({"source": None}, "source", "missing"),
    ({"type": None}, "type", "missing"),
    ({"data": None}, "data", "missing"),
    ({"data": "text"}, "data", "dictionary"),
    (
        {"type": "invoice.paid.v1"},
        "type",
        "send one of fiscal.status_changed.v1, invoice.cancelled.v1, ",
    ),
    ({"type": "invoice.created.v9"}, "type", "send invoice.created.v1, or upgrade"),
    ({"type": "invoice.created"}, "type", "send invoice.created.v1"),
    ({"type": "crm.update.v1"}, "type", "unknown type"),
    ({"time": "2026-11-22T10:00:00"}, "time", "no time zone"),
    ({"datacontenttype": "text/xml"}, "datacontenttype", "'application/json'"),
    ({"Extra-Name": 1}, "body", "CloudEvents attribute name"),
]


@pytest.mark.parametrize(("changes", "field", "words"), WRONG_ENVELOPES, ids=lambda value: str(value)[:40])
def test_a_wrong_envelope_is_explained(changes: dict[str, Any], field: str, words: str) -> None:
    assert words in problems_of(by_amqp(event(**changes)))[field]


def test_fields_that_nobody_knows_are_passed_over() -> None:
    reading = read(by_amqp(event(invoice(new_field={"x": 1}), comexampletenant="7")), SETTINGS)
    assert isinstance(reading.message, InvoiceCreated)


def test_a_content_type_that_is_not_ours_is_refused_and_its_absence_is_not() -> None:
    assert "application/cloudevents+json" in problems_of(by_amqp(event(), content_type="text/xml"))["content_type"]
    for given in (None, "", "application/json; charset=utf-8", "application/cloudevents+json"):
        assert read(by_amqp(event(), content_type=given), SETTINGS).message is not None


def test_the_routing_key_says_what_the_type_says() -> None:
    found = problems_of(by_amqp(event(), routing_key="invoice.cancelled"))
    assert found == {"routing_key": "does not fit the type; publish invoice.created.v1 as invoice.created"}


# --- who speaks -----------------------------------------------------------------------------------------------------


def test_another_crm_is_refused_whatever_the_event_says_of_its_source() -> None:
    data = invoice(crm=FOREIGN)
    assert "amqp_users" in problems_of(by_amqp(event(data, source="/crm/foreign"), sender="guest"))["data.crm"]
    assert "amqp_users" in problems_of(by_amqp(event(data)))["data.crm"]
    assert "bound to it" in problems_of(by_http(data))["crm"]
    assert "bound to it" in problems_of(by_http(event(data)))["data.crm"]
    cancelled = event({"crm": FOREIGN, "invoice_id": "1", "version": 1}, type="invoice.cancelled.v1")
    assert "amqp_users" in problems_of(by_amqp(cancelled, "invoice.cancelled"))["data.crm"]


def test_a_sender_that_is_bound_to_his_crm_may_speak_for_it() -> None:
    assert read(by_amqp(event(invoice(crm=BOUND)), sender="guest"), SETTINGS).message is not None
    assert read(by_http(invoice(crm=BOUND), crms=[BOUND]), SETTINGS).message is not None


def test_a_crm_that_is_not_configured_is_refused() -> None:
    assert "configure it" in problems_of(by_amqp(event(invoice(crm="unheard-of"))))["data.crm"]
    assert "configure it" in problems_of(by_http(invoice(crm="unheard-of"), crms=["unheard-of"]))["crm"]


# --- what is ours to set --------------------------------------------------------------------------------------------


def test_a_wish_is_never_the_senders() -> None:
    for version in (1, None):
        message = read(by_amqp(event(invoice(version=version, wish="mine"), id="e-1")), SETTINGS).message
        assert isinstance(message, InvoiceCreated)
        assert message.wish == ("" if version else "/crm/acme|e-1")


def test_an_idempotency_key_names_an_invoice_without_a_version_and_imitates_no_event() -> None:
    data = invoice(version=None)
    message = read(by_http(data, idempotency_key="/crm/acme|e-1"), SETTINGS).message
    assert isinstance(message, InvoiceCreated)
    assert message.wish == "key-%2Fcrm%2Facme%7Ce-1"
    again = [read(by_http(data), SETTINGS).message for _ in range(2)]
    assert again[0] != again[1]  # nothing names it: each is a wish of its own


def forwarded(**changes: Any) -> dict[str, Any]:
    data = {"account": "bank", "headers": {"x-signature": "s"}, "body_base64": base64.b64encode(b"\xff\x00").decode()}
    return event({**data, **changes}, type="provider.event.v1", id="p-1")


def test_a_forwarded_provider_event_gets_our_time_and_a_receipt_of_its_own() -> None:
    first, same, other = (
        read(by_amqp(body, "provider.event"), SETTINGS).message
        for body in (
            forwarded(receipt="theirs", received_at="2020-01-01T00:00:00Z"),
            forwarded(),
            forwarded(headers={"x-signature": "other"}),
        )
    )
    assert isinstance(first, ProviderEventReceived)
    assert isinstance(same, ProviderEventReceived)
    assert isinstance(other, ProviderEventReceived)
    assert first.received_at.year > 2020
    assert first.receipt == same.receipt != other.receipt
    assert "theirs" not in first.receipt


def test_a_forwarded_provider_event_names_an_account_and_holds_bytes() -> None:
    assert "configured here" in problems_of(by_amqp(forwarded(account="none"), "provider.event"))["data.account"]
    assert "not base64" in problems_of(by_amqp(forwarded(body_base64="%%"), "provider.event"))["data.body_base64"]
    assert "/webhooks/" in problems_of(by_http(forwarded()))["type"]


def test_a_cancellation_is_read() -> None:
    body = event({"crm": ACME, "invoice_id": "INV-1", "version": 2}, type="invoice.cancelled.v1")
    assert isinstance(read(by_amqp(body, "invoice.cancelled"), SETTINGS).message, InvoiceCancelled)


# --- what is kept of a wrong one ------------------------------------------------------------------------------------


def test_the_names_of_a_wrong_event_are_found_and_fit_for_a_database() -> None:
    origin = read(by_amqp(nul_body()), SETTINGS).origin
    assert (origin.source, origin.event_id, origin.event_type) == ("/crm/acme", "event-INV-1-1", "invoice.created.v1")

    origin = read(by_amqp(b'{"id": "a\\u0000\\ud800b", "source": 7, "type": "%s"}' % (b"t" * 300)), SETTINGS).origin
    assert (origin.source, origin.event_id, origin.event_type) == (None, "a\ufffd\ufffdb", None)

    assert read(by_amqp(b"not JSON", message_id="m-1"), SETTINGS).origin.event_id == "m-1"


def test_problems_never_hold_values_and_stay_short() -> None:
    data = invoice(customer={"email": "ani.secret", "phone": "ani.secret"}, currency="ani.secret")
    reading = read(by_amqp(event(data, **{"X" * 10_000: 1})), SETTINGS)
    assert "ani.secret" not in str(read(by_amqp(event(data)), SETTINGS).problems)
    assert all(len(problem.field) <= 256 and len(problem.problem) <= 400 for problem in reading.problems)

    many = read(by_amqp(event({"headers": {str(n): n for n in range(1000)}}, type="provider.event.v1")), SETTINGS)
    assert len(many.problems) <= 20
    assert all(isinstance(problem, Problem) for problem in many.problems)


def test_a_request_id_is_the_senders_when_it_is_well_formed() -> None:
    assert read(by_amqp(event(requestid="r-1"), request_id="other"), SETTINGS).cause.request_id == "r-1"
    assert read(by_amqp(event(), request_id="r-2"), SETTINGS).cause.request_id == "r-2"
    assert len(read(by_amqp(event(requestid="two\nlines")), SETTINGS).cause.request_id) == 26
    # Over HTTP the answer's own id is the story's, so that support finds it.
    assert read(by_http(event(requestid="r-1"), request_id="r-3"), SETTINGS).cause.request_id == "r-3"
