"""Two requests have one key when an engine would be asked the same, and only then."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date
from typing import Any

import pytest

from serving.cache.key import chat_key, completion_key, model_key
from serving.engine.base import Constraint, EngineInfo, Sampling
from serving.generation.completions import CompletionGeneration
from serving.generation.plan import Plan
from serving.generation.types import ChatGeneration
from serving.harmony.conversation import Conversation, FunctionTool, ResponseFormat, UserMessage
from serving.settings.models import ModelSettings, ReplicaSettings
from serving.settings.reasoning import ReasoningSettings

SAMPLING = Sampling(max_tokens=10)
CHAT = ChatGeneration("r", Conversation((UserMessage("Hello!"),)), SAMPLING)
RAW = CompletionGeneration("r", ([1, 2], [3]), SAMPLING)
INFO = EngineInfo("demo", 1000, {"vllm": "1"})

OTHER_SAMPLING: dict[str, Any] = {
    "min_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "seed": 1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.5,
    "logit_bias": {5: 1.0},
    "logprobs": 0,
    "stop_token_ids": (7,),
}
OTHER_CHAT: dict[str, Any] = {
    "conversation": replace(CHAT.conversation, tools=(FunctionTool("f", strict=True),)),
    "n": 2,
    "stop": ("x",),
    "include_reasoning": False,
    "forced_tools": ("f",),
    "plain_calls": (("f", Constraint("regex", "a")),),
    "parallel_tool_calls": False,
    "answer": Constraint("regex", "a"),
    "max_reasoning_tokens": 5,
    "min_answer_tokens": 5,
    "second_chance": False,
    "names_again": True,
    "caps_max_tokens": True,
}
OTHER_CONVERSATION: dict[str, Any] = {
    "effort": "high",
    "current_date": date(2026, 11, 21),
    "instructions": "Be brief.",
    "tools": (FunctionTool("f", parameters={"type": "object"}),),
    "response_format": ResponseFormat("r", {"type": "object"}),
}
OTHER_RAW: dict[str, Any] = {
    "prompts": ([1], [2, 3]),
    "n": 2,
    "max_tokens": 5,
    "stop": ("x",),
    "skip_special": False,
    "constraint": Constraint("regex", "a"),
}


def key(request: ChatGeneration = CHAT, prompt: list[int] | None = None, max_tokens: int = 10) -> str:
    return chat_key("demo", Plan(request, prompt or [1, 2, 3], max_tokens))


class TestChat:
    def test_equal_requests_have_one_key(self) -> None:
        assert key() == key(replace(CHAT))

    @pytest.mark.parametrize(("field", "value"), OTHER_SAMPLING.items(), ids=OTHER_SAMPLING)
    def test_all_of_sampling_counts(self, field: str, value: Any) -> None:
        assert key(replace(CHAT, sampling=replace(SAMPLING, **{field: value}))) != key()

    @pytest.mark.parametrize(("field", "value"), OTHER_CHAT.items(), ids=OTHER_CHAT)
    def test_every_field_counts(self, field: str, value: Any) -> None:
        assert key(replace(CHAT, **{field: value})) != key()

    @pytest.mark.parametrize(("field", "value"), OTHER_CONVERSATION.items(), ids=OTHER_CONVERSATION)
    def test_all_of_the_conversation_counts(self, field: str, value: Any) -> None:
        assert key(replace(CHAT, conversation=replace(CHAT.conversation, **{field: value}))) != key()

    def test_the_prompt_and_what_is_settled_count(self) -> None:
        assert len({key(), key(prompt=[1, 2, 4]), key(prompt=[1, 2]), key(max_tokens=11)}) == 4

    def test_what_has_become_the_prompt_does_not(self) -> None:
        other = replace(
            CHAT,
            request_id="other",
            conversation=Conversation((UserMessage("old"), UserMessage("Hello!"))),
            sampling=replace(SAMPLING, max_tokens=99),
            max_tokens=10,
            truncate=True,
            answer_share=0.5,
        )
        assert key(other) == key()

    def test_no_field_is_forgotten_here(self) -> None:
        settled = {"request_id", "sampling", "max_tokens", "truncate", "answer_share"}
        assert {f.name for f in fields(ChatGeneration)} == settled | set(OTHER_CHAT)
        assert {f.name for f in fields(Sampling)} == {"max_tokens"} | set(OTHER_SAMPLING)
        assert {f.name for f in fields(Conversation)} == {"messages"} | set(OTHER_CONVERSATION)
        assert {f.name for f in fields(CompletionGeneration)} == {"request_id", "sampling"} | set(OTHER_RAW)


class TestCompletions:
    @pytest.mark.parametrize(("field", "value"), OTHER_RAW.items(), ids=OTHER_RAW)
    def test_every_field_counts(self, field: str, value: Any) -> None:
        other = replace(RAW, request_id="other", **{field: value})
        assert completion_key("demo", other, INFO) != completion_key("demo", RAW, INFO)

    def test_the_room_that_is_left_counts(self) -> None:
        keys = {
            completion_key("demo", RAW, info)
            for info in (INFO, replace(INFO, max_model_len=999), replace(INFO, max_output_tokens=5))
        }
        assert len(keys) == 3

    def test_they_are_no_chats(self) -> None:
        raw = replace(RAW, prompts=([1, 2, 3],))
        assert completion_key("demo", raw, INFO) != key()


class TestModel:
    SETTINGS = ModelSettings(engine_args={"quantization": "mxfp4"})

    @pytest.mark.parametrize(
        "settings",
        [
            ModelSettings(),
            SETTINGS.model_copy(update={"source": "/other"}),
            SETTINGS.model_copy(update={"dtype": "float32"}),
        ],
    )
    def test_another_checkpoint_or_way_to_run_it_is_another_model(self, settings: ModelSettings) -> None:
        assert model_key("demo", settings, INFO) != model_key("demo", self.SETTINGS, INFO)

    def test_names_and_versions_count(self) -> None:
        keys = {
            model_key("demo", self.SETTINGS, INFO),
            model_key("large", self.SETTINGS, INFO),
            model_key("demo", self.SETTINGS, replace(INFO, versions={"vllm": "2"})),
        }
        assert len(keys) == 3

    def test_how_many_there_are_and_who_may_think_does_not(self) -> None:
        other = self.SETTINGS.model_copy(
            update={
                "aliases": ("small",),
                "replicas": ReplicaSettings(min=3),
                "reasoning": ReasoningSettings(default_effort="low"),
            }
        )
        assert model_key("demo", other, INFO) == model_key("demo", self.SETTINGS, INFO)


def test_what_cannot_be_told_apart_is_refused() -> None:
    odd: Any = replace(CHAT, stop=(object(),))  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="object"):
        key(odd)
