"""What every storage does: a local folder, and S3 as moto's server speaks it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serving.batches.storage import Storage
from serving.errors import SettingsError, StorageFailedError


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of moto's server, over a socket, with the bucket `kept`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(params=["folder", "s3"])
def make_storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Storage]:
    """Makes a storage on the same empty folder each time, as each process does."""
    if request.param == "folder":
        return lambda: Storage(str(tmp_path / "kept"), {})
    address: str = request.getfixturevalue("s3_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"kept-{os.urandom(4).hex()}"
    client = boto3.client("s3", endpoint_url=address)
    client.create_bucket(Bucket=bucket)
    client.close()
    return lambda: Storage(f"s3://{bucket}/folder", {"endpoint_url": address})


async def chunks(*parts: bytes, fails: Exception | None = None) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part
    if fails is not None:
        raise fails


async def content(storage: Storage, path: str) -> bytes:
    return b"".join([chunk async for chunk in storage.chunks(path)])


async def test_what_is_written_is_read_by_another_process_and_deleted(make_storage: Callable[[], Storage]) -> None:
    one, two = make_storage(), make_storage()
    assert await two.read("a/b.json") is None
    assert await two.names("a") == []

    await one.write("a/b.json", b"one")
    await one.write("a/b.json", b"two")
    await one.write("a/c.json", b"")

    assert await two.read("a/b.json") == b"two"
    assert await two.read("a/c.json") == b""
    assert await two.names("a") == ["b.json", "c.json"]
    assert await two.names("") == ["a"]
    assert await two.read_all(["a/c.json", "a/none", "a/b.json"]) == [b"", b"two"]
    await two.delete("a/b.json")
    assert await one.names("a") == ["c.json"]
    await one.delete("a")
    await one.delete("a")
    assert await two.names("a") == []


async def test_a_file_of_many_chunks_is_read_in_chunks(make_storage: Callable[[], Storage]) -> None:
    storage = make_storage()
    parts = [bytes([number]) * 3_000_000 for number in range(5)]

    size = await storage.write_chunks("team/large", chunks(*parts))

    assert size == 15_000_000
    assert await content(storage, "team/large") == b"".join(parts)
    assert await storage.size_of_all("team") == size
    assert await storage.size_of_all("nobody") == 0
    assert await content(storage, "team/none") == b""


@pytest.mark.parametrize("megabytes", [0, 12])
async def test_of_a_file_that_breaks_off_nothing_is_kept(make_storage: Callable[[], Storage], megabytes: int) -> None:
    storage = make_storage()
    parts = [b"x" * 1_000_000] * megabytes

    with pytest.raises(ConnectionError):
        await storage.write_chunks("team/half", chunks(*parts, fails=ConnectionError("gone")))

    assert await storage.read("team/half") is None
    assert await storage.names("team") == []


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    storage = Storage(str(tmp_path / "file"), {})
    with pytest.raises(StorageFailedError):
        await storage.write("a/b", b"x")


async def test_a_server_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    options: dict[str, Any] = {
        "endpoint_url": "http://127.0.0.1:9",
        "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1},
    }
    with pytest.raises(StorageFailedError) as told:
        await Storage("s3://bucket/folder", options).read("a")
    assert "127.0.0.1" not in told.value.message


def test_an_address_that_nothing_reads_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match=r"batches\.storage"):
        Storage("nothing://bucket", {})


def test_files_of_a_folder_are_their_owners_alone(tmp_path: Path) -> None:
    import asyncio

    asyncio.run(Storage(str(tmp_path / "kept"), {}).write("team/file", b"x"))
    assert (tmp_path / "kept/team/file").stat().st_mode & 0o077 == 0
