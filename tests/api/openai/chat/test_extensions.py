"""What chat does beyond OpenAI's API, and what it holds answers to."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI

from serving.engine.base import Constraint
from serving.engine.scripted import ScriptLine
from serving.errors import InvalidRequestError
from serving.generation.constraints import for_engine, of_call
from serving.harmony.conversation import FunctionTool
from serving.harmony.vocabulary import decode
from serving.settings.models import ModelSettings
from serving.settings.reasoning import ReasoningSettings

if TYPE_CHECKING:
    import httpx

    from tests.http_server import Serve, Served

HELLO: dict[str, Any] = {"role": "user", "content": "Hello!"}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
OTHER: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}
LONG_THOUGHT = "It is a long way to the answer and this is how it goes."
THINKING = ScriptLine(
    completion=f"<|channel|>analysis<|message|>{LONG_THOUGHT}<|end|>"
    "<|start|>assistant<|channel|>commentary<|message|>One moment.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Hello there!<|return|>"
)
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
JSON_LINE = ScriptLine(
    completion='<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{"age":7}<|return|>'
)


def chunks_of(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    return [json.loads(frame.removeprefix("data: ")) for frame in reply.text.split("\n\n")[:-2]]


def constraints(served: Served) -> list[Constraint]:
    """What the engine was held to, one-token questions aside."""
    return [r.constraint for r in served.engine.requests if r.constraint and "check" not in r.request_id]


async def test_thinking_comes_apart_with_the_prompt_it_was_about(serve: Serve) -> None:
    messages = [{"role": "system", "content": "Be kind."}, HELLO]
    async with serve(THINKING) as served:
        reply = (await served.chat(messages=messages, separate_thinking=True, n=2)).json()
    for choice in reply["choices"]:
        message = choice["message"]
        assert message["thinking"] == {"analysis": LONG_THOUGHT, "commentary": "One moment."}
        assert message["parsed"] == {
            "developer_instructions": "# Instructions\n\nBe kind.",
            "history": [{"role": "user", "channel": None, "content": "Hello!"}],
            "analysis": LONG_THOUGHT,
            "commentary": "One moment.",
            "final": "Hello there!",
        }
    usage = reply["usage"]
    # "One moment." is three tokens.
    assert usage["thinking_tokens"] == usage["completion_tokens_details"]["reasoning_tokens"] + 2 * 3


async def test_a_stream_ends_each_choice_with_its_thinking(serve: Serve) -> None:
    fields: dict[str, Any] = {"separate_thinking": True, "n": 2}
    async with serve(THINKING) as served:
        whole = (await served.chat(**fields)).json()
        chunks = chunks_of(await served.chat(**fields, stream=True, stream_options={"include_usage": True}))
    last = {c["choices"][0]["index"]: c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]}
    for choice in whole["choices"]:
        delta = last[choice["index"]]["choices"][0]["delta"]
        assert delta == {field: choice["message"][field] for field in ("thinking", "parsed")}
    assert chunks[-1]["usage"] == whole["usage"]
    assert sum("thinking" in json.dumps(chunk["choices"]) for chunk in chunks) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_hidden_reasoning_is_nowhere(serve: Serve, stream: bool) -> None:
    history = [HELLO, {"role": "assistant", "reasoning": "Secret plan.", "tool_calls": [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    ]}, {"role": "tool", "tool_call_id": "a", "content": "x"}]  # fmt: skip
    fields: dict[str, Any] = {"messages": history, "separate_thinking": True, "logprobs": True, "stream": stream}
    for hide in ({"include_reasoning": False}, {"reasoning": {"exclude": True}}):
        async with serve(THINKING) as served:
            shown = (await served.chat(**fields)).text
            hidden = (await served.chat(**fields, **hide)).text
            assert "Secret plan." in decode(served.engine.requests[-1].prompt_token_ids)
        assert "long way" in shown
        assert "Secret plan." in shown
        for word in ("long way", '" long"', "Secret", "analysis", '"reasoning"'):
            assert word not in hidden
        assert "One moment." in hidden
        assert "Hello" in hidden


@pytest.mark.parametrize("fields", [{"max_reasoning_tokens": 4}, {"reasoning": {"max_tokens": 4}}])
async def test_a_budget_cuts_the_analysis_and_the_reply_says_so(serve: Serve, fields: dict[str, Any]) -> None:
    async with serve(THINKING) as served:
        reply = (await served.chat(**fields)).json()
        chunks = chunks_of(await served.chat(**fields, stream=True))
        free = (await served.chat(max_reasoning_tokens=400)).json()
    message = reply["choices"][0]["message"]
    assert message["reasoning_truncated"] is True
    assert message["content"] == "Hello there!"
    assert LONG_THOUGHT.startswith(message["reasoning"])
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4
    assert chunks[-1]["choices"][0]["delta"] == {"reasoning_truncated": True}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert "reasoning_truncated" not in free["choices"][0]["message"]


async def test_budgets_have_defaults_and_caps(serve: Serve) -> None:
    limits = ReasoningSettings(default_max_reasoning_tokens=3, highest_max_reasoning_tokens=6, highest_effort="medium")
    async with serve(THINKING, models={"demo": ModelSettings(reasoning=limits)}) as served:
        for asked, used in ((None, 3), (5, 5), (50, 6)):
            reply = (await served.chat(max_reasoning_tokens=asked)).json()
            assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == used
        high = await served.chat(reasoning={"effort": "high"}, stream=True)
    assert high.headers["x-reasoning-effort"] == "medium"


async def test_tokens_are_kept_for_the_answer(serve: Serve) -> None:
    async with serve(THINKING) as served:
        reply = (await served.chat(max_tokens=20, min_answer_tokens=8)).json()
        cut = (await served.chat(max_tokens=15)).json()
    assert reply["choices"][0]["message"]["content"] == "Hello there!"
    assert reply["choices"][0]["message"]["reasoning_truncated"] is True
    assert reply["usage"]["completion_tokens"] <= 20
    assert cut["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("asked", "used"), [("minimal", "low"), ("max", "high"), ("banana", "medium"), ({"effort": "low"}, "low")]
)
async def test_the_effort_used_is_in_a_header(served: Served, asked: Any, used: str) -> None:
    field = "reasoning" if isinstance(asked, dict) else "reasoning_effort"
    for stream in (False, True):
        reply = await served.chat(**{field: asked, "stream": stream})
        assert reply.headers["x-reasoning-effort"] == used


@pytest.mark.parametrize("field", ["reasoning_effort", "reasoning.effort"])
async def test_a_refused_effort_names_its_field(serve: Serve, field: str) -> None:
    strict = ModelSettings(reasoning=ReasoningSettings(unsupported_effort="refuse"))
    async with serve(models={"demo": strict}) as served:
        reply = await served.chat(**{"reasoning": {"effort": "max"}} if "." in field else {field: "max"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=["required", "named"]
)
async def test_a_call_can_be_forced(served: Served, choice: Any) -> None:
    tools = [TOOL] if choice == "required" else [TOOL, OTHER]
    reply = (await served.chat(tools=tools, tool_choice=choice)).json()  # the script would say hello
    (call,) = reply["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    assert constraints(served)


async def test_allowed_tools_are_the_ones_shown(served: Served) -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "get_time"}}]}
    await served.chat(tools=[TOOL, OTHER], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert "get_time" in prompt
    assert "get_weather" not in prompt


async def test_a_strict_tools_arguments_are_held_to_its_schema(served: Served) -> None:
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    await served.chat(messages=[{"role": "user", "content": "weather?"}], tools=[strict])
    (constraint,) = constraints(served)
    assert constraint == for_engine(Constraint("json_schema", json.dumps(TOOL["function"]["parameters"])))


async def test_forced_arguments_are_held_to_what_can_be_held_and_the_rest_is_named(served: Served) -> None:
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 9}, "tags": {"type": "array", "uniqueItems": True}},
    }
    function = {"name": "get_weather", "parameters": parameters}
    tool = {"type": "function", "function": function}
    reply = await served.chat(tools=[tool], tool_choice="required")
    assert reply.headers["x-unenforced-schema"] == "get_weather.properties.tags.uniqueItems"
    (constraint,) = constraints(served)
    assert constraint == for_engine(of_call(FunctionTool("get_weather", "", parameters)))
    free = await served.chat(tools=[tool])
    assert "x-unenforced-schema" not in free.headers
    strict = {"type": "function", "function": {**function, "strict": True}}
    refused = await served.chat(tools=[strict], tool_choice="required")
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "unsupported_schema"
    assert error["param"] == "tools[0].function.parameters.properties.tags.uniqueItems"


@pytest.mark.parametrize(("body", "misses"), [('{"age":7}', 0), ('{"age":"7"}', 1), ("7", 1)])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_finished_answer_that_misses_its_schema_is_counted(
    serve: Serve, body: str, misses: int, stream: bool
) -> None:
    # The scripted engine keeps no schema.
    line = ScriptLine(completion=f"<|channel|>final<|message|>{body}<|return|>")
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    async with serve(line) as served:
        reply = await served.chat(response_format=form, stream=stream)
        assert reply.status_code == 200, reply.text
        metrics = (await served.http.get("/metrics")).text
    counted = re.findall(r'serving_schema_misses_total\{[^}]*body="answer"[^}]*\} (.*)', metrics)
    assert sum(map(float, counted)) == misses


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"response_format": {"type": "json_object"}}, Constraint("json_object")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}},
            Constraint("json_schema", json.dumps(SCHEMA)),
        ),
        ({"structured_outputs": {"regex": r"\{.*\}"}}, Constraint("regex", r"\{.*\}")),
        ({"guided_grammar": 'root ::= "x"'}, Constraint("grammar", 'root ::= "x"')),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_alone_is_held_to_its_form(
    serve: Serve, fields: dict[str, Any], constraint: Constraint, stream: bool
) -> None:
    async with serve(JSON_LINE) as served:
        reply = await served.chat(**fields, n=2, stop=["zzz"], tools=[TOOL], stream=stream)
        assert reply.status_code == 200, reply.text
        held = [r for r in served.engine.requests if r.constraint and "check" not in r.request_id]
    assert [request.constraint for request in held] == [for_engine(constraint)] * 2
    for request in held:
        assert decode(request.completion_token_ids).endswith("<|channel|>final<|message|>")


async def test_a_schema_is_shown_to_the_model_too(serve: Serve) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "description": "Of age", "schema": SCHEMA}}
    async with serve(JSON_LINE) as served:
        await served.chat(response_format=form)
        prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert "# Response Formats" in prompt
    assert "person" in prompt


@pytest.mark.parametrize("stream", [False, True])
async def test_what_only_the_engine_can_refuse_is_a_400_that_names_the_field(
    served: Served, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = served.engine.generate

    async def refusing(request: Any) -> Any:
        if request.constraint is not None:
            raise InvalidRequestError("Regex parsing error at position 2: The parenthesis is not closed.")
        async for delta in generate(request):
            yield delta

    monkeypatch.setattr(served.engine, "generate", refusing)
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    for field, fields in (
        ("structured_outputs.regex", {"structured_outputs": {"regex": "("}}),
        ("tools[0].function.parameters", {"tools": [strict]}),
    ):
        reply = await served.chat(**fields, stream=stream)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == field
        assert "parenthesis" in reply.json()["error"]["message"]
    text = await served.http.post(
        "/v1/completions", json={"model": "demo", "prompt": "a", "guided_regex": "(", "stream": stream}
    )
    assert (text.status_code, text.json()["error"]["param"]) == (400, "guided_regex")


async def test_the_oldest_turns_are_left_out_where_that_is_asked_for(serve: Serve) -> None:
    turns = [m for i in range(40) for m in (
        {"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": "answer " * 20}
    )]  # fmt: skip
    messages = [{"role": "system", "content": "Be kind."}, *turns, {"role": "user", "content": "the last"}]
    async with serve(max_model_len=600) as served:
        refused = await served.chat(messages=messages)
        also_refused = await served.chat(messages=messages, truncation="disabled")
        reply = await served.chat(messages=messages, truncation="auto", max_tokens=100, separate_thinking=True)
        prompt = decode(served.engine.requests[-1].prompt_token_ids)
    assert refused.status_code == also_refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert reply.status_code == 200
    assert "Be kind." in prompt
    assert "the last" in prompt
    assert "question 39" in prompt
    assert "question 0\n" not in prompt
    history = reply.json()["choices"][0]["message"]["parsed"]["history"]
    assert history[0]["role"] == "user"
    assert history[0]["content"] != "question 0"
    assert history[-1]["content"] == "the last"


async def test_an_answer_with_everything_in_it_can_be_sent_back(serve: Serve) -> None:
    async with serve(THINKING) as served:
        fields: dict[str, Any] = {"separate_thinking": True, "max_reasoning_tokens": 4, "stream": False}
        message = (await served.chat(**fields)).json()["choices"][0]["message"]
        assert {"thinking", "parsed", "reasoning_truncated"} <= set(message)
        assert (await served.chat(messages=[HELLO, message, HELLO])).status_code == 200
        helped = await _streamed(served.openai)
        assert (await served.chat(messages=[HELLO, helped, HELLO])).status_code == 200


async def _streamed(client: AsyncOpenAI) -> dict[str, Any]:
    """A message that the client's stream helper puts together."""
    extra = {"separate_thinking": True, "max_reasoning_tokens": 4}
    messages: Any = [HELLO]
    async with client.chat.completions.stream(model="demo", messages=messages, extra_body=extra) as events:
        message = (await events.get_final_completion()).choices[0].message
    found: dict[str, Any] = message.to_dict()
    assert found["reasoning_truncated"] is True
    assert found["thinking"]["analysis"] == found["reasoning"]
    return found


async def test_parallel_calls_can_be_turned_off(serve: Serve) -> None:
    call = "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{}"
    two = ScriptLine(completion=f"{call.removeprefix('<|start|>assistant')}<|end|>{call}<|call|>")
    async with serve(two) as served:
        both = (await served.chat(tools=[TOOL])).json()["choices"][0]["message"]["tool_calls"]
        one = (await served.chat(tools=[TOOL], parallel_tool_calls=False)).json()["choices"][0]["message"]["tool_calls"]
    assert (len(both), len(one)) == (2, 1)
