"""Where registered backends are kept, as the settings say."""

from __future__ import annotations

import logging
from pathlib import Path

from serving.backends.registrations import FileRegistrations, MemoryRegistrations, Registrations
from serving.demo.checkpoint import default_cache_dir
from serving.errors import CheckpointError, SettingsError
from serving.settings import Settings

logger = logging.getLogger(__name__)

FILE = "backends.json"


def open_registrations(settings: Settings) -> Registrations:
    """Nothing is read or connected to before the first call. Raises SettingsError."""
    if settings.backends.registrations == "file":
        try:
            folder = Path(settings.cache_dir) if settings.cache_dir else default_cache_dir()
        except CheckpointError:
            logger.warning("backends registered here are forgotten with the process: set cache_dir to keep them")
            return MemoryRegistrations()
        return FileRegistrations(folder / FILE)
    assert settings.redis.url is not None, "settings refuse redis without an address"
    try:
        from serving.backends.redis_registrations import RedisRegistrations  # redis-py is an extra
    except ImportError as error:
        needed = "redis needs the Python package redis: pip install 'gpt-oss-serving[redis]'"
        raise SettingsError([("backends.registrations", needed)]) from error
    return RedisRegistrations(settings.redis.url)
