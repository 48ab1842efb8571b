"""Read one body from outside: bytes and who sent them become a typed message, or the problems with it.

    Incoming ──> JSON ──> CloudEvent (or `data` alone, over HTTP) ──> may its sender speak for that CRM? ──> Reading

No database, and no exception for anything that a body can do. `source` and `subject` are the sender's own words: who
he is, the API key or the AMQP user tells.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from contracts.base import Message
from contracts.catalog import SET_BY_INTAKE, inbound_model, routing_key
from contracts.commands import Command
from contracts.envelope import MAX_BODY_BYTES, ContractError, Envelope, Problem, parse_json
from contracts.ids import new_id
from contracts.messages import InvoiceCancelled, InvoiceCreated, ProviderEventReceived
from db.tx import Cause
from runtime.settings import Settings

# operator: a person sends a kept body again, and vouches for its sender.
Channel = Literal["amqp", "http", "operator"]

CONTENT_TYPES = ("application/cloudevents+json", "application/json")
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,64}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_WORD = 256
_MAX_PROBLEMS = 20
_MAX_PROBLEM_LENGTH = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What came in, and what the channel itself tells about it."""

    body: bytes
    channel: Channel
    body_bytes: int | None = None  # how long it came, where the door kept only the beginning of an endless one
    routing_key: str | None = None  # AMQP only
    sender: str | None = None  # the AMQP user id, checked by the broker, or the API key's id
    crms: frozenset[str] = frozenset()  # HTTP only: the CRMs that the API key may speak for
    content_type: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    idempotency_key: str | None = None  # HTTP only
    bare: type[Message] = InvoiceCreated  # HTTP only: what a body without an envelope is
    only: type[Message] | None = None  # HTTP only: what alone this address takes
    message_id: str | None = None  # AMQP only: names a body that cannot be read
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Origin:
    """How the sender names the event, as far as that can be read; never more than a name."""

    source: str | None = None
    event_id: str | None = None
    event_type: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One body, read: `message`, or else `problems`."""

    incoming: Incoming
    cause: Cause
    origin: Origin
    message: Message | None = None
    problems: tuple[Problem, ...] = ()
    forbidden: bool = False  # the sender may not speak for the CRM that he names


class _Forbidden(ContractError):
    """The body may be right; its sender is not."""


def read(incoming: Incoming, settings: Settings) -> Reading:
    """Read one body; whatever is wrong with it becomes problems that name field and remedy."""
    value: dict[str, Any] = {}
    try:
        _check_content_type(incoming)
        value = parse_json(incoming.body)
        message = _message(value, incoming, settings)
    except ContractError as error:
        return _unreadable(incoming, value, error.problems, forbidden=isinstance(error, _Forbidden))
    except Exception as error:
        # Nobody thought of this body: it waits for review, and its neighbours go on.
        problem = Problem("body", f"could not be read ({type(error).__name__}); tell the people who run this service")
        return _unreadable(incoming, value, (problem,))
    return Reading(incoming, _cause(incoming, value), _origin(value), message)


def _check_content_type(incoming: Incoming) -> None:
    given = (incoming.content_type or "").partition(";")[0].strip().lower()
    if given and given not in CONTENT_TYPES:
        raise ContractError.of("content_type", f"not one that is read here; send {' or '.join(CONTENT_TYPES)}")


def _message(value: dict[str, Any], incoming: Incoming, settings: Settings) -> Message:
    if incoming.channel == "http" and "specversion" not in value:
        return _bare(value, incoming, settings)
    envelope = Envelope.parse(value)
    model = inbound_model(envelope.type)
    if incoming.only not in (None, model):
        remedy = f"send {incoming.only.TYPE}, or send it to the address of its own"
        raise ContractError.of("type", f"does not fit this address; {remedy}")
    problems = _routing_problems(envelope.type, incoming)
    try:
        if issubclass(model, ProviderEventReceived):
            return _all_right(_provider_event(envelope, incoming, settings), problems)
        message = model.parse(_theirs(envelope.data))
    except ContractError as error:
        raise ContractError([*problems, *error.problems]) from None
    _check_sender(message, incoming, settings)
    return _all_right(_named(message, f"{envelope.source}|{envelope.id}", incoming.channel), problems)


def _all_right(message: Message, problems: list[Problem]) -> Message:
    if problems:
        raise ContractError(problems)
    return message


def _bare(data: dict[str, Any], incoming: Incoming, settings: Settings) -> Message:
    """Read `data` alone, whose type the door knows; its fields stand at the top, so its problems do too."""
    try:
        message = incoming.bare.parse(_theirs(data))
        _check_sender(message, incoming, settings)
    except ContractError as error:
        raise type(error)(Problem(item.field.removeprefix("data."), item.problem) for item in error.problems) from None
    if incoming.idempotency_key is None:
        return _named(message, f"once-{new_id()}", incoming.channel)
    # No "|" is left in it, so that no key imitates an event's name.
    return _named(message, f"key-{quote(incoming.idempotency_key, safe='')}", incoming.channel)


def _theirs(data: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in data.items() if name not in SET_BY_INTAKE}


def names_itself(message: Message | None) -> bool:
    """Tell whether the sender's name for the event is what makes the message a wish of its own."""
    return isinstance(message, Command) or (isinstance(message, InvoiceCreated) and message.version is None)


