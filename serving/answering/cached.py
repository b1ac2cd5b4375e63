"""A model whose answers may be kept or shared, for one request."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from starlette.requests import Request
from starlette.types import Scope

from serving.cache.answers import AnswerCache
from serving.cache.encoding import replay
from serving.cache.key import chat_key, completion_key, model_key
from serving.cache.shared import Reader
from serving.engine.base import Engine, EngineInfo, EngineRequest, Sampling, TokenDelta
from serving.errors import ApiError, InvalidRequestError, InvalidValueError
from serving.generation import chat, completions
from serving.generation.choice import OnRecovered
from serving.generation.completions import CompletionGeneration
from serving.generation.ids import MintId, mint_call_id
from serving.generation.plan import plan
from serving.generation.source import AnswerSource
from serving.generation.types import ChatEvent, ChatGeneration, GenerationFinished, GenerationStarted, ToolCallDelta
from serving.settings.models import ModelSettings
from serving.telemetry.record import CacheOutcome
from serving.telemetry.recorder import find_recorder
from serving.tenancy.flow_control.permit import Ticket

HEADER = "x-cache"
"""Of a request, on or off; of its reply, hit, miss or shared."""

_OUTCOME = "cache_outcome"
_OF_ONE_REQUEST = ("deadline_exceeded", "deadline_unattainable")
"""Codes of errors that say nothing about an equal request."""

CacheMode = Literal["auto", "on", "off"]


def cache_mode(request: Request) -> CacheMode:
    """What the request says of the cache; raises InvalidValueError."""
    match request.headers.get(HEADER, "auto").strip().lower():
        case "auto":
            return "auto"
        case "on":
            return "on"
        case "off":
            return "off"
    raise InvalidValueError(f"The header '{HEADER}' should be on or off.", param=HEADER)


def find_cache_outcome(state: dict[str, object]) -> str | None:
    """What x-cache of the reply says; None where the cache was not asked."""
    outcome = state.get(_OUTCOME)
    return outcome if isinstance(outcome, str) else None


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked, and how it would be answered. `make` is called once, where no other answer is there."""

    key: str
    make: Callable[[], AsyncGenerator[ChatEvent]]
    prompt: Sequence[int]
    mint_call_id: MintId
    streaming: bool


