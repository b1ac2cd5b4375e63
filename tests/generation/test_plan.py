from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serving.engine.base import EngineRequest
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.errors import ContextLengthExceededError, EngineNotReadyError
from serving.generation import plan as plan_module
from serving.generation.choice import ChoiceReader
from serving.generation.plan import Plan, plan
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import AssistantMessage, Conversation, FunctionCall, FunctionTool, UserMessage
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import decode

MakeRequest = Callable[..., ChatGeneration]


async def engine_with(max_model_len: int) -> ScriptedEngine:
    engine = ScriptedEngine(Script((ScriptLine(completion="x"),)), max_model_len=max_model_len)
    await engine.start()
    return engine


def reader(planned: Plan, choice: int = 0) -> ChoiceReader:
    return ChoiceReader(choice, planned.request, lambda: "", None, planned.max_tokens)


def first_segment(planned: Plan, choice: int = 0) -> EngineRequest:
    return planned.segment_request(reader(planned, choice), 0, stream=True)


async def test_renders_the_prompt_and_stops_at_harmonys_ends(make_request: MakeRequest) -> None:
    request = make_request("What now?", max_tokens=7, n=2)
    planned = await plan(await engine_with(1000), request)
    prompt = render_prompt(request.conversation)
    expected = replace(request.sampling, max_tokens=7, stop_token_ids=(200002, 200012))
    assert first_segment(planned, 1) == EngineRequest("request-1-0", prompt, expected, stream=True)


async def test_every_choice_and_leg_has_a_seed_of_its_own(make_request: MakeRequest) -> None:
    request = make_request(max_tokens=7, n=2)
    for seed in (-(2**63), 0, 7, 2**63 - 1):
        planned = await plan(await engine_with(1000), replace(request, sampling=replace(request.sampling, seed=seed)))
        seeds = [
            planned.segment_request(reader(planned, choice), segment, stream=True).sampling.seed
            for choice in range(2)
            for segment in range(3)
        ]
        assert seeds[0] == seed
        assert len(set(seeds)) == len(seeds)
        assert all(value is not None and -(2**63) <= value < 2**63 for value in seeds)


async def test_other_stop_tokens_are_kept(make_request: MakeRequest) -> None:
    request = make_request()
    request = replace(request, sampling=replace(request.sampling, stop_token_ids=(5, 200012)))
    planned = await plan(await engine_with(1000), request)
    assert first_segment(planned).sampling.stop_token_ids == (200002, 200012, 5)


async def test_no_max_tokens_means_what_is_left(make_request: MakeRequest) -> None:
    request = make_request()
    prompt_tokens = len(render_prompt(request.conversation))
    planned = await plan(await engine_with(prompt_tokens + 5), request)
    assert planned.max_tokens == first_segment(planned).sampling.max_tokens == 5


async def test_what_just_fits_is_let_through(make_request: MakeRequest) -> None:
    request = make_request(max_tokens=5)
    prompt_tokens = len(render_prompt(request.conversation))
    assert (await plan(await engine_with(prompt_tokens + 5), request)).max_tokens == 5


async def test_too_many_tokens_asked_for_names_both_numbers(make_request: MakeRequest) -> None:
    request = make_request(max_tokens=6)
    prompt_tokens = len(render_prompt(request.conversation))
    with pytest.raises(ContextLengthExceededError) as caught:
        await plan(await engine_with(prompt_tokens + 5), request)
    message = caught.value.message
    assert f"maximum context length is {prompt_tokens + 5} tokens; your messages have {prompt_tokens}" in message
    assert "max_tokens asks for 6" in message
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("max_tokens", [None, 1])
async def test_a_prompt_that_fills_the_context_is_refused(make_request: MakeRequest, max_tokens: int | None) -> None:
    request = make_request(max_tokens=max_tokens)
    prompt_tokens = len(render_prompt(request.conversation))
    with pytest.raises(ContextLengthExceededError, match=f"{prompt_tokens} tokens; your messages have {prompt_tokens}"):
        await plan(await engine_with(prompt_tokens), request)


async def test_an_engine_that_is_not_ready_is_said_so(make_request: MakeRequest) -> None:
    with pytest.raises(EngineNotReadyError):
        await plan(ScriptedEngine(Script(())), make_request())


LONG = "word " * 5000


@pytest.mark.parametrize(
    ("conversation", "in_thread"),
    [
        (Conversation((UserMessage("short"),)), False),
        (Conversation((UserMessage(LONG),)), True),
        (Conversation((UserMessage("x"),), instructions=LONG), True),
        (Conversation((UserMessage("x"), AssistantMessage(tool_calls=(FunctionCall("i", "f", LONG),)))), True),
        (Conversation((UserMessage("x"),), tools=tuple(FunctionTool(f"f{i}") for i in range(50))), True),
    ],
    ids=["short", "long message", "long instructions", "long arguments", "many tools"],
)
async def test_only_long_prompts_are_rendered_in_a_thread(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch, conversation: Conversation, in_thread: bool
) -> None:
    threads: list[bool] = []

    def render(conversation: Conversation) -> Any:
        threads.append(threading.current_thread() is not threading.main_thread())
        return render_prompt(conversation)

    monkeypatch.setattr(plan_module, "render_prompt", render)
    await plan(await engine_with(131072), replace(make_request(), conversation=conversation))
    assert threads == [in_thread]


def of_turns(turns: int) -> Conversation:
    said = [m for i in range(turns) for m in (UserMessage(f"question {i} " * 20), AssistantMessage("answer " * 20))]
    return Conversation((*said, UserMessage("the last question")))


@pytest.mark.parametrize(("max_tokens", "room"), [(300, 700), (None, 750)])
async def test_truncation_leaves_room_for_the_answer(
    make_request: MakeRequest, max_tokens: int | None, room: int
) -> None:
    engine, request = await engine_with(1000), replace(make_request(max_tokens=max_tokens), conversation=of_turns(30))
    with pytest.raises(ContextLengthExceededError):
        await plan(engine, request)
    prompt = (await plan(engine, replace(request, truncate=True, answer_share=0.25))).prompt_token_ids
    assert room - 100 < len(prompt) <= room
    text = decode(prompt)
    assert "question 29" in text
    assert "the last question" in text
    assert "question 0" not in text


async def test_truncation_leaves_a_conversation_that_fits_alone(make_request: MakeRequest) -> None:
    engine, request = await engine_with(4000), replace(make_request(), conversation=of_turns(3))
    assert await plan(engine, request) == replace(await plan(engine, replace(request, truncate=True)), request=request)


async def test_what_is_too_long_without_its_oldest_turns_is_too_long(make_request: MakeRequest) -> None:
    request = replace(make_request(), conversation=Conversation((UserMessage("word " * 2000),)), truncate=True)
    with pytest.raises(ContextLengthExceededError):
        await plan(await engine_with(1000), request)
