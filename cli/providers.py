"""`paylinks providers`: every provider that is installed, and every account that is configured, with what it can do."""

from dataclasses import fields
from typing import Any

import typer

from cli.output import put_json, put_table
from cli.workplace import Json, open_deps

_HIDDEN = frozenset({"opens", "settle"})


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("providers")(providers)


def providers(json_: Json = False) -> None:
    """Print the capability matrix: what each configured account can do, and what the core lives without."""
    from runtime.build import adapters

    with open_deps() as deps:
        rows = [
            {"account": name, "adapter": deps.settings.accounts[name].adapter, **_capabilities(provider.capabilities)}
            for name, provider in sorted(deps.providers.items())
        ]
    installed = sorted(adapters("paylinks.providers"))
    if json_:
        put_json({"installed": installed, "accounts": rows})
        return
    names = list(rows[0]) if rows else ["account"]
    put_table([""] + [str(row["account"]) for row in rows], ([name, *(_shown(row[name]) for row in rows)] for name in names))
    put_table(("INSTALLED ADAPTERS",), ([name] for name in installed))


def _capabilities(capabilities: Any) -> dict[str, Any]:
    return {one.name: getattr(capabilities, one.name) for one in fields(capabilities)}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return str(value)
