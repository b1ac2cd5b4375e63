"""The store that the settings ask for."""

from __future__ import annotations

from serving.errors import SettingsError
from serving.settings import Settings, StoreSettings
from serving.store.base import Store, StoreLimits

RESPONSES = "responses"
"""The name of the store of responses, wherever it is."""


def limits(settings: StoreSettings) -> StoreLimits:
    """What a store of these settings keeps, and for how long."""
    return StoreLimits(ttl_s=settings.ttl_s, max_bytes=settings.max_bytes, max_item_bytes=settings.max_item_bytes)


def redis_store(settings: Settings) -> Store:
    """The store of responses at `redis.url`, which settings with that backend have. Raises SettingsError.

    Nothing is connected to before the first call; the caller closes it.
    """
    assert settings.redis.url is not None, "settings refuse the redis backend without an address"
    try:
        from serving.store.redis import RedisStore  # redis-py is an extra, and few deployments need it
    except ImportError as error:
        raise SettingsError(
            [("responses.backend", "redis needs the Python package redis: pip install 'gpt-oss-serving[redis]'")]
        ) from error
    return RedisStore(settings.redis.url, limits(settings.responses), name=RESPONSES)
