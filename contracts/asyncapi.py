"""The AsyncAPI 3.0.0 document: what may be published to us, what we publish, and what lies on our own queues.

Exchanges are topic exchanges, so one channel stands for an exchange and its address is the routing key: the type
without its version. Payloads use only those keywords that JSON Schema draft-07 and 2020-12 share, because draft-07 is
what AsyncAPI's own schema format builds on.

Source: AsyncAPI 3.0.0 (https://www.asyncapi.com/docs/reference/specification/v3.0.0), AMQP bindings 0.3.0.
"""

from typing import Any

from contracts.base import Message
from contracts.catalog import EVENTS_EXCHANGE, INBOUND, INTAKE_EXCHANGE, OUTBOUND, QUEUES, Queue, routing_key
from contracts.examples import event_example
from contracts.json_schema import delivery_schema, message_schema, summary
from contracts.messages import IntakeRejected, InvoiceAccepted, InvoiceCreated

# Raised by hand: the second number with a new type or field, the first when a type is taken away.
VERSION = "1.0.0"
CONTENT_TYPE = "application/cloudevents+json"
_BINDINGS = "0.3.0"
_SCHEMAS = "#/components/schemas/"
# The default of the setting queue_prefix.
_QUEUE_PREFIX = "paylinks."
_DELIVERY = "delivery"
_STANDALONE = ("$schema", "$id", "$defs", "examples")

Document = dict[str, Any]


