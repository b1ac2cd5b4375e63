from __future__ import annotations

import asyncio
import logging
import socket

import pytest
import redis
from pydantic import SecretStr

from serving.errors import SettingsError, StoreUnavailableError
from serving.store.base import StoreLimits
from serving.store.redis import RedisStore

LIMITS = StoreLimits(ttl_s=60, max_bytes=10_000, max_item_bytes=5000)


async def test_another_store_on_the_same_redis_sees_what_was_put(redis_url: SecretStr) -> None:
    first, second = (RedisStore(redis_url, LIMITS, name="shared") for _ in range(2))
    await first.put("a", "k", b"v")
    await first.close()
    assert await second.get("a", "k") == b"v"
    await second.close()


async def test_stores_of_different_names_are_apart(redis_url: SecretStr) -> None:
    first, second = (RedisStore(redis_url, LIMITS, name=name) for name in ("one", "two"))
    await first.put("a", "k", b"v")
    assert await second.get("a", "k") is None
    await first.close()
    await second.close()


async def test_every_key_it_leaves_ends_with_the_items(redis_url: SecretStr) -> None:
    with redis.Redis.from_url(redis_url.get_secret_value()) as client:
        store = RedisStore(redis_url, StoreLimits(ttl_s=0.05, max_bytes=10_000, max_item_bytes=5000), name="n")
        for number in range(20):
            await store.put("a", str(number), b"v" * 100)
        await asyncio.sleep(0.1)
        await store.put("a", "last", b"v")
        await store.delete("a", "last")
        await store.close()
        assert client.zcard("{gpt-oss-serving:n}:uses") == 0
        assert client.hlen("{gpt-oss-serving:n}:sizes") == 0
        assert client.get("{gpt-oss-serving:n}:bytes") == b"0"


async def test_what_redis_itself_drops_is_missing_and_no_error(redis_url: SecretStr) -> None:
    store = RedisStore(redis_url, LIMITS, name="dropped")
    await store.put("a", "k", b"v")
    with redis.Redis.from_url(redis_url.get_secret_value()) as client:
        client.delete("{gpt-oss-serving:dropped}:a:k")
    assert await store.get("a", "k") is None
    assert not await store.delete("a", "k")
    await store.close()


async def test_a_redis_that_is_not_there_is_a_503_that_may_be_retried(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        store = RedisStore(SecretStr(f"redis://:hunter2@127.0.0.1:{sock.getsockname()[1]}/0"), LIMITS, name="n")
        caplog.set_level(logging.DEBUG)
        with pytest.raises(StoreUnavailableError) as caught:
            await store.put("a", "k", b"v")
        assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
        assert "retry-after" in caught.value.headers()
        assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {store!r} {vars(store)!r}" + caplog.text
        await store.close()


async def test_a_redis_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.store.redis._TIMEOUT_S", 0.1)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # connections are made, and nobody reads
        store = RedisStore(SecretStr(f"redis://127.0.0.1:{sock.getsockname()[1]}/0"), LIMITS, name="n")
        with pytest.raises(StoreUnavailableError):
            await store.get("a", "k")
        await store.close()


async def test_a_wrong_password_is_a_503_without_the_password(redis_url: SecretStr) -> None:
    store = RedisStore(SecretStr(redis_url.get_secret_value().replace("hunter2", "wrongpw")), LIMITS, name="n")
    with pytest.raises(StoreUnavailableError) as caught:
        await store.get("a", "k")
    assert "wrongpw" not in f"{caught.value!r} {caught.value.__cause__!r}"
    await store.close()


def test_an_address_that_cannot_be_read_is_a_setting_to_change() -> None:
    with pytest.raises(SettingsError, match=r"redis\.url") as caught:
        RedisStore(SecretStr("redis://:hunter2@host:port/0"), LIMITS, name="n")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
