"""Raw completions: token ids in, text out, with no conversation in between.

Each choice of each prompt is an engine request of its own; all of a body's run at once. Events are those of chat, every
text on the "final" channel; choice `prompt * n + i` is the i-th of its prompt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from serving.engine.base import Constraint, Engine, EngineInfo, EngineRequest, Sampling
from serving.engine.seeds import wrapped_seed
from serving.errors import ContextLengthExceededError, EngineDiedError
from serving.generation.chunks import chunked
from serving.generation.completions_reader import CompletionReader
from serving.generation.constraints import for_engine
from serving.generation.merge import merged
from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    GenerationStarted,
    LogprobEntry,
    TextDelta,
    Usage,
)
from serving.harmony.channels import TokenCounts
from serving.harmony.tokenization import TEXT_ENDS

_DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""


@dataclass(frozen=True, slots=True)
class CompletionGeneration:
    """A completions request after validation; `prompts` are token ids, none of them empty.

    `n` choices are made of each prompt, the i-th with seed + i. `max_tokens=None` means 16, or what the context has
    left if that is less. `constraint` holds for all the text.
    """

    request_id: str
    prompts: tuple[list[int], ...]
    sampling: Sampling
    n: int = 1
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    skip_special: bool = True
    constraint: Constraint | None = None


@dataclass(slots=True)
class CompletionChoice:
    """One finished choice."""

    index: int
    text: str = ""
    finish_reason: str = ""
    logprobs: list[LogprobEntry] = field(default_factory=list)


@dataclass(slots=True)
class CompletionAnswer:
    """All choices by index, and their usage; each prompt counts once."""

    choices: list[CompletionChoice]
    usage: Usage


async def whole(events: AsyncGenerator[ChatEvent], request: CompletionGeneration) -> CompletionAnswer:
    """The whole answer to `request`: its events joined, which this closes. Raises what they raise."""
    choices = [CompletionChoice(index) for index in range(len(request.prompts) * request.n)]
    async with aclosing(events):
        async for event in events:
            match event:
                case TextDelta():
                    choices[event.choice].text += event.text
                    choices[event.choice].logprobs += event.logprobs or ()
                case ChoiceFinished():
                    choices[event.choice].finish_reason = event.finish_reason
                case GenerationFinished():
                    return CompletionAnswer(choices, event.usage)
                case _:
                    pass
    raise EngineDiedError("The engine stopped sending before the answer was complete.")


async def answer(engine: Engine, request: CompletionGeneration, *, streaming: bool = True) -> AsyncGenerator[ChatEvent]:
    """The events as they come; GenerationStarted is the first, GenerationFinished the last.

    Without `streaming` they come all at once. The first step raises ContextLengthExceededError(param="prompt") and
    what the engine does, so that HTTP can still answer with a status. Closing the generator stops all choices.
    """
    info = await engine.prepare()
    choices = [
        _Choice(engine, request, prompt, number, info, streaming)
        for prompt in range(len(request.prompts))
        for number in range(request.n)
    ]
    started = False
    async with aclosing(merged([choice.events() for choice in choices])) as chunks:
        async for events in chunks:
            if not started:
                started = True
                yield GenerationStarted()
            for event in events:
                yield event
    written = sum(choice.reader.completion_tokens for choice in choices)
    yield GenerationFinished(
        Usage(
            prompt_tokens=sum(map(len, request.prompts)),
            completion_tokens=written,
            channels=TokenCounts(final=written),
            cached_tokens=sum(choice.cached_tokens for choice in choices[:: request.n]),
        )
    )


class _Choice:
    def __init__(
        self,
        engine: Engine,
        request: CompletionGeneration,
        prompt: int,
        number: int,
        info: EngineInfo,
        streaming: bool,
    ) -> None:
        index = prompt * request.n + number
        tokens = request.prompts[prompt]
        sampling = request.sampling
        max_tokens = _max_tokens(len(tokens), request.max_tokens, info)
        self.reader = CompletionReader(
            index,
            stop=request.stop,
            stop_token_ids=frozenset(sampling.stop_token_ids) - frozenset(TEXT_ENDS),
            skip_special=request.skip_special,
            logprobs=sampling.logprobs is not None,
        )
        self.cached_tokens = 0
        self._engine = engine
        self._request = EngineRequest(
            f"{request.request_id}-{index}",
            tokens,
            replace(
                sampling,
                max_tokens=max_tokens,
                min_tokens=min(sampling.min_tokens, max_tokens),
                seed=None if sampling.seed is None else wrapped_seed(sampling.seed + number),
                stop_token_ids=tuple(dict.fromkeys((*TEXT_ENDS, *sampling.stop_token_ids))),
            ),
            stream=streaming or bool(request.stop),
            constraint=None if request.constraint is None else for_engine(request.constraint),
        )

    async def events(self) -> AsyncGenerator[list[ChatEvent]]:
        """Events of each chunk of tokens; an engine that has more to say is stopped before the last are given."""
        reader = self.reader
        last: list[ChatEvent] = []
        async with aclosing(chunked(self._engine.generate(self._request))) as deltas:
            async for delta in deltas:
                self.cached_tokens = max(self.cached_tokens, delta.cached_tokens)
                last = reader.read(delta)
                if reader.over:
                    break
                yield last
        if not reader.over:
            raise EngineDiedError("The engine stopped sending before the answer was complete.")
        yield last


def _max_tokens(prompt_tokens: int, asked: int | None, info: EngineInfo) -> int:
    left = info.max_model_len - prompt_tokens
    if 1 <= (asked or 1) <= left:
        return min(asked or _DEFAULT_MAX_TOKENS, left, info.max_output_tokens or left)
    wanted = f", and max_tokens asks for {asked} more" if asked is not None else ""
    raise ContextLengthExceededError(
        f"This model's maximum context length is {info.max_model_len} tokens; a prompt has {prompt_tokens}{wanted}. "
        "Shorten the prompt or ask for fewer tokens.",
        param="prompt",
    )
