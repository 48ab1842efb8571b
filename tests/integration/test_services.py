"""The tests' own services keep their word; every fault test stands on this."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from tests.services import PrivatePostgres, PrivateRabbit, PrivateRedis, ServiceMissing, containers, debian, ensure
from tests.services.postgres import conninfo
from tests.services.processes import wait_until


def test_the_services_of_this_run_answer(services):
    PrivatePostgres.probe(services.database_url)
    PrivateRabbit.probe(services.amqp_url)
    PrivateRedis.probe(services.redis_url)


def test_a_fresh_database_is_empty_and_ours(postgres_url):
    with psycopg.connect(conninfo(postgres_url)) as connection:
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    assert tables == (0,)


@pytest.mark.parametrize("kind", [PrivatePostgres, PrivateRabbit, PrivateRedis])
def test_a_private_server_stops_freezes_dies_and_comes_back_at_the_same_address(kind):
    with kind() as server:
        address = server.url

        server.freeze()
        assert not server.is_answering()
        server.thaw()
        assert server.is_answering()

        server.kill9()
        assert not server.is_answering()
        server.start()
        assert server.is_answering()
        assert server.url == address

        server.stop()
        assert not server.is_answering()
    assert not _listens(address)


def test_a_kill_keeps_what_was_committed_and_a_wipe_loses_it():
    with PrivatePostgres() as server:
        _execute(server.url, "create table kept (id int)")
        server.kill9()
        server.start()
        _execute(server.url, "insert into kept values (1)")

        server.wipe()

        with pytest.raises(psycopg.errors.UndefinedTable):
            _execute(server.url, "select * from kept")


def test_a_private_redis_keeps_its_keys_over_a_restart():
    with PrivateRedis() as server, redis.Redis.from_url(server.url) as client:
        client.set("name", "value")
        server.restart()
        assert client.get("name") == b"value"


def test_servers_of_a_killed_run_are_ended_and_their_files_removed(tmp_path):
    program = (
        "import sys, time; from tests.services import PrivateRedis; s = PrivateRedis().start();"
        "print(s.url, s._host._directory, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    url, directory = run.stdout.readline().split()
    assert _listens(url)

    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()

    assert wait_until(lambda: not _listens(url) and not Path(directory).exists(), timeout_seconds=10)


def test_an_address_that_is_given_and_wrong_is_an_error_not_a_reason_to_look_elsewhere(monkeypatch):
    monkeypatch.delenv("PAYLINKS_TEST_PRIVATE", raising=False)
    monkeypatch.setenv("PAYLINKS_TEST_REDIS_URL", "redis://127.0.0.1:1/0")
    with (
        pytest.raises(ServiceMissing, match="PAYLINKS_TEST_REDIS_URL is set, but Redis there is of no use"),
        ensure(["redis"]),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "kind"), [("postgres", PrivatePostgres), ("rabbit", PrivateRabbit), ("redis", PrivateRedis)]
)
def test_a_service_that_cannot_be_had_is_named_in_one_sentence_with_the_ways_to_give_it(name, kind, monkeypatch):
    monkeypatch.setenv("PAYLINKS_TEST_PRIVATE", "1")
    monkeypatch.setattr(kind, "programs", classmethod(lambda cls: None))
    monkeypatch.setattr(debian, "install", lambda package: False)
    monkeypatch.setattr("tests.services.private.container_engine", lambda: None)

    with pytest.raises(ServiceMissing) as caught, ensure([name]):
        pass

    sentence = str(caught.value)
    assert sentence.startswith(f"{kind.service} is needed and was not found: ")
    assert "\n" not in sentence
    for way in (kind.variable, str(kind.usual_port), f"apt-get install {kind.package}", "docker or podman"):
        assert way in sentence


def test_missing_programs_are_installed_before_a_container_is_thought_of(monkeypatch):
    installed = []
    found = PrivateRedis.programs()
    monkeypatch.setattr(PrivateRedis, "programs", classmethod(lambda cls: found if installed else None))
    monkeypatch.setattr(debian, "install", lambda package: installed.append(package) or True)

    with PrivateRedis() as server:
        assert server.is_answering()
    assert installed == ["redis-server"]


ENGINE = """\
#!/bin/sh
# Says what docker would say, starts the installed server for `run`, and writes down what it was asked.
echo "$@" >> {asked}
case "$1" in
    run)
        port=$(echo "$@" | sed -n 's/.*127.0.0.1:\\([0-9]*\\):6379.*/\\1/p')
        {redis} --port "$port" --bind 127.0.0.1 --save '' --daemonize yes --pidfile {pid} >/dev/null ;;
    kill | rm) test ! -f {pid} || kill -9 "$(cat {pid})"; rm -f {pid} ;;
    pause) kill -STOP "$(cat {pid})" ;;
    unpause) kill -CONT "$(cat {pid})" ;;
    inspect) test -f {pid} && echo true || echo false ;;
esac
"""


def test_a_container_serves_where_nothing_is_installed(tmp_path, monkeypatch):
    asked = tmp_path / "asked"
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(asked=asked, pid=tmp_path / "pid", redis=PrivateRedis.programs()))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(PrivateRedis, "programs", classmethod(lambda cls: None))
    monkeypatch.setattr(debian, "install", lambda package: False)
    containers.container_engine.cache_clear()

    with PrivateRedis() as server:
        assert server.is_answering()
        server.freeze()
        assert not server.is_answering()
        server.thaw()
        server.kill9()
        assert not server.is_answering()

    containers.container_engine.cache_clear()
    commands = [line.split()[0] for line in asked.read_text().splitlines()]
    assert commands[0] == "info"
    assert {"run", "pause", "unpause", "kill", "rm"} <= set(commands)


def test_the_command_line_brings_services_for_a_command_and_gives_its_exit_code_back(tmp_path):
    seen = tmp_path / "seen"
    script = f'echo "$PAYLINKS_DATABASE_URL $PAYLINKS_BROKER_URL $PAYLINKS_REDIS_URL" > {seen}; exit 7'
    command = [sys.executable, "-m", "tests.services", "run", "--application", "--", "sh", "-c", script]
    started = time.monotonic()

    done = subprocess.run(command, check=False, env=_without(os.environ, "PAYLINKS_"), capture_output=True, text=True)

    assert done.returncode == 7, done.stderr
    database, broker, cache = seen.read_text().split()
    assert database.startswith("postgresql+psycopg://")
    assert broker.startswith("amqp://")
    assert cache.startswith("redis://")
    assert time.monotonic() - started < 60


def _without(environment, start):
    return {name: value for name, value in environment.items() if not name.startswith(start)}


def _execute(url, statement):
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        connection.execute(statement)


def _listens(url):
    parts = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname, parts.port)) == 0
