from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from serving.engine.base import TokenDelta, TokenLogprobs
from serving.engine.scripted import ScriptedEngine
from serving.errors import ContextLengthExceededError, EngineDiedError, InvalidRequestError
from serving.generation import chat
from serving.generation.answer import AnswerBuilder
from serving.generation.types import (
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.harmony.conversation import FunctionTool
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import encode, encode_harmony

FINAL = "<|channel|>final<|message|>"
ANSWER = f"<|channel|>analysis<|message|>Let me count.<|end|><|start|>assistant{FINAL}one two three four<|return|>"

StartEngine = Callable[..., Awaitable[ScriptedEngine]]
MakeRequest = Callable[..., ChatGeneration]


async def collect(engine: Any, request: ChatGeneration, **options: Any) -> list[ChatEvent]:
    return [event async for event in chat.answer(engine, request, **options)]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("tokens_per_step", [1, 3, 1000])
@pytest.mark.parametrize("stop", [(), (" three",)])
@pytest.mark.parametrize("logprobs", [None, 2])
async def test_a_stream_joins_to_the_whole_answer(
    start_engine: StartEngine,
    make_request: MakeRequest,
    tokens_per_step: int,
    stop: tuple[str, ...],
    logprobs: int | None,
) -> None:
    engine = await start_engine(ANSWER, tokens_per_step)
    request = make_request(n=2, stop=stop, logprobs=logprobs)
    builder = AnswerBuilder(request)
    for event in await collect(engine, request):
        builder.add(event)
    whole = await chat.complete(engine, request)
    assert builder.answer() == whole
    assert [choice.content for choice in whole.choices] == ["one two" if stop else "one two three four"] * 2


async def test_usage_adds_up_over_choices(start_engine: StartEngine, make_request: MakeRequest) -> None:
    engine = await start_engine(ANSWER, 3)
    request = make_request(n=3)
    expected = Usage(
        prompt_tokens=len(render_prompt(request.conversation)),
        completion_tokens=3 * len(encode_harmony(ANSWER)),
        channels=TokenCounts(analysis=3 * len(encode("Let me count.")), final=3 * len(encode("one two three four"))),
        cached_tokens=0,
    )
    assert (await chat.complete(engine, request)).usage == expected
    assert (await collect(engine, request))[-1] == GenerationFinished(expected)


async def test_max_tokens_cuts_with_length(start_engine: StartEngine, make_request: MakeRequest) -> None:
    tokens = len(encode_harmony(ANSWER.removesuffix(" four<|return|>")))
    answer = await chat.complete(await start_engine(ANSWER), make_request(max_tokens=tokens))
    assert (answer.choices[0].content, answer.choices[0].finish_reason) == ("one two three", "length")
    assert answer.usage.completion_tokens == tokens


async def test_planning_errors_come_at_the_first_step(start_engine: StartEngine, make_request: MakeRequest) -> None:
    engine = await start_engine(ANSWER)
    request = make_request(max_tokens=10**6)
    events = chat.answer(engine, request)
    with pytest.raises(ContextLengthExceededError):
        await anext(events)
    with pytest.raises(ContextLengthExceededError):
        await chat.complete(engine, request)


async def test_the_engines_refusal_comes_at_the_first_step(
    start_engine: StartEngine, make_request: MakeRequest
) -> None:
    engine = await start_engine(ANSWER, prompt_contains="something else")
    with pytest.raises(InvalidRequestError, match="script"):
        await anext(chat.answer(engine, make_request("Hello")))


@pytest.mark.parametrize("logprobs", [None, 0])
async def test_the_engine_streams_only_where_it_must(
    delta_engine: Any, make_request: MakeRequest, logprobs: int | None
) -> None:
    ids = encode_harmony(f"{FINAL}x<|return|>")
    engine = delta_engine([TokenDelta(ids, "stop", [TokenLogprobs(token_id, 0.0) for token_id in ids])])
    await chat.complete(engine, make_request(logprobs=logprobs))
    await chat.complete(engine, make_request(logprobs=logprobs, stop=("y",)))
    await collect(engine, make_request(logprobs=logprobs))
    assert [request.stream for request in engine.requests] == [False, True, True]


async def test_closing_the_stream_stops_the_engine_at_once(
    start_engine: StartEngine, make_request: MakeRequest
) -> None:
    engine = await start_engine(ANSWER)
    async with aclosing(chat.answer(engine, make_request())) as events:
        await anext(events)
        assert engine.running == 1
    assert engine.running == 0


@pytest.mark.parametrize("whole", [True, False])
async def test_cancelling_while_it_waits_stops_the_engine(
    start_engine: StartEngine, make_request: MakeRequest, whole: bool
) -> None:
    engine = await start_engine(ANSWER, step_ms=3_600_000)
    request = make_request(stop=("x",))
    call: Any = chat.complete(engine, request) if whole else collect(engine, request)
    task = asyncio.create_task(call)
    await until(lambda: engine.running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running == 0


@pytest.mark.parametrize("whole", [True, False])
async def test_stop_strings_on_every_choice_stop_the_engine(
    delta_engine: Any, make_request: MakeRequest, whole: bool
) -> None:
    deltas = [
        TokenDelta(encode_harmony(f"{FINAL}one END"), cached_tokens=16),
        TokenDelta(encode(" never sent")),
    ]
    engine = delta_engine(deltas)
    request = make_request(n=2, stop=("END",))
    if whole:
        answer = await chat.complete(engine, request)
        assert [(choice.content, choice.finish_reason) for choice in answer.choices] == [("one ", "stop")] * 2
        usage = answer.usage
    else:
        events = await collect(engine, request)
        assert events[0] == GenerationStarted()
        for choice in range(2):
            assert [event for event in events[1:-1] if getattr(event, "choice", None) == choice] == [
                TextDelta(choice, "final", "one ", opens=True),
                ChoiceFinished(choice, "stop", stop="END"),
            ]
        last = events[-1]
        assert isinstance(last, GenerationFinished)
        usage = last.usage
    assert (engine.sent, engine.closed) == (2, True)
    assert usage.completion_tokens == 2 * len(encode_harmony(f"{FINAL}one END"))
    assert usage.cached_tokens == 16


async def test_the_engine_is_stopped_before_the_last_events_are_delivered(
    start_engine: StartEngine, make_request: MakeRequest
) -> None:
    engine = await start_engine(ANSWER)
    async for event in chat.answer(engine, make_request(stop=(" three",))):
        if isinstance(event, ChoiceFinished):
            assert engine.running == 0
            break
    else:
        pytest.fail("the choice never finished")


async def test_an_engine_that_ends_by_itself_is_left_to_end(delta_engine: Any, make_request: MakeRequest) -> None:
    engine = delta_engine([TokenDelta(encode_harmony(f"{FINAL}x<|return|>"), "stop")], RuntimeError("after"))
    with pytest.raises(RuntimeError, match="after"):
        await collect(engine, make_request())


@pytest.mark.parametrize("whole", [True, False])
async def test_errors_of_the_engine_pass_through(delta_engine: Any, make_request: MakeRequest, whole: bool) -> None:
    died = EngineDiedError("gone")
    engine = delta_engine([TokenDelta(encode_harmony(f"{FINAL}x"))], died)
    with pytest.raises(EngineDiedError) as caught:
        await (chat.complete(engine, make_request()) if whole else collect(engine, make_request()))
    assert caught.value is died


async def test_an_engine_that_falls_silent_is_not_taken_for_an_answer(
    delta_engine: Any, make_request: MakeRequest
) -> None:
    engine = delta_engine([TokenDelta(encode_harmony(f"{FINAL}x"))])
    with pytest.raises(EngineDiedError, match="before the answer was complete"):
        await chat.complete(engine, make_request())


async def test_a_long_delta_leaves_turns_for_others(start_engine: StartEngine, make_request: MakeRequest) -> None:
    text = "word " * 5000
    engine = await start_engine(f"{FINAL}{text}<|return|>")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    try:
        answer = await chat.complete(engine, make_request(logprobs=0))
    finally:
        task.cancel()
    assert answer.choices[0].content == text
    assert len(answer.choices[0].content_logprobs or ()) == len(encode(text))
    assert turns > 5


async def test_ids_and_recoveries_go_to_those_who_asked(
    start_engine: StartEngine, make_request: MakeRequest, mint: Callable[[], str]
) -> None:
    engine = await start_engine("<|channel|>commentary to=functions.f json extra<|message|>{}<|call|>")
    recovered: list[str] = []
    answer = await chat.complete(
        engine, make_request(n=2, tools=(FunctionTool("f"),)), mint_call_id=mint, on_recovered=recovered.append
    )
    assert [choice.tool_calls[0].id for choice in answer.choices] == ["call_0", "call_1"]
    assert recovered == ["header_words", "header_words"]
