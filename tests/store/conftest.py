"""A real Redis on a free port of the loopback, and every store there is behind one fixture."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from serving.store.base import Store, StoreLimits
from serving.store.memory import MemoryStore
from serving.store.redis import RedisStore

PASSWORD = "hunter2"  # of a server that lives as long as the tests

MakeStore = Callable[[StoreLimits], Store]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretStr]:
    """The address of a Redis that this session has started; it asks for a password."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    with running_redis(program, tmp_path_factory.mktemp("redis")) as url:
        yield SecretStr(url)


@contextlib.contextmanager
def running_redis(program: str, folder: Path) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    options = ["--save", "", "--appendonly", "no", "--requirepass", PASSWORD]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        try:
            _wait_until_up(server, url)
            yield url
        finally:
            server.terminate()


def _wait_until_up(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 20
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("redis-server did not start")
                time.sleep(0.01)


@pytest.fixture(params=["memory", "redis"])
async def make_store(request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Makes a store of each kind with the limits given, empty, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":

            def make(limits: StoreLimits) -> Store:
                store = MemoryStore(limits)
                stack.push_async_callback(store.close)
                return store
        else:
            url: SecretStr = request.getfixturevalue("redis_url")
            with redis.Redis.from_url(url.get_secret_value()) as client:
                client.flushall()

            def make(limits: StoreLimits) -> Store:
                store = RedisStore(url, limits, name="test")
                stack.push_async_callback(store.close)
                return store

        yield make
