"""`paylinks intake`: take invoices from AMQP, and review what could not be read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import moment, put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason, until_told_to_stop

if TYPE_CHECKING:
    from db.rejections import Kept

app = typer.Typer(
    help="Take invoices from AMQP until told to stop (without a command below), and review what was rejected.",
    invoke_without_command=True,
)
rejected = typer.Typer(help="Bodies that could not be read, kept until a person decides.", no_args_is_help=True)
app.add_typer(rejected, name="rejected")

Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a rejection.")]


@app.callback()
def intake(context: typer.Context) -> None:
    """Take invoices from AMQP until told to stop."""
    if context.invoked_subcommand is not None:
        return
    from runtime.settings import SettingsError
    from workers.intake import run_intake
    from workers.publisher import announcing

    with open_deps(stays_up=True) as deps, announcing(deps), until_told_to_stop() as stop:
        if not deps.settings.amqp_url:
            raise SettingsError("amqp_url: missing; intake needs the address of RabbitMQ")
        run_intake(deps, stop)


@rejected.command("list")
def list_(
    state: Annotated[str, typer.Option(help="open, replayed, discarded, or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, oldest first.")] = 100,
    json_: Json = False,
) -> None:
    """List what could not be read, oldest first, without the bodies."""
    from db import rejections

    with open_deps() as deps, deps.database.read() as tx:
        found = rejections.listed(tx, state=None if state == "all" else state, limit=limit)
    told = [
        dict(row._mapping) | {"problems": [str(problem) for problem in rejections.problems_of(row)]} for row in found
    ]
    if json_:
        put_json(told)
        return
    rows = [
        (one["id"], one["created_at"], one["state"], one["sender"], one["event_type"], 1 + one["repeats"], _first(one))
        for one in told
    ]
    put_table(("ID", "CAME", "STATE", "SENDER", "TYPE", "TIMES", "PROBLEM"), rows)


@rejected.command()
def show(id_: Id, actor: Actor = None, reason: Reason = "", json_: Json = False) -> None:
    """Show one body with its problems. Bodies are personal: who looked, and why, is written down."""
    from db import rejections

    why = required_reason(reason)
    with open_deps() as deps, deps.database.begin() as tx:
        kept = rejections.show(tx, id_, actor=actor_or_user(actor), reason=why)
    if kept is None:
        say(f"no rejection has the id {id_}")
        raise typer.Exit(exits.FAILED)
    if json_:
        put_json(_as_json(kept))
        return
    put(f"{kept.id} by {kept.channel} from {kept.sender or '-'}, {moment(kept.created_at)}: {kept.state}")
    for problem in kept.problems:
        put(f"  {problem}")
    put()
    put(_shown(kept))


@rejected.command()
def replay(
    id_: Id,
    body: Annotated[Path | None, typer.Option(help="A file with the mended body; without it, the kept one.")] = None,
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Send a kept body in again, as it came or mended; who does this vouches for its sender."""
    from db import rejections
    from runtime.intake import replay as send_again

    why = required_reason(reason)
    mended = body.read_bytes() if body is not None else None
    with open_deps() as deps:
        try:
            taken = send_again(deps, id_, actor=actor_or_user(actor), reason=why, body=mended)
        except rejections.NotOpen as error:
            say(str(error))
            raise typer.Exit(exits.FAILED) from None
    if json_:
        put_json({"outcome": taken.outcome, "message_id": taken.message_id, "problems": [*map(str, taken.problems)]})
    else:
        put(f"{id_} {taken.outcome}")
    for problem in taken.problems:
        say(str(problem))
    raise typer.Exit(exits.FAILED if taken.problems else exits.OK)


@rejected.command()
def discard(id_: Id, actor: Actor = None, reason: Reason = "") -> None:
    """Give a body up."""
    from db import rejections

    why = required_reason(reason)
    with open_deps() as deps:
        try:
            with deps.database.begin() as tx:
                rejections.discard(tx, id_, actor=actor_or_user(actor), reason=why)
        except rejections.NotOpen as error:
            say(str(error))
            raise typer.Exit(exits.FAILED) from None
    put(f"{id_} discarded")


def _first(told: dict[str, Any]) -> str:
    return told["problems"][0] if told["problems"] else ""


def _as_json(kept: "Kept") -> dict[str, Any]:
    return {
        "id": kept.id,
        "channel": kept.channel,
        "sender": kept.sender,
        "state": kept.state,
        "problems": [str(problem) for problem in kept.problems],
        "created_at": kept.created_at,
        "body": _shown(kept),
        "body_bytes": kept.body_bytes,
    }


def _shown(kept: "Kept") -> str:
    is_erased = not kept.body and kept.body_bytes > 0
    return "[erased]" if is_erased else kept.body.decode("utf-8", "backslashreplace")
