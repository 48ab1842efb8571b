"""One JSON Schema (draft 2020-12) per message type: the whole CloudEvent, envelope and data.

Inbound and internal types show what is read. Outbound types show what is sent: a field that is always sent is
required there, and one without a value is absent, never null. What a JSON Schema has no word for stands in
`x-` keywords, which validators pass over.
"""

from enum import StrEnum
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel

from contracts import words
from contracts.base import Message
from contracts.catalog import INBOUND, OUTBOUND, QUEUES, routing_key
from contracts.delivery import Delivery
from contracts.envelope import Envelope
from contracts.examples import event_example

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_URN = "urn:paylinks:contract:"
_ALWAYS_SENT = ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "requestid", "data")
# CloudEvents 1.0.2, 3.1: lower-case letters and digits. Twenty of them is the length it recommends at most.
_ATTRIBUTE_NAMES = {"pattern": "^[a-z0-9]{1,20}$"}

Schema = dict[str, Any]


class Direction(StrEnum):
    """Which way a type goes, seen from us."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"


def direction(model: type[Message]) -> Direction:
    """Return which way the messages of a model go."""
    if model in INBOUND:
        return Direction.INBOUND
    return Direction.OUTBOUND if model in OUTBOUND else Direction.INTERNAL


def message_schema(model: type[Message], refs: str = "#/$defs/") -> Schema:
    """Return the schema of a whole event; its parts are under `$defs`, and `refs` is how they are named."""
    sent = direction(model) is Direction.OUTBOUND
    envelope = _model_schema(Envelope, refs, sent=sent)
    data = _model_schema(model, refs, sent=sent)
    definitions = data.pop("$defs", {})
    _mark_sensitive(model, data)
    properties = envelope["properties"] | {
        "type": {"const": model.TYPE, "description": words.meaning("Envelope", "type")},
        "data": {"$ref": f"{refs}{model.__name__}"},
    }
    if sent:
        # Made of escaped names, it may be longer than what we take from others.
        properties["subject"].pop("maxLength")
    return {
        "$schema": DIALECT,
        "$id": f"{_URN}{model.TYPE}",
        "title": model.TYPE,
        "description": summary(model),
        **_facts(model),
        "type": "object",
        "properties": properties,
        "required": list(_ALWAYS_SENT) if sent else envelope["required"],
        "propertyNames": _ATTRIBUTE_NAMES,
        "$defs": {model.__name__: data} | definitions,
        "examples": [event_example(model)],
    }


def delivery_schema() -> Schema:
    """Return the schema of a delivery, the hint that travels between stages."""
    heading = {
        "$schema": DIALECT,
        "$id": f"{_URN}delivery",
        "title": "delivery",
        "x-direction": Direction.INTERNAL.value,
    }
    return heading | _model_schema(Delivery, "#/$defs/", sent=False)


def key_template(model: type[Message]) -> str:
    """Return a model's deduplication key with field names in place of values: "crm.update:{invoice}:{revision}"."""
    return _template(model, model.key)


def subject_template(model: type[Message]) -> str:
    """Return a model's subject in the same way."""
    return _template(model, model.subject)


def summary(thing: Any) -> str:
    """Return the docstring's first paragraph, in one line."""
    return " ".join((thing.__doc__ or "").split("\n\n")[0].split())


def _facts(model: type[Message]) -> Schema:
    facts: Schema = {"x-direction": direction(model).value}
    if model in INBOUND or model in OUTBOUND:
        facts["x-routing-key"] = routing_key(model.TYPE)
    if model not in OUTBOUND:
        facts["x-queue"] = QUEUES[model].value
    facts["x-deduplication-key"] = key_template(model)
    facts["x-deduplication"] = summary(model.key)
    facts["x-fingerprint"] = list(model.FINGERPRINT)
    facts["x-sensitive-fields"] = sorted(model.SEALED)
    return facts


def _template(model: type[Message], method: Any) -> str:
    """Let the code itself build the text from field names: it cannot disagree with what runs."""
    shown = _model_schema(model, "#/$defs/", sent=False)["properties"]
    named = [name for name, field in model.model_fields.items() if name in shown or field.is_required()]
    placeholders: dict[str, Any] = {name: f"{{{name}}}" for name in named}
    return unquote(method(model.model_construct(**placeholders))).rstrip(":")


def _model_schema(model: type[BaseModel], refs: str, *, sent: bool) -> Schema:
    mode: Literal["serialization", "validation"] = "serialization" if sent else "validation"
    schema = model.model_json_schema(mode=mode, ref_template=f"{refs}{{model}}")
    for part in (schema, *schema.get("$defs", {}).values()):
        _tidy(part, sent=sent)
    return schema


def _tidy(schema: Schema, *, sent: bool) -> None:
    """Drop the titles that only repeat names, say what each field means, and what is always sent."""
    name = schema.pop("title")
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split("\n\n")[0].split())
    if "properties" not in schema:
        return
    fields = schema["properties"]
    if sent:
        schema["required"] = [field for field, rule in fields.items() if not _is_nullable(rule)]
    schema["properties"] = {
        field: {"description": words.meaning(name, field)} | _without_title(rule)
        for field, rule in (_without_null(fields) if sent else fields).items()
    }


def _without_title(rule: Schema) -> Schema:
    return {keyword: value for keyword, value in rule.items() if keyword != "title"}


def _is_nullable(rule: Schema) -> bool:
    return {"type": "null"} in rule.get("anyOf", ())


def _without_null(fields: dict[str, Schema]) -> dict[str, Schema]:
    """Leave out null where absence says the same."""
    return {name: _not_null(rule) if _is_nullable(rule) else rule for name, rule in fields.items()}


def _not_null(rule: Schema) -> Schema:
    others = [choice for choice in rule["anyOf"] if choice != {"type": "null"}]
    kept = {keyword: value for keyword, value in rule.items() if keyword not in ("anyOf", "default")}
    return kept | (others[0] if len(others) == 1 else {"anyOf": others})


def _mark_sensitive(model: type[Message], data: Schema) -> None:
    for field in model.SEALED:
        data["properties"][field] |= {"x-sensitive": True}
