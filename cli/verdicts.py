"""`paylinks verdicts`: what the rules make of money, as a table, and which of them have decided here."""

from typing import Annotated

import typer

from cli import exits
from cli.output import put
from cli.workplace import open_deps


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look")(verdicts)


def verdicts(
    unreached: Annotated[
        bool, typer.Option("--unreached", help="Instead: the rules by which nothing here was decided; exit code 5.")
    ] = False,
) -> None:
    """Print every way in which money can come, with rules, status, flags and tasks, as Markdown."""
    if unreached:
        raise typer.Exit(_print_unreached())
    from rules.verdict_table import page

    for line in page().splitlines():
        put(line)


def _print_unreached() -> int:
    """Print one rule a line; a rehearsal that met every rule prints nothing."""
    from db import ledger
    from rules.verdict_table import unreached

    with open_deps() as deps, deps.database.read() as tx:
        left = unreached(ledger.rules_seen(tx))
    for rule in left:
        put(rule)
    return exits.FINDINGS if left else exits.OK
