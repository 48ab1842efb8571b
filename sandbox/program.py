"""What the simulators share as programs: the options that all of them take, and how they start and end."""

import argparse
import os
import sys
from collections.abc import Callable

from starlette.types import ASGIApp

from sandbox.server import listen, serve, url_of


def options_of(program: str, description: str, *, port: int) -> argparse.ArgumentParser:
    """Begin the description of a command line. Secrets may come from the environment: no process list shows them."""
    parser = argparse.ArgumentParser(prog=f"sandbox {program}", description=description)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=port, help="0 takes a free one; the first line of output tells it")
    add("--public-url", help="where customers reach the page; by default the listening address")
    add("--control-key", default=secret("CONTROL_KEY"), help="or SANDBOX_CONTROL_KEY; empty: no control")
    add("--until-stdin-closes", action="store_true", help="end when whoever started this is gone")
    return parser


def secret(name: str) -> str:
    """Return SANDBOX_<name> of the environment, or nothing."""
    return os.environ.get(f"SANDBOX_{name}", "")


def run(program: str, options: argparse.Namespace, make: Callable[[str], ASGIApp]) -> int:
    """Serve what `make` gives for the public address, until a signal comes; return the exit code."""
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        sys.stderr.write(f"sandbox {program}: {error}\n")
        return 2
    app = make((options.public_url or url_of(listener)).rstrip("/"))
    serve(app, listener, until_stdin_closes=options.until_stdin_closes)
    return 0
