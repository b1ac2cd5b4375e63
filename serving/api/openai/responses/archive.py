"""Stored responses: the record of one, and the archive of all by owner, one at a time or with all they continue."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from serving.api.openai.responses.input import StoredItem
from serving.api.openai.responses.output import Cuts, response_of_item
from serving.api.openai.responses.response import ResponseFailure, ResponseObject
from serving.errors import InvalidValueError, ItemTooLargeError, ResponseNotFoundError, StoreUnavailableError
from serving.store.base import Store

logger = logging.getLogger(__name__)

MOST_ANCESTORS = 1000
_ID = re.compile(r"resp_[A-Za-z0-9]{1,128}")
_CANCELLATIONS = "cancellations"
# From here on parsing or writing JSON goes to a thread, so that others get their turns between.
_LARGE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """`input` are the request's own items. `ancestors` are the ids of all responses it continues, oldest first.

    `cuts` says how each output item's text was streamed. A response in progress is lost when it is still that at
    `deadline`, in seconds since the epoch: the server that worked on it is gone.
    """

    response: ResponseObject
    input: Sequence[StoredItem]
    ancestors: Sequence[str] = ()
    cuts: Sequence[Cuts] = ()
    deadline: float = 0.0

    @property
    def id(self) -> str:
        """The response's."""
        return self.response["id"]

    @property
    def in_progress(self) -> bool:
        """Whether some server works on it, or will."""
        return self.response["status"] in ("queued", "in_progress")

    @property
    def items(self) -> list[StoredItem]:
        """What it adds to the conversation."""
        return [*self.input, *(dict(item) for item in self.response["output"])]

    def to_bytes(self) -> bytes:
        """For a store."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, stored: bytes, *, now: float) -> ResponseRecord:
        """What to_bytes() made, as of `now`."""
        record = cls(**from_json(stored))
        if record.in_progress and now > record.deadline:
            return dataclasses.replace(record, response=_lost(record.response))
        return record


def _lost(response: ResponseObject) -> ResponseObject:
    lost = response.copy()
    lost["status"] = "failed"
    lost["error"] = ResponseFailure(code="server_error", message="The server that worked on this response was lost.")
    return lost


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a request continues: all items so far, and the ids of the responses they are from, oldest first."""

    items: Sequence[StoredItem] = ()
    ids: Sequence[str] = ()


class ResponseArchive:
    """Responses in a store. `clock` gives seconds since the epoch.

    Everything that reads raises ResponseNotFoundError for what is not there, for whatever reason, and
    StoreUnavailableError.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def get(self, owner: str, response_id: str, *, param: str | None = None) -> ResponseRecord:
        """One response."""
        if _ID.fullmatch(response_id):
            stored = await self._store.get(_owner(owner), response_id)
            if stored is not None:
                return await self._read(stored)
        raise not_found(response_id, param)

    async def earlier(self, owner: str, response_id: str) -> Earlier:
        """The conversation up to the end of a response, in two reads however long it is.

        Raises InvalidValueError while the response is in progress, and where it continues too many others.
        """
        param = "previous_response_id"
        last = await self.get(owner, response_id, param=param)
        if last.in_progress:
            raise InvalidValueError(
                f"Response '{response_id}' is still in progress; wait for its end, or cancel it.", param=param
            )
        if len(last.ancestors) >= MOST_ANCESTORS:
            raise InvalidValueError(
                f"Response '{response_id}' continues {MOST_ANCESTORS} others, the most there may be. "
                "Send the conversation as input items instead.",
                param=param,
            )
        records = [*await self._all(owner, last.ancestors, param), last]
        return Earlier([item for record in records for item in record.items], [record.id for record in records])

    async def _all(self, owner: str, ids: Sequence[str], param: str) -> list[ResponseRecord]:
        records = []
        for name, stored in zip(ids, await self._store.get_many(_owner(owner), ids), strict=True):
            if stored is None:
                raise not_found(name, param)
            records.append(await self._read(stored))
        return records

    async def referenced(self, owner: str, item_ids: Iterable[str]) -> dict[str, StoredItem]:
        """The items of those ids that stored responses of `owner` have; in one read."""
        wanted = set(item_ids)
        responses = sorted({name for item in wanted if (name := response_of_item(item)) is not None})
        found: dict[str, StoredItem] = {}
        for stored in await self._store.get_many(_owner(owner), responses):
            if stored is not None:
                record = await self._read(stored)
                found.update({item["id"]: item for item in record.items if item["id"] in wanted})
        return found

    async def put(self, owner: str, record: ResponseRecord) -> bool:
        """Keep `record` in place of what was there; False, with a line in the log, where that cannot be done."""
        try:
            try:
                await self.save(owner, record)
            except ItemTooLargeError as error:
                logger.warning("response %s is not stored: %s", record.id, error)
                await self._store.delete(_owner(owner), record.id)
                return False
        except StoreUnavailableError as error:
            logger.warning("response %s is not stored: %s", record.id, error)
            return False
        return True

    async def save(self, owner: str, record: ResponseRecord) -> None:
        """Keep `record` in place of what was there. Raises StoreUnavailableError and ItemTooLargeError."""
        await self._store.put(_owner(owner), record.id, record.to_bytes())

    async def delete(self, owner: str, response_id: str) -> None:
        """Forget a response. What continues it cannot be continued any more."""
        if not _ID.fullmatch(response_id) or not await self._store.delete(_owner(owner), response_id):
            raise not_found(response_id, None)

    async def ask_to_cancel(self, response_id: str) -> None:
        """Leave word for whichever server works on the response."""
        await self._store.put(_CANCELLATIONS, response_id, b"1")

    async def asked_to_cancel(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that somebody wants cancelled."""
        names = list(ids)
        words = await self._store.get_many(_CANCELLATIONS, names)
        return [name for name, word in zip(names, words, strict=True) if word is not None]

    async def _read(self, stored: bytes) -> ResponseRecord:
        if len(stored) < _LARGE_BYTES:
            return ResponseRecord.from_bytes(stored, now=self._clock())
        return await asyncio.to_thread(ResponseRecord.from_bytes, stored, now=self._clock())


def not_found(response_id: str, param: str | None) -> ResponseNotFoundError:
    """The error for every reason there may be: it must not tell another owner's responses from none."""
    return ResponseNotFoundError(
        f"Response with id '{response_id[:64]}' not found. It was not stored, was deleted, or is too old.", param=param
    )


def _owner(owner: str) -> str:
    # So that no owner's name is that of the cancellations.
    return f"owner:{owner}"
