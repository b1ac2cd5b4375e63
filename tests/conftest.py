"""How made-up cases are made up, and a real Redis for whoever asks for one, on a free port of the loopback.

Property tests try the same cases in each run, so that what fails has been broken by a change. To look for new ones:

    HYPOTHESIS_PROFILE=search .venv/bin/pytest tests/harmony
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings
from pydantic import SecretStr

# An example's time is no test's business: the machine may be busy.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

pytest_plugins = ["tests.http_server", "tests.teams_files"]

PASSWORD = "hunter2"  # of a server that lives as long as the tests


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretStr]:
    """The address of a Redis that this session has started; it asks for a password."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    with _running(program, tmp_path_factory.mktemp("redis")) as url:
        yield SecretStr(url)


@pytest.fixture
def redis_url(redis_server: SecretStr) -> SecretStr:
    """The address of a Redis with nothing in it."""
    with redis.Redis.from_url(redis_server.get_secret_value()) as client:
        client.flushall()
    return redis_server


@contextlib.contextmanager
def _running(program: str, folder: Path) -> Iterator[str]:
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
