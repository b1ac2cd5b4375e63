"""Budgets, forced calls and constrained bodies, on an engine that plays scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.base import Constraint, EngineRequest, Sampling, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine
from serving.generation import chat
from serving.generation.answer import AnswerBuilder
from serving.generation.constraints import for_engine, of_call
from serving.generation.types import ChatAnswer, ChatGeneration
from serving.harmony.conversation import Conversation, FunctionTool, UserMessage
from serving.harmony.vocabulary import CALL, END, RETURN, encode, encode_harmony

MakeRequest = Callable[..., ChatGeneration]

NEXT = "<|end|><|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
STRUCTURE = encode_harmony(
    "<|startoftext|><|endoftext|><|return|><|constrain|><|channel|><|start|><|end|><|message|><|call|>"
)
THOUGHT = "one two three four five six seven eight"
THINKS = f"{ANALYSIS}{THOUGHT}{NEXT}{FINAL}Paris.<|return|>"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = FunctionTool("get_weather", parameters=SCHEMA)
TIME = FunctionTool("get_time", parameters=SCHEMA)


def call_of(name: str, ends: str = "<|call|>") -> str:
    return f'<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{{"city":"Paris"}}{ends}'


class Recording(ScriptedEngine):
    """Keeps what it was asked for; checks that nobody leaves a generation running."""

    def __init__(self, completion: str, tokens_per_step: int = 1, finish: str = "stop") -> None:
        line = {"completion": completion, "tokens_per_step": tokens_per_step, "finish": finish}
        super().__init__(Script((ScriptLine.model_validate(line),)))
        self.requests: list[EngineRequest] = []

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta, None]:
        assert self.running < 2, "the segment before is still running"
        self.requests.append(request)
        async with aclosing(super().generate(request)) as deltas:
            async for delta in deltas:
                yield delta


async def answers(completion: str, request: ChatGeneration, **engine: Any) -> tuple[ChatAnswer, Recording, list[str]]:
    """The whole answer, which is checked to be the streamed one, at several cuts."""
    whole: ChatAnswer | None = None
    recovered: list[str] = []
    for step in (1, 2, 5, 1000):
        player = Recording(completion, step, **engine)
        await player.start()
        builder = AnswerBuilder(request)
        async for event in chat.answer(player, request, mint_call_id=lambda: "call"):
            builder.add(event)
        recovered = []
        whole = await chat.complete(player, request, mint_call_id=lambda: "call", on_recovered=recovered.append)
        assert builder.answer() == whole
        assert player.running == 0
    assert whole is not None
    return whole, player, recovered


class TestReasoningBudget:
    @pytest.mark.parametrize("budget", [0, 1, 3, 7])
    async def test_closes_the_analysis_and_gets_an_answer(self, make_request: MakeRequest, budget: int) -> None:
        answer, engine, _ = await answers(THINKS, make_request(max_reasoning_tokens=budget))
        choice = answer.choices[0]
        assert choice.reasoning == " ".join(THOUGHT.split()[:budget])
        assert (choice.content, choice.finish_reason, choice.reasoning_truncated) == ("Paris.", "stop", True)
        written = encode_harmony(f"{ANALYSIS}{choice.reasoning}{NEXT}{FINAL}Paris.<|return|>")
        assert answer.usage.completion_tokens == len(written)
        assert answer.usage.reasoning_tokens == budget
        second = engine.requests[-1]
        assert second.completion_token_ids == written[: -len(encode_harmony("Paris.<|return|>"))]
        assert (second.priority, END in second.sampling.stop_token_ids) == (-1, True)

    @pytest.mark.parametrize("budget", [8, 9, 100])
    async def test_is_not_felt_by_those_who_keep_to_it(self, make_request: MakeRequest, budget: int) -> None:
        answer, _, _ = await answers(THINKS, make_request(max_reasoning_tokens=budget))
        choice = answer.choices[0]
        assert (choice.reasoning, choice.content, choice.reasoning_truncated) == (THOUGHT, "Paris.", budget == 8)
        assert answer.usage.completion_tokens == len(encode_harmony(THINKS))

    async def test_an_engine_that_sends_all_at_once_stops_where_the_budget_ends(
        self, make_request: MakeRequest
    ) -> None:
        engine = Recording(THINKS)
        await engine.start()
        await chat.complete(engine, make_request(max_reasoning_tokens=2))
        assert [request.stream for request in engine.requests] == [False] * len(engine.requests)
        assert len(engine.requests) <= 3

    async def test_each_choice_has_its_own(self, make_request: MakeRequest) -> None:
        request = make_request(n=3, max_reasoning_tokens=2)
        engine = Recording(THINKS)
        engine.generate = super(Recording, engine).generate  # type: ignore[method-assign]  # three run at once here
        await engine.start()
        answer = await chat.complete(engine, request)
        assert [choice.reasoning for choice in answer.choices] == ["one two"] * 3
        assert [choice.content for choice in answer.choices] == ["Paris."] * 3

    async def test_hidden_reasoning_has_it_too(self, make_request: MakeRequest) -> None:
        answer, _, _ = await answers(THINKS, make_request(max_reasoning_tokens=2, include_reasoning=False))
        assert (answer.choices[0].reasoning, answer.choices[0].content) == ("", "Paris.")

    async def test_reserve_leaves_room_for_the_answer(self, make_request: MakeRequest) -> None:
        endless = f"{ANALYSIS}{'thinking ' * 500}{NEXT}{FINAL}{'so ' * 50}<|return|>"
        answer, _, _ = await answers(endless, make_request(max_tokens=100, min_answer_tokens=20))
        choice = answer.choices[0]
        assert choice.reasoning_truncated
        assert answer.usage.channels["final"] >= 20
        assert answer.usage.completion_tokens <= 100
        assert choice.finish_reason == "length"

    async def test_reserve_larger_than_everything_means_no_analysis(self, make_request: MakeRequest) -> None:
        answer, _, _ = await answers(THINKS, make_request(max_tokens=20, min_answer_tokens=50))
        assert (answer.choices[0].reasoning, answer.choices[0].content) == ("", "Paris.")

    async def test_no_room_for_any_answer_is_a_plain_length(self, make_request: MakeRequest) -> None:
        answer, _, _ = await answers(THINKS, make_request(max_tokens=5, max_reasoning_tokens=1))
        assert (answer.choices[0].content, answer.choices[0].finish_reason) == ("", "length")

    @pytest.mark.property
    @given(budget=st.integers(0, 12), reserve=st.integers(0, 40), limit=st.integers(1, 60), step=st.integers(1, 9))
    async def test_never_more_than_allowed(self, budget: int, reserve: int, limit: int, step: int) -> None:
        conversation = Conversation((UserMessage("x"),), current_date=date(2026, 1, 1))
        request = ChatGeneration(
            "r",
            conversation,
            Sampling(1),
            max_tokens=limit,
            max_reasoning_tokens=budget,
            min_answer_tokens=reserve,
        )
        engine = Recording(f"{ANALYSIS}{'a ' * 40}{NEXT}{FINAL}{'b ' * 40}<|return|>", step)
        await engine.start()
        answer = await chat.complete(engine, request)
        assert answer.usage.completion_tokens <= limit
        assert answer.usage.reasoning_tokens <= budget or answer.choices[0].finish_reason == "length"


class TestMissingAnswer:
    @pytest.mark.parametrize("ending", ["<|return|>", "<|end|><|return|>", "<|end|><|start|>assistant<|return|>"])
    async def test_is_asked_for(self, make_request: MakeRequest, ending: str) -> None:
        completion = f"{ANALYSIS}Hm.{ending}{FINAL}Paris.<|return|>"
        answer, _, recovered = await answers(completion, make_request())
        assert (answer.choices[0].reasoning, answer.choices[0].content) == ("Hm.", "Paris.")
        assert "answer_missing" in recovered

    async def test_a_call_of_a_function_that_was_not_offered_is_no_answer(self, make_request: MakeRequest) -> None:
        completion = f"{call_of('browser.search', '<|return|>')}{FINAL}Paris.<|return|>"
        answer, _, recovered = await answers(completion, make_request(tools=(WEATHER,)))
        choice = answer.choices[0]
        assert (choice.commentary, choice.content) == ('{"city":"Paris"}', "Paris.")
        assert (choice.tool_calls, choice.finish_reason) == ([], "stop")
        assert recovered == ["tool_not_offered", "answer_missing"]

    @pytest.mark.parametrize(
        "nothing",
        [
            f"{ANALYSIS}Hm.",
            "<|channel|>commentary<|message|>Let me see.",
            f"{ANALYSIS}Hm.{NEXT}<|channel|>commentary<|message|>Let me see.",
            f"{FINAL}",
            f"{ANALYSIS}Hm.{NEXT}{FINAL}",
            "<|channel|>final",
            f"{ANALYSIS}Hm.{NEXT}<|channel|>commentary",
            "<|channel|>commentary<|message|>Let me see.<|end|><|start|>user<|message|>Go on.",
        ],
    )
    async def test_a_turn_with_nothing_for_the_user_is_given_a_second_chance(
        self, nothing: str, make_request: MakeRequest
    ) -> None:
        completion = f"{nothing}<|return|>{FINAL}Paris.<|return|>"
        answer, engine, recovered = await answers(completion, make_request())
        assert answer.choices[0].content == "Paris."
        assert answer.choices[0].finish_reason == "stop"
        assert recovered.count("answer_missing") == 1
        assert answer.usage.recovered == Counter(recovered)
        assert len(engine.requests) == 4  # two streamed, two whole

    async def test_a_second_chance_is_the_last(self, make_request: MakeRequest) -> None:
        answer, engine, recovered = await answers(f"{FINAL}<|return|>", make_request())
        assert (answer.choices[0].content, recovered) == ("", ["answer_missing"])
        assert len(engine.requests) == 4  # two streamed, two whole

    @pytest.mark.parametrize("nothing", [f"{ANALYSIS}Hm.", "<|channel|>commentary<|message|>Let me see.", f"{FINAL}"])
    async def test_no_second_chance_is_given_where_none_is_wanted(
        self, nothing: str, make_request: MakeRequest
    ) -> None:
        request = make_request(second_chance=False)
        answer, engine, recovered = await answers(f"{nothing}<|return|>{FINAL}Paris.<|return|>", request)
        assert (answer.choices[0].content, recovered, answer.usage.recovered) == ("", [], {})
        assert len(engine.requests) == 2  # one streamed, one whole

    async def test_a_second_chance_stays_within_max_tokens(self, make_request: MakeRequest) -> None:
        completion = f"{ANALYSIS}Hm.<|return|>{FINAL}Paris, of course.<|return|>"
        answer, engine, recovered = await answers(completion, make_request(max_tokens=10))
        assert (answer.choices[0].content, recovered) == ("", [])  # no token would be left after the header
        assert len(engine.requests) == 2
        answer, _, _ = await answers(completion, make_request(max_tokens=14))
        assert answer.usage.completion_tokens == 14
        assert (answer.choices[0].content, answer.choices[0].finish_reason) == ("Paris, of", "length")

    @pytest.mark.parametrize("text", ["<|channel|>critic<|message|>Paris.<|return|>", "Paris.<|return|>"])
    async def test_text_that_is_taken_for_the_answer_needs_no_second_chance(
        self, text: str, make_request: MakeRequest
    ) -> None:
        answer, _, recovered = await answers(text, make_request())
        assert answer.choices[0].content == "Paris."
        assert "answer_missing" not in recovered

    async def test_a_call_needs_no_second_chance(self, make_request: MakeRequest) -> None:
        answer, engine, _ = await answers(call_of("get_weather"), make_request(tools=(WEATHER,)))
        assert len(answer.choices[0].tool_calls) == 1
        assert len(engine.requests) == 2  # one streamed, one whole


class TestNamesAgain:
    async def test_a_call_of_what_is_not_offered_becomes_one_of_what_is(self, make_request: MakeRequest) -> None:
        completion = f"{ANALYSIS}Hm.{NEXT}{call_of('look_outside')}{call_of('get_weather')}"
        request = make_request(tools=(WEATHER, TIME), names_again=True)
        answer, _, recovered = await answers(completion, request)
        (call,) = answer.choices[0].tool_calls
        assert (call.name, call.arguments) == ("get_weather", '{"city":"Paris"}')
        assert (answer.choices[0].commentary, answer.choices[0].reasoning) == ("", "Hm.")
        assert "tool_not_offered" in recovered

    async def test_the_model_chooses_among_the_names_on_offer(self, make_request: MakeRequest) -> None:
        completion = f"{call_of('look_outside')}{call_of('get_time')}"
        _, engine, _ = await answers(completion, make_request(tools=(WEATHER, TIME), names_again=True))
        constraints = [each.constraint for each in engine.requests if each.constraint is not None]
        assert constraints[0] == Constraint("choice", json.dumps([".get_weather", ".get_time"]))

    async def test_the_only_function_on_offer_is_called_at_once(self, make_request: MakeRequest) -> None:
        completion = f"{call_of('look_outside')}{call_of('get_weather')}"
        answer, _, _ = await answers(completion, make_request(tools=(WEATHER,), names_again=True))
        assert [call.name for call in answer.choices[0].tool_calls] == ["get_weather"]

    async def test_without_it_the_call_is_commentary(self, make_request: MakeRequest) -> None:
        completion = f"{call_of('look_outside')}{FINAL}Paris.<|return|>"
        answer, _, _ = await answers(completion, make_request(tools=(WEATHER, TIME)))
        assert answer.choices[0].tool_calls == []
        assert (answer.choices[0].commentary, answer.choices[0].content) == ('{"city":"Paris"}', "Paris.")


class TestForcedCalls:
    @pytest.mark.parametrize(
        "completion",
        [
            f"{ANALYSIS}Hm.{NEXT}{FINAL}No.{NEXT}{call_of('get_weather')}",
            f"{ANALYSIS}Hm.<|return|>{call_of('get_weather')}",
            f"{FINAL}No.<|return|>{call_of('get_weather')}",
            f"{call_of('get_time', '<|end|>')}<|start|>assistant{call_of('get_weather')}",
            f"No, I will rather not do that.<|return|>{call_of('get_weather')}",
            f"{ANALYSIS}Hm.{NEXT}{call_of('get_weather')}",
        ],
    )
    async def test_named(self, make_request: MakeRequest, completion: str) -> None:
        request = make_request(tools=(WEATHER, TIME), forced_tools=("get_weather",))
        answer, engine, _ = await answers(completion, request)
        choice = answer.choices[0]
        assert [(call.name, call.arguments) for call in choice.tool_calls] == [("get_weather", '{"city":"Paris"}')]
        assert (choice.content, choice.finish_reason) == ("", "tool_calls")
        last = engine.requests[-1]
        assert last.constraint == for_engine(of_call(WEATHER))
        assert CALL in last.sampling.stop_token_ids

    @pytest.mark.parametrize("name", ["get_weather", "get_time"])
    async def test_required_lets_the_model_name_the_function(self, make_request: MakeRequest, name: str) -> None:
        request = make_request(tools=(WEATHER, TIME), forced_tools=("get_weather", "get_time"))
        answer, engine, _ = await answers(f"{FINAL}No.<|return|>{call_of(name)}", request)
        assert [call.name for call in answer.choices[0].tool_calls] == [name]
        named = engine.requests[-2]
        assert named.constraint == Constraint("choice", json.dumps([".get_weather", ".get_time"]))
        # The header is written as the model writes it, token for token.
        assert engine.requests[-1].completion_token_ids == encode_harmony(call_of(name).partition("{")[0])

    async def test_strict_tools_hold_arguments_to_their_schema(self, make_request: MakeRequest) -> None:
        strict = FunctionTool("get_weather", parameters=SCHEMA, strict=True)
        preamble = f"<|channel|>commentary<|message|>One moment.{NEXT}"
        answer, engine, _ = await answers(f"{preamble}{call_of('get_weather')}", make_request(tools=(strict, TIME)))
        assert answer.choices[0].commentary == "One moment."
        assert answer.choices[0].tool_calls[0].arguments == '{"city":"Paris"}'
        assert engine.requests[-1].constraint == for_engine(Constraint("json_schema", json.dumps(SCHEMA)))

    async def test_a_grammars_end_is_the_calls_end(self, make_request: MakeRequest) -> None:
        request = make_request(tools=(WEATHER,), forced_tools=("get_weather",))
        answer, _, recovered = await answers(call_of("get_weather", "<|return|>"), request)
        assert answer.choices[0].finish_reason == "tool_calls"
        assert recovered == []

    async def test_other_tools_are_called_freely(self, make_request: MakeRequest) -> None:
        strict = FunctionTool("get_weather", parameters=SCHEMA, strict=True)
        answer, engine, _ = await answers(call_of("get_time"), make_request(tools=(strict, TIME)))
        assert answer.choices[0].tool_calls[0].name == "get_time"
        assert [request.constraint for request in engine.requests] == [None, None]

    async def test_a_budget_ends_in_the_call(self, make_request: MakeRequest) -> None:
        request = make_request(tools=(WEATHER,), forced_tools=("get_weather",), max_reasoning_tokens=2)
        answer, _, _ = await answers(f"{ANALYSIS}{THOUGHT}{NEXT}{call_of('get_weather')}", request)
        assert answer.choices[0].reasoning == "one two"
        assert answer.choices[0].reasoning_truncated
        assert len(answer.choices[0].tool_calls) == 1

    async def test_one_call_where_several_are_not_wanted(self, make_request: MakeRequest) -> None:
        two = f"{call_of('get_weather', '<|end|>')}<|start|>assistant{call_of('get_time')}"
        both, _, _ = await answers(two, make_request(tools=(WEATHER, TIME)))
        one, _, _ = await answers(two, make_request(tools=(WEATHER, TIME), parallel_tool_calls=False))
        assert [call.name for call in both.choices[0].tool_calls] == ["get_weather", "get_time"]
        assert [call.name for call in one.choices[0].tool_calls] == ["get_weather"]
        assert one.choices[0].finish_reason == "tool_calls"


class TestConstrainedAnswer:
    CONSTRAINT = Constraint("json_schema", json.dumps(SCHEMA))

    @pytest.mark.parametrize(
        "completion",
        [
            f"{ANALYSIS}Hm.{NEXT}{FINAL}{{}}<|return|>",
            f"{ANALYSIS}Hm.{NEXT}<|channel|>final <|constrain|>json<|message|>No.<|return|>{FINAL}{{}}<|return|>",
            f"{ANALYSIS}Hm.<|return|>{FINAL}{{}}<|return|>",
        ],
    )
    async def test_holds_for_the_final_channel_alone(self, make_request: MakeRequest, completion: str) -> None:
        answer, engine, _ = await answers(completion, make_request(answer=self.CONSTRAINT))
        assert (answer.choices[0].reasoning, answer.choices[0].content) == ("Hm.", "{}")
        last = engine.requests[-1]
        assert (last.constraint, last.constrained_tokens) == (for_engine(self.CONSTRAINT), 0)
        assert last.completion_token_ids == encode_harmony(f"{ANALYSIS}Hm.{NEXT}{FINAL}")
        assert engine.requests[-2].constraint is None
        assert RETURN in last.sampling.stop_token_ids
        # A special token is text to the grammar; no string may contain one all the same.
        assert set(last.sampling.logit_bias or {}) == set(STRUCTURE) - set(last.sampling.stop_token_ids)

    async def test_text_without_a_header_is_said_again_under_it(self, make_request: MakeRequest) -> None:
        completion = f"Paris is the capital of France.<|return|>{FINAL}{{}}<|return|>"
        answer, _, _ = await answers(completion, make_request(answer=self.CONSTRAINT))
        assert answer.choices[0].content == "{}"

    async def test_calls_are_free_under_it(self, make_request: MakeRequest) -> None:
        request = make_request(answer=self.CONSTRAINT, tools=(WEATHER,))
        answer, engine, _ = await answers(call_of("get_weather"), request)
        assert answer.choices[0].tool_calls[0].name == "get_weather"
        assert engine.requests[-1].constraint is None

    async def test_logprobs_and_stop_strings_go_with_it(self, make_request: MakeRequest) -> None:
        request = make_request(answer=self.CONSTRAINT, logprobs=0, stop=("six",))
        answer, _, _ = await answers(f"{ANALYSIS}Hm.{NEXT}{FINAL}{THOUGHT}<|return|>", request)
        choice = answer.choices[0]
        assert choice.content == "one two three four five "
        assert len(choice.content_logprobs or ()) == len(encode("one two three four five "))
