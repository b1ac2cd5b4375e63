"""Encrypted contents of a request's items."""

from __future__ import annotations

from serving.api.openai.responses.input import StoredItem
from serving.api.openai.responses.items import CompactionItem, InputItem, ReasoningItem
from serving.api.openai.responses.request import CompactRequest, ResponsesRequest
from serving.errors import InvalidValueError, SealError
from serving.sealing import Seal, is_ours


def needs_seal(request: ResponsesRequest) -> bool:
    """Whether something of the request is to be decrypted, or of its answer to be encrypted."""
    return (
        isinstance(request, CompactRequest)
        or request.encrypts_reasoning
        or (not isinstance(request.input, str) and any(_sealed(item) is not None for item in request.input))
    )


def unsealed(item: InputItem, seal: Seal | None, number: int) -> str | None:
    """Text of input item `number` if it came encrypted; None for others. Raises InvalidValueError."""
    sealed = _sealed(item)
    if sealed is None or seal is None:
        return None
    if isinstance(item, ReasoningItem) and not is_ours(sealed) and (item.content or item.summary):
        return None  # another service's, and its text came beside it
    try:
        return (seal.compacting if isinstance(item, CompactionItem) else seal).open(sealed)
    except SealError as error:
        name = f" '{item.id[:64]}'" if item.id else ""
        raise InvalidValueError(
            f"The encrypted content of item{name} (input[{number}], of type '{item.type}') cannot be read: {error}. "
            "Send the item without encrypted_content, or leave it out.",
            param=f"input[{number}].encrypted_content",
            code="invalid_encrypted_content",
        ) from error


def _sealed(item: InputItem) -> str | None:
    return item.encrypted_content if isinstance(item, ReasoningItem | CompactionItem) else None


def opened(item: StoredItem, seal: Seal) -> StoredItem:
    """A conversation's item with its text, if it was added encrypted. Raises InvalidValueError."""
    sealed = item.get("encrypted_content")
    place = "summary" if item["type"] == "compaction" else "content"
    if not sealed or any(part["text"] for part in item[place]):
        return item
    try:
        text = (seal.compacting if item["type"] == "compaction" else seal).open(sealed)
    except SealError as error:
        raise InvalidValueError(
            f"The encrypted content of item '{item['id'][:64]}' of the conversation cannot be read: {error}.",
            param="conversation",
            code="invalid_encrypted_content",
        ) from error
    return {**item, place: [{"type": "reasoning_text", "text": text}]}
