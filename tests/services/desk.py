"""Brings the services: from the environment, found listening, or private ones."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.services.errors import ServiceMissing
from tests.services.postgres import PrivatePostgres
from tests.services.private import PrivateServer
from tests.services.rabbit import PrivateRabbit
from tests.services.redis import PrivateRedis

KINDS: dict[str, type[PrivateServer]] = {"postgres": PrivatePostgres, "rabbit": PrivateRabbit, "redis": PrivateRedis}


@dataclass
class Services:
    """Where the services are; empty for one that was not asked for. `started` are those that end with us."""

    database_url: str = ""
    amqp_url: str = ""
    redis_url: str = ""
    started: list[PrivateServer] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, for programs and test runs started from here."""
        urls = {
            PrivatePostgres.variable: self.database_url,
            PrivateRabbit.variable: self.amqp_url,
            PrivateRedis.variable: self.redis_url,
        }
        return {name: url for name, url in urls.items() if url}


@contextlib.contextmanager
def ensure(names: Sequence[str] = tuple(KINDS), *, own: Sequence[str] = ()) -> Iterator[Services]:
    """Have the named services ready until the end of the block.

    For those in `own`, a private server of installed programs goes before one that is found listening: whoever uses
    queues under their real names wants no stranger's messages in them.

    Raises:
        ServiceMissing: in one sentence, which service and how to give it.
    """
    with contextlib.ExitStack() as stack:
        services = Services()
        urls = {name: _bring(KINDS[name], services, stack, own=name in own) for name in names}
        services.database_url = urls.get("postgres", "")
        services.amqp_url = urls.get("rabbit", "")
        services.redis_url = urls.get("redis", "")
        yield services


def _bring(kind: type[PrivateServer], services: Services, stack: contextlib.ExitStack, *, own: bool) -> str:
    only_private = os.environ.get("PAYLINKS_TEST_PRIVATE") == "1"
    given = None if only_private else os.environ.get(kind.variable)
    if given:
        return _usable(kind, given)
    prefer_private = only_private or (own and kind.programs() is not None)
    found = None if prefer_private else kind.listening()
    if found:
        return found
    server = stack.enter_context(kind())
    services.started.append(server)
    return server.url


def _usable(kind: type[PrivateServer], url: str) -> str:
    """An address that was given is used or refused, never passed over in silence."""
    if url.startswith("postgresql://"):
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        kind.probe(url)
    except Exception as error:
        # pika's errors often have no text of their own.
        raise ServiceMissing(f"{kind.variable} is set, but {kind.service} there is of no use: {error!r}") from error
    return url
