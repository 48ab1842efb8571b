"""Whatever arrives: a message, or a ContractError that names field and remedy and repeats no value."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.base import key_digest, key_of
from contracts.catalog import read_inbound
from contracts.envelope import MAX_DEPTH, MAX_PROBLEMS, ContractError, Envelope, parse_json
from contracts.examples import data_example, event_example
from contracts.messages import Customer, InvoiceCancelled, InvoiceCreated, ProviderEventReceived
from contracts.money import CURRENCIES, exponent, major

quick = settings(max_examples=150, deadline=None)

SECRET = "zqj-secret-zqj"
EXAMPLE = event_example(InvoiceCreated)

names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12) | st.text(max_size=12)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4))
# Text as a CRM may hold it: no surrogates (they are refused before), everything else.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def _read(body):
    """Take a body as intake does."""
    return read_inbound(parse_json(body))


@quick
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body):
    _read_or_refuse(body)


@quick
@given(values)
def test_any_json_is_read_or_refused(value):
    _read_or_refuse(json.dumps(value).encode())


@quick
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    _read_or_refuse(text.encode("utf-8", errors="surrogatepass"))


@quick
@given(st.sampled_from(sorted(EXAMPLE)), values)
def test_an_envelope_with_anything_in_one_attribute_is_read_or_refused(name, value):
    _read_or_refuse(json.dumps(EXAMPLE | {name: value}).encode())


@quick
@given(names, values)
def test_an_envelope_with_any_further_attribute_is_read_or_refused(name, value):
    _read_or_refuse(json.dumps({name: value} | EXAMPLE).encode())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(InvoiceCreated.model_fields)), values)
def test_an_invoice_with_anything_in_one_field_is_read_or_refused(name, value):
    data = EXAMPLE["data"] | {name: value}
    _read_or_refuse(json.dumps(EXAMPLE | {"data": data}).encode())


@quick
@given(st.sampled_from(["customer", "manager", "policy"]), st.dictionaries(names, values, max_size=3))
def test_an_invoice_with_anything_in_one_part_is_read_or_refused(part, value):
    data = EXAMPLE["data"] | {part: {**value, "id": "1"}}
    _read_or_refuse(json.dumps(EXAMPLE | {"data": data}).encode())


@quick
@given(st.sampled_from([InvoiceCancelled, ProviderEventReceived]), st.data())
def test_the_other_inbound_messages_are_read_or_refused_too(model, draw):
    name = draw.draw(st.sampled_from(sorted(model.model_fields)))
    data = data_example(model) | {name: draw.draw(values)}
    _read_or_refuse(json.dumps(event_example(model) | {"data": data}).encode())


def _read_or_refuse(body):
    error = _refusal(body)
    if error is None:
        message = _read(body)[1]
        message.key().encode("utf-8")
        assert len(message.fingerprint()) == 32
        assert type(message).parse(message.model_dump(mode="json")) == message
        return
    assert 1 <= len(error.problems) <= MAX_PROBLEMS + 1
    for problem in error.problems:
        assert problem.field
        assert problem.problem
        assert len(problem.field) < 2500
        # What is written to the review table and to an event must be storable.
        str(problem).encode("utf-8")
        assert "\x00" not in str(problem)


def _refusal(body):
    """The ContractError of a body, or None. Any other exception ends the test."""
    try:
        _read(body)
    except ContractError as error:
        return error
    return None


# One of each kind of wrong value that carries a text of its sender.
CARRIERS = [
    SECRET,
    f" {SECRET}",
    f"{SECRET}\x00",
    f"{SECRET}\ud800",
    f"{SECRET}\n",
    SECRET * 100,
    [SECRET],
    {SECRET: SECRET},
    {f"{SECRET} \n": f"{SECRET}\x00"},
    {"name": [SECRET], "email": SECRET, "phone": SECRET, "locale": SECRET, "id": [SECRET]},
    {"expires_in": SECRET, "partial": SECRET},
    [[[{f"{SECRET} ": f"{SECRET}\x00"}]]],
]


@pytest.mark.parametrize("name", sorted(InvoiceCreated.model_fields))
def test_no_error_about_data_repeats_a_value(name):
    for value in CARRIERS:
        data = EXAMPLE["data"] | {name: value}
        assert SECRET not in _told(EXAMPLE | {"data": data})


@pytest.mark.parametrize("name", sorted(Envelope.model_fields))
def test_no_error_about_the_envelope_repeats_a_value(name):
    for value in CARRIERS:
        assert SECRET not in _told(EXAMPLE | {name: value})


def _told(event):
    # json.dumps writes a lone surrogate as an escape, which is legal on the wire.
    return str(_refusal(json.dumps(event).encode()) or "")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "body: not JSON"),
        (b"\xff\xfe", "body: not UTF-8 at byte 0"),
        (b"[]", "body: not a JSON object"),
        (b'"text"', "body: not a JSON object"),
        (b'{"a": NaN}', "body: not JSON"),
        (b'{"a": 1e999}', "a: a number out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "body: not JSON"),
        (b'{"a": "\\u0000"}', "a: holds a NUL character"),
        (b'{"a": ["b", "\\ud800"]}', "a[1]: holds half of a surrogate pair"),
        (b'{"a\\u0000": 1}', "(a field's name): holds a NUL character"),
        (b'{"a": ' * 200 + b"1" + b"}" * 200, "nested deeper than 32 levels"),
        (b"[" * 100_000, "body: nested deeper than 32 levels"),
        (b" " * (256 * 1024 + 1), "body: larger than 262144 bytes"),
        (b'{"' + b"k" * 5000 + b'": "\\u0000"}', "?: holds a NUL character"),
    ],
)
def test_a_body_that_no_database_would_take_is_refused_with_its_reason(body, told):
    with pytest.raises(ContractError) as caught:
        parse_json(body)
    assert told in str(caught.value)


def test_nesting_up_to_the_limit_is_taken():
    body = b'{"a": ' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert parse_json(body)


def test_of_a_flood_of_problems_the_first_are_told():
    flood = {"headers": {f"h{number}": number for number in range(5000)}}
    event = event_example(ProviderEventReceived)
    with pytest.raises(ContractError) as caught:
        _read(json.dumps(event | {"data": event["data"] | flood}).encode())
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert "more problems" in caught.value.problems[-1].problem


parts = st.lists(texts | st.integers(min_value=0), min_size=1, max_size=5)


@settings(max_examples=400, deadline=None)
@given(parts, parts)
def test_keys_of_different_parts_never_collide(one, other):
    same = [str(part) for part in one] == [str(part) for part in other]
    assert (key_of(*one) == key_of(*other)) is same
    assert (key_digest(key_of(*one)) == key_digest(key_of(*other))) is same


@quick
@given(st.lists(st.sampled_from([":", "%", "%3A", "a", "/", " "]), min_size=1, max_size=6), st.data())
def test_no_way_of_cutting_a_text_into_parts_gives_the_key_of_another(pieces, draw):
    text = "".join(pieces)
    cut = draw.draw(st.integers(0, len(text)))
    assert key_of(text[:cut], text[cut:]) != key_of(text)
    assert key_of(text[:cut], text[cut:], "") != key_of(text[:cut], text[cut:])


identifiers = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40)
invoices = st.fixed_dictionaries(
    {
        "crm": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True),
        "invoice_id": identifiers,
        "amount_minor": st.integers(1, 10**11),
        "currency": st.sampled_from(sorted(CURRENCIES)),
        "purpose": identifiers,
    },
    optional={
        "version": st.integers(1, 2_000_000_000),
        "type": st.sampled_from(["invoice", "deal", "order"]),
        "kind": st.sampled_from(["invoice", "prepayment"]),
        "deal_id": st.none() | identifiers,
        "manager": st.fixed_dictionaries({"id": identifiers}, optional={"name": st.none() | identifiers}),
        "policy": st.fixed_dictionaries({}, optional={"partial": st.sampled_from(["review", "accept"])}),
        "customer": st.fixed_dictionaries({}, optional={"locale": st.sampled_from(["hy", "ru", "en"])}),
    },
)
# What a fingerprint must not see: fields that we do not know, trace ids, and who pressed the button.
noise = st.dictionaries(names.filter(lambda name: name not in InvoiceCreated.model_fields), leaves, max_size=3)


@quick
@given(invoices, noise)
def test_a_fingerprint_ignores_unknown_fields_and_what_is_no_business(data, unknown):
    message = InvoiceCreated.parse(data)
    other = InvoiceCreated.parse(unknown | data | {"created_by": "77", "currency_exponent": exponent(data["currency"])})
    assert message.fingerprint() == other.fingerprint()
    assert message.key() == other.key()


@quick
@given(invoices)
def test_a_default_that_was_sent_is_one_that_was_not(data):
    message = InvoiceCreated.parse(data)
    written_out = message.model_dump(mode="json")
    assert InvoiceCreated.parse(written_out).fingerprint() == message.fingerprint()
    nulls = {name: None for name in ("deal_id", "manager", "account", "version") if name not in data}
    assert InvoiceCreated.parse(data | nulls).fingerprint() == message.fingerprint()


OTHERWISE = {
    "crm": "another",
    "type": "order",
    "invoice_id": "another",
    "version": 1_999_999_999,
    "kind": "prepayment",
    "deal_id": "another",
    "amount_minor": 99_999_999_999,
    "currency": "CHF",
    "purpose": "another",
    "customer": {"name": "another"},
    "manager": {"id": "another"},
    "policy": {"expires_in": "P11D"},
    "account": "another",
}


@quick
@given(st.sampled_from(InvoiceCreated.FINGERPRINT))
def test_a_fingerprint_sees_every_business_field(field):
    data = EXAMPLE["data"] | {"kind": "invoice"}
    other = InvoiceCreated.parse(data | {field: OTHERWISE[field]})
    assert other.fingerprint() != InvoiceCreated.parse(data).fingerprint()


def test_the_same_time_in_other_words_is_the_same_content():
    data = EXAMPLE["data"]
    week, hours = ({"policy": {"expires_in": duration}} for duration in ("P7D", "PT168H"))
    assert InvoiceCreated.parse(data | week).fingerprint() == InvoiceCreated.parse(data | hours).fingerprint()


def test_an_absent_customer_is_an_empty_one():
    assert InvoiceCreated.parse(EXAMPLE["data"] | {"customer": {}}).customer == Customer()


@quick
@given(st.integers(1, 10**11), st.sampled_from(sorted(CURRENCIES)))
def test_minor_units_are_kept_exactly(amount_minor, currency):
    assert major(amount_minor, currency) * 10 ** exponent(currency) == amount_minor
