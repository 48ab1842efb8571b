"""What the receiver answered 2xx survives SIGKILL of its process, and SIGTERM loses no answer."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runtime.deps import Deps
from tests.customer import ACCOUNT, WEBHOOK_SECRET, make_deps, rows
from tests.integration.test_receiver_http import BASE_URL, an_event, signed
from tests.support import DATA_KEY

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from runtime.build import build, close
from runtime.settings import load_settings
from web.app import serve

deps = build(load_settings())
serve(deps, "127.0.0.1", 0, on_listening=lambda address: print(address, flush=True))
close(deps)
print("closed", flush=True)
"""


@pytest.fixture
def deps(clean_url: str) -> Iterator[Deps]:
    made = make_deps(clean_url, {}, BASE_URL)
    yield made
    made.database.dispose()


class Process:
    """The doors as a process of their own."""

    def __init__(self, deps: Deps) -> None:
        account = {"adapter": "sandbox", "base_url": BASE_URL, "api_key": "k", "webhook_secrets": [WEBHOOK_SECRET]}
        environment = {
            "PAYLINKS_CONFIG": os.devnull,
            "PAYLINKS_DATABASE_URL": deps.settings.database_url,
            "PAYLINKS_DATA_KEYS": f'["{DATA_KEY}"]',
            "PAYLINKS_LINK_KEYS": json.dumps([{"id": "k1", "secret": "k" * 40}]),
            "PAYLINKS_ACCOUNTS": json.dumps({ACCOUNT: account}),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:")

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit code and the last words."""
        self.process.send_signal(number)
        words, _ = self.process.communicate(timeout=30)
        return self.process.returncode, words


class Senders:
    """Send events as fast as they can, and keep the ids of those that were answered 2xx."""

    def __init__(self, address: str, number: int) -> None:
        self.accepted: list[str] = []
        self.others: list[int] = []
        self._address = address
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(sender,)) for sender in range(number)]
        for thread in self._threads:
            thread.start()

    def _send(self, sender: int) -> None:
        with httpx.Client(base_url=self._address, timeout=10, trust_env=False) as client:
            sent = 0
            while not self._ended.is_set():
                event_id, sent = f"event-{sender}-{sent}", sent + 1
                body = an_event(event_id)
                try:
                    answer = client.post(f"/webhooks/{ACCOUNT}", content=body, headers=signed(body))
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.accepted.append(event_id)
                else:
                    self.others.append(answer.status_code)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(15)


def stored_ids(deps: Deps) -> set[str]:
    return {key.rpartition(":")[2] for (key,) in rows(deps, "SELECT dedup_key FROM messages")}


def test_what_was_answered_2xx_survives_sigkill(deps: Deps) -> None:
    process = Process(deps)
    senders = Senders(process.address, 12)
    time.sleep(1.5)

    code, _ = process.end(signal.SIGKILL)
    senders.stop()

    assert code == -signal.SIGKILL
    assert len(senders.accepted) > 20
    assert senders.others == []
    assert set(senders.accepted) <= stored_ids(deps)


def test_sigterm_answers_what_it_took_and_returns_to_its_caller(deps: Deps) -> None:
    process = Process(deps)
    senders = Senders(process.address, 12)
    time.sleep(1.0)

    code, words = process.end(signal.SIGTERM)
    senders.stop()

    assert (code, words) == (0, "closed\n")
    assert senders.others == []
    assert stored_ids(deps) == set(senders.accepted), (
        "nothing was stored that was not answered, and the other way round"
    )
