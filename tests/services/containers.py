"""Containers of docker or podman, for a machine that has an engine and no installed servers."""

import contextlib
import functools
import os
import shutil
import subprocess
import uuid

from tests.services.errors import ServiceFailed
from tests.services.processes import free_port


@functools.cache
def container_engine() -> str | None:
    """The first engine that answers; a client without an engine behind it does not count."""
    for engine in ("docker", "podman"):
        if shutil.which(engine) and _answers(engine):
            return engine
    return None


def _answers(engine: str) -> bool:
    try:
        return subprocess.run([engine, "info"], check=False, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class ContainerHost:
    """Runs a server in a container whose port is published on 127.0.0.1 only."""

    def __init__(self, engine: str, image: str, inner_port: int, environment: dict[str, str]) -> None:
        self.port = free_port()
        self._engine = engine
        self._image = image
        self._inner_port = inner_port
        self._environment = environment
        self._name = f"paylinks-test-{uuid.uuid4().hex[:12]}"
        self._exists = False

    def start(self) -> None:
        if self._exists:
            self._call("start", self._name)
        else:
            self._run()

    def stop(self) -> None:
        self.thaw()
        self._call("stop", "--time", "20", self._name)

    def kill9(self) -> None:
        with contextlib.suppress(ServiceFailed):
            self._call("kill", self._name)

    def freeze(self) -> None:
        self._call("pause", self._name)

    def thaw(self) -> None:
        with contextlib.suppress(ServiceFailed):
            self._call("unpause", self._name)

    def wipe(self) -> None:
        self.close()

    def close(self) -> None:
        if self._exists:
            self._call("rm", "--force", "--volumes", self._name)
            self._exists = False

    def is_running(self) -> bool:
        return self._exists and self._call("inspect", "--format", "{{.State.Running}}", self._name).strip() == "true"

    def last_words(self) -> str:
        return self._call("logs", "--tail", "20", self._name) if self._exists else ""

    def _run(self) -> None:
        settings = [word for name, value in self._environment.items() for word in ("--env", f"{name}={value}")]
        publish = f"127.0.0.1:{self.port}:{self._inner_port}"
        self._call("run", "--detach", "--name", self._name, "--publish", publish, *settings, self._image)
        self._exists = True

    def _call(self, *arguments: str) -> str:
        # The first run also fetches the image, which takes its time.
        # Tests hide the certificate authorities from their HTTP clients; an engine that fetches an image needs them.
        environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
        done = subprocess.run(
            [self._engine, *arguments], check=False, capture_output=True, text=True, timeout=600, env=environment
        )
        if done.returncode:
            raise ServiceFailed(f"{self._engine} {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout
