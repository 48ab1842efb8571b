"""Setting up by commands: settings, schema, the doctor; and what every command has in common."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from db import migrate
from db.database import Database
from db.sealing import Sealer
from tests.commands import forget_settings, run, use_settings
from tests.support import DATA_KEY

LINK_KEYS = [{"id": "k1", "secret": "s" * 32}]


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch)
    monkeypatch.chdir(tmp_path)


def settings(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"database_url": f"sqlite:///{tmp_path}/a.db", "data_keys": [DATA_KEY], "link_keys": LINK_KEYS, **more}


# --- init -----------------------------------------------------------------------------------------------------------


def test_init_writes_settings_that_work_and_that_only_their_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("init", "--path", "var/mine.toml")
    assert (made.exit_code, made.stdout) == (0, "var/mine.toml\n")
    path = tmp_path / "var" / "mine.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    monkeypatch.setenv("PAYLINKS_CONFIG", str(path))
    assert run("check-config").exit_code == 0
    assert run("migrate").exit_code == 0
    assert (tmp_path / "var" / "paylinks.db").exists()


def test_init_makes_other_secrets_each_time() -> None:
    run("init", "--path", "a.toml")
    run("init", "--path", "b.toml")
    first, second = (tomllib.loads(Path(name).read_text()) for name in ("a.toml", "b.toml"))
    assert first["data_keys"] != second["data_keys"]
    assert first["link_keys"] != second["link_keys"]


def test_init_never_overwrites() -> None:
    Path("mine.toml").write_text("kept")
    assert run("init", "--path", "mine.toml").exit_code == 1
    assert Path("mine.toml").read_text() == "kept"


def test_init_follows_no_link_to_another_file() -> None:
    Path("mine.toml").symlink_to("elsewhere.toml")
    assert run("init", "--path", "mine.toml").exit_code == 1
    assert not Path("elsewhere.toml").exists()


# --- check-config ---------------------------------------------------------------------------------------------------

SECRET = "a-secret-that-nobody-may-see"
ACCOUNT = {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": SECRET}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data_keys": [SECRET]}, "data_keys.0"),
        ({"data_keys": []}, "data_keys"),
        ({"link_keys": [{"id": "k1", "secret": SECRET}]}, "link_keys.0.secret"),
        ({"time_scale": 7}, "time_scale"),
        ({"routing": {"AMD": "nowhere"}}, "routing"),
        ({"routing": {"XXX": "nowhere"}}, "routing"),
        ({"accounts": {"a": {"adapter": "nothing", "base_url": "x", "api_key": SECRET}}}, "accounts.a.adapter"),
        (
            {"accounts": {"a": {**ACCOUNT, "options": {"famly": "x"}}}},
            "famly",
        ),
        (
            {
                "accounts": {
                    "a": {"adapter": "sandbox", "base_url": "x", "api_key": SECRET, "options": {"family": SECRET}}
                }
            },
            "accounts.a",
        ),
        ({"crms": {"c": {"adapter": "sandbox", "base_url": "x"}}}, "crms.c.token"),
        ({"crms": {"c": {"adapter": "nothing", "base_url": "x", "token": SECRET}}}, "crms.c.adapter"),
        ({"fiscal": {"f": {**ACCOUNT, "adapter": "nothing"}}}, "fiscal.f.adapter"),
        ({"fiscal": {"f": {**ACCOUNT, "options": {"repeat": SECRET}}}}, "fiscal.f"),
        ({"fiscal": {"f": {**ACCOUNT, "item": "{customer}"}}}, "fiscal.f.item"),
        ({"fiscal_device": "gone"}, "fiscal_device names a fiscal device that is not configured: gone"),
        (
            {
                "crms": {
                    "c": {"adapter": "sandbox", "base_url": "http://127.0.0.1:1", "token": SECRET, "fiscal": "gone"}
                }
            },
            "crms.c.fiscal names a fiscal device that is not configured: gone",
        ),
    ],
)
def test_check_config_names_what_is_bad_and_never_shows_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], named: str
) -> None:
    use_settings(monkeypatch, tmp_path, {**settings(tmp_path), **change})
    found = run("check-config")
    assert found.exit_code == 3
    assert named in found.stdout
    assert SECRET not in found.output
    refused = run("dead", "list")
    assert refused.exit_code == 3
    assert SECRET not in refused.output


def test_every_bad_setting_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path, time_scale=7, pool_size="many"))
    found = run("check-config", "--json")
    problems = json.loads(found.stdout)["problems"]
    assert len(problems) == 2
    assert {problem.partition(":")[0] for problem in problems} == {"time_scale", "pool_size"}


def test_settings_that_are_no_toml_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bad.toml").write_text("database_url = ")
    monkeypatch.setenv("PAYLINKS_CONFIG", "bad.toml")
    assert run("check-config").exit_code == 3
    assert run("dead", "list").exit_code == 3


def test_no_settings_at_all_are_named() -> None:
    found = run("check-config")
    assert found.exit_code == 3
    for name in ("database_url", "data_keys", "link_keys"):
        assert name in found.stdout


# --- migrate and doctor ---------------------------------------------------------------------------------------------


def test_migrate_brings_the_database_to_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path))
    first, second = run("migrate", "--json"), run("migrate", "--json")
    assert json.loads(first.stdout)["applied"][-1] == migrate.head()
    assert json.loads(second.stdout) == {"applied": [], "revision": migrate.head()}


def test_a_command_on_an_empty_database_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path))
    assert run("dead", "list").exit_code == 1


def test_a_database_that_is_away_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "postgresql+psycopg://paylinks:pw@127.0.0.1:1/paylinks"
    use_settings(monkeypatch, tmp_path, settings(tmp_path, database_url=nowhere))
    for command in (("dead", "list"), ("migrate",), ("prove",), ("doctor",)):
        found = run(*command)
        assert found.exit_code == 4, command
        assert "pw" not in found.output


def test_the_doctor_finds_nothing_on_real_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_database: Any, amqp_url: str, redis_url: str
) -> None:
    url = make_database()
    use_settings(
        monkeypatch,
        tmp_path,
        settings(tmp_path, database_url=url, broker_url=redis_url, amqp_url=amqp_url, redis_url=redis_url),
    )
    assert run("migrate").exit_code == 0

    found = run("doctor", "--json")

    checks = {check["name"]: check for check in json.loads(found.stdout)}
    assert found.exit_code == 0, checks
    for name in ("settings", "database", "schema", "clock", "broker", "AMQP intake", "queues"):
        assert checks[name]["state"] == "ok"
    assert checks["partners"]["state"] == "warning"


def test_the_doctor_names_what_is_wrong_and_what_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"broker_url": "amqp://guest:pw@127.0.0.1:1/", "redis_url": "redis://:pw@127.0.0.1:1/0"}
    use_settings(monkeypatch, tmp_path, settings(tmp_path, public_base_url="http://pay.example", **more))

    found = run("doctor", "--json")

    checks = {check["name"]: check for check in json.loads(found.stdout)}
    wrong = {name: check["mend"] for name, check in checks.items() if check["state"] == "wrong"}
    assert found.exit_code == 5 or found.exit_code == 4
    assert set(wrong) == {"public URL", "schema", "broker", "Redis"}
    assert wrong["schema"] == "paylinks migrate"
    assert "pw" not in found.output


def test_the_doctor_sees_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path))
    run("migrate")
    database = Database(f"sqlite:///{tmp_path}/a.db", Sealer([DATA_KEY]))
    with database.begin() as tx:
        for state, at in (("ready", "2020-01-01 00:00:00.000000"), ("dead", "2020-01-01 00:00:00.000000")):
            tx.connection.exec_driver_sql(
                "INSERT INTO messages (id, queue, type, payload, dedup_key, subject, correlation, request_id, state, "
                f"available_at) VALUES ('{state}', 'crm-update', 't', '{{}}', 'k', 's', 'c', 'r', '{state}', '{at}')"
            )
    database.dispose()

    found = run("doctor", "--json")

    mends = [check["mend"] for check in json.loads(found.stdout) if check["state"] == "wrong"]
    assert found.exit_code == 5
    assert mends == ["paylinks worker --queue crm-update", "paylinks dead list"]


# --- every command --------------------------------------------------------------------------------------------------

HELPED = (
    (),
    *(
        (name,)
        for name in ("init", "check-config", "migrate", "doctor", "worker", "relay", "web", "up", "demo", "prove")
    ),
    *((group,) for group in ("invoice", "dead", "intake", "keys", "contracts", "sandbox")),
    ("intake", "rejected"),
)


@pytest.mark.parametrize("command", HELPED, ids=" ".join)
def test_every_command_helps(command: tuple[str, ...]) -> None:
    assert run(*command, "--help").exit_code == 0


def test_help_needs_no_settings_and_no_half_second_of_work(tmp_path: Path) -> None:
    """Measured in processor time: what others do on this machine says nothing."""
    program = "import sys, time; sys.argv = ['paylinks', '--help']\nfrom cli.main import main\n"
    program += "try:\n    main()\nfinally:\n    print(time.process_time(), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ)
    )
    assert float(done.stderr) < 0.5
    assert "worker" in done.stdout


def test_a_wrong_command_line_is_a_usage_error() -> None:
    assert run("worker", "--queue", "nowhere").exit_code == 2
    assert run("dead", "retry", "--reason", "x").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_output_has_no_colours_where_nobody_wants_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path))
    run("migrate")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("prove").output


@pytest.mark.parametrize("command", [["relay"], ["worker", "--queue", "outbound"]], ids=["relay", "worker"])
def test_what_stays_up_ends_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, prefix: str, command: list[str]
) -> None:
    use_settings(monkeypatch, tmp_path, settings(tmp_path, broker_url=redis_url, queue_prefix=f"{prefix}."))
    run("migrate")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "cli.main", *command], stdout=log, stderr=log)
        until = time.monotonic() + 60
        while f"{command[0]}.ready" not in (tmp_path / "log").read_text() and time.monotonic() < until:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()


# --- providers ------------------------------------------------------------------------------------------------------


def test_the_capability_matrix_is_printed_for_each_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {
        "bank": {**ACCOUNT, "webhook_secrets": ["w"], "options": {"family": "unique"}},
        "wallet": {**ACCOUNT, "webhook_secrets": ["w"], "options": {"family": "no_lookup"}},
    }
    use_settings(monkeypatch, tmp_path, {**settings(tmp_path), "accounts": accounts})
    told = json.loads(run("providers", "--json").stdout)
    assert "sandbox" in told["installed"]
    assert [(one["account"], one["create"], one["lookup"]) for one in told["accounts"]] == [
        ("bank", "unique", True),
        ("wallet", "unique", False),
    ]
    shown = run("providers")
    assert (shown.exit_code, SECRET in shown.output) == (0, False)
    (lookup,) = [line.split() for line in shown.stdout.splitlines() if line.startswith("lookup  ")]
    assert lookup == ["lookup", "yes", "-"]


def test_without_accounts_it_says_where_to_enter_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_settings(monkeypatch, tmp_path, {**settings(tmp_path), "accounts": {}, "routing": {}})
    assert "no account is configured" in run("providers").stdout
