"""What the readers of the three APIs find wrong with a stream: one that our server made, and that was then broken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from serving.certification.api import Api
from serving.certification.conversation import Ask, CheckFailedError
from serving.certification.endpoint import Endpoint, Stream
from serving.certification.questions import TOOL_CASES, WEATHER
from serving.certification.run import APIS
from serving.certification.speaker import Speaker
from serving.engine.scripted import ScriptedEngine
from serving.settings.tree import Settings
from tests.certification.script import script
from tests.http_server import in_thread

CALL = Ask(TOOL_CASES[0].question, (WEATHER,))

Events = list[Any]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with in_thread(Settings(), ScriptedEngine(script())) as url, Endpoint(f"{url}/v1", {}, 30) as served:
        yield served


@pytest.fixture(scope="module")
def streams(endpoint: Endpoint) -> dict[str, Stream]:
    return {api.name: Speaker(endpoint, api, "demo").stream(CALL) for api in APIS}


def api_named(name: str) -> Api:
    return next(api for api in APIS if api.name == name)


def without(kind: str) -> Callable[[Events], Events]:
    return lambda events: [event for event in events if event.get("type") != kind]


def changed(kind: str, **fields: Any) -> Callable[[Events], Events]:
    return lambda events: [{**event, **fields} if event.get("type") == kind else event for event in events]


def without_usage(events: Events) -> Events:
    return events[:-1]


def without_role(events: Events) -> Events:
    return events[1:]


def without_ids(events: Events) -> Events:
    return [{key: value for key, value in event.items() if key != "id"} for event in events]


def doubled_finish(events: Events) -> Events:
    return [*events[:-1], events[-2], events[-1]]


@pytest.mark.parametrize("api", APIS, ids=lambda api: str(api.name))
def test_a_stream_of_ours_is_found_right(api: Api, streams: dict[str, Stream]) -> None:
    api.validate_stream(streams[api.name])
    said = api.read_stream(streams[api.name])
    assert (said.named_calls, said.finish, said.aside) == (
        [("get_weather", '{"city": "Paris"}')],
        "tool_calls",
        "Let me look.",
    )
    assert said.reasoning == "A tool has this."


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("chat", without_usage),
        ("chat", without_role),
        ("chat", without_ids),
        ("chat", doubled_finish),
        ("responses", without("response.created")),
        ("responses", without("response.completed")),
        ("responses", without("response.output_item.added")),
        ("responses", without("response.output_item.done")),
        ("responses", changed("response.output_text.done", text="other")),
        ("responses", changed("response.function_call_arguments.done", arguments="{}")),
        ("responses", changed("response.reasoning_text.delta", delta=7)),
        ("responses", changed("response.in_progress", sequence_number=9)),
        ("messages", without("message_start")),
        ("messages", without("message_stop")),
        ("messages", without("content_block_start")),
        ("messages", without("content_block_stop")),
        ("messages", changed("content_block_start", index=0)),
        ("messages", changed("content_block_start", content_block={"type": "tool_use", "id": "x"})),
    ],
)
def test_a_broken_stream_is_found(name: str, broken: Callable[[Events], Events], streams: dict[str, Stream]) -> None:
    stream = streams[name]
    events = broken(copy.deepcopy(stream.events))
    assert events != stream.events
    with pytest.raises((CheckFailedError, ValidationError)):
        api_named(name).validate_stream(Stream(events, stream.done))


def test_a_chat_stream_without_its_end_mark_is_found(streams: dict[str, Stream]) -> None:
    with pytest.raises(CheckFailedError, match="DONE"):
        api_named("chat").validate_stream(Stream(streams["chat"].events, done=False))


@pytest.mark.parametrize("text", ["<|return|>", "a<|channel|>final", "x <|reserved_200013|>"])
def test_a_special_token_in_a_text_is_found(text: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": None,
    }
    monkeypatch.setattr(Speaker, "body", lambda self, ask: reply)
    with pytest.raises(CheckFailedError, match="special token"):
        Speaker(endpoint, api_named("chat"), "demo").said(CALL)
