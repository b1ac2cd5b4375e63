from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.engine.base import Constraint, Engine, EngineRequest, OwnedEngine, Sampling, TokenDelta
from serving.engine.scripted import Script, ScriptedEngine, ScriptLine, load_script
from serving.engine.scripted_prompt import ScriptedPrompt
from serving.errors import EngineDiedError, EngineNotReadyError, InvalidRequestError, SettingsError
from serving.harmony.conversation import AssistantMessage, Conversation, FunctionCall, Message, ToolMessage, UserMessage
from serving.harmony.render import render_prompt
from serving.harmony.vocabulary import RETURN, decode, encode, encode_harmony

COMPLETION = "<|channel|>final<|message|>one two three<|return|>"
IDS = encode_harmony(COMPLETION)
HOUR_MS = 3_600_000.0


def request_for(text: str = "Hello", *, stream: bool = True, **sampling: Any) -> EngineRequest:
    prompt = render_prompt(Conversation((UserMessage(text),)))
    return EngineRequest("r", prompt, Sampling(**{"max_tokens": 1000, "stop_token_ids": (RETURN,), **sampling}), stream)


async def started(*lines: dict[str, Any], **options: Any) -> ScriptedEngine:
    engine = ScriptedEngine(Script(tuple(ScriptLine.model_validate(line) for line in lines)), **options)
    await engine.start()
    return engine


async def play(engine: Engine, request: EngineRequest) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(request)]


