"""Streamed responses: every typed event in its place, and every way a stream can end."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

from serving.engine.scripted import ScriptLine
from serving.errors import StoreUnavailableError
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.http_server import Serve, Served, Until

WEATHER_TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CHANNELS = (
    "<|channel|>analysis<|message|>One.<|end|><|start|>assistant<|channel|>commentary<|message|>Two.<|end|>"
    "<|start|>assistant<|channel|>analysis<|message|>Three.<|end|><|start|>assistant<|channel|>final<|message|>Four."
    "<|return|>"
)


class Gone(MemoryStore):
    """A store that goes away when it is told to."""

    broken = False

    async def put(self, owner: str, key: str, value: bytes) -> None:
        if self.broken:
            raise StoreUnavailableError("gone")
        await super().put(owner, key, value)


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream; each frame says its type twice."""
    events = []
    for frame in text.strip().split("\n\n"):
        name, data = frame.split("\n")
        event: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def streamed(served: Served, **fields: Any) -> list[dict[str, Any]]:
    reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "Hello!", "stream": True, **fields})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events_of(reply.text)


async def test_events_come_in_order_and_are_numbered(serve: Serve) -> None:
    async with serve(ScriptLine(completion=CHANNELS, tokens_per_step=100)) as served:
        events = await streamed(served)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    item = ["output_item.added", "content_part.added", "{}.delta", "{}.done", "content_part.done", "output_item.done"]
    kinds = [kind.format(text) for text in ("reasoning_text", "output_text") * 2 for kind in item]
    assert [event["type"] for event in events] == [
        f"response.{kind}" for kind in ("created", "in_progress", *kinds, "completed")
    ]
    assert [event["output_index"] for event in events[2:-1]] == [index for index in range(4) for _ in range(6)]
    assert [e["delta"] for e in events if e["type"].endswith(".delta")] == ["One.", "Two.", "Three.", "Four."]
    phases = [item.get("phase") for item in events[-1]["response"]["output"]]
    assert phases == [None, "commentary", None, "final_answer"]


async def test_a_call_has_events_of_its_own(served: Served) -> None:
    events = await streamed(served, input="How is the weather?", tools=[WEATHER_TOOL])
    added = next(e for e in events if e["type"] == "response.output_item.added" and e["output_index"] == 2)
    assert added["item"] == {
        **events[-1]["response"]["output"][2],
        "status": "in_progress",
        "arguments": "",
    }
    after = events[events.index(added) + 1 :]
    assert {e["type"] for e in after[:-3]} == {"response.function_call_arguments.delta"}
    assert "".join(e["delta"] for e in after[:-3]) == '{"city": "Zürich"}'
    done = after[-3]
    assert (done["type"], done["name"]) == ("response.function_call_arguments.done", "get_weather")
    assert done["arguments"] == '{"city": "Zürich"}'
    assert done["item_id"] == added["item"]["id"]
    assert [e["type"] for e in after[-2:]] == ["response.output_item.done", "response.completed"]


async def test_a_stream_ends_with_what_a_whole_answer_is(served: Served) -> None:
    for request in ({"input": "Hello!", "top_logprobs": 2}, {"input": "weather", "tools": [WEATHER_TOOL]}):
        final = (await streamed(served, **request))[-1]["response"]
        whole = (await served.http.post("/v1/responses", json={"model": "demo", **request})).json()

        def without_ids(response: dict[str, Any]) -> Any:
            text = re.sub(r'"(?:resp|rs|msg|fc|call)_\w+"', '"id"', json.dumps(response))
            return json.loads(text)

        assert without_ids(final) == without_ids(whole)


async def test_every_event_is_one_of_the_clients(served: Served) -> None:
    stream = await served.openai.responses.create(
        model="demo", input="How is the weather?", tools=[WEATHER_TOOL], stream=True, top_logprobs=1
    )
    seen = set()
    async for event in stream:
        type(event).model_validate(event.to_dict())
        seen.add(event.type)
    assert len(seen) == 13


