"""The parts that stay up: `paylinks worker | relay | web | up`, and the demonstration. Supervisors start these.

`paylinks intake` is in cli.intake, beside what it rejected.
"""

import os
from enum import StrEnum
from typing import Annotated

import typer

from cli import exits
from cli.workplace import open_deps, until_told_to_stop


class Profile(StrEnum):
    """The two ways to run."""

    EMBEDDED = "embedded"
    PRODUCTION = "production"


class At(StrEnum):
    """Whose simulator the demonstration pays at: the sandbox's own provider, or cli.simulated_<name>."""

    SANDBOX = "sandbox"
    AMERIABANK = "ameriabank"
    ARCA = "arca"
    IDRAM = "idram"
    STRIPE = "stripe"
    VPOS = "vpos"


Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every one.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")]
Threads = Annotated[int, typer.Option(min=1, max=256, help="Threads per process: messages worked on at a time.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (worker, relay, web, up, demo):
        app.command(rich_help_panel="Run")(command)


def worker(
    queue: Annotated[list[str] | None, typer.Option(help="A queue to serve; repeat it. Default: every queue.")] = None,
    threads: Threads = 8,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
) -> None:
    """Serve queues until told to stop; claimed messages are given back within 25 seconds."""
    from contracts.catalog import Queue
    from workers.app import run_worker

    unknown = sorted(set(queue or ()) - {known.value for known in Queue})
    if unknown:
        names = ", ".join(known.value for known in Queue)
        raise typer.BadParameter(f"there is no queue {', '.join(unknown)}; use {names}", param_hint="--queue")
    raise typer.Exit(run_worker(queue or [], threads=threads, processes=processes))


def relay() -> None:
    """Publish deliveries for what is due, and take back what dead workers held."""
    import structlog

    from workers.publisher import announcing
    from workers.relay import Relay

    with until_told_to_stop() as stop, open_deps(stays_up=True) as deps, announcing(deps) as publisher:
        structlog.get_logger().info("relay.ready", pid=os.getpid())
        Relay(deps, publisher).run(stop)


def web(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Serve the receiver, the customers' pages and the manager's interface."""
    from web.app import serve
    from workers.publisher import announcing

    with open_deps(stays_up=True) as deps, announcing(deps):
        serve(deps, host, port)


def up(host: Host = "127.0.0.1", port: Port = 8080, threads: Threads = 8) -> None:
    """Run everything in one process: web, workers, relay, and intake where there is AMQP."""
    from cli.up import run_up

    run_up(host=host, port=port, threads=threads)


def demo(
    profile: Annotated[Profile, typer.Option(help="One process on SQLite, or one per queue on real servers.")] = (
        Profile.EMBEDDED
    ),
    provider: Annotated[At, typer.Option(help="The sandbox's, or the simulator of a real one.")] = At.SANDBOX,
    stay: Annotated[bool, typer.Option(help="Stay up afterwards and print the addresses.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The web's port; 0 takes a free one.")] = 0,
) -> None:
    """Run sample invoices through the pipeline, with faults, and end with a table."""
    from cli.demo import run_demo

    raise typer.Exit(run_demo(profile=profile.value, provider=provider.value, stay=stay, port=port) or exits.OK)
