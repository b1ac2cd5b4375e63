"""Files of teams: what they upload for batches, and the results of batches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal

import msgspec

from serving.batches.storage import Storage
from serving.errors import BodyTooLargeError, InvalidRequestError, ItemNotFoundError
from serving.settings.batches import BatchSettings

Purpose = Literal["batch", "batch_output"]

_FOLDER = "files"
_DAY_S = 24 * 3600


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is kept. Times are in seconds since the epoch, sizes in bytes."""

    id: str
    filename: str
    purpose: Purpose
    created_at: int
    bytes: int
    expires_at: int


class Files:
    """Files of all teams in `storage`. A team sees its own alone.

    A file is its content, and beside it a record, which is written last: a file without a record is none. `clock`
    gives seconds since the epoch, `new_id` letters and digits that never come twice.
    """

    def __init__(
        self, storage: Storage, settings: BatchSettings, clock: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._new_id = new_id

    async def add(
        self,
        team: str,
        content: AsyncGenerator[bytes, None],
        *,
        filename: str,
        purpose: Purpose,
        keep_s: int | None = None,
    ) -> FileRecord:
        """Keep `content`, for `keep_s` seconds where that is less than the settings' days.

        Raises InvalidRequestError where the team has no room left, BodyTooLargeError for an upload above the limit,
        and StorageFailedError.
        """
        file_id = f"file-{self._new_id()}"
        room = self._settings.max_team_bytes - await self._storage.size_of_all(f"{_FOLDER}/{team}")
        # Results are written in any case: they are paid for, and the next upload is refused instead.
        bounded = self._bounded(content, room) if purpose == "batch" else content
        size = await self._storage.write_chunks(_content_of(team, file_id), bounded)
        now = int(self._clock())
        record = FileRecord(
            id=file_id,
            filename=filename[:255],
            purpose=purpose,
            created_at=now,
            bytes=size,
            expires_at=now + min(keep_s or self.longest_keep_s, self.longest_keep_s),
        )
        await self._storage.write(_record_of(team, file_id), msgspec.json.encode(record))
        return record

    @property
    def longest_keep_s(self) -> int:
        """Seconds for which a file is kept at most."""
        return int(self._settings.keep_days * _DAY_S)

    async def get(self, team: str, file_id: str) -> FileRecord:
        """Record of a file; raises ItemNotFoundError."""
        known = is_id(file_id, "file-")
        found = await self._storage.read(_record_of(team, file_id)) if known else None
        record = None if found is None else msgspec.json.decode(found, type=FileRecord)
        if record is None or record.expires_at <= self._clock():
            raise ItemNotFoundError(f"No such File object: {file_id[:64]}", param="id")
        return record

    async def all_of(self, team: str) -> list[FileRecord]:
        """Records of a team's files, the newest first."""
        names = await self._storage.names(f"{_FOLDER}/{team}")
        found = await self._storage.read_all(f"{_FOLDER}/{team}/{name}" for name in names if name.endswith(".json"))
        records = [msgspec.json.decode(each, type=FileRecord) for each in found]
        now = self._clock()
        return sorted(
            (record for record in records if record.expires_at > now),
            key=lambda record: (record.created_at, record.id),
            reverse=True,
        )

    def content(self, team: str, file_id: str) -> AsyncGenerator[bytes]:
        """Content of a file that get() has found, in chunks."""
        return self._storage.chunks(_content_of(team, file_id))

    async def delete(self, team: str, file_id: str) -> None:
        """Delete a file; raises ItemNotFoundError."""
        await self.get(team, file_id)
        await self._remove(team, file_id)

    async def delete_expired(self) -> int:
        """Delete the files of all teams whose time is over; returns their number."""
        count = 0
        now = self._clock()
        for team in await self._storage.names(_FOLDER):
            for name in await self._storage.names(f"{_FOLDER}/{team}"):
                file_id, kind = name.rsplit(".", 1)
                found = await self._storage.read(_record_of(team, file_id)) if kind == "json" else None
                if found is not None and msgspec.json.decode(found, type=FileRecord).expires_at <= now:
                    await self._remove(team, file_id)
                    count += 1
        return count

    async def _remove(self, team: str, file_id: str) -> None:
        await self._storage.delete(_record_of(team, file_id))
        await self._storage.delete(_content_of(team, file_id))

    async def _bounded(self, content: AsyncGenerator[bytes, None], room: int) -> AsyncGenerator[bytes]:
        size = 0
        async for chunk in content:
            size += len(chunk)
            if size > self._settings.max_file_bytes:
                raise BodyTooLargeError(
                    f"The file is larger than {self._settings.max_file_bytes} bytes, the most this server keeps in "
                    "one. Split it."
                )
            if size > room:
                raise InvalidRequestError(
                    f"Your team's files would be larger than {self._settings.max_team_bytes} bytes together. Delete "
                    "some first.",
                    code="storage_quota_exceeded",
                    param="file",
                )
            yield chunk


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` may be an id with that prefix: it becomes part of a path."""
    rest = text.removeprefix(prefix)
    return text.startswith(prefix) and 0 < len(rest) <= 64 and rest.isascii() and rest.isalnum()


def _record_of(team: str, file_id: str) -> str:
    return f"{_FOLDER}/{team}/{file_id}.json"


def _content_of(team: str, file_id: str) -> str:
    return f"{_FOLDER}/{team}/{file_id}.data"
