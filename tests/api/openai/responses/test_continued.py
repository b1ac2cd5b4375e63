"""Conversations that go on: by previous_response_id, by items sent back, by references, alone or in a tool loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import openai
import pytest

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
OUTPUT: Any = {"type": "function_call_output", "output": "sunny"}
CALL = (
    "<|channel|>analysis<|message|>A tool has this.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{}<|call|>"
)
FINAL = "<|channel|>analysis<|message|>Now I know.<|end|><|start|>assistant<|channel|>final<|message|>Sunny.<|return|>"


class CountingStore(MemoryStore):
    """Counts round trips."""

    trips = 0

    async def get(self, owner: str, key: str) -> bytes | None:
        self.trips += 1
        return await super().get(owner, key)

    async def get_many(self, owner: str, keys: Sequence[str]) -> list[bytes | None]:
        self.trips += 1
        return [await MemoryStore.get(self, owner, key) for key in keys]

    async def put(self, owner: str, key: str, value: bytes) -> None:
        self.trips += 1
        await super().put(owner, key, value)


def prompts(served: Served) -> list[str]:
    """What the model was shown, request by request, from the developer message or the first user message on."""
    return [decode(request.prompt_token_ids) for request in served.engine.requests]


async def test_a_conversation_goes_on_where_a_response_ended(served: Served) -> None:
    client = served.openai.responses
    first = await client.create(model="demo", input="Hello!")
    second = await client.create(model="demo", input="And now?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    history: list[Any] = [{"role": "user", "content": "Hello!"}, *first.output, {"role": "user", "content": "And now?"}]
    await client.create(model="demo", input=history)
    chat: list[Any] = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello there!", "reasoning": "Somebody greets me."},
        {"role": "user", "content": "And now?"},
    ]
    await served.openai.chat.completions.create(model="demo", messages=chat)
    _, by_id, by_items, by_chat = prompts(served)
    assert by_id == by_items == by_chat
    assert "Hello there!" in by_id
    assert "Somebody greets me." not in by_id


async def test_a_stream_is_continued_as_a_whole_answer_is(served: Served) -> None:
    async with served.openai.responses.stream(model="demo", input="Hello!") as stream:
        first = await stream.get_final_response()
    second = await served.openai.responses.create(model="demo", input="And?", previous_response_id=first.id)
    assert second.output_text == "Hello there!"
    assert "Hello there!" in prompts(served)[1]


async def test_instructions_are_not_inherited_and_developer_messages_are(served: Served) -> None:
    client = served.openai.responses
    first = await client.create(
        model="demo",
        instructions="Speak Latin.",
        input=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
    )
    await client.create(model="demo", instructions="Speak Greek.", input="And?", previous_response_id=first.id)
    before, after = prompts(served)
    assert "Speak Latin.\n\nBe brief." in before
    assert "Speak Greek.\n\nBe brief." in after
    assert "Latin" not in after


@pytest.mark.parametrize("way", ["id", "items", "references", "dumped items"])
async def test_a_tool_loop_keeps_the_analysis_until_the_next_question(served: Served, way: str) -> None:
    served.engine.in_turn = [ScriptLine(completion=text) for text in (CALL, CALL, FINAL, FINAL)]
    client = served.openai.responses
    history: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    response = await client.create(model="demo", input=history, tools=[TOOL])
    while calls := [item for item in response.output if item.type == "function_call"]:
        outputs: list[Any] = [{**OUTPUT, "call_id": call.call_id} for call in calls]
        if way == "id":
            response = await client.create(model="demo", input=outputs, tools=[TOOL], previous_response_id=response.id)
            continue
        said: list[Any] = list(response.output)
        if way == "references":
            said = [{"type": "item_reference", "id": item.id} for item in response.output]
        elif way == "dumped items":
            said = [item.model_dump() for item in response.output]
        history += [*said, *outputs]
        response = await client.create(model="demo", input=history, tools=[TOOL])
    assert response.output_text == "Sunny."
    last = prompts(served)[-1]
    assert last.count("A tool has this.") == 2
    assert last.count("sunny") == 2
    assert last.index("A tool has this.") < last.index("to=functions.get_weather") < last.index("sunny")
    await client.create(model="demo", input="Thanks!", previous_response_id=response.id, tools=[TOOL])
    after = prompts(served)[-1]
    assert "A tool has this." not in after
    if way == "id":
        assert after.count("sunny") == 2
        assert "Sunny." in after


async def test_the_tool_loop_by_id_shows_the_model_what_the_loop_by_items_does(serve: Serve) -> None:
    shown = []
    for by_id in (True, False):
        async with serve() as served:
            served.engine.in_turn = [ScriptLine(completion=CALL), ScriptLine(completion=FINAL)]
            client = served.openai.responses
            first = await client.create(model="demo", input="Weather?", tools=[TOOL])
            call: Any = first.output[-1]
            output: Any = {**OUTPUT, "call_id": call.call_id}
            if by_id:
                await client.create(model="demo", input=[output], tools=[TOOL], previous_response_id=first.id)
            else:
                items: Any = [{"role": "user", "content": "Weather?"}, *first.output, output]
                await client.create(model="demo", input=items, tools=[TOOL])
            shown.append(served.engine.requests[-1].prompt_token_ids)
    assert shown[0] == shown[1]


async def test_a_chain_of_a_hundred_costs_two_reads_and_one_write(serve: Serve) -> None:
    store = CountingStore(StoreLimits(ttl_s=60, max_bytes=10**7, max_item_bytes=10**6))
    async with serve(store=store) as served:
        response = await served.openai.responses.create(model="demo", input="question 0")
        for number in range(1, 100):
            response = await served.openai.responses.create(
                model="demo", input=f"question {number}", previous_response_id=response.id
            )
        store.trips = 0
        await served.openai.responses.create(model="demo", input="the last", previous_response_id=response.id)
        assert store.trips == 3
        last = prompts(served)[-1]
        assert all(f"question {number}<" in last for number in range(100))
        assert [last.index(f"question {number}<") for number in range(100)] == sorted(
            last.index(f"question {number}<") for number in range(100)
        )


async def test_a_chain_has_an_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.openai.responses.archive.MOST_ANCESTORS", 2)
    async with serve() as served:
        response = await served.openai.responses.create(model="demo", input="0")
        for _ in range(2):
            response = await served.openai.responses.create(model="demo", input="x", previous_response_id=response.id)
        with pytest.raises(openai.BadRequestError, match="Send the conversation as input items"):
            await served.openai.responses.create(model="demo", input="x", previous_response_id=response.id)


async def test_what_was_not_stored_can_be_sent_back_but_not_continued(served: Served) -> None:
    client = served.openai.responses
    first = await client.create(model="demo", input="Hello!", store=False)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.create(model="demo", input="And?", previous_response_id=first.id)
    assert caught.value.code == "response_not_found"
    assert caught.value.param == "previous_response_id"
    items: Any = [{"role": "user", "content": "Hello!"}, *first.output, {"role": "user", "content": "And?"}]
    assert (await client.create(model="demo", input=items, store=False)).output_text == "Hello there!"


async def test_a_deleted_response_breaks_the_chain_behind_it(served: Served) -> None:
    client = served.openai.responses
    first = await client.create(model="demo", input="Hello!")
    second = await client.create(model="demo", input="And?", previous_response_id=first.id)
    await client.delete(first.id)
    assert (await client.retrieve(second.id)).id == second.id
    with pytest.raises(openai.NotFoundError) as caught:
        await client.create(model="demo", input="And?", previous_response_id=second.id)
    assert first.id in caught.value.message


async def test_an_item_can_be_referred_to_within_the_conversation_that_is_continued(served: Served) -> None:
    client = served.openai.responses
    first = await client.create(model="demo", input=[{"role": "user", "content": "Hello!"}])
    (asked,) = (await client.input_items.list(first.id)).data
    items: Any = [{"id": asked.id}]
    await client.create(model="demo", input=items, previous_response_id=first.id)
    assert prompts(served)[-1].count("<|message|>Hello!<|end|>") == 2


async def test_input_items_are_those_of_the_request_alone(served: Served) -> None:
    client = served.openai.responses
    served.engine.in_turn = [ScriptLine(completion=CALL), ScriptLine(completion=FINAL)]
    first = await client.create(model="demo", input="Weather?", tools=[TOOL])
    call: Any = first.output[-1]
    output: Any = {**OUTPUT, "call_id": call.call_id}
    second = await client.create(model="demo", input=[output], previous_response_id=first.id, tools=[TOOL])
    (item,) = (await client.input_items.list(second.id)).data
    assert item.to_dict() == {
        "id": item.id,
        "type": "function_call_output",
        "status": "completed",
        "call_id": call.call_id,
        "output": "sunny",
    }


async def test_a_conversation_that_grew_too_long_loses_its_oldest_turns_where_that_is_allowed(serve: Serve) -> None:
    async with serve(max_model_len=600) as served:
        client = served.openai.responses
        response = await client.create(model="demo", input="the first question " * 30)
        for number in range(12):
            response = await client.create(
                model="demo",
                input=f"question {number} " * 15,
                previous_response_id=response.id,
                truncation="auto",
                max_output_tokens=100,
            )
        last = prompts(served)[-1]
        assert "question 11" in last
        assert "the first question" not in last
        with pytest.raises(openai.BadRequestError) as caught:
            await client.create(model="demo", input="x", previous_response_id=response.id)
        assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")
