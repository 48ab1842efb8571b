"""`paylinks link`: what a person does with the link of an invoice. Each names who and why."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

if TYPE_CHECKING:
    from db.command_status import CommandStatus
    from db.tx import Record
    from runtime.answers import OrderAnswer
    from runtime.deps import Deps

app = typer.Typer(help="The link of an invoice: send, cancel, replace, extend, verify.", no_args_is_help=True)

# A worker takes a command within milliseconds; longer waits mean that none serves the queue.
WAIT_SECONDS = 10.0
PAUSE_SECONDS = 0.1

Id = Annotated[str, typer.Argument(metavar="ID", help="The invoice: our id, the CRM's, or crm/id.")]
EventId = Annotated[str | None, typer.Option("--id", help="Names this wish: the same id again is the same wish.")]
RefundId = Annotated[str, typer.Argument(metavar="REFUND", help="The refund: our id, as the task names it.")]
Lifetime = Annotated[str, typer.Option(help="An ISO 8601 duration from PT5M to P366D, counted from now.")]


@app.command()
def resend(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Note that the same link goes out again, and print it."""
    _do("link.resend.v1", id_, reason, actor, event_id, json_)


@app.command()
def sent(
    id_: Id,
    channel: Annotated[str, typer.Option(help="email, sms, messenger, phone, paper or other.")],
    recipient: Annotated[str | None, typer.Option(help="To whom; kept encrypted, shown masked.")] = None,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Note that somebody sent the link."""
    _do("link.sent.v1", id_, reason, actor, event_id, json_, channel=channel, recipient=recipient)


@app.command()
def cancel(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Close the link, at the provider too."""
    _do("link.cancel.v1", id_, reason, actor, event_id, json_)


@app.command()
def reissue(
    id_: Id,
    expires_in: Lifetime = "",
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Close the link and make a new one for the same invoice; print it."""
    _do("link.reissue.v1", id_, reason, actor, event_id, json_, expires_in=expires_in or None)


@app.command()
def retry(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Let the customer begin a new payment under the same link."""
    _do("link.retry.v1", id_, reason, actor, event_id, json_)


@app.command()
def extend(
    id_: Id,
    expires_in: Lifetime,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Move the end of the link."""
    _do("link.extend.v1", id_, reason, actor, event_id, json_, expires_in=expires_in)


@app.command()
def verify(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Ask the provider now whether the invoice was paid, and print its answer beside what we hold."""
    _do("payment.verify.v1", id_, reason, actor, event_id, json_)


@app.command()
def capture(
    id_: Id,
    amount_minor: Annotated[int | None, typer.Option(help="What is captured, in minor units; default: all.")] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217, beside an amount.")] = None,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Capture the money that is held for the invoice; what is left of it is let go."""
    part: dict[str, str | int | None] = {"amount_minor": amount_minor, "currency": currency}
    _do("payment.capture.v1", id_, reason, actor, event_id, json_, **part)


@app.command()
def release(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Let the money go that is held for the invoice."""
    _do("payment.release.v1", id_, reason, actor, event_id, json_)


@app.command()
def refund(
    id_: Id,
    amount_minor: Annotated[int | None, typer.Option(help="What goes back, in minor units; default: all.")] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217, beside an amount.")] = None,
    payment: Annotated[str | None, typer.Option(help="Which payment: the provider's transaction or order.")] = None,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Give money back through the provider; above a limit a second person approves it."""
    back: dict[str, str | int | None] = {"amount_minor": amount_minor, "currency": currency, "payment": payment}
    _do("payment.refund.v1", id_, reason, actor, event_id, json_, **back)


@app.command("approve-refund")
def approve_refund(
    id_: Id,
    refund_id: RefundId,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Agree to a refund that somebody else asked for."""
    _do("refund.approve.v1", id_, reason, actor, event_id, json_, refund=refund_id)


@app.command("reject-refund")
def reject_refund(
    id_: Id,
    refund_id: RefundId,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Refuse a refund that waits, or end one that never happened."""
    _do("refund.reject.v1", id_, reason, actor, event_id, json_, refund=refund_id)


@app.command("settled-elsewhere")
def settled_elsewhere(
    id_: Id,
    amount_minor: Annotated[int, typer.Option(help="What was paid, in minor units.")],
    currency: Annotated[str, typer.Option(help="ISO 4217.")],
    method: Annotated[str, typer.Option(help="bank_transfer, cash, terminal or other.")],
    reference: Annotated[str | None, typer.Option(help="The number of the transfer or the receipt.")] = None,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Settle an invoice that was paid past its link; the link closes."""
    paid: dict[str, str | int | None] = {"amount_minor": amount_minor, "currency": currency}
    paid |= {"method": method, "reference": reference}
    _do("invoice.settled_elsewhere.v1", id_, reason, actor, event_id, json_, **paid)


@app.command()
def review(id_: Id, reason: Reason = "", actor: Actor = None, event_id: EventId = None, json_: Json = False) -> None:
    """Mark the invoice for review: a task opens, and nobody pays until it is resolved."""
    _do("invoice.review.v1", id_, reason, actor, event_id, json_)


@app.command()
def resolve(
    id_: Id,
    case: Annotated[str, typer.Option(help="Which open exception, as the task names it.")] = "marked_for_review",
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Say that a person has decided about an open exception."""
    _do("invoice.resolve.v1", id_, reason, actor, event_id, json_, case=case)


@app.command()
def fiscal(
    id_: Id,
    status: Annotated[str, typer.Option(help="not_required, pending, issued, failed or returned.")],
    receipt_no: Annotated[str | None, typer.Option(help="The number of the fiscal receipt.")] = None,
    reason: Reason = "",
    actor: Actor = None,
    event_id: EventId = None,
    json_: Json = False,
) -> None:
    """Say by hand where the fiscal receipt stands; the CRM is told."""
    _do("fiscal.status_changed.v1", id_, reason, actor, event_id, json_, status=status, receipt_no=receipt_no)


def _do(
    command: str,
    id_: str,
    reason: str,
    actor: str | None,
    event_id: str | None,
    json_: bool,
    **more: str | int | None,
) -> None:
    why = reason.strip() if command == "link.sent.v1" else required_reason(reason)
    who = actor_or_user(actor)
    with open_deps() as deps:
        name = _name_of(deps, id_)
        said = {key: value for key, value in more.items() if value not in (None, "")}
        data = {**name, "actor": who, "reason": why, **said}
        command_id = _taken(deps, command, data, who, event_id)
        status = _outcome(deps, command_id)
        link_url = _url(deps, status)
        orders = _answers(deps, status)
    if json_:
        put_json(
            {
                "command": status.command,
                "command_id": status.message_id,
                "status": status.state,
                "detail": status.detail,
                "request_id": status.request_id,
                "link_url": link_url,
                "orders": [order.as_json() for order in orders],
            }
        )
    elif not status.is_over:
        say(f"{command} waits for a worker: `paylinks worker --queue commands`; request id {status.request_id}")
    else:
        put(f"{status.state}: {status.detail}")
        if link_url:
            put(link_url)
        if orders:
            rows = [
                (one.account, one.provider_order_id, one.ours, one.theirs or "cannot be asked", one.asked_at)
                for one in orders
            ]
            put_table(("ACCOUNT", "ORDER", "WE HOLD", "PROVIDER SAYS", "ASKED AT (UTC)"), rows)
    raise typer.Exit(exits.OK if status.state in ("done", "ready", "running") else exits.FAILED)


def _name_of(deps: "Deps", id_: str) -> dict[str, str]:
    """Return how the CRM calls the invoice."""
    invoice = only_invoice(deps, id_)
    return {"crm": invoice.crm, "type": invoice.payable_type, "invoice_id": invoice.external_id}


def only_invoice(deps: "Deps", id_: str) -> "Record":
    """Return the one invoice that a name means, or say why not and leave."""
    from db import invoices, timeline

    with deps.database.read() as tx:
        found = timeline.find(tx, id_)
        rows = [invoices.get(tx, invoice_id) for invoice_id in found]
    if len(rows) != 1:
        several = f"{len(rows)} invoices are called {id_}: name one by our id"
        say(several if rows else f"nothing here is called {id_}")
        raise typer.Exit(exits.FAILED)
    return rows[0]


def _taken(deps: "Deps", command: str, data: dict[str, Any], actor: str, event_id: str | None) -> str:
    import json

    from contracts.ids import new_id
    from runtime.inbound import Incoming
    from runtime.intake import take

    event = {"specversion": "1.0", "id": event_id or new_id(), "source": "/cli", "type": command, "data": data}
    body = json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")
    (taken,) = take(deps, [Incoming(body=body, channel="operator", sender=actor)])
    if taken.problems or taken.message_id is None:
        for problem in taken.problems:
            say(str(problem))
        raise typer.Exit(exits.FAILED)
    return taken.message_id


def _outcome(deps: "Deps", command_id: str) -> "CommandStatus":
    from db import command_status

    until = time.monotonic() + WAIT_SECONDS
    while True:
        with deps.database.read() as tx:
            status = command_status.of(tx, command_id)
        if status is None:
            raise LookupError(f"no command {command_id}")
        if status.is_over or time.monotonic() > until:
            return status
        time.sleep(PAUSE_SECONDS)


def _answers(deps: "Deps", status: "CommandStatus") -> "list[OrderAnswer]":
    """Wait a while for what the providers say, where the command asks them."""
    from runtime.answers import answers, is_asked_for

    until = time.monotonic() + WAIT_SECONDS
    while is_asked_for(status):
        found, is_complete = answers(deps, status)
        if is_complete:
            return found
        if time.monotonic() > until:
            say("not every provider has answered yet: `paylinks worker --queue webhook-verification`")
            return found
        time.sleep(PAUSE_SECONDS)
    return []


def _url(deps: "Deps", status: "CommandStatus") -> str | None:
    """Return the link that a person wants to send now."""
    if status.state != "done" or status.command not in ("link.resend.v1", "link.reissue.v1"):
        return None
    from contracts.statuses import LinkState
    from db import links

    with deps.database.begin() as tx:
        link = links.newest(tx, status.our_invoice or "")
        if link is None or link.state != LinkState.ACTIVE:
            return None
        links.note_sent(tx, link.id)
    return deps.tokens.url(link.id, link.generation, link.key_id)
