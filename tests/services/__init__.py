"""PostgreSQL, RabbitMQ and Redis for the tests: the tests bring their services.

Each service is taken from the first of these that works:

1. its address in the environment (`PAYLINKS_TEST_DATABASE_URL`, `PAYLINKS_TEST_AMQP_URL`, `PAYLINKS_TEST_REDIS_URL`);
2. a server that already listens on its usual port of 127.0.0.1 and lets us in;
3. a private instance of installed programs, on a free port, in a temporary directory;
4. the same after installing Debian's packages, where root or passwordless sudo allows it;
5. a container, where docker or podman has an engine;

and otherwise `ServiceMissing` says in one sentence what to do. Nothing is ever skipped.

    with ensure() as services:
        connect(services.database_url)

    rabbit = PrivateRabbit()      # for fault tests: its own broker, to be stopped, killed, frozen and wiped
    with rabbit:
        rabbit.freeze()

`PAYLINKS_TEST_PRIVATE=1` leaves out steps 1 and 2, `PAYLINKS_TEST_INSTALL=0` leaves out step 4.
"""

from tests.services.desk import Services, ensure
from tests.services.errors import ServiceError, ServiceFailed, ServiceMissing
from tests.services.names import fresh_database, unique_prefix
from tests.services.postgres import PrivatePostgres
from tests.services.private import PrivateServer
from tests.services.rabbit import PrivateRabbit
from tests.services.redis import PrivateRedis

__all__ = [
    "PrivatePostgres",
    "PrivateRabbit",
    "PrivateRedis",
    "PrivateServer",
    "ServiceError",
    "ServiceFailed",
    "ServiceMissing",
    "Services",
    "ensure",
    "fresh_database",
    "unique_prefix",
]
