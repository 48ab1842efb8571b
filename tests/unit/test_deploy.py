"""What is in deploy/ fits the program: every queue is served, with as few rights as possible and no secret inside."""

import configparser
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from contracts.catalog import Queue
from runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVERS = {"postgres", "rabbitmq", "redis"}
OURS = {name: service for name, service in COMPOSE["services"].items() if name not in SERVERS}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# Without what git ignores here, and the lock file, which is nothing but hashes.
FILES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file()
    and DEPLOY / "secrets" not in path.parents
    and path.name not in {"requirements.lock", "paylinks.toml"}
)
HARDENED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "LoadCredential": "paylinks:/etc/paylinks/secrets",
}


class Unit(configparser.RawConfigParser):
    """A systemd unit: names keep their case, may be repeated, and have no defaults."""

    def __init__(self, path):
        super().__init__(strict=False, default_section="", interpolation=None)
        self.optionxform = str
        self.read_string(path.read_text())


def test_compose_has_a_service_for_every_queue_that_serves_just_it():
    for queue in Queue:
        command = OURS[queue.value]["command"]
        assert command[:3] == ["worker", "--queue", queue.value]


def test_compose_runs_nothing_but_queues_doors_and_servers():
    assert set(OURS) == {queue.value for queue in Queue} | {"migrate", "web", "intake", "relay"}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_a_compose_service_has_no_more_rights_than_it_needs(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] not in {"root", "0"}
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", ()))


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_stopping_part_is_given_the_time_to_give_its_messages_back(name):
    assert OURS[name]["stop_grace_period"] == "40s"


def test_only_parts_that_call_others_leave_the_inner_network():
    assert COMPOSE["networks"]["inner"]["internal"] is True
    inner_only = {name for name, service in COMPOSE["services"].items() if service["networks"] == ["inner"]}
    assert inner_only == SERVERS | {"migrate", "intake", "relay"}


def test_the_servers_publish_no_port_and_the_web_part_only_on_this_machine():
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_secrets_reach_services_as_files():
    for secret in COMPOSE["secrets"].values():
        assert list(secret) == ["file"]
    for service in COMPOSE["services"].values():
        for variable in service.get("environment", {}):
            assert not re.search(r"(PASSWORD|SECRET|TOKEN|KEY)S?$", variable), variable
            assert variable not in {"PAYLINKS_DATABASE_URL", "PAYLINKS_BROKER_URL", "PAYLINKS_REDIS_URL"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_file_holds_a_secret(path):
    text = path.read_text()
    assert not re.search(r"://[^\s:/@$\"]+:[^\s@$\"]+@", text), "an address with a password"
    assert not re.search(r"(?m)^\s*(api_key|token|secret|password|webhook_secrets)\s*=", text)
    assert not re.search(r"[A-Za-z0-9+/_-]{40,}={0,2}$", text, re.MULTILINE)


def test_the_secrets_that_are_made_are_the_ones_that_are_read(tmp_path, monkeypatch):
    _make_secrets(tmp_path / "made")
    made = {path.name for path in (tmp_path / "made").iterdir()}
    wanted = {Path(secret["file"].rpartition("/")[2]).name for secret in COMPOSE["secrets"].values()}
    assert wanted <= made

    # As docker mounts them, and as systemd names the credentials of a unit.
    seen = tmp_path / "seen"
    seen.mkdir()
    for name in made:
        (seen / f"paylinks_{name}").write_bytes((tmp_path / "made" / name).read_bytes())
    _forget_settings(monkeypatch)
    monkeypatch.setenv("PAYLINKS_SECRETS_DIR", str(seen))
    monkeypatch.setenv("PAYLINKS_CONFIG", str(DEPLOY / "paylinks.example.toml"))

    settings = load_settings()

    password = (tmp_path / "made" / "postgres_password").read_text()
    assert settings.database_url == f"postgresql+psycopg://paylinks:{password}@postgres:5432/paylinks"
    assert settings.amqp_url == settings.broker_url
    assert settings.link_keys[0].id == "k1"


def test_secrets_once_made_stay_and_are_nobody_elses(tmp_path):
    folder = tmp_path / "made"
    _make_secrets(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    _make_secrets(folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert folder.stat().st_mode & 0o077 == 0
    json.loads(before["accounts"])
    assert len({before[f"{name}_password"] for name in SERVERS}) == len(SERVERS)


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_a_unit_is_hardened_and_gets_its_secrets_as_credentials(path):
    service = Unit(path)["Service"]
    assert {name: service.get(name) for name in HARDENED} == HARDENED


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_a_long_running_unit_comes_back_and_stops_in_order(path):
    service = Unit(path)["Service"]
    if service["Type"] == "oneshot":
        assert path.name == "paylinks-migrate.service"
        return
    assert service["Restart"] == "always"
    assert service["KillMode"] == "mixed"
    assert service["TimeoutStopSec"] == "40"


def test_the_target_wants_a_worker_for_every_queue_and_all_other_parts():
    text = (DEPLOY / "systemd" / "paylinks.target").read_text()
    wanted = set(re.findall(r"^Wants=(.*)$", text, re.MULTILINE))
    wanted = {name for line in wanted for name in line.split()}
    workers = {f"paylinks-worker@{queue.value}.service" for queue in Queue}
    others = {path.name for path in UNITS if "@" not in path.name}
    assert wanted == workers | others


def test_units_and_services_start_the_same_commands():
    started = {re.search(r"bin/paylinks (\S+)", path.read_text()).group(1) for path in UNITS}
    assert started == {service["command"][0] for service in OURS.values()}


def test_the_image_runs_without_root_from_hashed_packages():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    last_stage = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    installs = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_production_runs_the_packages_that_the_tests_run():
    tested = _pins(ROOT / "requirements.lock")
    shipped = _pins(DEPLOY / "requirements.lock")
    assert shipped.items() <= tested.items()
    assert "pytest" not in shipped


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/requirements.lock"])
def test_a_lock_names_no_package_index_and_pins_every_package_by_hash(lock):
    lines = (ROOT / lock).read_text().splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith(" "):
            assert "==" in line
            assert following.strip().startswith("--hash=sha256:")


def _make_secrets(folder):
    command = ["sh", str(DEPLOY / "make-secrets.sh"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _forget_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PAYLINKS_")]:
        monkeypatch.delenv(name)


def _pins(path):
    found = re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return dict(found)
