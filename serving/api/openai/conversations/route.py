"""Conversations: /v1/conversations and their items, which responses continue and add to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving.api.context import ApiContext
from serving.api.openai.conversations.wire import (
    Conversation,
    DeletedConversation,
    parse_change,
    parse_conversation,
    parse_items,
)
from serving.api.openai.responses.conversation_archive import ConversationArchive, ConversationRecord
from serving.api.openai.responses.input import StoredItem, stored_item
from serving.api.openai.responses.items import InputItem, ItemReference
from serving.api.openai.responses.query import Page, owner_of
from serving.api.routing import PathRule, Router
from serving.api.wire.body import read
from serving.errors import ConversationNotFoundError, InvalidValueError
from serving.store.base import Store

PATH = "/v1/conversations"
ONE_PATH = PATH + "/{conversation_id}"
ITEMS_PATH = ONE_PATH + "/items"
ITEM_PATH = ITEMS_PATH + "/{item_id}"


def conversations_router(context: ApiContext, store: Store) -> Router:
    """The routes."""
    router = Router(PathRule(PATH, label="responses"), tags=["responses"])
    archive = ConversationArchive(store)

    @router.post(PATH, summary="Begin a conversation")
    async def create(request: Request) -> Response:
        asked = await read(request, context.http, parse_conversation)
        items = _stored(asked.items or [], context.new_id())
        record = ConversationRecord(f"conv_{context.new_id()}", int(context.clock()), asked.metadata or {}, items)
        await archive.create(owner_of(request), record)
        return JSONResponse(_shown(record))

    @router.get(ONE_PATH, summary="A conversation")
    async def retrieve(request: Request, conversation_id: str) -> Response:
        return JSONResponse(_shown(await archive.get(owner_of(request), conversation_id)))

    @router.post(ONE_PATH, summary="Change a conversation's metadata")
    async def update(request: Request, conversation_id: str) -> Response:
        metadata = (await read(request, context.http, parse_change)).metadata or {}
        changed = await archive.change(
            owner_of(request), conversation_id, lambda record: replace(record, metadata=metadata)
        )
        return JSONResponse(_shown(changed))

    @router.delete(ONE_PATH, summary="Forget a conversation with its items")
    async def delete(request: Request, conversation_id: str) -> DeletedConversation:
        await archive.delete(owner_of(request), conversation_id)
        return DeletedConversation(id=conversation_id, object="conversation.deleted", deleted=True)

    @router.post(ITEMS_PATH, summary="Add items to a conversation")
    async def add_items(request: Request, conversation_id: str) -> Response:
        items = _stored((await read(request, context.http, parse_items)).items, context.new_id())
        await archive.add(owner_of(request), conversation_id, items)
        return JSONResponse(Page(len(items), "asc", None).of_items(items))

    @router.get(ITEMS_PATH, summary="The items of a conversation")
    async def list_items(request: Request, conversation_id: str) -> Response:
        page = Page.of(request.query_params)
        record = await archive.get(owner_of(request), conversation_id)
        return JSONResponse(page.of_items(list(record.items)))

    @router.get(ITEM_PATH, summary="An item of a conversation")
    async def retrieve_item(request: Request, conversation_id: str, item_id: str) -> Response:
        record = await archive.get(owner_of(request), conversation_id)
        found = next((item for item in record.items if item["id"] == item_id), None)
        if found is None:
            raise _no_item(item_id)
        return JSONResponse(found)

    @router.delete(ITEM_PATH, summary="Remove an item from a conversation")
    async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
        def without(record: ConversationRecord) -> ConversationRecord:
            left = [item for item in record.items if item["id"] != item_id]
            if len(left) == len(record.items):
                raise _no_item(item_id)
            return replace(record, items=left)

        return JSONResponse(_shown(await archive.change(owner_of(request), conversation_id, without)))

    return router


def _stored(items: Sequence[InputItem], token: str) -> list[StoredItem]:
    stored = []
    for number, item in enumerate(items):
        if isinstance(item, ItemReference):
            raise InvalidValueError("A conversation holds items themselves: send the item.", param=f"items[{number}]")
        stored.append(stored_item(item, token, number))
    return stored


def _no_item(item_id: str) -> ConversationNotFoundError:
    return ConversationNotFoundError(f"Item with id '{item_id[:64]}' not found in this conversation.")


def _shown(record: ConversationRecord) -> Conversation:
    return Conversation(id=record.id, object="conversation", created_at=record.created_at, metadata=record.metadata)
