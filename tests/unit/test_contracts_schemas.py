"""The published schemas say what the models do: about what is read, and about what is sent."""

import copy
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from contracts.catalog import INBOUND, OUTBOUND, SET_BY_INTAKE, TYPES, read_inbound
from contracts.envelope import ContractError
from contracts.examples import data_example, event_example
from contracts.export import PUBLISHED, check
from contracts.json_schema import key_template, message_schema, subject_template
from contracts.messages import InvoiceCreated, PaymentStatusChanged
from contracts.reference import contracts_page
from contracts.results import PaymentResult
from contracts.statuses import InvoiceStatus
from contracts.validation import read_event

MODELS = list(TYPES.values())
ROOT = Path(__file__).parents[2]


def test_the_published_files_say_what_the_models_say():
    assert check(PUBLISHED) == [], "look at the difference, then run: .venv/bin/paylinks contracts export"


def test_the_reference_page_says_what_the_models_say():
    written = (ROOT / "docs" / "reference" / "contracts.md").read_text(encoding="utf-8")
    assert written == contracts_page(), "run: .venv/bin/python -m contracts.reference > docs/reference/contracts.md"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.TYPE)
def test_a_schema_is_one_and_its_example_fits_both_schema_and_model(model):
    schema = message_schema(model)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(event_example(model))
    read = model.parse(data_example(model)).model_dump(mode="json")
    assert data_example(model).items() <= read.items()


@pytest.mark.parametrize("model", INBOUND, ids=lambda model: model.TYPE)
def test_an_inbound_example_is_taken_as_a_whole(model):
    read_event(event_example(model))


def test_schemas_have_names_of_their_own_that_end_in_the_version():
    names = [message_schema(model)["$id"] for model in MODELS]
    assert len(set(names)) == len(names)
    assert "urn:paylinks:contract:invoice.created.v1" in names


def test_key_and_subject_are_told_as_the_code_builds_them():
    assert key_template(InvoiceCreated) == "invoice:{crm}:{type}:{invoice_id}:{version}"
    assert subject_template(InvoiceCreated) == "{crm}:{type}:{invoice_id}"
    assert key_template(TYPES["crm.update.v1"]) == "crm.update:{invoice}:{revision}"


def test_exactly_what_intake_sets_itself_is_not_offered_to_senders():
    for model in INBOUND:
        offered = set(message_schema(model)["$defs"][model.__name__]["properties"])
        assert set(model.model_fields) - offered == SET_BY_INTAKE & set(model.model_fields)


@pytest.mark.parametrize("model", OUTBOUND, ids=lambda model: model.TYPE)
def test_what_is_sent_fits_the_schema_with_everything_set(model):
    _assert_sendable(model.parse(data_example(model)))


def test_what_is_sent_fits_the_schema_with_as_little_as_possible():
    result = PaymentResult(
        revision=1, status=InvoiceStatus.PENDING, amount_minor=1, currency="AMD", request_id="r", paid_at=None
    )
    _assert_sendable(
        PaymentStatusChanged(invoice="i", revision=1, crm="acme", type="invoice", invoice_id="1", result=result)
    )
    paid = result.model_copy(update={"paid_at": datetime.now(UTC), "link_url": "https://pay.example.am/l/x"})
    _assert_sendable(
        PaymentStatusChanged(invoice="i", revision=1, crm="acme", type="invoice", invoice_id="1", result=paid)
    )


def _assert_sendable(message):
    event = event_example(type(message)) | {
        "subject": message.subject(),
        "data": message.model_dump(mode="json", exclude_none=True),
    }
    Draft202012Validator(message_schema(type(message))).validate(event)


# Each is refused by schema and reader alike: a sender who checks against the schema is not surprised.
REFUSED = {
    "another CloudEvents version": {"specversion": "2.0"},
    "no id": {"id": None},
    "an empty source": {"source": ""},
    "another type": {"type": "invoice.created.v9"},
    "data that is a text": {"data": "invoice"},
    "an attribute with a capital letter": {"requestId": "1"},
    "another content type": {"datacontenttype": "text/xml"},
    "a broken traceparent": {"traceparent": "00-1-1-1"},
    "no amount": {"data.amount_minor": None},
    "an amount of nothing": {"data.amount_minor": 0},
    "a negative amount": {"data.amount_minor": -5},
    "an amount with decimals": {"data.amount_minor": 10.5},
    "an amount in quotes": {"data.amount_minor": "10"},
    "an absurd amount": {"data.amount_minor": 10**15},
    "an unknown currency": {"data.currency": "XXX"},
    "a currency in lower case": {"data.currency": "amd"},
    "an empty purpose": {"data.purpose": ""},
    "a purpose of two lines": {"data.purpose": "one\ntwo"},
    "a purpose too long": {"data.purpose": "x" * 201},
    "an id with an edge of space": {"data.invoice_id": " 1"},
    "an id too long": {"data.invoice_id": "x" * 65},
    "an id that is a number": {"data.invoice_id": 7},
    "a CRM with capital letters": {"data.crm": "Acme"},
    "version nought": {"data.version": 0},
    "an unknown payable": {"data.type": "quote"},
    "an unknown kind": {"data.kind": "gift"},
    "an unknown language": {"data.customer": {"locale": "fr"}},
    "an address without a sign": {"data.customer": {"email": "nobody"}},
    "a phone of letters": {"data.customer": {"phone": "call me"}},
    "a manager without an id": {"data.manager": {"name": "Karen"}},
    "an unknown policy": {"data.policy": {"partial": "refuse"}},
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
def test_schema_and_reader_refuse_the_same(change):
    event = _changed(change)
    assert not Draft202012Validator(message_schema(InvoiceCreated)).is_valid(event)
    with pytest.raises(ContractError):
        read_inbound(event)


# What no JSON Schema can say, or says otherwise: the reader is stricter, and says why.
STRICTER = {
    "currency_exponent": {"data.currency_exponent": 0},
    "expires_in": {"data.policy": {"expires_in": "PT1S"}},
    "amount_minor": {"data.amount_minor": 10.0},
}


@pytest.mark.parametrize(("field", "change"), STRICTER.items())
def test_the_reader_names_what_the_schema_cannot_refuse(field, change):
    event = _changed(change)
    assert Draft202012Validator(message_schema(InvoiceCreated)).is_valid(event)
    with pytest.raises(ContractError, match=field):
        read_inbound(event)


@pytest.mark.parametrize("change", [{"data.colour": "red"}, {"tenant": "a"}, {"subject": None}, {"data.deal_id": None}])
def test_schema_and_reader_take_unknown_fields_and_leave_out_the_optional(change):
    event = _changed(change)
    Draft202012Validator(message_schema(InvoiceCreated)).validate(event)
    read_inbound(event)


def _changed(change):
    event = copy.deepcopy(event_example(InvoiceCreated))
    for path, value in change.items():
        *parents, name = path.split(".")
        where = event["data"] if parents else event
        if value is None:
            where.pop(name)
        else:
            where[name] = value
    return event


def test_the_page_is_printed_by_its_own_command():
    done = subprocess.run(
        [sys.executable, "-m", "contracts.reference"], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == contracts_page()
