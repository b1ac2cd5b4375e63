"""Stored conversations by owner: their metadata, and their items in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from pydantic_core import from_json

from serving.api.openai.responses.input import StoredItem
from serving.errors import ConflictError, ConversationNotFoundError, InvalidValueError, ItemTooLargeError
from serving.store.base import Store

_ID = re.compile(r"conv_[A-Za-z0-9]{1,128}")
_MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """One conversation; `created_at` is in seconds since the epoch."""

    id: str
    created_at: int
    metadata: dict[str, str] = field(default_factory=dict)
    items: Sequence[StoredItem] = ()

    def to_bytes(self) -> bytes:
        """For a store."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()


Change = Callable[[ConversationRecord], ConversationRecord]


class ConversationArchive:
    """Conversations in a store. What reads raises ConversationNotFoundError, and all raise StoreUnavailableError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, owner: str, conversation_id: str, *, param: str | None = None) -> ConversationRecord:
        """One conversation."""
        stored = await self._stored(owner, conversation_id)
        if stored is None:
            raise not_found(conversation_id, param)
        return ConversationRecord(**from_json(stored))

    async def create(self, owner: str, record: ConversationRecord) -> None:
        """Keep a new conversation; raises InvalidValueError for one too large."""
        await self._replace(owner, record, None)

    async def change(self, owner: str, conversation_id: str, change: Change) -> ConversationRecord:
        """Change a conversation as it is now, whoever else changes it; raises InvalidValueError for one too large."""
        for _ in range(_MOST_TRIES):
            stored = await self._stored(owner, conversation_id)
            if stored is None:
                raise not_found(conversation_id, None)
            changed = change(ConversationRecord(**from_json(stored)))
            if await self._replace(owner, changed, stored):
                return changed
        raise ConflictError("Others change this conversation all the time. Ask again.")

    async def add(self, owner: str, conversation_id: str, items: Sequence[StoredItem]) -> ConversationRecord:
        """Add items at the conversation's end. Raises as change()."""
        return await self.change(owner, conversation_id, lambda now: replace(now, items=[*now.items, *items]))

    async def delete(self, owner: str, conversation_id: str) -> None:
        """Forget a conversation with its items."""
        if not _ID.fullmatch(conversation_id) or not await self._store.delete(_owner(owner), conversation_id):
            raise not_found(conversation_id, None)

    async def _stored(self, owner: str, conversation_id: str) -> bytes | None:
        return await self._store.get(_owner(owner), conversation_id) if _ID.fullmatch(conversation_id) else None

    async def _replace(self, owner: str, record: ConversationRecord, before: bytes | None) -> bool:
        try:
            return await self._store.replace(_owner(owner), record.id, before, record.to_bytes())
        except ItemTooLargeError as error:
            raise InvalidValueError(f"The conversation would be too large to be stored: {error}.") from error


def not_found(conversation_id: str, param: str | None) -> ConversationNotFoundError:
    """The error for every reason there may be."""
    return ConversationNotFoundError(
        f"Conversation with id '{conversation_id[:64]}' not found. It was deleted, or is too old.", param=param
    )


def _owner(owner: str) -> str:
    return f"owner:{owner}"
