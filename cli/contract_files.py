"""`paylinks contracts`: the published schemas, and whether a file of events fits them."""

from pathlib import Path
from typing import Annotated

import typer

from cli import exits
from cli.output import put, put_json, say
from cli.workplace import Json

app = typer.Typer(help="The published contracts: JSON Schemas and one AsyncAPI document.", no_args_is_help=True)


@app.command()
def export(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; tell what differs.")] = False,
    out: Annotated[Path | None, typer.Option(help="The folder; default: the one inside the package.")] = None,
) -> None:
    """Write the contracts as files; a published version that would break is refused."""
    from contracts.export import PUBLISHED, BreakingChange
    from contracts.export import check as differences_of
    from contracts.export import export as write

    folder = out or PUBLISHED
    try:
        found = differences_of(folder) if check else write(folder)
    except BreakingChange as error:
        for problem in error.problems:
            say(f"breaks what is published: {problem}")
        raise typer.Exit(exits.FINDINGS) from None
    for line in found:
        put(line)
    if check and found:
        say("write them with `paylinks contracts export`")
    raise typer.Exit(exits.FINDINGS if check and found else exits.OK)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="JSON or JSON lines: CloudEvents, or bare `data` of invoices.")],
    json_: Json = False,
) -> None:
    """Check events before they are sent; each problem names line, field and remedy."""
    from contracts.validation import validate as problems_of

    problems = problems_of(file)
    if json_:
        put_json([{"line": one.line, "field": one.field, "problem": one.problem} for one in problems])
    else:
        for problem in problems:
            put(str(problem))
        say("not every event would be taken" if problems else "every event would be taken")
    raise typer.Exit(exits.FINDINGS if problems else exits.OK)
