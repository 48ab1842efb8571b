"""Setting up: `paylinks init | check-config | migrate | doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from cli import exits
from cli.output import put, put_json, say
from cli.workplace import Json


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for name, command in (("init", init), ("check-config", check_config), ("migrate", migrate), ("doctor", doctor)):
        app.command(name, rich_help_panel="Set up")(command)


def init(
    path: Annotated[Path, typer.Option(help="The settings file to write; its folder is made.")] = (
        Path("var/paylinks.toml")
    ),
    database_url: Annotated[str, typer.Option(help="Default: a SQLite file beside the settings.")] = "",
) -> None:
    """Write a settings file with fresh random secrets, for your eyes only; what is there already stays."""
    from cli.first_settings import write

    try:
        write(path, database_url)
    except FileExistsError:
        say(f"{path} is there already; nothing was written")
        raise typer.Exit(exits.FAILED) from None
    put(str(path))
    say(f"Enter your providers and CRMs there, then: export PAYLINKS_CONFIG={path.absolute()}; paylinks doctor")


def check_config(json_: Json = False) -> None:
    """Check the settings and name each bad one, never its value."""
    from cli.checks import bad_settings

    problems = bad_settings()
    if json_:
        put_json({"ok": not problems, "problems": problems})
    else:
        for problem in problems:
            put(problem)
        say("the settings are not usable" if problems else "the settings are usable")
    raise typer.Exit(exits.CONFIG if problems else exits.OK)


def migrate(json_: Json = False) -> None:
    """Bring the database to this program's schema; safe to run again, and twice at a time."""
    from cli.workplace import open_deps
    from db.migrate import head, upgrade

    with open_deps() as deps:
        applied = upgrade(deps.database)
    if json_:
        put_json({"applied": applied, "revision": head()})
        return
    for revision in applied:
        put(revision)
    say(f"the database is at revision {head()}" + ("" if applied else "; there was nothing to do"))


def doctor(json_: Json = False) -> None:
    """Look for what is wrong: one line per check, with the command that mends it."""
    from cli.checks import examine

    found = examine()
    if json_:
        put_json([check.as_json() for check in found])
    else:
        for check in found:
            colour = {"ok": "green", "warning": "yellow"}.get(check.state, "red")
            put(f"{check.name}: {check.detail}", mark=f"{check.state:8} ", colour=colour)
            if check.mend:
                put(f"         mend: {check.mend}")
    raise typer.Exit(max((check.exit_code for check in found), default=exits.OK))
