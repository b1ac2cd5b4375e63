"""What requests of any API may say beyond what the server knows, on every route that takes a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.http_server import Serve, Served

HELLO = {"role": "user", "content": "Hello!"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [HELLO]},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 2},
    "/v1/responses": {"input": [HELLO]},
    "/v1/messages": {"messages": [HELLO], "max_tokens": 100},
    "/v1/messages/count_tokens": {"messages": [HELLO]},
    "/tokenize": {"messages": [HELLO]},
    "/v1/tokenize": {"prompt": "Hello"},
    "/detokenize": {"tokens": [1]},
}
FUNCTION: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
    "/v1/responses": {"type": "function", "name": "f", "parameters": {"type": "object"}},
    "/v1/messages": {"name": "f", "input_schema": {"type": "object"}},
}
HOSTED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"type": "web_search"},
    "/v1/responses": {"type": "web_search", "external_web_access": False},
    "/v1/messages": {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
}
FORCED: dict[str, Any] = {
    "/v1/chat/completions": "required",
    "/v1/responses": "required",
    "/v1/messages": {"type": "any"},
}

at_each_route = pytest.mark.parametrize("route", BODIES)
at_each_route_with_tools = pytest.mark.parametrize("route", FUNCTION)


async def post(served: Served, route: str, strict: bool = False, **fields: Any) -> httpx.Response:
    headers = {"x-unknown-fields": "refuse"} if strict else {}
    return await served.http.post(route, json={"model": "demo", **BODIES[route], **fields}, headers=headers)


def mistake(reply: httpx.Response) -> str:
    assert reply.status_code == 400, reply.text
    return str(reply.json()["error"]["message"])


@at_each_route
async def test_a_field_nobody_told_us_of_is_ignored_and_named(served: Served, route: str) -> None:
    reply = await post(served, route, some_new_field={"a": 1}, another=[])

    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-parameters"] == "some_new_field, another"


@at_each_route
async def test_null_and_what_only_describes_are_taken_without_a_word(served: Served, route: str) -> None:
    reply = await post(served, route, some_new_field=None, client_metadata={"x": "y"}, cache_control={"type": "x"})

    assert reply.status_code == 200, reply.text
    assert "x-ignored-parameters" not in reply.headers


@at_each_route
async def test_a_strict_request_refuses_what_it_would_ignore(served: Served, route: str) -> None:
    reply = await post(served, route, strict=True, some_new_field=1)

    assert "Unknown parameter: 'some_new_field'" in mistake(reply)


@at_each_route
async def test_a_strict_server_refuses_for_every_request(serve: Serve, route: str) -> None:
    async with serve(unknown_fields="refuse") as served:
        plain = await post(served, route, some_new_field=1)
        reply = await served.http.post(
            route, json={"model": "demo", **BODIES[route], "x": 1}, headers={"x-unknown-fields": "ignore"}
        )

    assert "Unknown parameter: 'some_new_field'" in mistake(plain)
    assert "Unknown parameter: 'x'" in mistake(reply)


async def test_another_word_in_the_header_is_a_mistake(served: Served) -> None:
    reply = await served.http.post(
        "/tokenize", json={"model": "demo", "prompt": "a"}, headers={"x-unknown-fields": "maybe"}
    )

    assert "x-unknown-fields" in mistake(reply)


async def test_fields_deep_down_are_named_by_their_path(served: Served) -> None:
    reply = await served.chat(
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hello!", "tone": "kind"}], "mood": 1}, HELLO],
        stream_options={"include_usage": True, "every": 2},
        stream=True,
        tools=[{"type": "function", "function": {"name": "f", "color": "red"}, "icon": "x"}],
    )

    assert reply.headers["x-ignored-parameters"].split(", ") == [
        "messages[].mood",
        "messages[].content[].tone",
        "tools[].icon",
        "tools[].function.color",
        "stream_options.every",
    ]


async def test_names_of_ignored_fields_are_few_short_and_safe_in_a_header(served: Served) -> None:
    reply = await served.chat(**{"a\r\nset-cookie: b": 1, "ü" * 500: 2, **{f"x{i}": i for i in range(10_000)}})

    names = reply.headers["x-ignored-parameters"].split(", ")
    assert reply.status_code == 200
    assert names[0] == "a%0D%0Aset-cookie:%20b"
    assert len(names) == 20
    assert all(len(name) <= 400 and name.isascii() for name in names)


async def test_ignored_fields_are_counted_by_name_up_to_a_bound(served: Served) -> None:
    for start in range(0, 200, 20):
        await served.chat(**{f"new_{i}": i for i in range(start, start + 20)})
    text = (await served.http.get("/metrics")).text

    lines = [line for line in text.splitlines() if line.startswith("serving_ignored_parameters_total{")]
    assert any('api="chat"' in line and 'parameter="new_0"' in line and line.endswith(" 1.0") for line in lines)
    assert any('parameter="other"' in line and line.endswith(" 100.0") for line in lines)
    assert len(lines) == 101


@at_each_route_with_tools
async def test_a_tool_not_run_here_is_left_out_beside_others_and_named(served: Served, route: str) -> None:
    reply = await post(served, route, tools=[HOSTED[route], FUNCTION[route], HOSTED[route]])

    assert reply.status_code == 200, reply.text
    assert reply.headers["x-ignored-tools"] == HOSTED[route]["type"]
    alone = await post(served, route, tools=[FUNCTION[route]])
    assert alone.headers.get("x-ignored-tools") is None
    with_hosted, without = served.engine.requests
    assert with_hosted.prompt_token_ids == without.prompt_token_ids


@at_each_route_with_tools
async def test_a_tool_not_run_here_is_refused_alone_forced_and_in_a_strict_request(served: Served, route: str) -> None:
    both = [FUNCTION[route], HOSTED[route]]

    alone = await post(served, route, tools=[HOSTED[route]])
    forced = await post(served, route, tools=both, tool_choice=FORCED[route])
    strict = await post(served, route, strict=True, tools=both)

    for reply in (alone, forced, strict):
        assert "tools[" in mistake(reply)


async def test_an_error_names_a_tool_by_its_place_in_the_request(served: Served) -> None:
    route = "/v1/responses"
    broken = {"type": "function", "name": "g", "parameters": 5}

    reply = await post(served, route, tools=[HOSTED[route], FUNCTION[route], HOSTED[route], broken])

    assert reply.json()["error"]["param"] == "tools[3].parameters"


async def test_a_fields_other_name_is_told_by_name(served: Served) -> None:
    reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "Hi", "max_tokens": 5})

    assert reply.json()["error"]["param"] == "max_tokens"
    assert "'max_tokens'" in mistake(reply)
