"""Answers of an engine to chat requests: plan, generate, read each choice, count the tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from serving.engine.base import Engine
from serving.errors import EngineDiedError
from serving.generation.answer import AnswerBuilder
from serving.generation.choice import ChoiceReader, OnRecovered
from serving.generation.chunks import chunked
from serving.generation.ids import MintId, mint_call_id
from serving.generation.merge import merged
from serving.generation.plan import Plan, plan
from serving.generation.schema_misses import OnSchemaMiss, report_misses
from serving.generation.types import ChatAnswer, ChatEvent, ChatGeneration, GenerationFinished, GenerationStarted, Usage
from serving.harmony.channels import TokenCounts


async def answer(
    engine: Engine,
    request: ChatGeneration | Plan,
    *,
    streaming: bool = True,
    mint_call_id: MintId = mint_call_id,
    on_recovered: OnRecovered | None = None,
    on_schema_miss: OnSchemaMiss | None = None,
) -> AsyncGenerator[ChatEvent]:
    """Generate the answer's events as they come; GenerationStarted is the first, GenerationFinished the last.

    Without `streaming` the engine sends everything at once, except where the tokens must be watched as they come. A
    request whose plan is made is given as its plan. The first step raises what is wrong with the request (see plan),
    so that HTTP can still answer with a status. Errors of the engine pass through. Closing the generator closes the
    engine's before it returns.
    """
    planned = request if isinstance(request, Plan) else await plan(engine, request)
    readers = [
        ChoiceReader(index, planned.request, mint_call_id, on_recovered, planned.max_tokens)
        for index in range(planned.request.n)
    ]
    choices = [_Choice(engine, planned, reader, streaming) for reader in readers]
    started = False
    async with aclosing(merged([choice.events() for choice in choices])) as chunks:
        async for events in chunks:
            if not started:
                started = True
                yield GenerationStarted(planned.prompt_token_ids)
            for event in events:
                yield event
    if on_schema_miss is not None:
        await report_misses(readers, on_schema_miss)
    yield GenerationFinished(_usage(planned, readers, choices[0].cached_tokens))


async def complete(
    engine: Engine,
    request: ChatGeneration,
    *,
    mint_call_id: MintId = mint_call_id,
    on_recovered: OnRecovered | None = None,
) -> ChatAnswer:
    """The whole answer of an engine. Raises as answer() does."""
    events = answer(engine, request, streaming=False, mint_call_id=mint_call_id, on_recovered=on_recovered)
    return await whole(events, request)


async def whole(events: AsyncGenerator[ChatEvent], request: ChatGeneration) -> ChatAnswer:
    """The whole answer to `request`: its events joined, which this closes. Raises what they raise."""
    builder = AnswerBuilder(request)
    async with aclosing(events):
        async for event in events:
            builder.add(event)
    return builder.answer()


class _Choice:
    """One choice, segment after segment."""

    def __init__(self, engine: Engine, planned: Plan, reader: ChoiceReader, streaming: bool) -> None:
        self._reader = reader
        self.cached_tokens = 0
        self._engine = engine
        self._plan = planned
        self._streaming = streaming or reader.must_watch

    async def events(self) -> AsyncGenerator[list[ChatEvent], None]:
        """Events of each chunk of tokens; an engine that has more to say is stopped before the last are given."""
        reader, number = self._reader, 0
        while not reader.over:
            segment = self._plan.segment_request(reader, number, stream=self._streaming)
            number += 1
            reader.begin_segment(segment.sampling.max_tokens)
            last: list[ChatEvent] = []
            async with aclosing(chunked(self._engine.generate(segment))) as deltas:
                async for delta in deltas:
                    if number == 1:
                        self.cached_tokens = max(self.cached_tokens, delta.cached_tokens)
                    events = reader.read(delta)
                    if delta.finish_reason is None and reader.is_done():
                        last = events
                        break
                    yield events
            if last:
                yield last
            if not reader.is_done():
                raise EngineDiedError("The engine stopped sending before the answer was complete.")


def _usage(planned: Plan, readers: Sequence[ChoiceReader], cached_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=len(planned.prompt_token_ids),
        completion_tokens=sum(len(reader.tokens) for reader in readers),
        channels=TokenCounts.summed(reader.counts for reader in readers),
        cached_tokens=cached_tokens,
        recovered=_recovered(readers),
    )


def _recovered(readers: Sequence[ChoiceReader]) -> Mapping[str, int]:
    """Recoveries by kind, over all choices."""
    if len(readers) == 1:
        return readers[0].recovered
    counts: Counter[str] = Counter()
    for reader in readers:
        counts.update(reader.recovered)
    return counts
