"""One response run on made-up events: what it sends, and what is stored of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from openai._streaming import SSEDecoder

from serving.api.openai.responses.archive import ResponseArchive, ResponseRecord
from serving.api.openai.responses.conversation_archive import ConversationArchive
from serving.api.openai.responses.draft import draft_response
from serving.api.openai.responses.inflight import InFlight
from serving.api.openai.responses.request import parse_responses_request
from serving.api.openai.responses.run import ResponseRun, ResponseStorage
from serving.engine.base import Sampling
from serving.errors import AnswerTimeoutError, EngineNotReadyError, ResponseNotFoundError
from serving.generation.completions import CompletionGeneration
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    Usage,
)
from serving.harmony.conversation import Conversation
from serving.settings.tree import Settings
from serving.store.base import StoreLimits
from serving.store.memory import MemoryStore
from serving.telemetry.process import ProcessTelemetry
from serving.telemetry.recorder import RequestRecorder

NOW = 1_760_000_000.0
HELLO = (
    GenerationStarted(),
    TextDelta(0, "final", "Hel", opens=True),
    TextDelta(0, "final", "lo!"),
    ChoiceFinished(0, "stop"),
    GenerationFinished(Usage(prompt_tokens=5, completion_tokens=3)),
)
CUT = (*HELLO[:3], ChoiceFinished(0, "length"), HELLO[-1])
FAILED = EngineNotReadyError("The engine was lost.")


class Answers:
    """An Answerer that gives `events` in turn, raises those that are errors, and then ends or, if `endless`, waits."""

    def __init__(self, events: Sequence[ChatEvent | Exception], *, endless: bool = False) -> None:
        self._events = events
        self._endless = endless
        self.closed = False

    async def answer(self, request: ChatGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        try:
            for event in self._events:
                if isinstance(event, Exception):
                    raise event
                yield event
            if self._endless:
                await asyncio.sleep(3600)
        finally:
            self.closed = True

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        raise NotImplementedError


class Runs:
    """Makes runs that share a store, all of the response `resp_1`."""

    def __init__(self) -> None:
        self.store = store = MemoryStore(StoreLimits(ttl_s=60, max_bytes=10**6, max_item_bytes=10**6))
        self.archive = ResponseArchive(store, lambda: NOW)
        self.in_flight = InFlight(self.archive)

    def run(self, answers: Answers, *, longest_s: float = 60.0, store: bool = True) -> ResponseRun:
        asked = parse_responses_request(json.dumps({"model": "demo", "input": "Hi", "store": store}).encode())
        draft = draft_response(asked, response_id="resp_1", created_at=int(NOW), effort="medium", summary=None)
        recording = ProcessTelemetry(Settings(), {}, labels={}).recording
        return ResponseRun(
            answers,
            ChatGeneration("resp-1", Conversation(()), Sampling(max_tokens=1)),
            ResponseRecord(draft, []),
            ResponseStorage(self.archive, self.in_flight, ConversationArchive(self.store), "search"),
            recorder=RequestRecorder(
                recording, request_id="req_1", api="responses", method="POST", path="/v1/responses"
            ),
            clock=lambda: NOW,
            longest_s=longest_s,
        )

    async def stored(self) -> dict[str, Any]:
        return dict((await self.archive.get("search", "resp_1")).response)


async def events_of(run: ResponseRun) -> list[Any]:
    frames = [frame async for frame in run.frames()]
    return [json.loads(event.data) for event in SSEDecoder().iter_bytes(iter(frames))]


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.mark.parametrize(("events", "status"), [(HELLO, "completed"), (CUT, "incomplete")])
async def test_a_whole_response_is_stored_as_it_is_sent(runs: Runs, events: Sequence[ChatEvent], status: str) -> None:
    response = await runs.run(Answers(events)).whole()
    assert response["status"] == status
    assert response["output"][0]["content"][0]["text"] == "Hello!"  # type: ignore[typeddict-item]  # a message
    assert response["usage"] is not None
    assert response["usage"]["total_tokens"] == 8
    assert await runs.stored() == response


async def test_nothing_is_stored_of_a_response_that_says_so(runs: Runs) -> None:
    assert (await runs.run(Answers(HELLO), store=False).whole())["store"] is False
    with pytest.raises(ResponseNotFoundError):
        await runs.stored()


async def test_a_stream_ends_with_the_response_that_is_stored(runs: Runs) -> None:
    events = await events_of(runs.run(Answers(HELLO)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "Hello!"
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"] == await runs.stored()


async def test_an_error_before_the_first_event_is_raised(runs: Runs) -> None:
    answers = Answers([FAILED])
    with pytest.raises(EngineNotReadyError):
        await events_of(runs.run(answers))
    assert answers.closed


@pytest.mark.parametrize(
    ("error", "message"),
    [(FAILED, "The engine was lost."), (RuntimeError("the secret reason"), "log has the details under req_1")],
)
async def test_an_error_within_a_stream_is_told_and_stored(runs: Runs, error: Exception, message: str) -> None:
    events = await events_of(runs.run(Answers([*HELLO[:2], error])))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert message in events[-2]["message"]
    assert "secret" not in json.dumps(events)
    stored = await runs.stored()
    assert (stored["status"], stored["output"][0]["status"]) == ("failed", "incomplete")


@pytest.mark.parametrize("events", [(), HELLO[:2]])
async def test_a_whole_response_may_not_take_longer(runs: Runs, events: Sequence[ChatEvent]) -> None:
    answers = Answers(events, endless=True)
    with pytest.raises(AnswerTimeoutError):
        await runs.run(answers, longest_s=0.01).whole()
    assert answers.closed


async def test_a_stream_that_takes_longer_fails(runs: Runs) -> None:
    answers = Answers(HELLO[:2], endless=True)
    events = await events_of(runs.run(answers, longest_s=0.01))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert answers.closed


async def test_a_response_under_way_is_cancelled_by_its_id(runs: Runs) -> None:
    types = []
    async with aclosing(runs.run(Answers(HELLO[:2], endless=True)).frames()) as frames:
        async for frame in frames:
            types += [json.loads(event.data)["type"] for event in SSEDecoder().iter_bytes(iter([frame]))]
            runs.in_flight.interrupt("resp_1")
    assert types[-1] == "response.incomplete"
    assert (await runs.stored())["status"] == "cancelled"


async def test_a_response_whose_client_leaves_is_stored_as_cancelled(runs: Runs) -> None:
    answers = Answers(HELLO[:2], endless=True)
    async with aclosing(runs.run(answers).frames()) as frames:
        await anext(frames)
        assert (await runs.stored())["status"] == "in_progress"
    assert answers.closed
    assert (await runs.stored())["status"] == "cancelled"
