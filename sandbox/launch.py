"""Start the sandbox's programs as processes of their own: for tests, the demo and the benchmarks.

    with ProviderProcess(webhook_url=..., webhook_secret="...") as provider:
        adapter = SandboxProvider("acme", provider.account_url(), provider.api_key, ...)
        provider.control.act(reference, "pay")

A process takes a free port, keeps it over `restart`, and ends by itself when its starter is gone.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from sandbox.control import CrmControl, FiscalControl, ProviderControl

_STOP_SECONDS = 10.0
_ROOT = Path(__file__).resolve().parent.parent


class StartError(Exception):
    """A sandbox process did not come up; says what it wrote before it ended."""


class SandboxProcess:
    """One `python -m sandbox.<program>`. Secrets travel by environment, so that no process list shows them."""

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Describe the process; `start` runs it."""
        self._module = module
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._written = ""
        self._port = 0
        self.base_url = ""

    def start(self) -> Self:
        """Start and wait until it listens. Again after `stop` or `kill`: on the same port, with the same state."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process; _reap closes it
        command = [
            sys.executable,
            "-m",
            self._module,
            *self._arguments,
            "--until-stdin-closes",
            "--port",
            str(self._port),
        ]
        self._process = subprocess.Popen(  # noqa: S603  # our own program, as a list, without a shell
            command,
            cwd=_ROOT,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.base_url = self._address()
        self._port = int(self.base_url.rpartition(":")[2])
        return self

    def stop(self) -> None:
        """End it as a supervisor would."""
        if self._process is not None:
            self._process.terminate()
            self._reap()

    def kill(self) -> None:
        """End it without a warning (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def restart(self) -> Self:
        """Stop and start on the same port."""
        self.stop()
        return self.start()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _address(self) -> str:
        """Read the first line of output: it comes when the socket is bound, so that a caller may connect at once."""
        line = self._pipe().readline().decode().strip()
        if not line.startswith("listening on "):
            self.kill()
            raise StartError(f"{self._module} did not start: {self.errors()}")
        return line.removeprefix("listening on ")

    def errors(self) -> str:
        """Return the end of what it wrote to stderr since its last start."""
        if self._log is not None:
            self._log.seek(0)
            self._written = self._log.read()[-4000:].decode("utf-8", "replace")
        return self._written

    def _pipe(self) -> IO[bytes]:
        if self._process is None or self._process.stdout is None:
            raise StartError(f"{self._module} is not running")
        return self._process.stdout

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.errors()
        for file in (process.stdin, process.stdout, self._log):
            if file is not None:
                file.close()
        self._log = None


class ProviderProcess(SandboxProcess):
    """The payment provider, with one account "main" until `control.configure` opens more."""

    def __init__(
        self,
        *,
        family: str = "idempotent",
        api_key: str | None = None,
        webhook_url: str = "",
        webhook_secret: str = "",
        state: Path | None = None,
        accounts: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """`arguments` are further ones of the command line, as ("--latency-ms", "300")."""
        self.api_key = api_key or secrets.token_hex(16)
        self.webhook_secret = webhook_secret or secrets.token_hex(16)
        self._control_key = secrets.token_hex(16)
        self._control: ProviderControl | None = None
        given = ["--family", family, "--webhook-url", webhook_url, *arguments]
        given += ["--state", str(state)] if state else []
        given += ["--accounts", str(accounts)] if accounts else []
        environment = {
            "SANDBOX_API_KEY": self.api_key,
            "SANDBOX_WEBHOOK_SECRET": self.webhook_secret,
            "SANDBOX_CONTROL_KEY": self._control_key,
        }
        super().__init__("sandbox.provider", given, environment)

    @property
    def control(self) -> ProviderControl:
        """The control client of the running process."""
        if self._control is None or self._control.base_url != self.base_url:
            self._control = ProviderControl(self.base_url, self._control_key)
        return self._control

    def account_url(self, account: str = "main") -> str:
        """Return the base URL that an adapter takes."""
        return f"{self.base_url}/{account}"

    def _reap(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        super()._reap()


class SimulatorProcess(SandboxProcess):
    """A simulated gateway of a real provider, `sandbox.<program>`, with one merchant; control opens further ones.

    It reads its merchant's password from SANDBOX_API_KEY and the control key from SANDBOX_CONTROL_KEY.
    """

    def __init__(self, program: str, *, password: str | None = None, arguments: Sequence[str] = ()) -> None:
        """`program` is arca, stripe, ameriabank, ...; `arguments` are further ones of its command line."""
        self.password = password or secrets.token_hex(16)
        self._control_key = secrets.token_hex(16)
        self._control: ProviderControl | None = None
        environment = {"SANDBOX_API_KEY": self.password, "SANDBOX_CONTROL_KEY": self._control_key}
        super().__init__(f"sandbox.{program}", arguments, environment)

    @property
    def control(self) -> ProviderControl:
        """The control client of the running process; an account is a merchant of its."""
        if self._control is None or self._control.base_url != self.base_url:
            self._control = ProviderControl(self.base_url, self._control_key)
        return self._control

    def _reap(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        super()._reap()


class ArcaProcess(SimulatorProcess):
    """The simulated ArCa iPay / BPC gateway; a merchant is an API user."""

    def __init__(self, *, password: str | None = None, arguments: Sequence[str] = ()) -> None:
        """`arguments` are further ones of the command line, as ("--version", "4")."""
        super().__init__("arca", password=password, arguments=arguments)

    @property
    def rest_url(self) -> str:
        """The base URL that an adapter takes."""
        return f"{self.base_url}/payment/rest"


class FiscalProcess(SimulatorProcess):
    """The simulated fiscal service, with one device "till"; control opens further ones."""

    def __init__(self, *, password: str | None = None, arguments: Sequence[str] = ()) -> None:
        """`arguments` are further ones of the command line, as ("--last-seq", "65")."""
        super().__init__("fiscal", password=password, arguments=arguments)
        self._fiscal: FiscalControl | None = None

    @property
    def control(self) -> FiscalControl:
        """The control client of the running process."""
        if self._fiscal is None or self._fiscal.base_url != self.base_url:
            self._fiscal = FiscalControl(self.base_url, self._control_key)
        return self._fiscal

    def device_url(self, device: str = "till") -> str:
        """Return the base URL that an adapter takes."""
        return f"{self.base_url}/{device}"

    def _reap(self) -> None:
        if self._fiscal is not None:
            self._fiscal.close()
            self._fiscal = None
        super()._reap()


class CrmProcess(SandboxProcess):
    """The CRM. `publish` is where it sends its invoices: amqp://... or http://host/v1/invoices; "" sends none."""

    def __init__(
        self,
        *,
        crm: str = "sandbox",
        token: str | None = None,
        publish: str = "",
        publish_api_key: str = "",
        state: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """`arguments` are further ones of the command line, as ("--republish-seconds", "2")."""
        self.token = token or secrets.token_hex(16)
        self._control_key = secrets.token_hex(16)
        self._control: CrmControl | None = None
        given = ["--crm", crm, *arguments] + (["--state", str(state)] if state else [])
        environment = {
            "SANDBOX_TOKEN": self.token,
            "SANDBOX_CONTROL_KEY": self._control_key,
            "SANDBOX_PUBLISH": publish,
            "SANDBOX_API_KEY": publish_api_key,
        }
        super().__init__("sandbox.crm", given, environment)

    @property
    def control(self) -> CrmControl:
        """The control client of the running process."""
        if self._control is None or self._control.base_url != self.base_url:
            self._control = CrmControl(self.base_url, self._control_key)
        return self._control

    def _reap(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        super()._reap()
