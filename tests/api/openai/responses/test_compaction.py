"""POST /v1/responses/input_tokens and /v1/responses/compact, asked for with the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import CompactedResponse

from serving.engine.scripted import ScriptLine
from serving.harmony.vocabulary import decode
from serving.settings.models import ModelSettings

if TYPE_CHECKING:
    from tests.http_server import Serve, Served

TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": False}
SUMMARY = "The user wants the weather. Zürich: sunny."
SUMMARIZES = ScriptLine(
    completion="<|channel|>analysis<|message|>Sum up.<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{SUMMARY}<|return|>"
)
TALK: Any = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "How is the weather?"},
    {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"city": "Zürich"}'},
    {"type": "function_call_output", "call_id": "c", "output": "21 degrees"},
    {"role": "assistant", "content": "Sunny."},
    {"role": "user", "content": "And tomorrow?"},
]


async def compacted_items(served: Served, talk: Any) -> list[dict[str, Any]]:
    """The items as JSON: the client's types know no output message of the user, as OpenAI's API gives too."""
    reply = await served.http.post("/v1/responses/compact", json={"model": "demo", "input": talk})
    items: list[dict[str, Any]] = reply.json()["output"]
    return items


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hello!"},
        {"input": TALK, "tools": [TOOL], "instructions": "Be kind."},
        {"input": "Hello!", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
        {"input": "Hello!", "reasoning": {"effort": "high"}},
    ],
)
async def test_as_many_tokens_are_counted_as_the_prompt_has(served: Served, fields: dict[str, Any]) -> None:
    counted = await served.openai.responses.input_tokens.count(model="demo", **fields)
    response = await served.openai.responses.create(model="demo", **fields)
    assert response.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", response.usage.input_tokens)


async def test_tokens_of_a_continuation_are_counted_and_the_engine_is_not_asked(served: Served) -> None:
    first = await served.openai.responses.create(model="demo", input="Hello!")
    asked = len(served.engine.requests)
    alone = await served.openai.responses.input_tokens.count(model="demo", previous_response_id=first.id)
    more = await served.openai.responses.input_tokens.count(
        model="demo", previous_response_id=first.id, input="How are you?"
    )
    assert len(served.engine.requests) == asked
    second = await served.openai.responses.create(model="demo", previous_response_id=first.id, input="How are you?")
    assert second.usage is not None
    assert alone.input_tokens < more.input_tokens == second.usage.input_tokens


async def test_the_model_may_be_left_out_where_there_is_one(served: Served) -> None:
    assert (await served.openai.responses.input_tokens.count(input="Hello!")).input_tokens > 0


async def test_a_conversation_becomes_its_user_messages_and_a_summary_of_all(served: Served) -> None:
    served.engine.in_turn = [SUMMARIZES]
    compacted = await served.openai.responses.compact(model="demo", input=TALK, instructions="Be kind.")
    assert isinstance(compacted, CompactedResponse)
    assert compacted.object == "response.compaction"
    served.engine.in_turn = [SUMMARIZES]
    shown = await compacted_items(served, TALK)
    assert [item.get("role") or item["type"] for item in shown] == ["developer", "user", "user", "compaction"]
    assert SUMMARY not in str(shown)
    assert compacted.usage.output_tokens > 0
    # The model was asked with all of the conversation, and was shown no tools
    prompt = decode(served.engine.requests[0].prompt_token_ids)
    assert all(text in prompt for text in ("Be kind.", "Be brief.", "21 degrees", "And tomorrow?", "Write a summary"))


async def test_the_summary_stands_for_the_conversation_and_can_be_compacted_and_stored_again(served: Served) -> None:
    served.engine.in_turn = [SUMMARIZES, SUMMARIZES]
    items: Any = [*await compacted_items(served, TALK), {"role": "user", "content": "Go on."}]
    again = await served.openai.responses.compact(model="demo", input=items)
    assert SUMMARY in decode(served.engine.requests[1].prompt_token_ids)
    assert [item.type for item in again.output].count("compaction") == 1
    served.engine.in_turn = [ScriptLine(completion="<|channel|>final<|message|>Done.<|return|>")]
    stored = await served.openai.responses.create(model="demo", input=items)
    await served.openai.responses.create(model="demo", input="And?", previous_response_id=stored.id)
    last = decode(served.engine.requests[-1].prompt_token_ids)
    assert (last.count(SUMMARY), last.count("21 degrees"), last.count("Go on.")) == (1, 0, 1)


async def test_a_conversation_that_does_not_fit_is_compacted_all_the_same(serve: Serve) -> None:
    async with serve(SUMMARIZES, max_model_len=2000) as served:
        long: Any = [{"role": "user", "content": f"Question {number}. " + "word " * 200} for number in range(20)]
        compacted = await served.openai.responses.compact(model="demo", input=long)
        assert compacted.output[-1].type == "compaction"
        assert "Question 19." in decode(served.engine.requests[0].prompt_token_ids)


async def test_a_summary_of_another_model_is_refused(serve: Serve) -> None:
    models = {"demo": ModelSettings(), "other": ModelSettings(source="demo")}
    async with serve(SUMMARIZES, models=models) as served:
        items: Any = await compacted_items(served, TALK)
        with pytest.raises(openai.BadRequestError) as caught:
            await served.openai.responses.create(model="other", input=items)
        assert (caught.value.param, caught.value.code) == ("input[3].encrypted_content", "invalid_encrypted_content")
        # A sealed thought is no sealed summary.
        thought = await served.openai.responses.create(
            model="demo", input="Hello!", include=["reasoning.encrypted_content"]
        )
        sealed: Any = thought.output[0].to_dict()["encrypted_content"]
        with pytest.raises(openai.BadRequestError, match="another use"):
            await served.openai.responses.create(
                model="demo", input=[{"type": "compaction", "encrypted_content": sealed}]
            )
