"""The connection to the Redis of the settings, for everything that is kept there.

Imported only by what keeps something in Redis: its client is an extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.errors import SettingsError, StoreUnavailableError

_RETRY_AFTER_S = 2.0


def connect(url: SecretStr, *, timeout_s: float, connections: int, retries: int = 1) -> Redis:
    """A client that connects at its first command, to be ended with disconnect().

    `timeout_s` bounds the wait for a free connection, for connecting and for each answer, in seconds. A command is
    sent again at once, `retries` times, for connections that lay idle until the server closed them; what must not be
    counted twice wants 0. The URL may hold a password, which is in no message and no repr. Raises SettingsError for a
    URL that cannot be read.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url.get_secret_value(),
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), retries),
        )
    except ValueError as error:
        # `from None`: the cause would quote the address.
        raise SettingsError([("redis.url", f"cannot be read as an address: {type(error).__name__}")]) from None
    return Redis(connection_pool=pool)


async def disconnect(client: Redis) -> None:
    """Close the client's connections. May be called more than once."""
    await client.aclose()
    await client.connection_pool.disconnect()


@contextmanager
def reaching(message: str) -> Iterator[None]:
    """Around commands: StoreUnavailableError with `message` where Redis cannot be reached, or does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(message, retry_after_s=_RETRY_AFTER_S) from error