async def test_the_clients_stream_helper_puts_text_and_calls_together(served: Served) -> None:
    async with served.openai.responses.stream(
        model="demo", input="How is the weather?", tools=[WEATHER_TOOL]
    ) as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        response = await stream.get_final_response()
    assert snapshots[-1] == "Let me look."
    call = response.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.model_dump()["parsed_arguments"] == {"city": "Zürich"}


class City(BaseModel):
    name: str


async def test_the_clients_stream_helper_parses_the_answer_alone(serve: Serve) -> None:
    completion = (
        "<|channel|>commentary<|message|>Not JSON.<|end|>"
        '<|start|>assistant<|channel|>final<|message|>{"name": "Bern"}<|return|>'
    )
    async with (
        serve(ScriptLine(completion=completion)) as served,
        served.openai.responses.stream(model="demo", input="x", text_format=City) as stream,
    ):
        assert (await stream.get_final_response()).output_parsed == City(name="Bern")


async def test_log_probabilities_come_with_their_text(served: Served) -> None:
    events = await streamed(served, top_logprobs=1)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [[entry["token"] for entry in event["logprobs"]] for event in deltas] == [["Hello"], [" there"], ["!"]]
    done = next(event for event in events if event["type"] == "response.output_text.done")
    assert done["logprobs"] == [entry for event in deltas for entry in event["logprobs"]]


async def test_a_limit_ends_the_stream_incomplete(served: Served) -> None:
    events = await streamed(served, max_output_tokens=17)
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-2]["item"]["status"] == "incomplete"


async def test_an_engine_that_fails_midway_ends_the_stream_with_what_there_is(served: Served) -> None:
    served.engine.fails_after = 12
    events = await streamed(served)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert "secret" not in json.dumps(events)
    response = events[-1]["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": events[-2]["message"]}
    assert response["output"][0]["content"][0]["text"].startswith("Somebody")
    stored = (await served.http.get(f"/v1/responses/{response['id']}")).json()
    assert stored == response


async def test_an_engine_that_fails_at_once_is_a_plain_500(served: Served) -> None:
    served.engine.fails_after = 0
    reply = await served.http.post("/v1/responses", json={"model": "demo", "input": "Hello!", "stream": True})
    assert reply.status_code == 500


async def test_an_answer_that_takes_too_long_ends_as_failed_and_is_stored_so(serve: Serve) -> None:
    async with serve(longest_answer_s=1) as served:
        events = await streamed(served, input="slowly")
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert "1 s" in events[-2]["message"]
        stored = (await served.http.get(f"/v1/responses/{events[-1]['response']['id']}")).json()
        assert stored == events[-1]["response"]
        assert served.engine.running == 0


async def test_a_silent_stream_sends_comments_which_the_client_ignores(serve: Serve) -> None:
    line = ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>", step_ms=150)
    async with serve(line, keep_alive_s=0.1) as served:
        stream = await served.openai.responses.create(model="demo", input="x", stream=True)
        events = [event async for event in stream]
    assert events[-1].type == "response.completed"


async def test_who_leaves_stops_the_engine_and_leaves_a_cancelled_response(served: Served, until: Until) -> None:
    stream = await served.openai.responses.create(model="demo", input="slowly", stream=True)
    text = ""
    async for event in stream:
        if event.type == "response.created":
            response_id = event.response.id
        if event.type == "response.output_text.delta":
            text += event.delta
        if len(text) > 20:
            break
    await stream.close()
    await until(lambda: served.engine.running == 0)

    async with asyncio.timeout(5):
        while (response := await served.openai.responses.retrieve(response_id)).status == "in_progress":
            pass
    assert response.status == "cancelled"
    assert response.output_text.startswith(text)
    assert [getattr(item, "status", None) for item in response.output] == ["incomplete"]


async def test_a_response_in_progress_is_seen_and_cannot_be_used_yet(served: Served) -> None:
    stream = await served.openai.responses.create(model="demo", input="slowly", stream=True)
    first = await anext(aiter(stream))
    assert first.type == "response.created"
    response_id = first.response.id
    assert (await served.openai.responses.retrieve(response_id)).status == "in_progress"
    for method, path, body in (
        ("DELETE", f"/{response_id}", None),
        ("GET", f"/{response_id}?stream=true", None),
        ("POST", "", {"model": "demo", "input": "x", "previous_response_id": response_id}),
    ):
        reply = await served.http.request(method, f"/v1/responses{path}", json=body)
        assert reply.status_code == 400
        assert "in progress" in reply.json()["error"]["message"]
    await stream.close()


