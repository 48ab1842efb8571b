"""A whole installation on this machine, with the sandbox around it: for the demo, fault tests and benchmarks.

    sandbox provider <──> [our processes] <──> sandbox CRM      every box is an operating-system process
                               │
                  PostgreSQL, RabbitMQ, Redis or one SQLite file

Our processes run the real commands of the README, and a supervisor starts again what ended, as systemd would.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from contracts.catalog import Queue
from db import api_keys
from db.database import Database
from db.migrate import upgrade
from db.sealing import Sealer, new_key
from db.tx import Cause
from runtime.build import build, close
from runtime.deps import Deps
from runtime.settings import Settings
from sandbox.launch import CrmProcess, FiscalProcess, ProviderProcess

STOP_SECONDS = 30.0
READY_SECONDS = 60.0
CRMS = ("acme-bitrix24", "nairi-kommo")

# Each family of real providers once: the account's name, how it behaves, when it opens, and which currency goes there.
ACCOUNTS: Mapping[str, tuple[str, str, str]] = {
    "bank": ("unique", "at_pay", "AMD"),
    "intl": ("idempotent", "early", "USD"),
    "vpos": ("overwrites", "at_pay", "EUR"),
    "wallet": ("no_lookup", "at_pay", "RUB"),
}


@dataclass(slots=True)
class Plan:
    """What to run and on what."""

    folder: Path
    profile: str = "embedded"  # or "production"
    database_url: str = ""  # empty: a SQLite file in the folder
    broker_url: str = "memory://"
    amqp_url: str | None = None
    redis_url: str | None = None
    queue_prefix: str = "paylinks."
    time_scale: float = 1.0
    lease_seconds: float = 120.0
    poll_seconds: float = 2.0
    threads: int = 4
    processes: int = 1
    families: Mapping[str, tuple[str, str, str]] = field(default_factory=lambda: dict(ACCOUNTS))
    crms: Sequence[str] = CRMS
    crm_publishes: bool = True  # False: the records are there, and somebody else sends their invoices
    settle: str = "PT3S"
    fiscal: bool = False  # a fiscal device prints a receipt for all money
    provider_arguments: Sequence[str] = ()
    # Process name -> QUEUE.POINT@FILE, one after the other: each start is armed with the first whose FILE is missing.
    halt: dict[str, list[str]] = field(default_factory=dict)
    # Process name -> what Python runs instead of our command.
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    port: int = 0
    log_level: str = "INFO"


class Stack:
    """The running installation."""

    def __init__(self, plan: Plan) -> None:
        """Plan it; `start` runs it."""
        self.plan = plan
        self.port = plan.port or _free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._webhook_secrets = {name: secrets.token_hex(16) for name in plan.families}
        self._api_key = secrets.token_hex(16)
        self.provider = ProviderProcess(
            state=plan.folder / "provider.db",
            api_key=self._api_key,
            arguments=("--pay-later-seconds", "2", "--webhook-tries", "40", *plan.provider_arguments),
        )
        self.fiscal = FiscalProcess() if plan.fiscal else None
        self.crms: dict[str, CrmProcess] = {}
        self.processes: dict[str, ManagedProcess] = {}
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deps: Deps | None = None

    @property
    def deps(self) -> Deps:
        """Direct access to the installation's database and settings, for looking and for `prove`."""
        if self._deps is None:
            self._deps = build(self.settings())
        return self._deps

    def settings(self) -> Settings:
        """Return the installation's settings."""
        return Settings(**json.loads((self.plan.folder / "settings.json").read_text()))

    def start(self) -> Self:
        """Start everything and wait until it answers."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        self.provider.start()
        for name, (family, _, _) in self.plan.families.items():
            self.provider.control.configure(
                name,
                api_key=self._api_key,
                family=family,
                webhook_url=f"{self.base_url}/webhooks/{name}",
                webhook_secret=self._webhook_secrets[name],
                pay_later_seconds=2,
            )
        if self.fiscal is not None:
            self.fiscal.start()
        self._write_settings(self._start_crms())
        for name, arguments in self._commands().items():
            program = self.plan.programs.get(name, ("-m", "cli.main", *arguments))
            process = ManagedProcess(name, program, self._environment(), self.plan.folder)
            process.halts = self.plan.halt.get(name, [])
            self.processes[name] = process.start()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._supervisor.start()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until the web process says that it is ready."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if self._is_ready():
                return
            time.sleep(0.1)
        raise RuntimeError(f"not ready within {READY_SECONDS:g} s; its log is in {self.plan.folder}")

    def _is_ready(self) -> bool:
        probe = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            probe.request("GET", "/readyz")
            return probe.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            probe.close()

    def stop(self) -> None:
        """Stop everything, our processes first and gracefully."""
        self._stopping.set()
        if self._supervisor is not None:
            self._supervisor.join(timeout=5)
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(STOP_SECONDS)
        for crm in self.crms.values():
            crm.stop()
        self.provider.stop()
        if self.fiscal is not None:
            self.fiscal.stop()
        if self._deps is not None:
            close(self._deps)

    def kill(self, name: str) -> None:
        """SIGKILL one of our processes with all its children; the supervisor starts it again."""
        self.processes[name].kill()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_crms(self) -> str:
        """Make the database, each CRM's key in it, and the CRMs; return the data key."""
        data_key = new_key()
        database = Database(self.plan.database_url or self._sqlite(), Sealer([data_key]))
        upgrade(database)
        prefix = self.plan.queue_prefix
        exchanges = ("--intake-exchange", f"{prefix}intake", "--events-exchange", f"{prefix}events")
        for name in self.plan.crms:
            with database.begin(Cause.new()) as tx:
                _, key = api_keys.create(tx, name, [name], actor="stack", reason="sandbox")
            self.crms[name] = CrmProcess(
                crm=name,
                publish=self._publish_to(),
                publish_api_key=key,
                state=self.plan.folder / f"crm-{name}.db",
                arguments=(*exchanges, "--republish-seconds", "5"),
            ).start()
        database.dispose()
        return data_key

    def _publish_to(self) -> str:
        if not self.plan.crm_publishes:
            return ""
        return self.plan.amqp_url or f"{self.base_url}/v1/invoices"

    def _sqlite(self) -> str:
        return f"sqlite:///{self.plan.folder / 'paylinks.db'}"

    def _write_settings(self, data_key: str) -> None:
        plan = self.plan
        settings = {
            "database_url": plan.database_url or self._sqlite(),
            "broker_url": plan.broker_url,
            "amqp_url": plan.amqp_url,
            "redis_url": plan.redis_url,
            "public_base_url": self.base_url,
            "data_keys": [data_key],
            "link_keys": [{"id": "k1", "secret": secrets.token_urlsafe(32)}],
            "accounts": {name: self._account(name) for name in plan.families},
            "crms": {
                name: {"adapter": "sandbox", "base_url": crm.base_url, "token": crm.token}
                for name, crm in self.crms.items()
            },
            "routing": {currency: name for name, (_, _, currency) in plan.families.items()}
            | {"*": next(iter(plan.families))},
            **self._fiscal(),
            "queue_prefix": plan.queue_prefix,
            "time_scale": plan.time_scale,
            "lease_cap": plan.lease_seconds,
            "poll_interval": plan.poll_seconds,
            "log_level": plan.log_level,
        }
        text = json.dumps({name: value for name, value in settings.items() if value is not None}, indent=1)
        path = self.plan.folder / "settings.json"
        path.touch(mode=0o600)
        path.write_text(text)

    def _account(self, name: str) -> dict[str, object]:
        family, opens, _ = self.plan.families[name]
        return {
            "adapter": "sandbox",
            "base_url": self.provider.account_url(name),
            "api_key": self._api_key,
            "webhook_secrets": [self._webhook_secrets[name]],
            "options": {"family": family, "opens": opens, "settle": self.plan.settle},
        }

    def _fiscal(self) -> dict[str, object]:
        if self.fiscal is None:
            return {}
        till = {"adapter": "sandbox", "base_url": self.fiscal.device_url(), "api_key": self.fiscal.password}
        return {"fiscal": {"till": till}, "fiscal_device": "till"}

    def _commands(self) -> dict[str, list[str]]:
        serve = ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.plan.profile == "embedded":
            return {"up": ["up", *serve, "--threads", str(self.plan.threads)]}
        size = ["--threads", str(self.plan.threads), "--processes", str(self.plan.processes)]
        commands = {queue.value: ["worker", "--queue", queue.value, *size] for queue in Queue}
        return commands | {"relay": ["relay"], "intake": ["intake"], "web": ["web", *serve]}

    def _environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PAYLINKS_")}
        environment["PAYLINKS_CONFIG"] = str(self.plan.folder / "settings.json")
        return environment

    def _supervise(self) -> None:
        """Start again what ended, as a supervisor would."""
        while not self._stopping.wait(0.2):
            for process in self.processes.values():
                if process.supervised and not process.is_alive and not self._stopping.is_set():
                    process.start()


class ManagedProcess:
    """One of our commands as a process group of its own, its output in a file of the folder."""

    def __init__(self, name: str, program: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Describe it; `start` runs it."""
        self.name = name
        self._arguments = [sys.executable, *program]
        self._environment = dict(environment)
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self.starts = 0
        self.supervised = True
        self.halts: list[str] = []

    @property
    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; the group's too."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    def start(self) -> Self:
        """Start it, or start it again."""
        if self._output is None:
            self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self._arguments,
            env=self._environment | self._next_halt(),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        self.starts += 1
        return self

    def _next_halt(self) -> dict[str, str]:
        """Arm the first point where nobody stopped yet."""
        left = [halt for halt in self.halts if not Path(halt.partition("@")[2]).exists()]
        return {"PAYLINKS_HALT_AT": left[0]} if left else {}

    def kill(self) -> None:
        """SIGKILL the whole group: a master and its workers die in the same moment."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None and self.is_alive:
            self._process.terminate()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; kill what does not end."""
        if self._process is None:
            return None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._output is not None:
            self._output.close()
            self._output = None
        return code

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
