"""The adapter of the how-to comes from outside: it is installed beside us, and nothing of ours knows it.

SIMULATED: Acme Pay does not exist; what stands in for it is the example's own small server.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from sandbox.control import eventually
from sandbox.customers import Customer
from sandbox.launch import CrmProcess
from tests.services.processes import free_port
from tests.support import DATA_KEY

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "acme-pay"
OURS = [
    "contracts",
    "rules",
    "db",
    "gateways",
    "runtime",
    "workers",
    "web",
    "cli",
    "sandbox",
    "tests",
    "pyproject.toml",
]
SUITE = [str(path) for path in sorted((ROOT / "tests" / "conformance").glob("test_every_provider*.py"))]

# A whole suite runs in one of these, on a machine that may have much else to do.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it, as a stranger installs his package: offline, by its own pyproject."""
    source, folder = tmp_path_factory.mktemp("source") / "acme-pay", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(folder)]
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, str(source)], ROOT)
    return folder


def beside(site: Path, **more: str) -> dict[str, str]:
    """The environment of a process that finds the folder, and nothing else of this machine's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(site), **more}


def run(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


# --- the example itself -----------------------------------------------------------------------------------------------


def test_it_is_one_file_of_fewer_than_two_hundred_lines(site: Path) -> None:
    assert sorted(path.name for path in site.glob("*") if path.name != "__pycache__") == [
        "acme_pay-1.0.dist-info",
        "acme_pay.py",
    ]
    assert len((EXAMPLE / "acme_pay.py").read_text().splitlines()) < 200
    assert len((EXAMPLE / "tests" / "acme_there.py").read_text().splitlines()) < 150


def test_nothing_of_ours_knows_it() -> None:
    files = [path for name in OURS for path in ([ROOT / name] if "." in name else (ROOT / name).rglob("*.py"))]
    knowing = [path for path in files if re.search("acme_?pay", path.read_text(encoding="utf-8"), re.IGNORECASE)]
    assert knowing == [Path(__file__)]


def test_every_method_is_what_the_core_calls(site: Path, tmp_path: Path) -> None:
    """mypy compares the adapter with the protocol; it finds ours by their sources."""
    shutil.copy(EXAMPLE / "acme_pay.py", tmp_path)
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *settings, "--follow-imports", "silent", str(tmp_path / "acme_pay.py")]
    run(command, tmp_path, beside(site, MYPYPATH=str(ROOT)))


@pytest.mark.storm
def test_its_own_tests_and_the_shared_suite_pass_for_it(site: Path) -> None:
    desks = str(EXAMPLE / "tests")
    options = ["-q", "-p", "no:cacheprovider", "-k", "acme_pay or every_installed"]
    told = run([sys.executable, "-m", "pytest", *options, desks, *SUITE], ROOT, beside(site, PAYLINKS_DESKS=desks))
    (passed,) = re.findall(r"(\d+) passed", told)
    assert int(passed) > 90, told[-2000:]
    assert not re.search(r"skipped|xfailed|warnings", told.splitlines()[-1])


# --- an installation with it ------------------------------------------------------------------------------------------

SECRET = "secret-of-the-webhook"


@pytest.fixture
def there() -> Iterator[Any]:
    """Acme Pay: the example's server."""
    spec = spec_from_file_location("acme_there", EXAMPLE / "tests" / "acme_there.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.AcmeThere("key-of-the-merchant", SECRET, "") as server:
        yield server


@contextmanager
def paylinks_up(folder: Path, env: dict[str, str], port: int) -> Iterator[str]:
    """Run everything in one process; give its address."""
    command = [sys.executable, "-m", "cli.main", "up", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(address), bool, seconds=60)
        yield address
    finally:
        process.terminate()
        assert process.wait(60) == 0, (folder / "log").read_text()[-5000:]


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_an_invoice_is_paid_through_it_on_the_real_stages(site: Path, tmp_path: Path, there: Any) -> None:
    port = free_port()
    with CrmProcess(crm="acme") as crm:
        account = {"adapter": "acme_pay", "base_url": there.url, "api_key": there.api_key, "webhook_secrets": [SECRET]}
        settings = {
            "database_url": f"sqlite:///{tmp_path}/paylinks.db",
            "public_base_url": f"http://127.0.0.1:{port}",
            "data_keys": [DATA_KEY],
            "link_keys": [{"id": "k1", "secret": "s" * 32}],
            "accounts": {"shop": account},
            "crms": {"acme": {"adapter": "sandbox", "base_url": crm.base_url, "token": crm.token}},
            "routing": {"*": "shop"},
            "time_scale": 0.1,
        }
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        env = beside(site, PAYLINKS_CONFIG=str(tmp_path / "settings.json"))

        def command(*arguments: str) -> str:
            return run([sys.executable, "-m", "cli.main", *arguments], tmp_path, env)

        assert "acme_pay" in command("providers").splitlines()[0]
        (row,) = json.loads(command("providers", "--json"))["accounts"]
        assert (row["adapter"], row["create"], row["refund"], row["capture"]) == ("acme_pay", "idempotent", True, False)
        command("migrate")
        key = command("keys", "create", "tests", "--crm", "acme", "--reason", "a test").strip()

        with paylinks_up(tmp_path, env, port) as address:
            there.webhook_url = f"{address}/webhooks/shop"
            headers = {"authorization": f"Bearer {key}"}
            with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=20) as api:
                invoice = {"crm": "acme", "invoice_id": "INV-1", "version": 1, "amount_minor": 1_500_000}
                invoice |= {"currency": "AMD", "purpose": "Prepayment", "customer": {"name": "Ani", "locale": "en"}}
                assert api.post("/v1/invoices", json=invoice).status_code == 202

                def shown() -> dict[str, Any]:
                    found: dict[str, Any] = api.get("/v1/invoices/acme/INV-1").json()
                    return found

                link = eventually(lambda: (shown()["link"] or {}).get("url"), bool, seconds=60)
                there_only = SimpleNamespace(orders=lambda _: [_known(one) for one in there.orders.values()])
                customer = Customer(link, there_only, "shop", 1_500_000)  # type: ignore[arg-type]
                try:
                    assert customer.press_pay().startswith(there.url)
                finally:
                    customer.close()
                there.move(customer.reference, "capture", 1_500_000)
                assert eventually(shown, lambda one: one["status"] == "paid", seconds=60)["status"] == "paid"
        assert [one["amount"] for one in there.orders[customer.reference]["movements"]] == [1_500_000]
        assert there.calls["create"] == 1
        assert "broken" not in command("prove")


def _known(order: dict[str, Any]) -> dict[str, Any]:
    return {"pay_url": order["page_url"], "reference": order["merchant_reference"]}
