"""How workers start: `paylinks worker --queue crm-update`, or by the plain command line of dramatiq.

dramatiq workers.app:set_up -Q paylinks.crm-update -p 2 -t 16 --worker-shutdown-timeout 20000
"""

import sys
from collections.abc import Sequence

import dramatiq

from runtime import points
from runtime.build import build
from runtime.logs import set_up as set_up_logs
from runtime.settings import Settings, load_settings
from workers.amqp import AmqpEvents
from workers.service import Service

# Supervisors kill after 25 to 40 seconds: running stages get most of that, the rest is for giving back.
SHUTDOWN_TIMEOUT_MS = 20_000


def set_up() -> None:
    """Build this process's service and make its broker dramatiq's. Called by dramatiq in each worker process."""
    settings = load_settings()
    set_up_logs(settings.log_level)
    points.arm(settings.halt_at)
    dramatiq.set_broker(make_service(settings).broker)


def make_service(settings: Settings) -> Service:
    """Build a service whose outbound events go to AMQP, if there is any."""
    events = AmqpEvents(settings) if settings.amqp_url else None
    return Service(build(settings, events=events))


def run_worker(queues: Sequence[str], *, threads: int, processes: int) -> int:
    """Serve queues with dramatiq's command line until told to stop; return its exit code."""
    from dramatiq.cli import main, make_argument_parser  # it changes signal handling when imported

    prefix = load_settings().queue_prefix
    arguments = ["--processes", str(processes), "--threads", str(threads)]
    arguments += ["--worker-shutdown-timeout", str(SHUTDOWN_TIMEOUT_MS)]
    arguments += ["--queues", *(f"{prefix}{queue}" for queue in queues), "--"] if queues else ["--"]
    sys.argv = ["dramatiq", *arguments, "workers.app:set_up"]
    return int(main(make_argument_parser().parse_args([*arguments, "workers.app:set_up"])) or 0)
