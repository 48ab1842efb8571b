"""`paylinks dead`: messages that gave up, kept until a person retries or discards them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import exits
from cli.output import moment, put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

if TYPE_CHECKING:
    from cli.first_aid import Deed

app = typer.Typer(help="Dead letters: look at them, retry them, give them up.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of messages.", show_default=False)]
Queue = Annotated[str | None, typer.Option(help="Only those of one queue.")]
Group = Annotated[str | None, typer.Option(help="Only those with one cause: the group that `list` shows.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, oldest first.")]


@app.command("list")
def list_(ids: Ids = None, queue: Queue = None, group: Group = None, limit: Limit = 100, json_: Json = False) -> None:
    """List dead letters, oldest first."""
    from db import dead_letters

    with open_deps() as deps, deps.database.read() as tx:
        found = dead_letters.listed(tx, ids=ids or (), queue=queue, group=group, limit=limit)
    if json_:
        put_json([dict(row._mapping) for row in found])
        return
    rows = [
        (row.id, row.queue, row.type, row.subject, row.failures, row.error_group, f"{row.error_class}: {row.error}")
        for row in found
    ]
    put_table(("ID", "QUEUE", "TYPE", "SUBJECT", "TRIES", "GROUP", "LAST ERROR"), rows)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of a message.")],
    reveal: Annotated[bool, typer.Option(help="Open personal fields; needs --reason and is written down.")] = False,
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Show one message with every try and what it says; personal fields stay sealed."""
    told = _told(id_, reveal=reveal, actor=actor_or_user(actor), reason=required_reason(reason) if reveal else "")
    if told is None:
        say(f"no message has the id {id_}")
        raise typer.Exit(exits.FAILED)
    if json_:
        put_json(told)
        return
    _print(told)


@app.command()
def retry(
    ids: Ids = None,
    queue: Queue = None,
    group: Group = None,
    limit: Limit = 100,
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Give dead letters their whole schedule of tries again."""
    from cli.first_aid import Deed

    _do_to_each(Deed.RETRIED, _selection(ids, queue, group, limit), actor=actor, reason=reason, json_=json_)


@app.command()
def discard(
    ids: Ids = None,
    queue: Queue = None,
    group: Group = None,
    limit: Limit = 100,
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Give dead letters up: they end without their work being done, and stay in the history."""
    from cli.first_aid import Deed

    _do_to_each(Deed.DISCARDED, _selection(ids, queue, group, limit), actor=actor, reason=reason, json_=json_)


def _selection(ids: list[str] | None, queue: str | None, group: str | None, limit: int) -> dict[str, Any]:
    if not (ids or queue or group):
        raise typer.BadParameter("name ids, or choose with --queue or --group")
    return {"ids": ids or (), "queue": queue, "group": group, "limit": limit}


def _do_to_each(deed: "Deed", chosen: dict[str, Any], *, actor: str | None, reason: str, json_: bool) -> None:
    from cli.first_aid import do
    from db import dead_letters

    why, who = required_reason(reason), actor_or_user(actor)
    with open_deps() as deps:
        with deps.database.read() as tx:
            found = [row.id for row in dead_letters.listed(tx, **chosen)]
        done = [id_ for id_ in found if do(deps, id_, deed, actor=who, reason=why)]
    missed = sorted({*chosen["ids"], *found} - set(done))
    if json_:
        put_json({deed.value: done, "not_dead": missed})
    else:
        for id_ in done:
            put(f"{id_} {deed}")
    for id_ in missed:
        say(f"{id_}: not a dead letter (any more)")
    raise typer.Exit(exits.FAILED if missed else exits.OK)


# --- one message ----------------------------------------------------------------------------------------------------


def _told(id_: str, *, reveal: bool, actor: str, reason: str) -> dict[str, Any] | None:
    from db import audit, dead_letters, message_store

    with open_deps() as deps, deps.database.begin() as tx:
        row = dead_letters.find(tx, id_)
        if row is None:
            return None
        if reveal:
            audit.write(tx, actor=actor, action="message.revealed", subject=row.subject, reason=reason, message=id_)
        shown = {name: value for name, value in row._mapping.items() if name not in ("payload", "sealed")}
        return shown | {
            "payload": dead_letters.payload(tx, row, reveal=reveal),
            "tries": [dict(try_._mapping) for try_ in message_store.attempts_of(tx, id_)],
            "repeats": [dict(repeat._mapping) for repeat in message_store.duplicates_of(tx, id_)],
        }


def _print(told: dict[str, Any]) -> None:
    put(f"{told['type']} {told['id']} in {told['queue']}: {told.get('state') or told['outcome']}")
    put(f"about {told['subject']}, request id {told['request_id']}, written {moment(told['created_at'])}")
    put()
    put_table(
        ("TRY", "ENDED", "OUTCOME", "WORKER", "PROVIDER'S REQUEST", "ERROR"),
        [
            (
                try_["number"],
                try_["ended_at"],
                try_["outcome"],
                try_["worker"],
                try_["provider_request_id"],
                _error(try_),
            )
            for try_ in told["tries"]
        ],
    )
    if told["repeats"]:
        put(f"{len(told['repeats'])} repeats of it were ignored")
    put()
    put_json(told["payload"])


def _error(try_: dict[str, Any]) -> str:
    return f"{try_['error_class']}: {try_['error']}" if try_["error_class"] else ""
