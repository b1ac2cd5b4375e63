"""Stores that the settings ask for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from serving.errors import CheckpointError, SettingsError
from serving.settings.cache_dir import default_cache_dir
from serving.settings.storage import CacheSettings, StoreSettings
from serving.settings.tree import Settings
from serving.store.base import Store, StoreLimits
from serving.store.memory import MemoryStore
from serving.store.registrations import FileRegistrations, MemoryRegistrations, Registrations

logger = logging.getLogger(__name__)

StoreName = Literal["responses", "cache"]
"""A store's section in the settings, and its name wherever it is."""


def section_of(settings: Settings, name: StoreName) -> StoreSettings | CacheSettings:
    """Settings section of a store."""
    return settings.responses if name == "responses" else settings.cache


def limits(settings: StoreSettings | CacheSettings) -> StoreLimits:
    """Limits of a store with these settings."""
    return StoreLimits(ttl_s=settings.ttl_s, max_bytes=settings.max_bytes, max_item_bytes=settings.max_item_bytes)


def redis_missing(key: str) -> SettingsError:
    """Error for a setting at `key` that asks for Redis where redis-py is not installed."""
    return SettingsError([(key, "redis needs the Python package redis: pip install 'gpt-oss-serving[redis]'")])


def redis_store(settings: Settings, name: StoreName) -> Store:
    """Store at `redis.url`, which settings with that backend have. Raises SettingsError.

    Nothing is connected to before the first call; the caller closes it.
    """
    assert settings.redis.url is not None, "settings refuse the redis backend without an address"
    try:
        from serving.store.redis import RedisStore  # redis-py is an extra, and few deployments need it
    except ImportError as error:
        raise redis_missing(f"{name}.backend") from error
    return RedisStore(settings.redis.url, limits(section_of(settings, name)), name=name)


def open_own_store(settings: Settings, name: StoreName) -> Store:
    """Store for a process that is the whole service: in Redis where the settings say so, else in its memory.

    Nothing is connected to before the first call; the caller closes it. Raises SettingsError.
    """
    section = section_of(settings, name)
    return redis_store(settings, name) if section.backend == "redis" else MemoryStore(limits(section))


def open_registrations(settings: Settings, kind: Literal["backends", "adapters"]) -> Registrations:
    """Store of the backends or adapters registered while serving. It connects at the first call.

    Raises SettingsError.
    """
    if settings.backends.registrations == "file":
        try:
            folder = Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()
        except CheckpointError:
            logger.warning("%s added while serving are forgotten with the process: set cache_dir to keep them", kind)
            return MemoryRegistrations()
        return FileRegistrations(folder / f"{kind}.json")
    assert settings.redis.url is not None, "settings refuse redis without an address"
    try:
        from serving.store.redis_registrations import RedisRegistrations  # redis-py is an extra
    except ImportError as error:
        raise redis_missing("backends.registrations") from error
    return RedisRegistrations(settings.redis.url, kind)
