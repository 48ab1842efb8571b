"""The receiver: durable accepts per second, beside the same server with an empty handler.

One web process with its database, and one without anything to do, get the same signed requests over the same number of
connections. Every 200 of the receiver must be a row afterwards.
"""

import json
import secrets
import socket
import statistics
import subprocess
from dataclasses import dataclass

import psycopg

from bench.processes import ROOT, Child, Company, wait_for
from bench.report import Line, Target, say
from bench.room import PYTHON, Room, migrate, plain_environment
from tests.services.postgres import conninfo
from tests.services.processes import free_port

CONNECTIONS = 64
FULL_ROUNDS = 5
QUICK_ROUNDS = 2
FULL_SECONDS = 6.0
QUICK_SECONDS = 2.0
START_SECONDS = 30.0
LEAST_RATIO = 0.35


@dataclass(frozen=True)
class Result:
    """What the load generator saw in one round."""

    answers: dict[str, int]
    per_second: float
    p50_ms: float
    p99_ms: float
    client_share: float
    server_share: float


def measure(room: Room, *, quick: bool) -> list[Line]:
    """Load both servers in turn."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (FULL_ROUNDS, FULL_SECONDS)
    secret = secrets.token_hex(16)
    results: dict[str, list[Result]] = {"handler": [], "receiver": [], "nothing": []}
    with room.database() as url, Company() as company:
        migrate(room, url)
        environment = room.environment(database_url=url, accounts={"main": account(secret)})
        ports = {name: free_port() for name in results}
        children = {
            name: company.start(f"web-{name}", _command(name, str(port)), environment) for name, port in ports.items()
        }
        for name, port in ports.items():
            wait_for(lambda port=port: listens(port), seconds=START_SECONDS, what=name, company=company)
        for number in range(rounds):
            for name, found in results.items():
                result = load(ports[name], children[name], seconds, BENCH_SECRET=secret)
                found.append(result)
                say(f"receiver, round {number + 1} of {rounds}: {name} {result.per_second:.0f}/s")
        _verify(url, sum(result.answers["200"] for result in results["receiver"]))
    return _lines(results)


def _lines(results: dict[str, list[Result]]) -> list[Line]:
    speeds = {name: tuple(result.per_second for result in found) for name, found in results.items()}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    base = medians["handler"]
    name = "webhook receiver, one process"
    client = max(result.client_share for found in results.values() for result in found)
    return [
        Line(name, "the same server, empty handler", "answers/s", speeds["handler"], 1.0),
        Line(name, "the HTTP server alone, no framework", "answers/s", speeds["nothing"], medians["nothing"] / base),
        Line(
            name,
            "durable accepts (800 bytes, HMAC)",
            "accepts/s",
            speeds["receiver"],
            medians["receiver"] / base,
            Target(ratio=LEAST_RATIO),
        ),
        Line(name, f"p50, {CONNECTIONS} connections", "ms", tuple(result.p50_ms for result in results["receiver"])),
        Line(name, f"p99, {CONNECTIONS} connections", "ms", tuple(result.p99_ms for result in results["receiver"])),
        Line(name, "the load generator's use of a core, at most", "%", (client * 100,)),
    ]


def _command(name: str, port: str) -> list[str]:
    if name == "receiver":
        return [PYTHON, "-m", "cli.main", "web", "--host", "127.0.0.1", "--port", port]
    return [PYTHON, "-m", "bench.empty_server", name, port]


def account(secret: str) -> dict[str, object]:
    return {
        "adapter": "sandbox",
        "base_url": "http://127.0.0.1:1/main",
        "api_key": "none",
        "webhook_secrets": [secret],
    }


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(port: int, server: Child, seconds: float, *, connections: int = CONNECTIONS, **what: str) -> Result:
    """Load a server; `what` is BENCH_SECRET or BENCH_PAGE, as bench.load takes it."""
    command = [PYTHON, "-m", "bench.load", str(port), str(connections), str(seconds), str(server.pid)]
    environment = plain_environment() | what
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=seconds + 60, check=False)
    server.check()
    if ended.returncode:
        raise RuntimeError(f"the load generator failed: {ended.stderr.decode()[-2000:]}")
    result = Result(**json.loads(ended.stdout))
    if set(result.answers) != {"200"}:
        raise RuntimeError(f"{server.name} answered {result.answers}")
    return result


def _verify(url: str, accepted: int) -> None:
    with psycopg.connect(conninfo(url)) as connection:
        row = connection.execute("SELECT count(*) FROM messages WHERE type = 'provider.event.v1'").fetchone()
    if row != (accepted,):
        raise RuntimeError(f"{accepted} events were answered with 200, and {row} are stored")
