"""A real Redis for the tests that ask for one, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from serving.cluster.run.process_tree import die_with_parent
from tests.programs import program

PASSWORD = "hunter2"  # of a server that lives as long as the tests


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecretStr]:
    """The address of a Redis that this session has started; it asks for a password."""
    with _running(program("redis-server"), tmp_path_factory.mktemp("redis")) as url:
        yield SecretStr(url)


@pytest.fixture
def redis_url(redis_server: SecretStr) -> SecretStr:
    """The address of a Redis with nothing in it."""
    with redis.Redis.from_url(redis_server.get_secret_value()) as client:
        client.flushall()
    return redis_server


@contextlib.contextmanager
def _running(server_program: str, folder: Path) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [server_program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    options = ["--save", "", "--appendonly", "no", "--requirepass", PASSWORD]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # An interrupted run of several workers ends them without their fixtures' ends.
        preexec_fn=die_with_parent,
    ) as server:
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
