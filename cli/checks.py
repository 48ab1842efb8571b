"""What `paylinks check-config` and `paylinks doctor` look at. Settings are named, values never shown."""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic_settings import SettingsError as SourceError

from cli import exits
from db import health, migrate
from db.database import Trouble, trouble_of
from db.sealing import BadKey, Sealer
from runtime.build import build, close
from runtime.deps import Deps
from runtime.settings import Settings, SettingsError, config_file, load_settings

MAX_SKEW_SECONDS = 5.0
LATE_SECONDS = 60.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; `mend` is the command or the deed that puts it right."""

    name: str
    state: Literal["ok", "warning", "wrong"]
    detail: str
    mend: str = ""
    code: int = exits.FINDINGS

    @property
    def exit_code(self) -> int:
        """The exit code that this alone would give; a warning gives none."""
        return self.code if self.state == "wrong" else exits.OK

    def as_json(self) -> dict[str, Any]:
        """The check for a program."""
        return {name: value for name, value in asdict(self).items() if name != "code"}


# --- settings -------------------------------------------------------------------------------------------------------


def bad_settings() -> list[str]:
    """Return what is wrong with the settings, each problem with its setting's name; empty: a process can start."""
    try:
        settings = load_settings()
    except (SettingsError, SourceError) as error:
        return str(error).split("; ")
    except tomllib.TOMLDecodeError as error:
        return [f"{config_file()}: not TOML: {error}"]
    return list(bad_parts(settings))


def bad_parts(settings: Settings) -> Iterator[str]:
    """Say what keys and adapters do not take, although each setting has its right form."""
    for place, key in enumerate(settings.data_keys):
        try:
            Sealer([key.get_secret_value()])
        except BadKey:
            yield f"data_keys.{place}: not url-safe base64 of 32 bytes; `paylinks init` shows how one looks"
    alone = settings.model_copy(update={"accounts": {}, "crms": {}, "fiscal": {}})
    for kind in ("accounts", "crms", "fiscal"):
        for name, part in getattr(settings, kind).items():
            problem = _problem_of(alone.model_copy(update={kind: {name: part}}))
            if problem:
                yield problem if problem.startswith(kind) else f"{kind}.{name}: {problem}"


def _problem_of(settings: Settings) -> str | None:
    """Build with one account or CRM alone and return what its adapter says, without any value."""
    try:
        close(build(settings))
    except SettingsError as error:
        return str(error)
    except BadKey:
        return None  # told of above
    return None


# --- the doctor -----------------------------------------------------------------------------------------------------


def examine() -> list[Check]:
    """Run every check; those that need what an earlier one missed are left out."""
    problems = bad_settings()
    if problems:
        return [Check("settings", "wrong", problem, "paylinks check-config", exits.CONFIG) for problem in problems]
    settings = load_settings()
    deps = build(settings)
    try:
        return [Check("settings", "ok", f"read from {config_file()}"), *_parts(settings), *_servers(deps)]
    finally:
        close(deps)


def _parts(settings: Settings) -> Iterator[Check]:
    if settings.accounts and settings.crms and settings.routing:
        yield Check("partners", "ok", f"{len(settings.accounts)} provider accounts, {len(settings.crms)} CRMs")
    else:
        detail = "no invoice can be taken without an account, a CRM and a route between them"
        yield Check("partners", "warning", detail, f"enter them in {config_file()}")
    url = urlsplit(settings.public_base_url)
    if url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK):
        yield Check("public URL", "ok", settings.public_base_url)
    else:
        yield Check("public URL", "wrong", "customers need https there", "set public_base_url to an https address")


def _servers(deps: Deps) -> Iterator[Check]:
    yield from _database(deps)
    broker, amqp, redis = deps.settings.broker_url, deps.settings.amqp_url, deps.settings.redis_url
    if broker == "memory://":
        yield Check("broker", "ok", "in this process (embedded mode)")
    elif broker.startswith("redis"):
        yield _answers("broker", "broker_url", lambda: _ping_redis(broker))
    else:
        yield _answers("broker", "broker_url", lambda: _greet_rabbit(deps.settings))
    if amqp and amqp != broker:
        other = deps.settings.model_copy(update={"broker_url": amqp})
        yield _answers("AMQP intake", "amqp_url", lambda: _greet_rabbit(other))
    if redis and redis != broker:
        yield _answers("Redis", "redis_url", lambda: _ping_redis(redis))


def _database(deps: Deps) -> Iterator[Check]:
    try:
        skew = health.clock_skew_seconds(deps.database)
        revision = migrate.current(deps.database)
    except Exception as error:
        if trouble_of(error) is None:
            raise
        gone = trouble_of(error) is Trouble.OUTAGE
        code = exits.UNREACHABLE if gone else exits.FINDINGS
        yield Check("database", "wrong", f"no answer ({type(error).__name__})", "start it, or mend database_url", code)
        return
    yield Check("database", "ok", deps.database.url.get_backend_name())
    if revision == migrate.head():
        yield Check("schema", "ok", f"revision {revision}")
    else:
        detail = f"revision {revision or 'none'}, this program needs {migrate.head()}"
        yield Check("schema", "wrong", detail, "paylinks migrate")
    if abs(skew) <= MAX_SKEW_SECONDS:
        yield Check("clock", "ok", f"{skew:+.1f} s from the database's")
    else:
        yield Check("clock", "wrong", f"{skew:+.1f} s from the database's", "let NTP set this machine's clock")
    if revision == migrate.head():
        yield from _backlog(deps)


def _backlog(deps: Deps) -> Iterator[Check]:
    with deps.database.read() as tx:
        found = health.backlog(tx, late_seconds=LATE_SECONDS)
    for queue, count in sorted(found.waiting.items()):
        detail = f"{count} messages were due over a minute ago and nobody took them"
        yield Check(f"queue {queue}", "wrong", detail, f"paylinks worker --queue {queue}")
    if not found.waiting:
        yield Check("queues", "ok", "nothing is late")
    if found.dead:
        yield Check("dead letters", "wrong", f"{found.dead} wait for a person", "paylinks dead list")
    if found.unmatched:
        yield Check("money", "wrong", f"{found.unmatched} orders with money are nobody's", "paylinks money list")
    if found.open_rejections:
        yield Check(
            "intake", "wrong", f"{found.open_rejections} bodies wait for review", "paylinks intake rejected list"
        )


def _answers(name: str, setting: str, ask: Callable[[], object]) -> Check:
    try:
        ask()
    except Exception as error:
        # Each client has errors of its own; the class says enough, and a text might show the address's password.
        detail = f"no answer, or it lets us not in ({type(error).__name__})"
        return Check(name, "wrong", detail, f"start it, or mend {setting}", exits.UNREACHABLE)
    return Check(name, "ok", "answers")


def _ping_redis(url: str) -> None:
    from redis import Redis

    with Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3) as client:
        client.ping()


def _greet_rabbit(settings: Settings) -> None:
    from workers.broker import make_broker

    broker = make_broker(settings)
    try:
        broker.connection  # type: ignore[attr-defined]  # noqa: B018 - looking connects
    finally:
        broker.close()
