"""Which types exist, which way they go, and which queue takes them."""

import re
from enum import StrEnum
from typing import Any

from contracts import messages as m
from contracts.base import Message
from contracts.commands import COMMANDS, CommandAnswered
from contracts.envelope import ContractError, Envelope


class Queue(StrEnum):
    """One per kind of work; each is served by workers of its own."""

    LINK_CREATION = "link-creation"
    CHECKOUT = "checkout"
    WEBHOOK_VERIFICATION = "webhook-verification"
    STATUS_CHECKS = "status-checks"  # scheduled questions: nobody waits for them, until an event or a person does
    CRM_UPDATE = "crm-update"
    COMMANDS = "commands"
    REFUNDS = "refunds"
    FISCAL = "fiscal"
    MANAGER_TASKS = "manager-tasks"
    OUTBOUND = "outbound"


QUEUES: dict[type[Message], Queue] = {
    m.InvoiceCreated: Queue.LINK_CREATION,
    m.InvoiceCancelled: Queue.LINK_CREATION,
    m.LinkCreate: Queue.LINK_CREATION,
    m.LinkExpire: Queue.LINK_CREATION,
    m.AttemptClose: Queue.LINK_CREATION,
    m.CheckoutStart: Queue.CHECKOUT,
    m.ProviderEventReceived: Queue.WEBHOOK_VERIFICATION,
    m.AttemptCheck: Queue.WEBHOOK_VERIFICATION,
    m.CrmUpdate: Queue.CRM_UPDATE,
    m.CrmCheck: Queue.CRM_UPDATE,
    m.ExceptionRaised: Queue.MANAGER_TASKS,
    m.ExceptionCleared: Queue.MANAGER_TASKS,
    m.InvoiceAccepted: Queue.OUTBOUND,
    m.IntakeRejected: Queue.OUTBOUND,
    m.PaymentStatusChanged: Queue.OUTBOUND,
    m.MoneyUnmatched: Queue.OUTBOUND,
    m.RefundMake: Queue.REFUNDS,
    m.ReceiptIssue: Queue.FISCAL,
    m.AttemptHold: Queue.REFUNDS,
    m.LinkWanted: Queue.COMMANDS,
    **dict.fromkeys(COMMANDS, Queue.COMMANDS),
    CommandAnswered: Queue.OUTBOUND,
}

TYPES: dict[str, type[Message]] = {model.TYPE: model for model in QUEUES}

# What others may send us, and what we announce. The rest is ours alone.
INBOUND: tuple[type[Message], ...] = (m.InvoiceCreated, m.InvoiceCancelled, m.ProviderEventReceived, *COMMANDS)
OUTBOUND: tuple[type[Message], ...] = (
    *(m.InvoiceAccepted, m.IntakeRejected, m.PaymentStatusChanged, m.MoneyUnmatched),
    CommandAnswered,
)

# Fields that intake sets itself, whatever a sender writes there.
SET_BY_INTAKE = frozenset({"wish", "by", "receipt", "received_at"})

INTAKE_EXCHANGE = "paylinks.intake"
EVENTS_EXCHANGE = "paylinks.events"

_VERSIONED = re.compile(r"(?P<name>.+)\.v(?P<version>[0-9]{1,4})")


def routing_key(message_type: str) -> str:
    """Return the type without its version: routing_key("invoice.created.v1") == "invoice.created"."""
    matched = _VERSIONED.fullmatch(message_type)
    return matched["name"] if matched else message_type


def read_inbound(value: dict[str, Any]) -> tuple[Envelope, Message]:
    """Check a whole CloudEvent from outside; raise ContractError that names field and remedy."""
    envelope = Envelope.parse(value)
    return envelope, inbound_model(envelope.type).parse(envelope.data)


def inbound_model(message_type: str) -> type[Message]:
    """Return the model of a type that others may send us."""
    known = {model.TYPE: model for model in INBOUND}
    if message_type in known:
        return known[message_type]
    versions = sorted(name for name in known if routing_key(name) == routing_key(message_type))
    if versions:
        raise ContractError.of("type", f"this version is unknown here; send {' or '.join(versions)}, or upgrade")
    raise ContractError.of("type", f"unknown type; send one of {', '.join(sorted(known))}")
