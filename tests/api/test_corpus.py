"""The corpus of broken Harmony over HTTP: each API gives what is meant, streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.settings.tree import Settings
from tests.harmony.corpus import Spelling, spellings
from tests.http_server import in_thread

CASES = spellings()
CALL_END = "<|call|>"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    lines = [ScriptLine(prompt_contains=f"case {n}.", completion=each.completion) for n, each in enumerate(CASES)]
    with (
        in_thread(Settings(), ScriptedEngine(Script(tuple(lines)), model="demo")) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


def expected_calls(spelling: Spelling) -> list[tuple[str, Any]]:
    """The calls that an engine gets to, which ends at the first `<|call|>`."""
    calls = [(name, json.loads(arguments)) for name, arguments in spelling.calls]
    return calls[:1] if CALL_END in spelling.completion.removesuffix(CALL_END) else calls


def expected_text(spelling: Spelling) -> str:
    return "\n\n".join(filter(None, (spelling.commentary, spelling.content)))


def data(reply: httpx.Response) -> list[dict[str, Any]]:
    """Data of a stream's events."""
    lines = (line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def asked(http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    reply = http.post(path, json={"model": "demo", **body})
    assert reply.status_code == 200, reply.text
    return reply


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{each.kind}-{n}" for n, each in enumerate(CASES)])
class TestEachSpelling:
    def test_on_chat(self, http: httpx.Client, number: int) -> None:
        spelling = CASES[number]
        body = {
            "messages": [{"role": "user", "content": f"case {number}."}],
            "tools": [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in spelling.tools],
        }

        message = (asked(http, "/v1/chat/completions", body)).json()["choices"][0]["message"]
        deltas = [
            choice["delta"]
            for chunk in data(asked(http, "/v1/chat/completions", {**body, "stream": True}))
            for choice in chunk["choices"]
        ]

        assert message["content"] or expected_text(spelling) == ""
        assert "".join(delta.get("content") or "" for delta in deltas) == expected_text(spelling)
        calls = [call["function"] for call in message.get("tool_calls", ())]
        assert [(call["name"], json.loads(call["arguments"])) for call in calls] == expected_calls(spelling)
        pieces = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        names = [piece["function"]["name"] for piece in pieces if piece["function"].get("name")]
        joined: dict[int, str] = {}
        for piece in pieces:
            joined[piece["index"]] = joined.get(piece["index"], "") + (piece["function"].get("arguments") or "")
        assert list(zip(names, map(json.loads, joined.values()), strict=True)) == expected_calls(spelling)

    def test_on_responses(self, http: httpx.Client, number: int) -> None:
        spelling = CASES[number]
        tools = [{"type": "function", "name": name, "parameters": SCHEMA} for name in spelling.tools]
        body = {"input": f"case {number}.", "tools": tools, "store": False}

        whole = (asked(http, "/v1/responses", body)).json()
        *_, last = data(asked(http, "/v1/responses", {**body, "stream": True}))

        for response in (whole, last["response"]):
            texts = [
                part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
            ]
            assert "\n\n".join(texts) == expected_text(spelling)
            calls = [item for item in response["output"] if item["type"] == "function_call"]
            assert [(call["name"], json.loads(call["arguments"])) for call in calls] == expected_calls(spelling)

    def test_on_messages(self, http: httpx.Client, number: int) -> None:
        spelling = CASES[number]
        body = {
            "max_tokens": 4000,
            "messages": [{"role": "user", "content": f"case {number}."}],
            "tools": [{"name": name, "input_schema": SCHEMA} for name in spelling.tools],
        }

        blocks = (asked(http, "/v1/messages", body)).json()["content"]
        events = data(asked(http, "/v1/messages", {**body, "stream": True}))

        assert "\n\n".join(each["text"] for each in blocks if each["type"] == "text") == expected_text(spelling)
        calls = [(each["name"], each["input"]) for each in blocks if each["type"] == "tool_use"]
        assert calls == expected_calls(spelling)
        streamed = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        assert streamed == expected_text(spelling).replace("\n\n", "")
