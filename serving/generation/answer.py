"""Whole answers, joined from the events of a stream."""

from __future__ import annotations

from collections.abc import Sequence

from serving.generation.types import (
    ChatAnswer,
    ChatChoice,
    ChatEvent,
    ChatGeneration,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import Channel
from serving.harmony.conversation import FunctionCall

BETWEEN_MESSAGES = "\n\n"
"""Text between two messages to the user that one field has."""


class AnswerBuilder:
    """Builder of a whole answer from a stream's events, from which it therefore cannot differ."""

    def __init__(self, request: ChatGeneration) -> None:
        with_logprobs = request.sampling.logprobs is not None
        self._choices = [
            _ChoiceBuilder(index, with_logprobs, with_logprobs and request.include_reasoning)
            for index in range(request.n)
        ]
        self._usage: Usage | None = None
        self._prompt: Sequence[int] = ()

    def add(self, event: ChatEvent) -> None:
        """Add the next event."""
        if isinstance(event, GenerationFinished):
            self._usage = event.usage
        elif isinstance(event, GenerationStarted):
            self._prompt = event.prompt_token_ids
        else:
            self._choices[event.choice].add(event)

    def answer(self) -> ChatAnswer:
        """Return the answer; only after GenerationFinished."""
        if self._usage is None:
            raise ValueError("the generation has not finished")
        return ChatAnswer([choice.build() for choice in self._choices], self._usage, self._prompt)


class _ChoiceBuilder:
    def __init__(self, index: int, content_logprobs: bool, reasoning_logprobs: bool) -> None:
        self._index = index
        self._texts: dict[Channel, list[str]] = {}
        self._logprobs: dict[Channel, list[LogprobEntry]] = {}
        if content_logprobs:
            self._logprobs["final"] = []
        if reasoning_logprobs:
            self._logprobs["analysis"] = []
        self._calls: list[tuple[ToolCallDelta, list[str]]] = []
        self._finished: ChoiceFinished | None = None

    def add(self, event: TextDelta | ToolCallDelta | ToolArgumentsDelta | ChoiceFinished) -> None:
        if isinstance(event, TextDelta):
            texts = self._texts.setdefault(event.channel, [])
            if event.opens and event.text and event.channel != "analysis" and any(texts):
                texts.append(BETWEEN_MESSAGES)
            texts.append(event.text)
            if event.logprobs is not None:
                self._logprobs[event.channel] += event.logprobs
        elif isinstance(event, ToolCallDelta):
            self._calls.append((event, []))
        elif isinstance(event, ToolArgumentsDelta):
            self._calls[event.index][1].append(event.text)
        else:
            self._finished = event

    def build(self) -> ChatChoice:
        assert self._finished is not None, "an answer is asked for once every choice has finished"
        return ChatChoice(
            index=self._index,
            texts={channel: text for channel, texts in self._texts.items() if (text := "".join(texts))},
            tool_calls=[FunctionCall(call.id, call.name, "".join(arguments)) for call, arguments in self._calls],
            finish_reason=self._finished.finish_reason,
            reasoning_truncated=self._finished.reasoning_truncated,
            content_logprobs=self._logprobs.get("final"),
            reasoning_logprobs=self._logprobs.get("analysis"),
        )
