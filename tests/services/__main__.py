"""Services for a person or another program.

python -m tests.services up [--print-env] [NAME...]       bring them, print their addresses, keep them until Ctrl-C
python -m tests.services run [--application] -- COMMAND   bring them for one command, and give its exit code back

Names are postgres, rabbit, redis. `run` sets PAYLINKS_TEST_*_URL. With --application it also gives the command, where
they are not set already, PAYLINKS_DATABASE_URL (a fresh database), PAYLINKS_AMQP_URL, PAYLINKS_BROKER_URL and
PAYLINKS_REDIS_URL.
"""

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from tests.services.desk import KINDS, ensure
from tests.services.errors import ServiceError
from tests.services.names import fresh_database


def main() -> int:
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "up":
            return _up(arguments.names or list(KINDS), print_env=arguments.print_env)
        return _run(arguments.command, application=arguments.application)
    except ServiceError as error:
        print(f"services: {error}", file=sys.stderr)
        return 1


def _up(names: list[str], *, print_env: bool) -> int:
    with ensure(names) as services:
        for variable, url in services.environment.items():
            print(f"export {variable}={shlex.quote(url)}" if print_env else f"{variable}  {url}")
        sys.stdout.flush()
        if services.started:
            print(f"services: {len(services.started)} started here; Ctrl-C ends them", file=sys.stderr)
            _wait_for_the_end()
    return 0


def _wait_for_the_end() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _run(command: list[str], *, application: bool) -> int:
    with _surroundings(application=application) as environment:
        return _call(command, environment)


@contextlib.contextmanager
def _surroundings(*, application: bool) -> Iterator[dict[str, str]]:
    # Queues and keys of the application have fixed names, so it gets servers of its own where that is possible.
    with ensure(own=("rabbit", "redis") if application else ()) as services, contextlib.ExitStack() as stack:
        environment = {**os.environ, **services.environment}
        if application:
            environment.setdefault("PAYLINKS_AMQP_URL", services.amqp_url)
            environment.setdefault("PAYLINKS_BROKER_URL", services.amqp_url)
            environment.setdefault("PAYLINKS_REDIS_URL", services.redis_url)
            if "PAYLINKS_DATABASE_URL" not in environment:
                environment["PAYLINKS_DATABASE_URL"] = stack.enter_context(fresh_database(services.database_url))
        yield environment


def _call(command: list[str], environment: dict[str, str]) -> int:
    child = subprocess.Popen(command, env=environment)
    # Ctrl-C reaches the command by the terminal; a termination is passed on. We end after it, to clear up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return code if code >= 0 else 128 - code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.services", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="bring services and keep them")
    up.add_argument("--print-env", action="store_true", help="as lines for a shell to evaluate")
    up.add_argument("names", nargs="*", metavar="NAME", help="postgres, rabbit, redis (default: all)")
    run = verbs.add_parser("run", help="bring services for one command")
    run.add_argument("--application", action="store_true", help="also as the application's own settings")
    run.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
