"""`paylinks sandbox provider | arca | crm`: programs to test against, with options of their own: try --help."""

from typing import Annotated

import typer

app = typer.Typer(help="A payment provider and a CRM to try and test against.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Arguments = Annotated[list[str] | None, typer.Argument(help="Passed on; see `paylinks sandbox provider --help`.")]


@app.command(context_settings=_PASS_ON)
def provider(arguments: Arguments = None) -> None:
    """Run a payment provider with a hosted checkout page, webhooks, refunds and faults on demand."""
    from sandbox.provider import main

    raise typer.Exit(main(arguments or []))


@app.command(context_settings=_PASS_ON)
def arca(arguments: Arguments = None) -> None:
    """Run a simulated ArCa iPay / BPC gateway, written from its public documentation."""
    from sandbox.arca import main

    raise typer.Exit(main(arguments or []))


@app.command(context_settings=_PASS_ON)
def crm(arguments: Arguments = None) -> None:
    """Run a CRM with invoices, deals and tasks, which publishes its invoices by AMQP or HTTP."""
    from sandbox.crm import main

    raise typer.Exit(main(arguments or []))
