"""The reference page of the contracts, written from the same schemas that are published.

python -m contracts.reference > docs/reference/contracts.md
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from contracts.base import Message
from contracts.catalog import EVENTS_EXCHANGE, INBOUND, INTAKE_EXCHANGE, OUTBOUND, QUEUES
from contracts.json_schema import Direction, direction, message_schema, subject_template

_PATH = "../../contracts/schemas"

_OPENING = f"""# Contracts

<!-- Written by `python -m contracts.reference`; a test compares. Change the models, not this page. -->

Every message is one CloudEvents 1.0 object in structured JSON. The envelope is read strictly, `data` tolerantly: fields
that we do not know are ignored, so that a later version may add some. A breaking change is a new version beside the
old one (`invoice.created.v2`), never an edit; `paylinks contracts export` refuses to overwrite a published version with
one that breaks it.

The same as files: [one JSON Schema (2020-12) per type]({_PATH}) and
[one AsyncAPI 3.0.0 document]({_PATH}/asyncapi.json).
`paylinks contracts validate FILE` checks events before you send them.

- **Deduplication key**: two messages with one key are the same wish, and it has one effect.
- **Fingerprint**: the fields that must agree when the key does. Same key, other fingerprint: a conflict, which a person
  sees. Times, unknown fields and defaults that were written out do not count.
- **Personal**: encrypted wherever it is kept; never in deliveries, logs or the audit trail.
- Amounts are whole numbers of minor units. JSON numbers with a decimal point are refused, `10.0` too.
- In what we send, a field without a value is absent, never null. Be ready for new fields and for new words in `status`,
  `flags`, `fiscal_status` and `outcome`.
"""

_SECTIONS = (
    (Direction.INBOUND, f"What you send: exchange `{INTAKE_EXCHANGE}`, or `POST /v1/invoices`"),
    (Direction.OUTBOUND, f"What we announce: exchange `{EVENTS_EXCHANGE}`"),
    (Direction.INTERNAL, "What lies in our own store"),
)
_NOTES = {
    Direction.INBOUND: "The routing key is the type without its version. Publish persistent, mandatory, with\n"
    "publisher confirms, and repeat the same `invoice.created.v1` until `invoice.accepted.v1` answers.\n"
    "Step by step: [Send invoices](../how-to/send-invoices.md).",
    Direction.OUTBOUND: "Bind a queue of your own. Delivery is at least once: drop an event `id` that you know.",
    Direction.INTERNAL: "These types never leave us: on a queue there is only a delivery, which names a message of\n"
    "the store. They are published because a worker of the next version must read what this one wrote.",
}

Schema = dict[str, Any]


def contracts_page() -> str:
    """Return the page as Markdown."""
    parts = [_OPENING, _envelope_section()]
    for way, title in _SECTIONS:
        models = [model for model in QUEUES if direction(model) is way]
        parts.append(f"## {title}\n\n{_NOTES[way]}\n")
        parts += [_message_section(model) for model in models]
    return "\n".join(parts)


def _envelope_section() -> str:
    schema = message_schema(INBOUND[0])
    attributes = {name: rule for name, rule in schema["properties"].items() if name != "data"}
    attributes["type"] = {"type": "string", "description": attributes["type"]["description"]}
    table = _table(attributes, schema["required"], schema)
    note = "Other attributes are allowed where their names keep to CloudEvents' rules: 1 to 20 of a-z and 0-9."
    return f"## The envelope\n\n{table}\n\n{note}\n"


def _message_section(model: type[Message]) -> str:
    schema = message_schema(model)
    parts = [f"### {model.TYPE}\n\n{schema['description']}\n", "\n".join(_facts(model, schema)), ""]
    for name, part in schema["$defs"].items():
        if "properties" not in part:
            continue
        heading = "" if name == model.__name__ else f"`{name}`: {part['description']}\n\n"
        parts.append(f"{heading}{_table(part['properties'], part.get('required', []), schema)}\n")
    if model in INBOUND or model in OUTBOUND:
        example = json.dumps(schema["examples"][0], indent=2, ensure_ascii=False)
        parts.append(f"```json\n{example}\n```\n")
    return "\n".join(parts)


def _facts(model: type[Message], schema: Schema) -> Iterator[str]:
    if "x-routing-key" in schema:
        yield f"- Routing key: `{schema['x-routing-key']}`"
    if "x-queue" in schema:
        yield f"- Work of queue: `{schema['x-queue']}`"
    yield f"- Deduplication key: `{schema['x-deduplication-key']}`. {schema['x-deduplication']}"
    yield f"- Fingerprint: {_names(schema['x-fingerprint'])}"
    if schema["x-sensitive-fields"]:
        yield f"- Personal: {_names(schema['x-sensitive-fields'])}"
    if model in OUTBOUND:
        yield f"- Subject: `{subject_template(model)}`"
    yield f"- Schema: [{model.TYPE}.json]({_PATH}/{model.TYPE}.json)"


def _names(fields: list[str]) -> str:
    return ", ".join(f"`{field}`" for field in fields)


def _table(fields: dict[str, Schema], required: list[str], root: Schema) -> str:
    rows = ["| field | what | | meaning |", "| --- | --- | --- | --- |"]
    for name, rule in fields.items():
        need = "required" if name in required else _default(rule)
        rows.append(f"| `{name}` | {_shape(rule, root)} | {need} | {rule['description']} |")
    return "\n".join(rows)


def _default(rule: Schema) -> str:
    default = rule.get("default")
    return f"default `{default}`" if default and isinstance(default, str) else ""


def _shape(rule: Schema, root: Schema) -> str:
    """Say a rule in a few words: "text, 1 to 64 characters"."""
    if "$ref" in rule:
        name = rule["$ref"].rsplit("/", 1)[1]
        return _shape(root["$defs"][name], root) if "enum" in root["$defs"][name] else f"`{name}`"
    if "anyOf" in rule:
        return " or ".join(_shape(choice, root) for choice in rule["anyOf"] if choice != {"type": "null"})
    if "const" in rule:
        return f"`{rule['const']}`"
    if "enum" in rule:
        return ", ".join(f"`{word}`" for word in rule["enum"])
    if rule.get("type") == "array":
        return f"list of {_shape(rule['items'], root)}"
    words = {
        "integer": "whole number",
        "string": rule.get("format", "text"),
        "object": "object",
        "boolean": "true or false",
    }
    return f"{words[rule['type']]}{_range(rule)}"


def _range(rule: Schema) -> str:
    unit = " characters" if rule["type"] == "string" else ""
    low = rule.get("minLength", rule.get("minimum"))
    if low is None and "exclusiveMinimum" in rule:
        low = rule["exclusiveMinimum"] + 1
    high = rule.get("maxLength", rule.get("maximum"))
    if low is None and high is None:
        return ""
    if low is None:
        return f", up to {high}{unit}"
    return f", {low} to {high}{unit}" if high is not None else f", from {low}{unit}"


if __name__ == "__main__":
    sys.stdout.write(contracts_page())
