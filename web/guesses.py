"""How often an address may ask for links that do not exist.

Nobody finds a link by guessing: a token is 256 bits, looked up by its SHA-256, so that no comparison leaks how near a
guess was. The limit keeps the noise of those who try away, and says in the log that somebody does.

Only misses are counted, and only misses are refused: behind one address may be a whole office, and its real links must
open whatever else is tried from there. Whether a link is real only a look-up tells; so beyond the limit a well-formed
guess still costs one read of a unique index, as it did before, and a malformed one costs none. Redis is asked after a
miss alone: a real link never waits for it.

Counted in windows of a minute, in Redis where there is one, so that all processes share the count; else, and while
Redis is away, each process counts for itself.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

WINDOW_SECONDS = 60
REDIS_SECONDS = 0.25
# After a failure Redis is left alone for so long.
REDIS_PAUSE_SECONDS = 10
# So many addresses are told apart by one process; the rest of a minute share one count.
MAX_ADDRESSES = 10_000
_THE_REST = "the rest"

log = structlog.get_logger()


class Guesses:
    """Counts misses of each address. Belongs to one event loop."""

    def __init__(self, limit: int, redis_url: str | None, *, prefix: str, clock: Callable[[], float]) -> None:
        """Let an address miss `limit` times within a minute; 0: as often as it likes."""
        self._limit = limit
        self._clock = clock
        self._counts = _Counts()
        self._redis = _RedisCounts(redis_url, prefix) if redis_url else None
        self._redis_again_at = 0.0

    async def close(self) -> None:
        """Release the connections."""
        if self._redis is not None:
            await self._redis.close()

    async def missed(self, address: str | None, request_id: str) -> int | None:
        """Count a miss. Return the seconds after which to come again when there were too many, else None."""
        if not self._limit or address is None:
            return None
        window, passed = divmod(self._clock(), WINDOW_SECONDS)
        count = await self._count(int(window), network_of(address))
        if count <= self._limit:
            return None
        if count == self._limit + 1:
            # Not from where: an address is personal. The proxy's own log has it, with the request id.
            log.warning("page.guessing", request_id=request_id, misses=count)
        return max(1, int(WINDOW_SECONDS - passed))

    async def _count(self, window: int, network: str) -> int:
        if self._redis is not None and self._clock() >= self._redis_again_at:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    return await self._redis.count(window, network)
            except (RedisError, OSError, TimeoutError) as error:
                self._redis_again_at = self._clock() + REDIS_PAUSE_SECONDS
                log.warning("page.guesses_uncounted", error=type(error).__name__)
        return self._counts.count(window, network)


def network_of(address: str) -> str:
    """Return whose address it is: one IPv4 address, or the /64 that an IPv6 customer gets whole (RFC 6177)."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return _THE_REST
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)


class _Counts:
    """This process's own: one window's, and a bounded number of addresses."""

    def __init__(self) -> None:
        self._window = 0
        self._of: Counter[str] = Counter()

    def count(self, window: int, network: str) -> int:
        if window != self._window:
            self._window, self._of = window, Counter()
        if network not in self._of and len(self._of) >= MAX_ADDRESSES:
            network = _THE_REST
        self._of[network] += 1
        return self._of[network]


class _RedisCounts:
    """Everybody's. Addresses are digested, and gone after two windows."""

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        self._redis = Redis.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    async def count(self, window: int, network: str) -> int:
        name = f"{self._prefix}guesses.{window}.{hashlib.sha256(network.encode()).hexdigest()[:32]}"
        async with self._redis.pipeline(transaction=True) as both:
            both.incr(name)  # type: ignore[unused-awaitable]  # typed as outside a pipeline, where it would be sent
            both.expire(name, 2 * WINDOW_SECONDS)  # type: ignore[unused-awaitable]  # the same
            counted, _ = await both.execute()
        return int(counted)

    async def close(self) -> None:
        await self._redis.aclose()