def tokens(deltas: list[TokenDelta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.001)


class TestChoosingALine:
    async def test_first_line_whose_text_occurs_wins(self) -> None:
        script = Script(
            (
                ScriptLine(completion="default"),
                ScriptLine(prompt_contains="weather", completion="first"),
                ScriptLine(prompt_contains="weather in", completion="second"),
            )
        )
        for text, completion in (("The weather in Rome?", "first"), ("Who are you?", "default")):
            line = script.line_for(ScriptedPrompt(request_for(text).prompt_token_ids))
            assert line is not None
            assert line.completion == completion

    async def test_only_the_last_user_message_counts(self) -> None:
        engine = await started({"prompt_contains": "weather", "completion": "sunny"}, {"completion": "what?"})
        conversation = Conversation(
            (UserMessage("weather"), AssistantMessage(content="weather"), UserMessage("thanks")),
            instructions="weather",
        )
        request = replace(request_for(), prompt_token_ids=render_prompt(conversation))
        assert tokens(await play(engine, request)) == encode("what?")

    async def test_no_line_and_no_default_is_refused(self) -> None:
        engine = await started({"prompt_contains": "weather", "completion": "x"})
        with pytest.raises(InvalidRequestError, match="no line for this prompt and no default"):
            await play(engine, request_for("Hello"))

    async def test_a_tool_loop_is_played_by_tail_and_turn(self) -> None:
        engine = await started(
            {"tail_contains": "weather", "turn": 1, "completion": "call"},
            {"tail_contains": "sunny", "turn": 2, "completion": "call again"},
            {"tail_contains": "sunny", "completion": "answer"},
            {"prompt_contains": "weather", "completion": "never"},
        )
        call = AssistantMessage(tool_calls=(FunctionCall("c", "get_weather", "{}"),))
        result = ToolMessage("get_weather", "sunny", "c")
        messages: tuple[Message, ...] = (UserMessage("How is the weather?"),)
        played = []
        for _ in range(3):
            request = replace(request_for(), prompt_token_ids=render_prompt(Conversation(messages)))
            played.append(decode(tokens(await play(engine, request))))
            messages = (*messages, call, result)
        assert played == ["call", "call again", "answer"]

    async def test_a_line_must_meet_all_of_its_conditions(self) -> None:
        engine = await started({"prompt_contains": "weather", "turn": 2, "completion": "x"}, {"completion": "default"})
        assert tokens(await play(engine, request_for("weather"))) == encode("default")

    async def test_without_a_line_the_client_learns_what_was_compared_and_the_log_nothing_of_the_prompt(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine = await started({"tail_contains": "weather", "completion": "x"}, {"turn": 2, "completion": "x"})
        with pytest.raises(InvalidRequestError, match=r"Lines: 2\. Prompt: turn 1, last user message 'my secret'"):
            await play(engine, request_for("my secret"))
        assert "none of 2 lines fits turn 1" in caplog.text
        assert "secret" not in caplog.text

    async def test_a_check_of_a_constraint_needs_no_line(self) -> None:
        engine = await started({"prompt_contains": "weather", "completion": "x"})
        check = replace(request_for(), prompt_token_ids=encode_harmony("<|start|>assistant<|channel|>final<|message|>"))
        assert tokens(await play(engine, check)) == [RETURN]

    async def test_the_page_of_scripts_plays_its_tool_loop(self, tmp_path: Path) -> None:
        page = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
        path = tmp_path / "answers.jsonl"
        path.write_text(page.split("```jsonl\n")[1].split("```")[0], encoding="utf-8")
        script = load_script(path)
        assert all(f"| `{name}`" in page or f", `{name}`" in page for name in ScriptLine.model_fields)
        question = UserMessage("How is the weather in Rome?")
        call = AssistantMessage(tool_calls=(FunctionCall("c", "get_weather", '{"city": "Rome"}'),))
        lines = [
            script.line_for(ScriptedPrompt(render_prompt(Conversation(messages))))
            for messages in ((question,), (question, call, ToolMessage("get_weather", "sunny", "c")), ())
        ]
        assert lines == list(script.lines)


class TestPlaying:
    @pytest.mark.parametrize("step", [1, 3, 1000])
    async def test_steps_join_to_the_completion(self, step: int) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": step})
        deltas = await play(engine, request_for())
        assert tokens(deltas) == IDS
        assert [len(delta.token_ids) for delta in deltas[:-1]] == [step] * (len(deltas) - 1)
        assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]
        assert engine.running == 0

    async def test_same_request_same_tokens(self) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 2})
        request = request_for(logprobs=2)
        assert await play(engine, request) == await play(engine, request)

    async def test_max_tokens_ends_with_length(self) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 2})
        deltas = await play(engine, request_for(max_tokens=3))
        assert tokens(deltas) == IDS[:3]
        assert deltas[-1].finish_reason == "length"

    async def test_a_stop_token_as_the_last_allowed_one_is_a_stop(self) -> None:
        engine = await started({"completion": COMPLETION})
        deltas = await play(engine, request_for(max_tokens=len(IDS)))
        assert deltas[-1].finish_reason == "stop"

    async def test_a_stop_token_is_delivered_last(self) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 1000, "finish": "length"})
        stop = encode(" two")[0]
        deltas = await play(engine, request_for(stop_token_ids=(stop, RETURN)))
        assert tokens(deltas) == IDS[: IDS.index(stop) + 1]
        assert deltas[-1].finish_reason == "stop"

    @pytest.mark.parametrize("finish", ["stop", "length"])
    async def test_without_a_stop_token_the_line_says_how_it_ends(self, finish: str) -> None:
        engine = await started({"completion": "one two", "finish": finish})
        assert (await play(engine, request_for()))[-1].finish_reason == finish

    async def test_unstreamed_comes_in_one_delta(self) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 1})
        assert await play(engine, request_for(stream=False)) == [TokenDelta(IDS, "stop")]

    async def test_goes_on_after_what_there_is(self) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 2})
        for written in range(len(IDS)):
            deltas = await play(engine, replace(request_for(), completion_token_ids=IDS[:written]))
            assert tokens(deltas) == IDS[written:]

    async def test_goes_on_behind_a_forced_header_where_the_script_has_it(self) -> None:
        final = "<|end|><|start|>assistant<|channel|>final<|message|>"
        script = f"<|channel|>analysis<|message|>Let me see.{final}One.<|return|>"
        engine = await started({"completion": script})
        cut = encode_harmony(f"<|channel|>analysis<|message|>Let{final}")
        said = await play(engine, replace(request_for(), completion_token_ids=cut))
        assert tokens(said) == encode_harmony("One.<|return|>")
        call = encode_harmony("<|channel|>commentary to=functions.f <|constrain|>json<|message|>")
        assert tokens(await play(engine, replace(request_for(), completion_token_ids=call))) == [RETURN]

    async def test_keeps_to_a_choice(self) -> None:
        engine = await started({"completion": "to=functions.g"})
        choice = Constraint("choice", '[".f", ".g"]')
        assert tokens(await play(engine, replace(request_for(), constraint=choice))) == [*encode(".g"), RETURN]

    @pytest.mark.parametrize("stream", [True, False])
    async def test_keeps_the_pace(self, stream: bool) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 3, "step_ms": 5})
        begun = time.monotonic()
        await play(engine, request_for(stream=stream))
        # The loop's clock may fire a timer one tick early.
        assert time.monotonic() - begun >= math.ceil(len(IDS) / 3) * 0.005 - 0.002

    async def test_without_pace_others_get_turns(self) -> None:
        engine = await started({"completion": COMPLETION})
        order: list[tuple[str, int]] = []
        note = order.append

        async def one(name: str) -> None:
            async for delta in engine.generate(request_for()):
                note((name, delta.token_ids[0]))

        await asyncio.gather(one("a"), one("b"))
        assert order == [(name, token_id) for token_id in IDS for name in "ab"]

    @pytest.mark.parametrize("count", [0, 1, 4])
    async def test_logprobs_are_a_distribution_led_by_the_token(self, count: int) -> None:
        engine = await started({"completion": COMPLETION, "tokens_per_step": 4})
        for delta in await play(engine, request_for(logprobs=count)):
            assert delta.logprobs is not None
            assert [position.token_id for position in delta.logprobs] == delta.token_ids
            for position in delta.logprobs:
                assert len({token_id for token_id, _ in position.top}) == len(position.top) == count
                assert [logprob for _, logprob in position.top] == sorted((p for _, p in position.top), reverse=True)
                assert sum(math.exp(logprob) for _, logprob in position.top) < 1
                assert position.top[:1] == ((position.token_id, position.logprob),)[:count]

    async def test_no_logprobs_unless_asked(self) -> None:
        engine = await started({"completion": COMPLETION})
        assert all(delta.logprobs is None for delta in await play(engine, request_for()))


