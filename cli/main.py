"""The `paylinks` command.

Data goes to stdout, progress and logs to stderr. Exit codes: 0 ok, 1 failed, 2 wrong command line, 3 wrong settings,
4 a server does not answer, 5 findings. Commands import what they need when they run, so that --help is instant.
"""

import os
import sys

import typer

from cli import (
    audit,
    contract_files,
    dead,
    intake,
    invoice,
    keys,
    link,
    money,
    operate,
    privacy,
    prove,
    providers,
    sandboxes,
    set_up,
    verdicts,
)
from cli.exits import OK

app = typer.Typer(
    name="paylinks",
    help="Payment links for CRM invoices: workers, doors and first aid.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
set_up.add_to(app)
operate.add_to(app)
prove.add_to(app)
providers.add_to(app)
verdicts.add_to(app)
app.add_typer(invoice.app, name="invoice")
app.add_typer(link.app, name="link")
app.add_typer(money.app, name="money")
app.add_typer(dead.app, name="dead")
app.add_typer(intake.app, name="intake")
app.add_typer(audit.app, name="audit")
app.add_typer(privacy.app, name="privacy")
app.add_typer(keys.app, name="keys")
app.add_typer(contract_files.app, name="contracts")
app.add_typer(sandboxes.app, name="sandbox")


def main() -> None:
    """Run one command and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream, always
    try:
        app(prog_name="paylinks")
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`); the interpreter must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
    except Exception as error:
        from cli.failures import report

        code = report(error)
        if code is None:
            raise
        sys.exit(code)


if __name__ == "__main__":
    main()
