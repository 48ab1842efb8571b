"""`paylinks providers`: every provider that is installed, and every account that is configured, with what it can do.

`paylinks events`: what became of the events that came for each account.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli.output import put, put_json, put_table
from cli.workplace import Json, open_deps


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("providers")(providers)
    app.command("events")(events)


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


# --- their events ---------------------------------------------------------------------------------------------------

_KINDS = ("accepted", "duplicate", "forged", "stale", "refused", "unmatched")


def events(
    days: Annotated[int, typer.Option(min=1, max=3660, help="So many days back, today included (UTC).")] = 7,
    json_: Json = False,
) -> None:
    """Count what came for each account: believed, repeated, forged, stale, refused otherwise, about no order of ours.

    Only accepted ones are work; the others changed nothing. An account that is not configured here is called "?".
    """
    from db import event_counts

    first = datetime.now(UTC).date() - timedelta(days=days - 1)
    with open_deps() as deps, deps.database.read() as tx:
        rows = event_counts.since(tx, first)
    if json_:
        put_json([{"account": row.account, "day": row.day, "kind": row.kind, "count": row.count} for row in rows])
        return
    put_table(("DAY", "ACCOUNT", *(kind.upper() for kind in _KINDS), "OTHER"), _counted(rows))


def _counted(rows: Iterable[Any]) -> Iterable[tuple[Any, ...]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((row.day, row.account), Counter())[row.kind] += row.count
    for (day, account), found in counts.items():
        other = [f"{kind} {count}" for kind, count in sorted(found.items()) if kind not in _KINDS]
        yield (day, account, *(found[kind] for kind in _KINDS), ", ".join(other) or "-")
