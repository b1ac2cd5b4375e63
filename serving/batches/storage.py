"""Storage of files by path, in a local folder or in whatever fsspec reaches, such as S3."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from serving.errors import SettingsError, StorageFailedError

_T = TypeVar("_T")

CHUNK_BYTES = 128 * 1024
_DRAFT = ".draft-"


class Storage:
    """Files below one folder, each written whole: a reader never sees half of one.

    Paths are relative, with slashes. Calls of fsspec block, so each runs in a thread. Every method raises
    StorageFailedError where the storage cannot be reached or written.
    """

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        """Open `address`, a folder or an address of fsspec; raises SettingsError. Nothing is connected to yet."""
        try:
            # Other processes change what a listing says.
            self._files, root = fsspec.core.url_to_fs(
                address, use_listings_cache=False, skip_instance_cache=True, **options
            )
        except (ImportError, ValueError, TypeError) as error:
            extra = ": pip install 'gpt-oss-serving[s3]'" if address.startswith(("s3:", "s3a:")) else ""
            raise SettingsError([("batches.storage", f"{address} cannot be opened: {error}{extra}")]) from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    async def read(self, path: str) -> bytes | None:
        """Content of a file; None where there is none."""
        return await self._run(lambda: self._read(path))

    async def read_all(self, paths: Iterable[str]) -> list[bytes]:
        """Contents of the files that are there, in order."""
        paths = list(paths)
        contents = await self._run(lambda: [self._read(path) for path in paths])
        return [content for content in contents if content is not None]

    async def write(self, path: str, content: bytes) -> None:
        """Write a file in place of what was there."""
        await self._run(lambda: self._write_with(path, lambda file: file.write(content)))

    async def write_chunks(self, path: str, chunks: AsyncGenerator[bytes, None]) -> int:
        """Write a file from `chunks`; returns its size in bytes. Where a chunk raises, there is no file."""
        drafted = f"{path}{_DRAFT}{uuid.uuid4().hex}" if self._local else path
        file = await self._run(lambda: self._open(drafted))
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                await self._run(lambda chunk=chunk: file.write(chunk))  # type: ignore[misc]  # mypy infers no default
            await self._run(file.close)
        except BaseException:
            await asyncio.shield(self._run(lambda: self._abandon(file, drafted)))
            raise
        if drafted != path:
            await self._run(lambda: os.replace(self._at(drafted), self._at(path)))
        return size

    async def chunks(self, path: str) -> AsyncGenerator[bytes]:
        """Content of a file in chunks; nothing where there is none."""
        try:
            file = await self._run(lambda: self._files.open(self._at(path), "rb", block_size=32 * CHUNK_BYTES))
        except StorageFailedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            raise
        try:
            while chunk := await self._run(lambda: file.read(CHUNK_BYTES)):
                yield chunk
        finally:
            with contextlib.suppress(OSError):
                file.close()

    async def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return bool(await self._run(lambda: self._files.exists(self._at(path))))

    async def names(self, folder: str) -> list[str]:
        """Names of files and folders in a folder, sorted; none where there is no such folder."""

        def listed() -> list[str]:
            try:
                found = self._files.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
            names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found}
            return sorted(name for name in names if _DRAFT not in name)

        return await self._run(listed)

    async def size_of_all(self, folder: str) -> int:
        """Bytes of all files below a folder."""

        def summed() -> int:
            try:
                found = self._files.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return 0
            return sum(int(each.get("size") or 0) for each in found.values())

        return await self._run(summed)

    async def delete(self, path: str) -> None:
        """Delete a file, or a folder with all in it; do nothing where there is none."""

        def deleted() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(self._at(path), recursive=True)

        await self._run(deleted)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _read(self, path: str) -> bytes | None:
        try:
            content: bytes = self._files.cat_file(self._at(path))
        except FileNotFoundError:
            return None
        return content

    def _open(self, path: str) -> IO[bytes]:
        if not self._local:
            file: IO[bytes] = self._files.open(self._at(path), "wb")
            return file
        os.makedirs(os.path.dirname(self._at(path)), mode=0o700, exist_ok=True)
        return os.fdopen(os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _write_with(self, path: str, fill: Callable[[IO[bytes]], object]) -> None:
        if not self._local:
            with self._files.open(self._at(path), "wb") as file:
                fill(file)
            return
        draft = f"{path}{_DRAFT}{uuid.uuid4().hex}"
        with self._open(draft) as file:
            fill(file)
        os.replace(self._at(draft), self._at(path))

    def _abandon(self, file: IO[bytes], path: str) -> None:
        if self._local:
            file.close()
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._at(path))
        elif hasattr(file, "discard"):
            # An upload in parts that is never completed is no object.
            file.discard()
            file.closed = True  # type: ignore[misc]  # fsspec's has it as an attribute; its close() would upload

    async def _run(self, work: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            with _reaching():
                return work()

        return await asyncio.to_thread(guarded)


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Each implementation of fsspec has errors of its own, such as botocore's.
        raise StorageFailedError(
            "The storage of files and batches cannot be used now. Try again.", retry_after_s=5
        ) from error
