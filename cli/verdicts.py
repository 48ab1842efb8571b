"""`paylinks verdicts`: what the rules make of money, as a table."""

import typer

from cli.output import put


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look")(verdicts)


def verdicts() -> None:
    """Print every way in which money can come, with rules, status, flags and tasks, as Markdown."""
    from rules.verdict_table import page

    for line in page().splitlines():
        put(line)
