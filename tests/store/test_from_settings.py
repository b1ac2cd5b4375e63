from __future__ import annotations

import sys
from typing import get_args

import pytest
from pydantic import SecretStr, ValidationError

from serving.commands.config import to_yaml
from serving.errors import SettingsError
from serving.settings.loading.load import load_settings
from serving.settings.redis import RedisSettings
from serving.settings.storage import CacheSettings, ResponsesSettings
from serving.settings.tree import Settings
from serving.store.from_settings import StoreName, limits, redis_store

URL = "redis://user:hunter2@localhost:6379/0"
REDIS = Settings(redis=RedisSettings(url=SecretStr(URL)), responses=ResponsesSettings(backend="redis"))


def test_limits_are_those_of_the_settings() -> None:
    found = limits(ResponsesSettings(ttl_s=5, max_bytes=5000, max_item_bytes=2000))
    assert (found.ttl_s, found.max_bytes, found.max_item_bytes) == (5, 5000, 2000)


async def test_nothing_is_connected_to_before_the_first_call() -> None:
    store = redis_store(
        Settings(redis=RedisSettings(url=SecretStr("redis://nowhere.invalid:1")), responses=REDIS.responses),
        "responses",
    )
    await store.close()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("serving.store.redis", "serving.redis_connection"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    for name in get_args(StoreName):
        with pytest.raises(SettingsError, match=rf"{name}\.backend: .*pip install"):
            redis_store(REDIS, name)


def test_the_address_of_redis_is_never_shown() -> None:
    shown = f"{REDIS!r} {REDIS} {REDIS.redis!r} {REDIS.model_dump()} {REDIS.model_dump_json()} {to_yaml(REDIS)}"
    assert "hunter2" not in shown


def test_an_address_of_another_kind_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(config=None, overrides={}, environ={"SERVING_REDIS__URL": "http://user:hunter2@host"})
    assert "redis.url: should be redis://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("section", ["responses", "cache"])
def test_every_section_that_wants_redis_is_named(section: str) -> None:
    with pytest.raises(SettingsError, match=rf"redis\.url: is missing.*`{section}\.backend: redis`"):
        load_settings(config=None, overrides={section: {"backend": "redis"}}, environ={})


async def test_stores_of_both_kinds_are_apart(redis_url: SecretStr) -> None:
    settings = Settings(
        redis=RedisSettings(url=redis_url),
        responses=ResponsesSettings(backend="redis"),
        cache=CacheSettings(backend="redis"),
    )
    responses, answers = redis_store(settings, "responses"), redis_store(settings, "cache")
    await responses.put("a", "k", b"v")
    assert await answers.get("a", "k") is None
    await responses.close()
    await answers.close()


def test_the_redis_backend_needs_an_address() -> None:
    with pytest.raises(SettingsError, match=r"redis\.url: is missing"):
        load_settings(config=None, overrides={}, environ={"SERVING_RESPONSES__BACKEND": "redis"})
    with pytest.raises(ValidationError):
        Settings(responses=ResponsesSettings(backend="redis"))
    loaded = load_settings(
        config=None, overrides={}, environ={"SERVING_RESPONSES__BACKEND": "redis", "SERVING_REDIS__URL": URL}
    )
    assert loaded.redis.url is not None
    assert loaded.redis.url.get_secret_value() == URL
