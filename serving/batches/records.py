"""Batches of teams as they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from serving.batches.files import is_id
from serving.batches.storage import Storage
from serving.errors import ItemNotFoundError

Endpoint = Literal["/v1/chat/completions", "/v1/responses", "/v1/completions"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
FINISHED: frozenset[Status] = frozenset(("failed", "completed", "expired", "cancelled"))

_FOLDER = "batches"
_OPEN_FOLDER = "unfinished"
_CANCELLED_FOLDER = "cancelled"


class LineError(msgspec.Struct, frozen=True, kw_only=True):
    """Mistake in the input file, in OpenAI's form; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the answers to a batch have."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, other: Spent) -> Spent:
        """Sum of both."""
        return Spent(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as it is kept; the holder of its claim alone writes it. Times are in seconds since the epoch.

    `key_id` is that of the key that made it. `output_keep_s` is how long its results are kept, if the request says so.
    """

    id: str
    team: str
    key_id: str
    endpoint: Endpoint
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    metadata: Mapping[str, str] | None = None
    output_keep_s: int | None = None
    status: Status = "validating"
    errors: tuple[LineError, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    model: str | None = None
    spent: Spent = Spent()

    @property
    def finished(self) -> bool:
        """Whether nothing of the batch changes any more."""
        return self.status in FINISHED


class Batches:
    """Batches of all teams in `storage`. A team sees its own alone.

    Beside the records there is a marker for each unfinished batch, by which workers find it, and one for each that is
    to be cancelled, as the record is another process's to write. `clock` gives seconds since the epoch.
    """

    def __init__(self, storage: Storage, clock: Callable[[], float], keep_s: float) -> None:
        self._storage = storage
        self._clock = clock
        self._keep_s = keep_s

    async def add(self, record: BatchRecord) -> None:
        """Keep a new batch."""
        await self.put(record)
        await self._storage.write(f"{_OPEN_FOLDER}/{_marker(record.team, record.id)}", b"")

    async def put(self, record: BatchRecord) -> None:
        """Keep a batch in place of what it was; a finished one has no markers any more."""
        await self._storage.write(_record_of(record.team, record.id), msgspec.json.encode(record))
        if record.finished:
            for folder in (_OPEN_FOLDER, _CANCELLED_FOLDER):
                await self._storage.delete(f"{folder}/{_marker(record.team, record.id)}")

    async def get(self, team: str, batch_id: str) -> BatchRecord:
        """A batch; raises ItemNotFoundError. One that is to be cancelled is "cancelling"."""
        known = is_id(batch_id, "batch_")
        found = await self._storage.read(_record_of(team, batch_id)) if known else None
        if found is None:
            raise ItemNotFoundError(f"No batch found with id '{batch_id[:64]}'.", param="batch_id")
        record = msgspec.json.decode(found, type=BatchRecord)
        cancelled_at = None if record.finished else await self.cancelled_at(record)
        if cancelled_at is None:
            return record
        return msgspec.structs.replace(record, status="cancelling", cancelling_at=cancelled_at)

    async def all_of(self, team: str) -> list[BatchRecord]:
        """A team's batches, the newest first."""
        names = await self._storage.names(f"{_FOLDER}/{team}")
        found = await self._storage.read_all(f"{_FOLDER}/{team}/{name}" for name in names if name.endswith(".json"))
        records = [msgspec.json.decode(each, type=BatchRecord) for each in found]
        return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)

    async def unfinished(self) -> list[tuple[str, str]]:
        """Team and id of each unfinished batch, the oldest first as far as ids tell."""
        names = await self._storage.names(_OPEN_FOLDER)
        pairs = [name.rsplit("~", 1) for name in names]
        return [(team, batch_id) for team, batch_id in pairs]

    async def cancel(self, record: BatchRecord) -> None:
        """Ask for the end of a batch."""
        moment = str(int(self._clock())).encode()
        await self._storage.write(f"{_CANCELLED_FOLDER}/{_marker(record.team, record.id)}", moment)

    async def cancelled_at(self, record: BatchRecord) -> int | None:
        """Time at which a batch was asked to end; None where it was not."""
        found = await self._storage.read(f"{_CANCELLED_FOLDER}/{_marker(record.team, record.id)}")
        return None if found is None else int(found or b"0")

    async def delete_old(self) -> int:
        """Delete finished batches whose time is over; returns their number."""
        count = 0
        for team in await self._storage.names(_FOLDER):
            for record in await self.all_of(team):
                if record.finished and record.created_at + self._keep_s <= self._clock():
                    await self._storage.delete(_record_of(team, record.id))
                    count += 1
        return count


def _record_of(team: str, batch_id: str) -> str:
    return f"{_FOLDER}/{team}/{batch_id}.json"


def _marker(team: str, batch_id: str) -> str:
    return f"{team}~{batch_id}"  # no team's name has a tilde
