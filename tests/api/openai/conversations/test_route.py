"""Conversations, asked for with the real client, and responses that continue them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import SecretStr

from serving.harmony.vocabulary import decode
from serving.settings.redis import RedisSettings
from serving.settings.storage import ResponsesSettings
from serving.settings.tree import Settings
from serving.store.base import Store, StoreLimits
from serving.store.from_settings import redis_store
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

LIMITS = StoreLimits(ttl_s=60, max_bytes=10**7, max_item_bytes=10**6)
HELLO: Any = {"type": "message", "role": "user", "content": "My name is Ann."}


@pytest.fixture(params=["memory", "redis"])
async def served(request: pytest.FixtureRequest, serve: Serve) -> AsyncIterator[Served]:
    store: Store = MemoryStore(LIMITS)
    if request.param == "redis":
        url: SecretStr = request.getfixturevalue("redis_url")
        settings = Settings(redis=RedisSettings(url=url), responses=ResponsesSettings(backend="redis"))
        store = redis_store(settings, "responses")
    async with serve(store=store) as running:
        yield running
    await store.close()


async def test_a_conversation_is_made_read_changed_and_deleted(served: Served) -> None:
    conversations = served.openai.conversations
    made = await conversations.create(items=[HELLO], metadata={"topic": "names"})
    assert (made.object, made.metadata, made.id[:5]) == ("conversation", {"topic": "names"}, "conv_")
    assert (await conversations.retrieve(made.id)).to_dict() == made.to_dict()
    assert (await conversations.update(made.id, metadata={"a": "b"})).metadata == {"a": "b"}
    gone = await conversations.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
    for ask in (conversations.retrieve, conversations.delete, conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            await ask(made.id)
    with pytest.raises(openai.NotFoundError):
        await served.openai.responses.create(model="demo", input="Hello!", conversation=made.id)


async def test_items_are_added_listed_read_and_removed(served: Served) -> None:
    items, made = served.openai.conversations.items, await served.openai.conversations.create()
    added = await items.create(made.id, items=[HELLO, {"role": "assistant", "content": "Hello, Ann!"}])
    first, second = added.data
    assert first.id is not None
    assert [item.id async for item in items.list(made.id, limit=1)] == [second.id, first.id]
    found = await items.retrieve(first.id, conversation_id=made.id)
    assert found.to_dict() == first.to_dict()
    await items.delete(first.id, conversation_id=made.id)
    assert [item.id async for item in items.list(made.id)] == [second.id]
    with pytest.raises(openai.NotFoundError):
        await items.retrieve(first.id, conversation_id=made.id)


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_continue_a_conversation_and_add_to_it(served: Served, stream: bool) -> None:
    made = await served.openai.conversations.create(items=[HELLO])
    for question in ("Hello!", "Who am I?"):
        reply: Any = await served.openai.responses.create(
            model="demo", input=question, conversation=made.id, stream=stream, store=False
        )
        if stream:
            reply = [event async for event in reply][-1].response
        assert reply.conversation.id == made.id
    prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert [prompt.count(text) for text in ("My name is Ann.", "Hello there!", "Who am I?")] == [1, 1, 1]
    listed = [item async for item in served.openai.conversations.items.list(made.id, order="asc")]
    assert [item.type for item in listed] == ["message", *["message", "reasoning", "message"] * 2]


async def test_nothing_that_is_added_at_the_same_time_is_lost(served: Served) -> None:
    made = await served.openai.conversations.create()
    add = served.openai.conversations.items.create
    messages: list[Any] = [{**HELLO, "content": f"Number {number}"} for number in range(8)]
    await asyncio.gather(*(add(made.id, items=[message]) for message in messages))
    listed = [item async for item in served.openai.conversations.items.list(made.id)]
    assert len({item.id for item in listed}) == 8


async def test_encrypted_thoughts_in_a_conversation_are_read_by_their_model(served: Served) -> None:
    said = await served.openai.responses.create(
        model="demo", input="Hello!", store=False, include=["reasoning.encrypted_content"]
    )
    thought: Any = {**said.output[0].to_dict(), "content": []}
    call: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output: Any = {"type": "function_call_output", "call_id": "c", "output": "done"}
    made = await served.openai.conversations.create(items=[HELLO, thought, call, output])
    await served.openai.responses.create(model="demo", conversation=made.id)
    assert "Somebody greets me." in decode(served.engine.requests[-1].prompt_token_ids)


async def test_a_conversation_and_a_previous_response_exclude_each_other(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await served.openai.responses.create(
            model="demo", input="q", conversation="conv_1", previous_response_id="resp_1"
        )
    assert caught.value.param == "conversation"
