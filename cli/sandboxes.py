"""`paylinks sandbox provider | arca | crm | ...`: programs to test against, with options of their own: try --help."""

from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

app = typer.Typer(help="Payment providers and a CRM to try and test against.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Arguments = Annotated[list[str] | None, typer.Argument(help="Passed on; see `paylinks sandbox provider --help`.")]

# Each is the module sandbox.<name>, a program of its own.
_PROGRAMS = {
    "provider": "Run a payment provider with a hosted checkout page, webhooks, refunds and faults on demand.",
    "crm": "Run a CRM with invoices, deals and tasks, which publishes its invoices by AMQP or HTTP.",
    "arca": "Run a simulated ArCa iPay / BPC gateway, written from its public documentation.",
    "fiscal": "Run a simulated fiscal device, which counts its receipts and refuses a number out of step.",
    "stripe": "Run a simulated Stripe API for Checkout Sessions, written from its public documentation.",
    "vpos": "Run simulated VPOS.am payment sessions, written from its public pages; much of it is assumed.",
    "idram": "Run a simulated Idram wallet: the customer's form, precheck, signed confirmation, faults on demand.",
    "ameriabank": "Run a simulated Ameriabank vPOS 3.1, written from the bank's document and from observations.",
}


def _runner(name: str) -> Callable[..., None]:
    def run(arguments: Arguments = None) -> None:
        raise typer.Exit(import_module(f"sandbox.{name}").main(arguments or []))

    return run


for _name, _help in _PROGRAMS.items():
    app.command(_name, help=_help, context_settings=_PASS_ON)(_runner(_name))
