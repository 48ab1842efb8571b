"""`paylinks audit`: is the trail of who did what still the one that was written?"""

from typing import Annotated

import typer

from cli import exits
from cli.output import put, put_json, say
from cli.workplace import Json, open_deps

app = typer.Typer(help="The audit trail: verify it, and show its head.", no_args_is_help=True)


@app.command()
def verify(
    head: Annotated[
        str, typer.Option(help="A head that the log or a day sheet holds, as NUMBER:DIGEST: finds what was cut off.")
    ] = "",
    json_: Json = False,
) -> None:
    """Follow the chain from its beginning; name every row that was changed, removed or inserted."""
    from db import audit_chain

    try:
        known = audit_chain.Head.parse(head) if head else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from None
    with open_deps() as deps:
        found = list(audit_chain.verify(deps.database, known))
        with deps.database.read() as tx:
            newest = audit_chain.head(tx)
            unsealed = audit_chain.waiting(tx, seconds=0)
    if json_:
        put_json(
            {
                "head": str(newest) if newest else None,
                "unsealed": unsealed,
                "findings": [{"row": one.row, "what": one.what} for one in found],
            }
        )
    else:
        for one in found:
            put(f"{one.row}: {one.what}")
        put(f"head {newest}" if newest else "nothing is sealed yet: a relay does that")
        put(f"{unsealed} rows wait to be sealed")
    if not found and not head:
        say("without --head nobody can tell whether the newest rows were cut off; the log holds heads (audit.sealed)")
    raise typer.Exit(exits.FINDINGS if found else exits.OK)


@app.command("head")
def head_(json_: Json = False) -> None:
    """Print the newest seal: keep it outside this database."""
    from db import audit_chain

    with open_deps() as deps, deps.database.read() as tx:
        newest = audit_chain.head(tx)
    if json_:
        put_json({"head": str(newest) if newest else None})
    elif newest is not None:
        put(str(newest))
    else:
        say("nothing is sealed yet: a relay does that")
