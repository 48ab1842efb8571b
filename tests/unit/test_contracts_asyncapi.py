"""The AsyncAPI document is one: by the official schema, by its own references, and by its examples."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from contracts.asyncapi import asyncapi_document
from contracts.catalog import EVENTS_EXCHANGE, INBOUND, INTAKE_EXCHANGE, OUTBOUND, QUEUES, TYPES, Queue, routing_key
from contracts.export import ASYNCAPI, PUBLISHED

OFFICIAL = Path(__file__).parents[1] / "data" / "asyncapi-3.0.0.json"


@pytest.fixture(scope="module")
def official():
    return Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))


@pytest.fixture
def document():
    return asyncapi_document()


def test_the_published_document_is_valid_by_the_official_schema_of_asyncapi_3(official):
    published = json.loads((PUBLISHED / ASYNCAPI).read_text(encoding="utf-8"))
    assert [error.message for error in official.iter_errors(published)] == []


def _no_action(document):
    del document["operations"]["receive.invoice.created.v1"]["action"]


def _unknown_binding(document):
    document["channels"][INTAKE_EXCHANGE]["bindings"]["amqp"]["is"] = "stream"


def _type_that_is_none(document):
    document["components"]["schemas"]["invoice.created.v1"]["type"] = "record"


@pytest.mark.parametrize("spoil", [_no_action, _unknown_binding, _type_that_is_none])
def test_the_official_schema_refuses_a_spoiled_document(official, document, spoil):
    spoil(document)
    assert not official.is_valid(document)


def test_every_reference_leads_somewhere(document):
    for reference in _references(document):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_every_inbound_type_is_received_and_every_outbound_type_is_sent(document):
    operations = document["operations"]
    for model in INBOUND:
        operation = operations[f"receive.{model.TYPE}"]
        assert (operation["action"], operation["x-routing-key"]) == ("receive", routing_key(model.TYPE))
        assert operation["channel"] == {"$ref": f"#/channels/{INTAKE_EXCHANGE}"}
    for model in OUTBOUND:
        operation = operations[f"send.{model.TYPE}"]
        assert (operation["action"], operation["x-routing-key"]) == ("send", routing_key(model.TYPE))
        assert operation["channel"] == {"$ref": f"#/channels/{EVENTS_EXCHANGE}"}


def test_the_exchanges_carry_exactly_the_routing_keys_of_their_types(document):
    for exchange, models in ((INTAKE_EXCHANGE, INBOUND), (EVENTS_EXCHANGE, OUTBOUND)):
        channel = document["channels"][exchange]
        assert set(channel["parameters"]["routingKey"]["enum"]) == {routing_key(model.TYPE) for model in models}
        assert set(channel["messages"]) == {model.TYPE for model in models}
        assert channel["bindings"]["amqp"]["exchange"] == {
            "name": exchange,
            "type": "topic",
            "durable": True,
            "autoDelete": False,
        }


def test_every_queue_is_a_channel_that_names_its_work(document):
    for queue in Queue:
        channel = document["channels"][f"queue.{queue}"]
        assert channel["bindings"]["amqp"]["queue"]["name"] == f"paylinks.{queue}"
        assert set(channel["x-work"]) == {model.TYPE for model, its_queue in QUEUES.items() if its_queue is queue}


def test_every_message_tells_its_key_its_fingerprint_and_what_is_personal(document):
    for name, model in TYPES.items():
        message = document["components"]["messages"][name]
        assert message["x-deduplication-key"].count("{") > 0
        assert message["x-fingerprint"] == list(model.FINGERPRINT)
        fields = document["components"]["schemas"][model.__name__]["properties"]
        assert {field for field, rule in fields.items() if rule.get("x-sensitive")} == set(model.SEALED)


def test_every_example_fits_its_payload(document):
    for message in document["components"]["messages"].values():
        validator = Draft202012Validator(message["payload"] | {"components": document["components"]})
        for example in message["examples"]:
            validator.validate(example["payload"])


def test_payloads_keep_to_the_keywords_that_draft_07_knows_too(document):
    known = set(Draft7Validator.META_SCHEMA["properties"])
    for schema in document["components"]["schemas"].values():
        for keyword in _keywords(schema):
            assert keyword in known or keyword.startswith("x-"), keyword


def _references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _keywords(schema):
    yield from schema
    nested = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items")]
    for part in nested:
        if isinstance(part, dict):
            yield from _keywords(part)
