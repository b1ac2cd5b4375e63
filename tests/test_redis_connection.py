from __future__ import annotations

import socket

import pytest
from pydantic import SecretStr
from redis.exceptions import ResponseError

from serving.errors import SettingsError, StoreUnavailableError
from serving.redis_connection import connect, disconnect, reaching


async def test_it_connects_at_the_first_command_and_may_be_ended_twice(redis_url: SecretStr) -> None:
    client = connect(redis_url, timeout_s=2, connections=2)
    await client.set("k", "v")
    assert await client.get("k") == b"v"
    await disconnect(client)
    await disconnect(client)


async def test_a_connection_that_the_server_closed_is_made_again(redis_url: SecretStr) -> None:
    idle, other = (connect(redis_url, timeout_s=2, connections=1) for _ in range(2))
    await idle.set("k", "v")
    await other.client_kill_filter(_type="normal", skipme=True)
    assert await idle.get("k") == b"v"
    await disconnect(idle)
    await disconnect(other)


async def test_what_goes_wrong_with_redis_is_a_store_that_cannot_be_reached(redis_url: SecretStr) -> None:
    client = connect(redis_url, timeout_s=2, connections=1)
    await client.set("k", "no number")
    with pytest.raises(StoreUnavailableError, match="Not now") as caught, reaching("Not now."):
        await client.incr("k")
    assert isinstance(caught.value.__cause__, ResponseError)
    assert caught.value.retry_after_s
    await disconnect(client)


async def test_nobody_waits_longer_than_the_time_out() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()  # connections are made, and nobody reads
        client = connect(SecretStr(f"redis://127.0.0.1:{sock.getsockname()[1]}/0"), timeout_s=0.05, connections=1)
        with pytest.raises(StoreUnavailableError), reaching("Not now."):
            await client.get("k")
        await disconnect(client)


def test_an_address_that_cannot_be_read_is_a_setting_to_change_and_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"redis\.url") as caught:
        connect(SecretStr("redis://:hunter2@host:port/0"), timeout_s=1, connections=1)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
