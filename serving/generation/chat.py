"""A chat request's life, streamed and whole: plan, generate, read each choice, count what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from serving.engine.base import Engine, TokenDelta
from serving.errors import EngineDiedError
from serving.generation.answer import AnswerBuilder
from serving.generation.choice import ChoiceReader, OnRecovered
from serving.generation.ids import MintId, mint_call_id
from serving.generation.plan import plan
from serving.generation.types import ChatAnswer, ChatEvent, ChatGeneration, GenerationFinished, GenerationStarted, Usage

# Tokens read without giving other requests a turn: 0.2 ms, with 20 log probabilities each about 15.
_PORTION = 512


def stream(
    engine: Engine,
    request: ChatGeneration,
    *,
    mint_call_id: MintId = mint_call_id,
    on_recovered: OnRecovered | None = None,
) -> AsyncGenerator[ChatEvent, None]:
    """The answer's events as they come; GenerationStarted is the first, GenerationFinished the last.

    The first step raises what is wrong with the request (see plan), so that HTTP can still answer with a status.
    Errors of the engine pass through. Closing the generator closes the engine's iterator before it returns.
    """
    return _events(engine, request, True, mint_call_id, on_recovered)


async def complete(
    engine: Engine,
    request: ChatGeneration,
    *,
    mint_call_id: MintId = mint_call_id,
    on_recovered: OnRecovered | None = None,
) -> ChatAnswer:
    """The whole answer: what a stream's events join to. Raises as plan and the engine do.

    The engine sends everything at once, except where stop strings must be watched for.
    """
    builder = AnswerBuilder(request)
    async with aclosing(_events(engine, request, bool(request.stop), mint_call_id, on_recovered)) as events:
        async for event in events:
            builder.add(event)
    return builder.answer()


async def _events(
    engine: Engine, request: ChatGeneration, streaming: bool, mint_call_id: MintId, on_recovered: OnRecovered | None
) -> AsyncGenerator[ChatEvent, None]:
    planned = await plan(engine, request, stream=streaming)
    readers = [ChoiceReader(index, request, mint_call_id, on_recovered) for index in range(request.sampling.n)]
    generating = len(readers)
    cached_tokens = 0
    started = False
    events: list[ChatEvent] = []
    async with aclosing(_portions(engine.generate(planned))) as deltas:
        async for delta in deltas:
            if not started:
                started = True
                yield GenerationStarted()
            reader = readers[delta.index]
            cached_tokens = max(cached_tokens, delta.cached_tokens)
            generating -= delta.finish_reason is not None
            events = reader.read(delta)
            if reader.over and generating and _all_over(readers):
                break  # stop strings ended every choice: stop the engine first, then deliver
            for event in events:
                yield event
            events = []
    for event in events:
        yield event
    if not _all_over(readers):
        raise EngineDiedError("The engine stopped sending before the answer was complete.")
    yield GenerationFinished(_usage(len(planned.prompt_token_ids), readers, cached_tokens))


def _all_over(readers: Sequence[ChoiceReader]) -> bool:
    return all(reader.over for reader in readers)


def _usage(prompt_tokens: int, readers: Sequence[ChoiceReader], cached_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=sum(reader.completion_tokens for reader in readers),
        reasoning_tokens=sum(reader.reasoning_tokens for reader in readers),
        cached_tokens=cached_tokens,
    )


async def _portions(deltas: AsyncIterator[TokenDelta]) -> AsyncGenerator[TokenDelta, None]:
    """The deltas, long ones in pieces with a turn for others between them; closing this closes `deltas`."""
    try:
        async for delta in deltas:
            if len(delta.token_ids) <= _PORTION:
                yield delta
                continue
            for begin in range(0, len(delta.token_ids), _PORTION):
                yield _portion(delta, begin, begin + _PORTION)
                await asyncio.sleep(0)
    finally:
        if isinstance(deltas, _Closable):
            await deltas.aclose()


def _portion(delta: TokenDelta, begin: int, end: int) -> TokenDelta:
    """Tokens begin to end of the delta; only the last portion carries the finish reason."""
    return TokenDelta(
        delta.index,
        delta.token_ids[begin:end],
        delta.finish_reason if end >= len(delta.token_ids) else None,
        None if delta.logprobs is None else delta.logprobs[begin:end],
        delta.cached_tokens,
    )


@runtime_checkable
class _Closable(Protocol):
    """Declared AsyncIterator, an engine's iterator may or may not be closable; generators are."""

    async def aclose(self) -> None: ...
