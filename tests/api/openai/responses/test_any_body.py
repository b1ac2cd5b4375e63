"""No Responses body, however odd, is answered with a 500; what is answered is stored and sent again alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.api.openai.responses.request import ResponsesRequest
from serving.app import create_app
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.parts import Parts
from serving.settings.tree import Settings

many_bodies = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6
)
text = st.text(max_size=20)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # Not one_of: it gives every alternative the same weight.
    return st.integers(0, 39).flatmap(lambda die: anything if die == 39 else likely)


def item(kind: str, /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = {"type": st.just(kind), **{name: mostly(field) for name, field in fields.items()}}
    ids = mostly(st.from_regex(r"(msg|rs|fc)_[a-f0-9]{2}_[0-9]", fullmatch=True))
    return st.fixed_dictionaries(required, optional={"id": ids, "status": st.just("completed"), "odd": st.none()})


contents = text | st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text", "text"]), "text": mostly(text)}),
    max_size=2,
)
calls = st.sampled_from(["call_a", "call_b"])
items = st.one_of(
    item("message", role=st.sampled_from(["user", "assistant", "developer", "system"]), content=contents),
    item("reasoning", content=st.lists(st.fixed_dictionaries({"type": st.just("reasoning_text"), "text": text}))),
    item("function_call", call_id=calls, name=text, arguments=text),
    item("function_call_output", call_id=st.just("call_a"), output=contents),
    st.just({"type": "function_call", "call_id": "call_a", "name": "f", "arguments": "{}"}),
    item("item_reference"),
)
known = set(ResponsesRequest.model_fields) - {"model", "input"}
requests = st.builds(
    lambda base, odd: {**base, **odd},
    st.fixed_dictionaries(
        {"model": st.just("demo"), "input": mostly(text | st.lists(items, min_size=1, max_size=4))},
        optional={
            "stream": st.booleans(),
            "store": st.booleans(),
            "instructions": mostly(text),
            "top_logprobs": mostly(st.integers(0, 20)),
            "max_output_tokens": mostly(st.integers(1, 20)),
            "truncation": mostly(st.sampled_from(["auto", "disabled"])),
        },
    ),
    st.just({}) | st.dictionaries(st.sampled_from([*sorted(known), "odd"]), anything, max_size=1),
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    completion = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b ü<|return|>"
    engine = ScriptedEngine(Script((ScriptLine(completion=completion),)))
    await engine.start()
    async with (
        Parts.in_process(Settings(), {"demo": engine}) as parts,
        httpx.AsyncClient(transport=httpx.ASGITransport(create_app(parts)), base_url="http://test") as connected,
    ):
        yield connected
    await engine.close()


async def check(client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post("/v1/responses", content=body)
    assert reply.status_code in (200, 400, 404), reply.text
    if reply.status_code != 200:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
        assert reply.json()["error"]["type"] == "invalid_request_error"
        assert len(reply.content) < 2000
        return
    streamed = "text/event-stream" in reply.headers["content-type"]
    response = json.loads(reply.text.strip().rpartition("data: ")[2]) if streamed else reply.json()
    response = response["response"] if streamed else response
    assert response["status"] in ("completed", "incomplete")
    again = await client.get(f"/v1/responses/{response['id']}", params={"stream": str(streamed).lower()})
    if response["store"]:
        assert (again.text == reply.text) if streamed else (again.json() == response)
    else:
        assert again.status_code == 404


@pytest.mark.property
@many_bodies
@given(anything)
async def test_any_json(client: httpx.AsyncClient, value: Any) -> None:
    await check(client, json.dumps(value).encode())


@pytest.mark.property
@many_bodies
@given(requests)
async def test_requests_that_are_nearly_right(client: httpx.AsyncClient, request_body: Any) -> None:
    await check(client, json.dumps(request_body).encode())


@pytest.mark.property
@many_bodies
@given(text, st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=30))
async def test_any_id_and_query(client: httpx.AsyncClient, name: str, query: str) -> None:
    response_id = "resp_0" if not name else "resp_" + name.encode("utf-8", "replace").hex()[:20]
    for method, path in (("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
        params = {"after": query, "limit": query, "starting_after": query, "order": query}
        reply = await client.request(method, f"/v1/responses/{response_id}{path}", params=params)
        assert reply.status_code in (400, 404), reply.text
