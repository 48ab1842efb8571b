"""`paylinks keys`: who may send invoices by HTTP, and for which CRMs."""

from typing import Annotated

import typer

from cli import exits
from cli.output import put, put_json, put_table, say
from cli.workplace import Actor, Json, Reason, actor_or_user, open_deps, required_reason

app = typer.Typer(help="API keys of those who send invoices by HTTP.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for the list.")],
    crm: Annotated[list[str], typer.Option(help="A CRM that it may speak for; repeat it.")],
    actor: Actor = None,
    reason: Reason = "",
    json_: Json = False,
) -> None:
    """Make a key and show it once: it is not kept."""
    from db import api_keys

    with open_deps() as deps:
        for unknown in sorted(set(crm) - set(deps.settings.crms)):
            say(f"note: no CRM named {unknown} is configured; its invoices will be refused until one is")
        with deps.database.begin() as tx:
            key_id, key = api_keys.create(tx, name, crm, actor=actor_or_user(actor), reason=reason)
    if json_:
        put_json({"id": key_id, "key": key, "name": name, "crms": sorted(set(crm))})
        return
    put(key)
    say(f"this is the only time that it is shown; its id is {key_id}")


@app.command("list")
def list_(json_: Json = False) -> None:
    """List every key, the revoked ones too; the keys themselves are not kept."""
    from db import api_keys

    with open_deps() as deps, deps.database.read() as tx:
        found = api_keys.listed(tx)
    if json_:
        put_json(
            [
                {
                    "id": key.id,
                    "name": key.name,
                    "crms": key.crms,
                    "created_at": key.created_at,
                    "revoked_at": key.revoked_at,
                }
                for key in found
            ]
        )
        return
    rows = [(key.id, key.name, ", ".join(sorted(key.crms)), key.created_at, key.revoked_at) for key in found]
    put_table(("ID", "NAME", "CRMS", "CREATED", "REVOKED"), rows)


@app.command()
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The id of a key.")], actor: Actor = None, reason: Reason = ""
) -> None:
    """End a key at once."""
    from db import api_keys

    why = required_reason(reason)
    with open_deps() as deps, deps.database.begin() as tx:
        revoked = api_keys.revoke(tx, id_, actor=actor_or_user(actor), reason=why)
    if not revoked:
        say(f"{id_}: there is no such key, or it was revoked before")
        raise typer.Exit(exits.FAILED)
    put(f"{id_} revoked")
