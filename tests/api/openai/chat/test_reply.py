"""One made-up answer, as one reply and as chunks."""

from __future__ import annotations

import json
from typing import Any

from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.api.openai.chat.chunks import ChatChunks
from serving.api.openai.chat.reply import ChunkEncoder, chat_completion
from serving.api.openai.chat.style import reply_style
from serving.generation.types import (
    ChatAnswer,
    ChatChoice,
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.harmony.conversation import FunctionCall
from serving.settings.http import HttpSettings

PLAIN = reply_style(HttpSettings(reasoning_content=False, commentary="field"))
USAGE = Usage(prompt_tokens=7, completion_tokens=9, channels=TokenCounts(analysis=4, final=2), cached_tokens=3)
CALL = FunctionCall("call_1", "get_weather", '{"city": "Zürich"}')
IMPOSSIBLE = LogprobEntry("Hi", float("-inf"), b"Hi", (("Ho", -1.5, b"Ho"),))


def whole(*choices: ChatChoice) -> Any:
    answer = ChatAnswer(list(choices), USAGE)
    reply = chat_completion(answer, PLAIN, completion_id="chatcmpl-1", created=1, model="demo")
    ChatCompletion.model_validate_json(json.dumps(reply))
    return reply


def streamed(*events: ChatEvent, choices: int = 1, include_usage: bool = False) -> list[Any]:
    chunks = ChatChunks("chatcmpl-1", 1, "demo", PLAIN, include_usage=include_usage)
    encode = ChunkEncoder(chunks, choices=choices, include_usage=include_usage)
    frames = b"".join(map(encode, events))
    read = [event.data for event in SSEDecoder().iter_bytes(iter([frames]))]
    for data in read:
        ChatCompletionChunk.model_validate_json(data, strict=True)
    return [json.loads(data) for data in read]


def test_channels_that_were_not_used_are_left_out() -> None:
    reply = whole(
        ChatChoice(0, {"final": "Hi"}), ChatChoice(1, {"analysis": "Hm.", "commentary": "Well.", "final": ""})
    )
    assert [choice["message"] for choice in reply["choices"]] == [
        {"role": "assistant", "content": "Hi", "refusal": None},
        {"role": "assistant", "content": "", "refusal": None, "reasoning": "Hm.", "commentary": "Well."},
    ]


def test_content_is_null_beside_calls_alone() -> None:
    (choice,) = whole(ChatChoice(0, tool_calls=[CALL], finish_reason="tool_calls"))["choices"]
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
    }
    assert choice["finish_reason"] == "tool_calls"


def test_usage_has_the_analysis_and_the_cached_prompt_as_parts() -> None:
    assert whole()["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 9,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


def test_a_token_that_could_not_be_chosen_has_the_lowest_logprob() -> None:
    (choice,) = whole(ChatChoice(0, {"final": "Hi"}, content_logprobs=[IMPOSSIBLE]))["choices"]
    (entry,) = choice["logprobs"]["content"]
    assert entry["logprob"] == -9999.0
    assert entry["bytes"] == [72, 105]
    assert entry["top_logprobs"] == [{"token": "Ho", "logprob": -1.5, "bytes": [72, 111]}]


def test_a_stream_names_each_channel_where_it_opens() -> None:
    chunks = streamed(
        GenerationStarted(),
        TextDelta(0, "analysis", "Hm", opens=True),
        TextDelta(0, "analysis", "."),
        TextDelta(0, "final", "Hi", opens=True),
        ChoiceFinished(0, "stop"),
        GenerationFinished(USAGE),
    )
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning": "Hm"},
        {"reasoning": "."},
        {"content": "Hi"},
        {},
    ]
    assert [chunk["choices"][0].get("channel") for chunk in chunks] == [None, "analysis", None, "final", None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]


def test_every_choice_of_a_stream_begins_with_its_role() -> None:
    chunks = streamed(GenerationStarted(), choices=2)
    assert [(chunk["choices"][0]["index"], chunk["choices"][0]["delta"]["role"]) for chunk in chunks] == [
        (0, "assistant"),
        (1, "assistant"),
    ]


def test_calls_are_streamed_by_their_number() -> None:
    begun, more = streamed(ToolCallDelta(0, 1, "call_1", "get_weather"), ToolArgumentsDelta(0, 1, '{"city"'))
    (call,) = begun["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["id"], call["function"]) == (1, "call_1", {"name": "get_weather", "arguments": ""})
    assert more["choices"][0]["delta"]["tool_calls"] == [{"index": 1, "function": {"arguments": '{"city"'}}]


def test_usage_comes_last_and_where_it_is_asked_for() -> None:
    events = (ChoiceFinished(0, "length", reasoning_truncated=True), GenerationFinished(USAGE))
    end, usage = streamed(*events, include_usage=True)
    assert end["choices"][0]["delta"] == {"reasoning_truncated": True}
    assert end["usage"] is None
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 16
    assert len(streamed(*events)) == 1