async def test_a_cancelled_stream_ends_with_the_response_as_it_is(served: Served) -> None:
    stream = await served.openai.responses.create(model="demo", input="slowly", stream=True)
    events = []
    async for event in stream:
        events.append(event)
        if len(events) == 10:
            cancelled = await served.openai.responses.cancel(events[0].response.id)  # type: ignore[union-attr]  # created
    assert cancelled.status == "cancelled"
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.to_dict() == cancelled.to_dict()
    assert served.engine.running == 0
    again = await served.openai.responses.cancel(cancelled.id)
    assert again.to_dict() == cancelled.to_dict()


async def test_a_silent_response_is_cancelled_at_once(serve: Serve) -> None:
    line = ScriptLine(completion="<|channel|>final<|message|>Hi<|return|>", step_ms=300)
    async with serve(line) as served:
        stream = await served.openai.responses.create(model="demo", input="x", stream=True)
        events = aiter(stream)
        first = await anext(events)
        assert first.type == "response.created"
        assert (await served.openai.responses.cancel(first.response.id)).status == "cancelled"
        rest = [event async for event in events]
        assert rest[-1].type == "response.incomplete"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": "How is the weather?", "tools": [WEATHER_TOOL]},
        {"top_logprobs": 2},
        {"max_output_tokens": 17},
        {"max_output_tokens": 1},
    ],
)
async def test_a_stored_stream_is_sent_again_byte_for_byte(served: Served, fields: dict[str, Any]) -> None:
    body = {"model": "demo", "input": "Hello!", "stream": True, **fields}
    text = (await served.http.post("/v1/responses", json=body)).text
    events = events_of(text)
    path = f"/v1/responses/{events[-1]['response']['id']}"
    assert (await served.http.get(path, params={"stream": "true"})).text == text
    for after in (0, len(events) // 2, len(events) - 2):
        rest = await served.http.get(path, params={"stream": "true", "starting_after": after})
        assert events_of(rest.text) == events[after + 1 :]


async def test_the_client_resumes_a_stream_with_its_helper(served: Served) -> None:
    events = await streamed(served)
    async with served.openai.responses.stream(response_id=events[-1]["response"]["id"], starting_after=5) as stream:
        seen = [event.sequence_number async for event in stream]
        assert (await stream.get_final_response()).output_text == "Hello there!"
    assert seen == list(range(6, len(events)))


async def test_a_response_that_was_sent_whole_can_be_streamed_later(served: Served) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    stream = await served.openai.responses.retrieve(response.id, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert events[-1].response.to_dict() == response.to_dict()


@pytest.mark.parametrize("query", ["stream=maybe", "stream=true&starting_after=-1", "stream=true&starting_after=x"])
async def test_a_replay_that_cannot_be_is_a_400(served: Served, query: str) -> None:
    response = await served.openai.responses.create(model="demo", input="Hello!")
    reply = await served.http.get(f"/v1/responses/{response.id}?{query}")
    assert reply.status_code == 400


@pytest.mark.parametrize("goes", ["before", "midway"])
async def test_a_store_that_is_gone_costs_no_answer(serve: Serve, goes: str) -> None:
    store = Gone(StoreLimits(ttl_s=60, max_bytes=10**6, max_item_bytes=10**6))
    async with serve(store=store) as served:
        store.broken = goes == "before"
        stream = await served.openai.responses.create(model="demo", input="Hello!", stream=True)
        async for event in stream:
            store.broken = True
            last = event
        assert last.type == "response.completed"
        assert last.response.output_text == "Hello there!"
        assert last.response.model_extra == {"store": False}


async def test_nothing_is_left_running_when_streams_are_over(served: Served) -> None:
    await streamed(served)
    await streamed(served, store=False)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "ask for cancelled responses" not in names
