"""`paylinks money`: verified money that is nobody's, until a person assigns or refunds it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import moment, put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

if TYPE_CHECKING:
    from db.tx import Record, Tx
    from runtime.deps import Deps

app = typer.Typer(help="Money that is nobody's: look at it, assign it, give it back.", no_args_is_help=True)

Entry = Annotated[str, typer.Argument(metavar="ENTRY", help="The id that `list` shows.")]
Refund = Annotated[str, typer.Argument(metavar="REFUND", help="The refund's id.")]


@app.command("list")
def list_(
    every: Annotated[bool, typer.Option("--all", help="Also what was assigned or given back.")] = False,
    json_: Json = False,
) -> None:
    """List the inbox, oldest first."""
    from db import inbox

    with open_deps() as deps, deps.database.read() as tx:
        entries = [_summary(tx, entry) for entry in inbox.listed(tx, every=every)]
    if json_:
        put_json(entries)
        return
    rows = [
        (one["id"], one["account"], one["provider_order_id"], _money(one["money"]), one["state"], one["created_at"])
        for one in entries
    ]
    put_table(("ENTRY", "ACCOUNT", "ORDER", "MONEY", "STATE", "FOUND AT (UTC)"), rows)


@app.command()
def show(id_: Entry, json_: Json = False) -> None:
    """Show one entry with its money and the invoices that it may be for; a person decides which, if any."""
    from db import inbox

    with open_deps() as deps, deps.database.read() as tx:
        entry = inbox.find(tx, id_)
        if entry is None:
            say(f"no entry of the inbox has the id {id_}: see `paylinks money list`")
            raise typer.Exit(exits.FAILED)
        told = {**_summary(tx, entry), "candidates": _candidates(tx, entry)}
    if json_:
        put_json(told)
    else:
        _print(told)


@app.command()
def assign(
    id_: Entry,
    invoice: Annotated[str, typer.Argument(metavar="INVOICE", help="Our id, the CRM's, or crm/id.")],
    reason: Reason = "",
    actor: Actor = None,
    json_: Json = False,
) -> None:
    """Give the money to an invoice; the provider is asked once more, and the rules decide what it means there."""
    from cli import inbox
    from cli.link import only_invoice

    def do(deps: "Deps", who: str, why: str) -> str:
        return inbox.assign(deps, id_, only_invoice(deps, invoice).id, actor=who, reason=why)

    _do(do, reason, actor, json_)


@app.command()
def refund(id_: Entry, reason: Reason = "", actor: Actor = None, json_: Json = False) -> None:
    """Give the money back to whoever paid it; above a limit a second person approves it."""
    from cli import inbox

    _do(lambda deps, who, why: inbox.refund(deps, id_, actor=who, reason=why), reason, actor, json_)


@app.command()
def approve(refund_id: Refund, reason: Reason = "", actor: Actor = None, json_: Json = False) -> None:
    """Agree to a refund that somebody else asked for."""
    from cli import inbox

    _do(lambda deps, who, why: inbox.approve(deps, refund_id, actor=who, reason=why), reason, actor, json_)


@app.command()
def reject(refund_id: Refund, reason: Reason = "", actor: Actor = None, json_: Json = False) -> None:
    """Refuse a refund; its money stays in the inbox."""
    from cli import inbox

    _do(lambda deps, who, why: inbox.reject(deps, refund_id, actor=who, reason=why), reason, actor, json_)


def _do(deed: "Callable[[Deps, str, str], str]", reason: str, actor: str | None, json_: bool) -> None:
    from cli.inbox import NotPossible

    why, who = required_reason(reason), actor_or_user(actor)
    with open_deps() as deps:
        try:
            done, code = deed(deps, who, why), exits.OK
        except NotPossible as error:
            done, code = str(error), exits.FAILED
    if json_:
        put_json({"status": "done" if code == exits.OK else "refused", "detail": done})
    else:
        (put if code == exits.OK else say)(done)
    raise typer.Exit(code)


def _summary(tx: "Tx", entry: "Record") -> dict[str, Any]:
    from db import inbox

    shown = ("id", "account", "reference", "provider_order_id", "state", "invoice_id", "request_id", "created_at")
    moved = [
        {
            "kind": row.kind,
            "amount_minor": row.amount_minor,
            "currency": row.currency,
            "provider_transaction_id": row.provider_transaction_id,
            "occurred_at": row.occurred_at,
        }
        for row in inbox.money_of(tx, entry.id)
    ]
    return {name: entry._mapping[name] for name in shown} | {"money": moved, "closed_at": entry.closed_at}


def _candidates(tx: "Tx", entry: "Record") -> list[dict[str, Any]]:
    from db import inbox

    return [
        {
            "invoice": one.invoice.id,
            "crm": one.invoice.crm,
            "external_id": one.invoice.external_id,
            "status": one.invoice.status,
            "amount_minor": one.invoice.amount_minor,
            "paid_minor": one.invoice.paid_minor - one.invoice.refunded_minor,
            "currency": one.invoice.currency,
            "because": list(one.because),
        }
        for one in inbox.candidates(tx, entry)
    ]


def _money(moved: list[dict[str, Any]]) -> str:
    from contracts.money import display

    return ", ".join(f"{one['kind']} {display(one['amount_minor'], one['currency'])}" for one in moved) or "-"


def _print(told: dict[str, Any]) -> None:
    from contracts.money import display

    put(f"{told['id']}  {told['state']}")
    put(f"  order {told['provider_order_id']} (reference {told['reference']}) at {told['account']}")
    put(f"  found {moment(told['created_at'])}; request id {told['request_id']}")
    for one in told["money"]:
        put(f"  {moment(one['occurred_at'])}  {_money([one])}  {one['provider_transaction_id']}")
    if not told["candidates"]:
        put("  no invoice here asks for this amount, and the order names none")
        return
    rows = [
        (
            f"{one['crm']}/{one['external_id']}",
            one["status"],
            display(one["amount_minor"], one["currency"]),
            "; ".join(one["because"]),
        )
        for one in told["candidates"]
    ]
    put_table(("IT MAY BE FOR", "STATUS", "ASKED", "BECAUSE"), rows)
