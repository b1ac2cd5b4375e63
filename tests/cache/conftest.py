"""Answers as events, and clocks that tests set."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import pytest

from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    TextDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts

USAGE = Usage(prompt_tokens=10, completion_tokens=5, channels=TokenCounts(final=3), cached_tokens=4)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answer() -> Callable[..., list[ChatEvent]]:
    """A whole answer whose text comes in the pieces given."""

    def make(*texts: str) -> list[ChatEvent]:
        deltas = [TextDelta(0, "final", text, opens=number == 0) for number, text in enumerate(texts)]
        return [GenerationStarted([1, 2]), *deltas, ChoiceFinished(0, "stop"), GenerationFinished(USAGE)]

    return make


@pytest.fixture
def playing() -> Callable[[Sequence[ChatEvent]], AsyncGenerator[ChatEvent]]:
    async def play(events: Sequence[ChatEvent]) -> AsyncGenerator[ChatEvent]:
        for event in events:
            yield event

    return play
