"""Choice of the usage store by the settings."""

from __future__ import annotations

from pathlib import Path

from serving.settings.tree import Settings
from serving.store.from_settings import redis_missing
from serving.tenancy.usage.base import UsageStore
from serving.tenancy.usage.memory import MemoryUsageStore
from serving.tenancy.usage.sqlite import SqliteUsageStore


def make_usage_store(settings: Settings) -> UsageStore:
    """Make the usage store that the settings name; `memory` is this process's own.

    Connects to nothing before the first call. Raises SettingsError.
    """
    if settings.usage.backend == "sqlite" and settings.usage.database is not None:
        return SqliteUsageStore(Path(settings.usage.database))
    if settings.usage.backend == "redis" and settings.redis.url is not None:
        try:
            from serving.tenancy.usage.redis import RedisUsageStore  # redis-py is an extra
        except ImportError as error:
            raise redis_missing("usage.backend") from error
        return RedisUsageStore(settings.redis.url, keep_days=settings.usage.keep_days)
    return MemoryUsageStore()
