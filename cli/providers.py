"""`paylinks providers`: every provider that is installed, and every account that is configured, with what it can do."""

from dataclasses import fields
from typing import Any

import typer

from cli.output import put, put_json, put_table
from cli.workplace import Json, open_deps


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("providers")(providers)


def providers(json_: Json = False) -> None:
    """Print the capability matrix: what each configured account can do, and what the core lives without."""
    from runtime.build import PROVIDERS_GROUP, installed

    with open_deps() as deps:
        rows = [
            {"account": name, "adapter": deps.settings.accounts[name].adapter, **_capabilities(provider.capabilities)}
            for name, provider in sorted(deps.providers.items())
        ]
    known = installed(PROVIDERS_GROUP)
    if json_:
        put_json({"installed": known, "accounts": rows})
        return
    put(f"installed adapters: {', '.join(known)}")
    if not rows:
        put("no account is configured: enter one under [accounts] in the settings")
        return
    # One column for each account: the matrix grows to the right.
    headings = ["CAN", *(str(row["account"]).upper() for row in rows)]
    names = [name for name in rows[0] if name != "account"]
    put_table(headings, ([name.replace("_", " "), *(_shown(row[name]) for row in rows)] for name in names))


def _capabilities(capabilities: Any) -> dict[str, Any]:
    return {one.name: getattr(capabilities, one.name) for one in fields(capabilities)}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return str(value)