def asyncapi_document() -> Document:
    """Return the whole document."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:paylinks",
        "info": _info(),
        "defaultContentType": CONTENT_TYPE,
        "servers": {"rabbitmq": _server()},
        "channels": _exchange_channels() | {_queue_channel_name(queue): _queue_channel(queue) for queue in Queue},
        "operations": _exchange_operations() | _queue_operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _info() -> Document:
    return {
        "title": "Paylinks",
        "version": VERSION,
        "description": "Payment links for CRM invoices. Publish CloudEvents 1.0 (structured JSON) to "
        f"{INTAKE_EXCHANGE}, persistent, mandatory and with publisher confirms; a confirm is the broker's word, "
        "invoice.accepted.v1 is ours: repeat the same event until it comes. Bind a queue of your own to "
        f"{EVENTS_EXCHANGE} for what we announce, and drop event ids that you know: delivery is at least once.",
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    }


def _server() -> Document:
    return {
        "host": "{host}:{port}",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "The RabbitMQ that holds our exchanges.",
        "variables": {
            "host": {"default": "localhost", "description": "The broker's host name."},
            "port": {"default": "5672", "description": "5671 with TLS (amqps)."},
        },
    }


def _exchange_channels() -> Document:
    return {
        INTAKE_EXCHANGE: _exchange_channel(INTAKE_EXCHANGE, INBOUND, "What others may send us."),
        EVENTS_EXCHANGE: _exchange_channel(EVENTS_EXCHANGE, OUTBOUND, "What we announce."),
    }


def _exchange_channel(exchange: str, models: tuple[type[Message], ...], description: str) -> Document:
    keys = sorted({routing_key(model.TYPE) for model in models})
    binding = {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": "topic", "durable": True, "autoDelete": False},
        "bindingVersion": _BINDINGS,
    }
    return {
        "address": "{routingKey}",
        "description": description,
        "messages": {model.TYPE: _ref("components", "messages", model.TYPE) for model in models},
        "parameters": {"routingKey": {"enum": keys, "description": "The type without its version."}},
        "bindings": {"amqp": binding},
    }


def _exchange_operations() -> Document:
    receives = {f"receive.{model.TYPE}": _receive(model) for model in INBOUND}
    sends = {f"send.{model.TYPE}": _send(model) for model in OUTBOUND}
    return receives | sends


def _receive(model: type[Message]) -> Document:
    operation = _operation("receive", INTAKE_EXCHANGE, model.TYPE) | {
        "summary": summary(model),
        "x-routing-key": routing_key(model.TYPE),
        "x-queue": QUEUES[model].value,
        "bindings": {"amqp": {"ack": True, "bindingVersion": _BINDINGS}},
    }
    if model is InvoiceCreated:
        operation["reply"] = _reply(InvoiceAccepted, IntakeRejected)
    return operation


def _reply(*models: type[Message]) -> Document:
    return {
        "channel": _ref("channels", EVENTS_EXCHANGE),
        "messages": [_ref("channels", EVENTS_EXCHANGE, "messages", model.TYPE) for model in models],
    }


def _send(model: type[Message]) -> Document:
    return _operation("send", EVENTS_EXCHANGE, model.TYPE) | {
        "summary": summary(model),
        "x-routing-key": routing_key(model.TYPE),
        "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": _BINDINGS}},
    }


def _queue_channel_name(queue: Queue) -> str:
    return f"queue.{queue}"


def _queue_channel(queue: Queue) -> Document:
    name = f"{_QUEUE_PREFIX}{queue}"
    settings = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
    return {
        "address": name,
        "description": "Ours alone. It carries deliveries: hints that a message of the store is due.",
        "messages": {_DELIVERY: _ref("components", "messages", _DELIVERY)},
        "bindings": {"amqp": {"is": "queue", "queue": settings, "bindingVersion": _BINDINGS}},
        "x-work": [model.TYPE for model, its_queue in QUEUES.items() if its_queue is queue],
    }


def _queue_operations() -> Document:
    operations = {}
    for queue in Queue:
        channel = _queue_channel_name(queue)
        operations[f"send.{queue}"] = _operation("send", channel, _DELIVERY)
        operations[f"receive.{queue}"] = _operation("receive", channel, _DELIVERY)
    return operations


def _operation(action: str, channel: str, message: str) -> Document:
    return {
        "action": action,
        "channel": _ref("channels", channel),
        "messages": [_ref("channels", channel, "messages", message)],
    }


def _messages() -> Document:
    events = {model.TYPE: _event(model) for model in QUEUES}
    return events | {_DELIVERY: _delivery()}


def _event(model: type[Message]) -> Document:
    schema = message_schema(model)
    return {
        "name": model.TYPE,
        "title": model.__name__,
        "summary": summary(model),
        "contentType": CONTENT_TYPE,
        "payload": _ref("components", "schemas", model.TYPE),
        "examples": [{"name": "example", "payload": event_example(model)}],
        **{name: value for name, value in schema.items() if name.startswith("x-")},
    }


def _delivery() -> Document:
    example = {
        "id": "01kb3r8v4t6y8z1b3d5f7h9jkm",
        "type": "crm.update.v1",
        "key": "crm.update:01kb3r8v5m2x9d4c7f6h1j0kqt:3",
        "subject": "01kb3r8v5m2x9d4c7f6h1j0kqt",
        "request_id": "7c9e6679f2a14b0f",
    }
    return {
        "name": _DELIVERY,
        "title": "Delivery",
        "summary": "A message of the store is due. May be lost or doubled; holds no personal data.",
        "contentType": "application/json",
        "payload": _ref("components", "schemas", "queued"),
        "examples": [{"name": "example", "payload": {"args": [example]}}],
    }


def _schemas() -> Document:
    """Lay every schema and its parts side by side, where AsyncAPI's references look for them."""
    schemas: Document = {_DELIVERY: _embedded(delivery_schema()), "queued": _queued()}
    for model in QUEUES:
        schema = message_schema(model, refs=_SCHEMAS)
        for name, part in schema["$defs"].items():
            if schemas.setdefault(name, part) != part:
                raise ValueError(f"two parts are called {name}; rename one")
        schemas[model.TYPE] = _embedded(schema)
    return dict(sorted(schemas.items()))


def _embedded(schema: Document) -> Document:
    return {keyword: value for keyword, value in schema.items() if keyword not in _STANDALONE}


def _queued() -> Document:
    return {
        "description": "The worker library's own envelope; the delivery is its only argument.",
        "type": "object",
        "required": ["args"],
        "properties": {"args": {"type": "array", "items": {"$ref": f"{_SCHEMAS}{_DELIVERY}"}, "maxItems": 1}},
    }


def _ref(*path: str) -> Document:
    return {"$ref": "#/" + "/".join(path)}
