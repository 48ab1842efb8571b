"""Publish one event to ERP, website and the CRM's publisher, on the exchange paylinks.events.

Takes     invoice.accepted, intake.rejected, payment.status_changed, command.answered, money.unmatched.
Gives     one CloudEvent, confirmed by the broker.
Twice?    At least once: a lost confirm publishes the same event id again; consumers drop what they know.
Gives up  After 20 tries over about 13 hours: dead letter. Without an exchange there is nobody to tell.
"""

import json
from datetime import timedelta

from contracts.base import Message
from contracts.catalog import routing_key
from contracts.commands import CommandAnswered
from contracts.messages import IntakeRejected, InvoiceAccepted, MoneyUnmatched, PaymentStatusChanged
from db import invoices, links
from runtime.deps import Deps
from workers.stage import DONE, Outcome, Schedule, stage

SOURCE = "/paylinks"
SCHEDULE = Schedule.growing(20, first=1, longest=3600)
LIMIT = timedelta(milliseconds=3600)


@stage(InvoiceAccepted, schedule=SCHEDULE, time_limit=LIMIT)
def publish_accepted(message: InvoiceAccepted, deps: Deps) -> Outcome:
    """Tell a sender that he may stop repeating."""
    return _publish(message, deps)


@stage(IntakeRejected, schedule=SCHEDULE, time_limit=LIMIT)
def publish_rejected(message: IntakeRejected, deps: Deps) -> Outcome:
    """Tell senders what could not be read."""
    return _publish(message, deps)


@stage(MoneyUnmatched, schedule=SCHEDULE, time_limit=LIMIT)
def publish_unmatched(message: MoneyUnmatched, deps: Deps) -> Outcome:
    """Tell the back office of money that is nobody's."""
    return _publish(message, deps)


@stage(PaymentStatusChanged, schedule=SCHEDULE, time_limit=LIMIT)
def publish_status(message: PaymentStatusChanged, deps: Deps) -> Outcome:
    """Tell ERP and website what the CRM is told; the link's URL is made here, never stored."""
    if deps.events is None:
        return DONE
    with deps.read() as tx:
        link = links.newest(tx, invoices.get(tx, message.invoice).id)
    if link is None:
        return _publish(message, deps)
    url = deps.tokens.url(link.id, link.generation, link.key_id)
    return _publish(message.model_copy(update={"result": message.result.model_copy(update={"link_url": url})}), deps)


@stage(CommandAnswered, schedule=SCHEDULE, time_limit=LIMIT)
def publish_answer(message: CommandAnswered, deps: Deps) -> Outcome:
    """Tell who gave a command what became of it; the link's URL is made here, never stored."""
    if deps.events is None or message.link is None:
        return _publish(message, deps)
    with deps.read() as tx:
        link = links.get(tx, message.link)
    url = deps.tokens.url(link.id, link.generation, link.key_id)
    return _publish(message.model_copy(update={"link_url": url}), deps)


def _publish(message: Message, deps: Deps) -> Outcome:
    if deps.events is None:
        return DONE
    claimed = deps.claim
    event = {
        "specversion": "1.0",
        "id": claimed.id,
        "source": SOURCE,
        "type": message.TYPE,
        "subject": message.subject(),
        "time": claimed.created_at.isoformat(),
        "datacontenttype": "application/json",
        "requestid": claimed.request_id,
        "data": message.model_dump(mode="json", exclude_none=True),
    }
    if claimed.traceparent:
        event["traceparent"] = claimed.traceparent
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    deps.events.publish(routing_key(message.TYPE), body, message_id=claimed.id)
    return DONE
