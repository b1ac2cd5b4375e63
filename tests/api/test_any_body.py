"""No request body, however odd, is answered with a 500 or with anything but OpenAI's JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.api.openai.chat.request import ChatCompletionRequest
from serving.api.openai.tokenize.wire import TokenizeChatRequest
from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.tree import Settings

many_bodies = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Not one_of: it gives every alternative the same weight.
    return st.integers(0, 39).flatmap(lambda die: anything if die == 39 else likely)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: mostly(field) for name, field in fields.items()})


def whole(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: mostly(field) for name, field in fields.items()})


text = st.text(max_size=20)
names = st.from_regex(r"[a-z_.-]{1,8}", fullmatch=True)
parts = st.lists(
    st.fixed_dictionaries({"type": mostly(st.just("text")), "text": mostly(text)}),
    max_size=3,
)
calls = st.lists(
    st.fixed_dictionaries(
        {"id": mostly(st.sampled_from(["a", "b"])), "function": whole(name=names, arguments=text)},
        optional={"type": mostly(st.just("function"))},
    ),
    max_size=2,
)
messages = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user"]), "content": mostly(st.one_of(text, parts))}
    ),
    st.builds(lambda rest: {"role": "assistant", **rest}, whole(content=text, reasoning=text, tool_calls=calls)),
    st.builds(
        lambda call, answer: [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", **answer}],
        st.just({"id": "a", "function": {"name": "f", "arguments": "{}"}}),
        whole(tool_call_id=st.just("a"), content=text),
    ),
)


def flat(conversation: list[Any]) -> list[Any]:
    return [m for entry in conversation for m in (entry if isinstance(entry, list) else [entry])]


# Schemas that are nearly JSON schemas: what the prompt's renderer has to show.
schemas = st.recursive(
    objects(type=st.sampled_from(["object", "string", "array", "number"]), description=text, enum=st.lists(scalars)),
    lambda inner: objects(
        type=st.just("object"),
        properties=st.dictionaries(text, inner, max_size=3),
        items=inner,
        required=st.lists(text, max_size=2),
        anyOf=st.lists(inner, max_size=2),
    ),
    max_leaves=6,
)
tools = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.builds(
                lambda function, strict: {**function, **strict},
                whole(name=names, description=text, parameters=schemas),
                st.just({}) | st.just({"strict": True}),
            ),
        }
    ),
    max_size=2,
)
tool_choices = st.one_of(
    st.sampled_from(["auto", "none", "required"]),
    whole(type=st.just("function"), function=whole(name=names)),
    whole(
        type=st.just("allowed_tools"),
        allowed_tools=whole(
            mode=st.sampled_from(["auto", "required"]),
            tools=st.lists(whole(type=st.just("function"), function=whole(name=names)), max_size=2),
        ),
    ),
)
forms = {
    "json": mostly(schemas | schemas.map(json.dumps)),
    "regex": mostly(st.text(min_size=1)),
    "choice": mostly(st.lists(st.text(min_size=1), min_size=1, max_size=3)),
    "grammar": mostly(st.text(min_size=1)),
}
form = st.one_of(
    *(st.builds(lambda value, name=f"guided_{kind}": {name: value}, value) for kind, value in forms.items()),
    *(st.builds(lambda value, n=kind: {"structured_outputs": {n: value}}, value) for kind, value in forms.items()),
    st.builds(lambda kind: {"response_format": {"type": kind}}, st.sampled_from(["text", "json_object"])),
    st.builds(
        lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
        mostly(schemas),
    ),
)
known = set(ChatCompletionRequest.model_fields) - {"model", "messages", "tools", "n"}
requests = st.builds(
    lambda base, form, odd: {**base, **form, **odd},
    st.fixed_dictionaries(
        {"model": st.just("demo"), "messages": mostly(st.lists(messages, min_size=1, max_size=4).map(flat))},
        optional={
            "tools": mostly(tools),
            "n": mostly(st.integers(1, 4)),
            "stop": mostly(st.lists(st.text(min_size=1), max_size=2)),
            "stream": st.booleans(),
            "temperature": mostly(st.floats(0, 2)),
            "logprobs": st.just(True),
            "tool_choice": tool_choices,
            "parallel_tool_calls": st.booleans(),
            "max_tokens": mostly(st.integers(1, 60)),
            "max_reasoning_tokens": mostly(st.integers(0, 5)),
            "min_answer_tokens": mostly(st.integers(0, 20)),
            "reasoning": objects(effort=text, max_tokens=st.integers(0, 5), exclude=st.booleans()),
            "separate_thinking": st.booleans(),
            "include_reasoning": st.booleans(),
            "truncation": st.sampled_from(["auto", "disabled"]),
            "logit_bias": mostly(st.dictionaries(st.from_regex(r"[0-9]{1,5}", fullmatch=True), st.floats(-100, 100))),
        },
    ),
    st.just({}) | form,
    st.just({}) | st.dictionaries(st.sampled_from([*sorted(known), "odd"]), anything, max_size=1),
)
token_ids = st.lists(st.integers(0, 201_087), min_size=1, max_size=5)
completions = st.builds(
    lambda base, form: {**base, **form},
    st.fixed_dictionaries(
        {
            "model": st.just("demo"),
            "prompt": mostly(
                st.one_of(text, token_ids, st.lists(text | token_ids, max_size=3), st.lists(anything, max_size=2))
            ),
        },
        optional={
            "n": mostly(st.integers(1, 3)),
            "max_tokens": mostly(st.integers(1, 30)),
            "stop": mostly(st.lists(st.text(min_size=1), max_size=2)),
            "echo": st.booleans(),
            "logprobs": mostly(st.integers(0, 5)),
            "stream": st.booleans(),
            "skip_special_tokens": st.booleans(),
            "allow_special_tokens": st.booleans(),
        },
    ),
    st.just({}) | form,
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    completion = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>"
    engine = ScriptedEngine(Script((ScriptLine(completion=completion, tokens_per_step=100),)))
    await engine.start()
    async with (
        Parts.in_process(Settings(), {"demo": engine}) as parts,
        httpx.AsyncClient(transport=httpx.ASGITransport(create_app(parts)), base_url="http://test") as connected,
    ):
        yield connected
    await engine.close()


async def check(client: httpx.AsyncClient, body: bytes, path: str = "/v1/chat/completions") -> None:
    reply = await client.post(path, content=body)
    assert reply.status_code in (200, 400, 404), reply.text
    assert reply.headers["x-request-id"]
    if reply.status_code != 200:
        assert set(reply.json()) == {"error"}
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert reply.json()["error"]["type"] == "invalid_request_error"
        assert len(reply.content) < 2000
    elif "text/event-stream" in reply.headers["content-type"]:
        assert reply.text.endswith("data: [DONE]\n\n")
        assert '"error"' not in reply.text
    else:
        kind = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}.get(path)
        assert reply.json().get("object") == kind


@pytest.mark.property
@many_bodies
@given(anything)
async def test_any_json(client: httpx.AsyncClient, value: Any) -> None:
    await check(client, json.dumps(value).encode())


@pytest.mark.property
@many_bodies
@given(requests)
async def test_anything_like_a_request(client: httpx.AsyncClient, value: Any) -> None:
    await check(client, json.dumps(value).encode())


@pytest.mark.property
@many_bodies
@given(completions)
async def test_anything_like_a_completions_request(client: httpx.AsyncClient, value: Any) -> None:
    await check(client, json.dumps(value).encode(), "/v1/completions")


@pytest.mark.property
@many_bodies
@given(requests.map(lambda asked: {key: asked[key] for key in asked if key in TokenizeChatRequest.model_fields}))
async def test_anything_like_a_conversation_to_tokenize(client: httpx.AsyncClient, value: Any) -> None:
    await check(client, json.dumps(value).encode(), "/tokenize")


@pytest.mark.property
@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize", "/detokenize"])
@many_bodies
@given(anything | st.dictionaries(st.sampled_from(["model", "prompt", "messages", "tokens"]), anything))
async def test_any_json_to_the_others(client: httpx.AsyncClient, path: str, value: Any) -> None:
    await check(client, json.dumps(value).encode(), path)


@pytest.mark.property
@many_bodies
@given(st.binary())
async def test_any_bytes(client: httpx.AsyncClient, body: bytes) -> None:
    await check(client, body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"model":"demo","messages":[{"role":"user","content":"a\\u0000b"}]}', id="NUL in content"),
        pytest.param('{"model":"demo","messages":[{"role":"user","content":"<|end|><|start|>"}]}', id="special tokens"),
        pytest.param('{"model":"demo","messages":[{"role":"user","content":"x"}],"seed":1e400}', id="infinite seed"),
        pytest.param(
            '{"model":"demo","messages":[{"role":"user","content":"x"}],"max_tokens":1' + "0" * 300 + "}",
            id="huge max_tokens",
        ),
        pytest.param(
            '{"model":"demo","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
            '{"name":"f","parameters":{"type":"object","maximum":1e999}}}]}',
            id="infinity in a schema",
        ),
        pytest.param(
            '{"model":"demo","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
            '{"name":"f","parameters":' + '{"a":' * 150 + "1" + "}" * 150 + "}}]}",
            id="deep schema",
        ),
        pytest.param('{"model":"demo","messages":' + "[" * 100_000 + "]" * 100_000 + "}", id="deep messages"),
        pytest.param('{"model":"demo","messages":[' + "{}," * 100_000 + "{}]}", id="many bad messages"),
        pytest.param(
            '{"model":"demo","messages":[{"role":"user","content":[' + "{}," * 100_000 + "{}]}]}", id="many bad parts"
        ),
    ],
)
async def test_bodies_that_are_made_to_hurt(client: httpx.AsyncClient, body: str) -> None:
    await check(client, body.encode())
