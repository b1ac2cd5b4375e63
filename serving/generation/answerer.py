"""The seam between what answers a request and what reads the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from serving.generation.completions import CompletionGeneration
from serving.generation.types import ChatEvent, ChatGeneration


class Answerer(Protocol):
    """Source of one request's answer: an engine, a cache, another server, or several of them in turn."""

    def answer(self, request: ChatGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """The answer's events; GenerationStarted is the first, GenerationFinished the last.

        Without `streaming` the events may come all at once. The first step raises what is wrong with the request or
        with the source, so that HTTP can still answer with a status. Closing the generator stops the work before it
        returns.
        """
        ...

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """The events of a raw completion, as answer() gives them.

        Raises UnsupportedParameterError where the source takes conversations alone.
        """
        ...
