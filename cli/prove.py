"""`paylinks prove`: one line per promise, and every row that breaks one. Exit code 1 on a breach."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli import exits
from cli.output import put, put_json
from cli.workplace import Json, open_deps

if TYPE_CHECKING:
    from cli.outside import Books
    from db.promises.base import Bounds
    from db.prove import Report
    from runtime.deps import Deps


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Look")(prove)


def prove(
    outside: Annotated[
        bool, typer.Option(help="Also ask the configured providers and CRMs, one call per row.")
    ] = False,
    provider_url: Annotated[str, typer.Option(help="The sandbox provider's address: count its orders exactly.")] = "",
    crm_url: Annotated[
        list[str] | None, typer.Option(help="A sandbox CRM as NAME=URL: count its tasks and writes.")
    ] = None,
    control_key: Annotated[str, typer.Option(envvar="SANDBOX_CONTROL_KEY", help="The sandbox's control key.")] = "",
    late_after: Annotated[
        float, typer.Option(min=0, help="Seconds after which what is due counts as forgotten.")
    ] = 600,
    json_: Json = False,
) -> None:
    """Check the promises against the database, and given their addresses against provider and CRM."""
    from cli.outside import Books
    from db.promises.base import Bounds
    from sandbox.control import CrmControl, ProviderControl

    pairs = [name_and_url.partition("=") for name_and_url in crm_url or ()]
    if not all(url for _, _, url in pairs):
        raise typer.BadParameter("write it as NAME=URL, with the name that invoices carry", param_hint="--crm-url")
    books = Books(
        ProviderControl(provider_url, control_key) if provider_url else None,
        {name: CrmControl(url, control_key) for name, _, url in pairs},
    )
    asked = outside or bool(provider_url or crm_url)
    with open_deps() as deps:
        reports = check(deps, outside=asked, books=books, bounds=Bounds(late_seconds=late_after))
    if json_:
        put_json([_as_json(report) for report in reports])
    else:
        _print(reports)
    raise typer.Exit(exits.OK if all(report.is_kept for report in reports) else exits.FAILED)


def check(
    deps: "Deps", *, outside: bool = True, books: "Books | None" = None, bounds: "Bounds | None" = None
) -> list["Report"]:
    """Check every promise; `outside` asks the configured providers and CRMs, `books` are the sandbox's own."""
    from cli.outside import Books, compare
    from db.prove import prove as prove_database

    reports = prove_database(deps.database, bounds)
    if outside:
        compare(deps, reports, books or Books())
    else:
        for number in (3, 5, 7, 9):
            reports[number].leave_out("providers and CRMs were not asked (--outside asks them)")
    return list(reports.values())


def print_report(
    deps: "Deps", *, outside: bool = True, books: "Books | None" = None, bounds: "Bounds | None" = None
) -> int:
    """Check every promise, print what was found, and return how many breaches there are."""
    reports = check(deps, outside=outside, books=books, bounds=bounds)
    _print(reports)
    return sum(len(report.breaches) + report.more for report in reports)


def _print(reports: list["Report"]) -> None:
    for report in reports:
        counts = ", ".join(f"{count} {what}" for what, count in report.counts.items())
        mark, colour = ("kept   ", "green") if report.is_kept else ("BROKEN ", "red")
        put(f"{report.promise:2} {report.title}: {counts}", mark=mark, colour=colour)
        for breach in report.breaches:
            put(f"          {breach.row}: {breach.what}")
        if report.more:
            put(f"          and {report.more} more")
    for text in dict.fromkeys(text for report in reports for text in report.unchecked):
        numbers = ", ".join(str(report.promise) for report in reports if text in report.unchecked)
        put(f"{numbers}: {text}", mark="not checked  ", colour="yellow")


def _as_json(report: "Report") -> dict[str, object]:
    return {
        "promise": report.promise,
        "title": report.title,
        "kept": report.is_kept,
        "counts": report.counts,
        "breaches": [{"row": breach.row, "what": breach.what} for breach in report.breaches],
        "more": report.more,
        "unchecked": report.unchecked,
    }