class CachedAnswers(AnswerSource):
    """`engine`, the model's own behind the request's `ticket`, and `cache` before it.

    Only answers of an engine are kept, of whole generations, and for the ticket's team alone. What is there costs the
    team a request and no tokens. `refuse` raises where there was no room for the request when it came; who needs no
    engine is not refused. The ticket is lent to an answer that is made, which may outlive the request.
    """

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        engine: Engine,
        cache: AnswerCache,
        ticket: Ticket,
        scope: Scope,
        *,
        asked_for: bool,
        refuse: Callable[[], None],
    ) -> None:
        self._name = name
        self._settings = settings
        self._engine = engine
        self._cache = cache
        self._ticket = ticket
        self._scope = scope
        self._asked_for = asked_for
        self._refuse = refuse
        self._check: Callable[[Engine], Awaitable[None]] | None = None

    def check_first(self, check: Callable[[Engine], Awaitable[None]]) -> None:
        """See AnswerSource. An answer that is there has passed it."""
        self._check = check

    async def prepare(self) -> EngineInfo:
        """See Engine."""
        return await self._engine.prepare()

    def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. Tokens alone are never kept."""
        return self._engine.generate(request)

    async def answer(
        self,
        request: ChatGeneration,
        mint_call_id: MintId,
        on_recovered: OnRecovered | None,
        *,
        streaming: bool,
    ) -> AsyncGenerator[ChatEvent, None]:
        """See AnswerSource."""
        uses_cache = self._uses_cache(request.sampling)
        if not uses_cache:
            self._refuse()
        planned = await plan(self._engine, request)
        make = functools.partial(
            chat.as_planned, self._engine, planned, mint_call_id, on_recovered, streaming=streaming
        )
        if uses_cache:
            key = chat_key(model_key(self._name, self._settings, await self._engine.prepare()), planned)
            events = self._answered(_Question(key, make, planned.prompt_token_ids, mint_call_id, streaming))
        else:
            events = make() if self._check is None else self._made(make)
        async with aclosing(events):
            async for event in events:
                yield event

    async def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See AnswerSource."""
        make = functools.partial(completions.events_of, self._engine, request, streaming=streaming)
        if self._uses_cache(request.sampling):
            info = await self._engine.prepare()
            key = completion_key(model_key(self._name, self._settings, info), request, info)
            events = self._answered(_Question(key, make, (), mint_call_id, streaming))
        else:
            self._refuse()
            events = make()
        async with aclosing(events):
            async for event in events:
                yield event

    def _uses_cache(self, sampling: Sampling) -> bool:
        return self._asked_for or self._cache.takes(sampling)

    async def _made(self, make: Callable[[], AsyncGenerator[ChatEvent]]) -> AsyncGenerator[ChatEvent]:
        if self._check is not None:
            await self._check(self._engine)
        async with aclosing(make()) as events:
            async for event in events:
                yield event

    async def _answered(self, question: _Question) -> AsyncGenerator[ChatEvent]:
        """The answer: one that is being made, one that is kept, or a new one."""
        owner, key, streaming = self._ticket.identity.team, question.key, question.streaming
        while True:
            reader = self._cache.join(owner, key, streaming=streaming)
            if reader is None:
                kept = await self._cache.find(owner, key)
                if kept is not None:
                    await self._ticket.admit()
                    self._tell("hit")
                    for event in replay(kept, question.prompt, question.mint_call_id, streaming=streaming):
                        yield event
                        if streaming:
                            await asyncio.sleep(0)
                    return
                # It may have been begun while the store was asked.
                reader = self._cache.join(owner, key, streaming=streaming)
            outcome: CacheOutcome = "miss"
            if reader is None:
                reader = self._begin(owner, question)
            else:
                outcome = "hit" if reader.whole else "shared"
            events = self._read(reader, question, outcome)
            begun = False
            try:
                async with aclosing(events):
                    async for event in events:
                        begun = True
                        yield event
                return
            except ApiError as error:
                if begun or outcome == "miss" or not (reader.failed and _is_of_another(error)):
                    raise

    def _begin(self, owner: str, question: _Question) -> Reader:
        self._refuse()
        self._ticket.lend()
        return self._cache.begin(
            owner,
            question.key,
            self._made(question.make),
            streaming=question.streaming,
            on_over=self._ticket.give_back,
        )

    async def _read(self, reader: Reader, question: _Question, outcome: CacheOutcome) -> AsyncGenerator[ChatEvent]:
        """What `reader` gives, within the request's time."""
        ticket = self._ticket
        try:
            if outcome != "miss":
                await ticket.admit()
            self._tell(outcome)
            shared = reader.events()
            in_time = shared if ticket.deadline is None else ticket.in_time(shared)
            async with aclosing(shared), aclosing(in_time) as events:
                async for event in events:
                    yield event if outcome == "miss" else _as_own(event, question, outcome)
        finally:
            await reader.leave()

    def _tell(self, outcome: CacheOutcome) -> None:
        self._scope["state"][_OUTCOME] = outcome
        if (recorder := find_recorder(self._scope)) is not None:
            recorder.cache = outcome


def _as_own(event: ChatEvent, question: _Question, outcome: Literal["hit", "shared"]) -> ChatEvent:
    """Another request's event, as this one's."""
    match event:
        case GenerationStarted():
            return GenerationStarted(question.prompt)
        case ToolCallDelta():
            return replace(event, id=question.mint_call_id())
        case GenerationFinished():
            usage = event.usage
            return GenerationFinished(replace(usage, cached_tokens=usage.prompt_tokens, cache=outcome))
        case _:
            return event


def _is_of_another(error: ApiError) -> bool:
    """Whether another request's error may not be this one's: its deadline was, and so are the names of its fields."""
    return error.code in _OF_ONE_REQUEST or isinstance(error, InvalidRequestError)