def _named(message: Message, wish: str, channel: Channel) -> Message:
    """Give a command, or an invoice without a version, the name of its event; and a command the kind of its author."""
    if isinstance(message, Command):
        return message.model_copy(update={"wish": wish, "by": "operator" if channel == "operator" else "crm"})
    return message.model_copy(update={"wish": wish}) if names_itself(message) else message


def _routing_problems(event_type: str, incoming: Incoming) -> list[Problem]:
    if incoming.routing_key is None or incoming.routing_key == routing_key(event_type):
        return []
    return [Problem("routing_key", f"does not fit the type; publish {event_type} as {routing_key(event_type)}")]


def _check_sender(message: Message, incoming: Incoming, settings: Settings) -> None:
    """Refuse a CRM that is not configured, and a sender that may not speak for it."""
    if not isinstance(message, InvoiceCreated | InvoiceCancelled | Command):
        return
    if incoming.channel == "http" and message.crm not in incoming.crms:
        raise _Forbidden.of("data.crm", "this API key may not speak for that CRM; use a key that is bound to it")
    crm = settings.crms.get(message.crm)
    if crm is None:
        raise ContractError.of("data.crm", "no CRM of this name is configured here; check the name, or configure it")
    if incoming.channel == "amqp" and crm.amqp_users and incoming.sender not in crm.amqp_users:
        remedy = "publish with the property user_id set to a user that is bound to it (amqp_users)"
        raise _Forbidden.of("data.crm", f"this AMQP user may not speak for that CRM; {remedy}")


def _provider_event(envelope: Envelope, incoming: Incoming, settings: Settings) -> Message:
    """Read a provider's event that somebody forwards; the worker checks its signature."""
    if incoming.channel == "http":
        raise ContractError.of("type", "provider events have a door of their own; send them to /webhooks/<account>")
    data = _theirs(envelope.data)
    given = json.dumps([envelope.source, envelope.id, data], sort_keys=True).encode()
    # Not the sender's id alone: without a checked signature another content is never dropped as a repeat.
    receipt = f"forwarded-{hashlib.sha256(given).hexdigest()}"
    message = ProviderEventReceived.parse({**data, "receipt": receipt, "received_at": incoming.received_at})
    if message.account not in settings.accounts:
        remedy = "compare it with the webhook address set at the provider, or configure it"
        raise ContractError.of("data.account", f"no provider account of this name is configured here; {remedy}")
    try:
        base64.b64decode(message.body_base64, validate=True)
    except (binascii.Error, ValueError):
        raise ContractError.of("data.body_base64", "not base64; encode the raw bytes by RFC 4648, padded") from None
    return message


# --- what is known of a body, whole or not --------------------------------------------------------------------------


def _unreadable(
    incoming: Incoming, value: dict[str, Any], problems: tuple[Problem, ...], *, forbidden: bool = False
) -> Reading:
    known = value or _glance(incoming.body)
    origin = _origin(known)
    if origin.event_id is None:
        origin = Origin(origin.source, _word(incoming.message_id), origin.event_type)
    bounded = tuple(
        Problem(_cut(item.field, _MAX_WORD), _cut(item.problem, _MAX_PROBLEM_LENGTH))
        for item in problems[:_MAX_PROBLEMS]
    )
    return Reading(incoming, _cause(incoming, known), origin, None, bounded, forbidden)


def _glance(body: bytes) -> dict[str, Any]:
    """Look for names in a body that is wrong somewhere; one over the limit is not worth the time."""
    if len(body) > MAX_BODY_BYTES:
        return {}
    try:
        value = json.loads(body)
    except Exception:
        return {}  # it is wrong already, and how is told elsewhere
    return value if isinstance(value, dict) else {}


def _origin(value: dict[str, Any]) -> Origin:
    return Origin(_word(value.get("source")), _word(value.get("id")), _word(value.get("type")))


def _cause(incoming: Incoming, value: dict[str, Any]) -> Cause:
    """Begin the story: over HTTP under the request's own id, else under the one that the sender gave."""
    given = [value.get("requestid"), incoming.request_id]
    if incoming.channel == "http":
        given.reverse()
    request_id = next((one for one in given if isinstance(one, str) and _WELL_FORMED_ID.fullmatch(one)), None)
    traces = (value.get("traceparent"), incoming.traceparent)
    return Cause.new(
        request_id, next((one for one in traces if isinstance(one, str) and _TRACEPARENT.fullmatch(one)), None)
    )


def _word(value: object) -> str | None:
    """Return a name that a database takes, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_WORD:
        return None
    return printable(value)


def _cut(text: str, limit: int) -> str:
    return printable(text if len(text) <= limit else f"{text[: limit - 1]}…")


def printable(text: str) -> str:
    """Replace what is no printable character: NUL and half characters reach no database, control ones no terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