class TestLife:
    async def test_closing_the_iterator_stops_the_work(self) -> None:
        engine = await started({"completion": COMPLETION})
        async with aclosing(engine.generate(request_for())) as deltas:
            await anext(deltas)
            assert engine.running == 1
        assert engine.running == 0

    async def test_cancelling_stops_a_wait(self) -> None:
        engine = await started({"completion": COMPLETION, "step_ms": HOUR_MS})
        task = asyncio.create_task(play(engine, request_for()))
        await until(lambda: engine.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.running == 0

    async def test_close_ends_generations_that_wait(self) -> None:
        engine = await started({"completion": COMPLETION, "step_ms": HOUR_MS})
        tasks = [asyncio.create_task(play(engine, request_for())) for _ in range(3)]
        await until(lambda: engine.running == 3)
        await engine.close()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert [type(result) for result in results] == [EngineDiedError] * 3
        assert engine.running == 0

    async def test_is_ready_only_between_start_and_close(self) -> None:
        engine: OwnedEngine = ScriptedEngine(Script((ScriptLine(completion="x"),)), model="m", max_model_len=77)
        for closed in (False, True):
            with pytest.raises(EngineNotReadyError):
                await engine.prepare()
            with pytest.raises(EngineNotReadyError):
                await engine.check_health()
            with pytest.raises(EngineNotReadyError):
                await play(engine, request_for())
            if not closed:
                await engine.start()
                await engine.check_health()
                info = await engine.prepare()
                assert (info.model, info.max_model_len) == ("m", 77)
                await engine.close()
                await engine.close()

    async def test_context_is_gpt_oss_s_unless_said(self) -> None:
        assert (await (await started({"completion": "x"})).prepare()).max_model_len == 131072


class TestLoading:
    @staticmethod
    def problems(path: Path, text: str) -> list[tuple[str, str]]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SettingsError) as caught:
            load_script(path)
        return caught.value.problems

    def test_reads_lines_and_skips_blank_ones(self, tmp_path: Path) -> None:
        path = tmp_path / "script.jsonl"
        first = {
            "prompt_contains": "a\u2028b",
            "tail_contains": "c",
            "turn": 2,
            "adapter": "pirate",
            "completion": COMPLETION,
            "tokens_per_step": 2,
            "step_ms": 1,
            "finish": "length",
        }
        path.write_text(json.dumps(first, ensure_ascii=False) + '\n\n{"completion": "x"}\n', encoding="utf-8")
        script = load_script(path)
        assert script.lines == (ScriptLine.model_validate(first), ScriptLine(completion="x"))
        assert script.lines[0].model_dump() == first

    @pytest.mark.parametrize(
        ("line", "field"),
        [
            ("{}", "completion"),
            ('{"completion": ""}', "completion"),
            ('{"completion": 1}', "completion"),
            ('{"completion": "x", "tokens_per_step": 0}', "tokens_per_step"),
            ('{"completion": "x", "tokens_per_step": "1"}', "tokens_per_step"),
            ('{"completion": "x", "step_ms": -1}', "step_ms"),
            ('{"completion": "x", "step_ms": 1e999}', "step_ms"),
            ('{"completion": "x", "finish": "done"}', "finish"),
            ('{"completion": "x", "prompt_contains": ""}', "prompt_contains"),
            ('{"completion": "x", "promt_contains": "y"}', "promt_contains"),
        ],
    )
    def test_a_mistake_is_named_by_file_line_and_field(self, tmp_path: Path, line: str, field: str) -> None:
        path = tmp_path / "script.jsonl"
        problems = self.problems(path, '{"completion": "fine", "prompt_contains": "f"}\n' + line)
        assert [place for place, _ in problems] == [f"{path}:2: {field}"]

    @pytest.mark.parametrize("line", ["{", "[]", "null", '"x"'])
    def test_a_line_that_is_no_object_is_named(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "script.jsonl"
        assert [place for place, _ in self.problems(path, line)] == [f"{path}:1"]

    def test_all_mistakes_are_told_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "script.jsonl"
        problems = self.problems(path, '{"step_ms": -1}\n{"completion": "x"}\n{"completion": "y"}\n{')
        assert [place for place, _ in problems] == [
            f"{path}:1: completion",
            f"{path}:1: step_ms",
            f"{path}:3: prompt_contains",
            f"{path}:4",
        ]
        assert "line 2" in problems[2][1]

    def test_an_empty_script_is_a_mistake(self, tmp_path: Path) -> None:
        assert "no lines" in self.problems(tmp_path / "script.jsonl", "\n")[0][1]

    def test_a_file_that_cannot_be_read_is_a_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot read"):
            load_script(tmp_path / "missing.jsonl")
        (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
        with pytest.raises(SettingsError, match="cannot read"):
            load_script(tmp_path / "binary.jsonl")
