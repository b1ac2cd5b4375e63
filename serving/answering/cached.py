"""Answers from the cache, for one request."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal

from starlette.datastructures import Headers

from serving.answering.engine import EngineAnswerer
from serving.answering.request_context import RequestContext
from serving.cache.answers import AnswerCache
from serving.cache.encoding import replay
from serving.cache.key import chat_key, completion_key, model_key
from serving.cache.shared import Reader
from serving.engine.base import Sampling
from serving.errors import ApiError, InvalidRequestError, InvalidValueError
from serving.generation.completions import CompletionGeneration
from serving.generation.types import ChatEvent, ChatGeneration, GenerationFinished, GenerationStarted, ToolCallDelta
from serving.settings.models import ModelSettings
from serving.telemetry.record import CacheOutcome
from serving.tenancy.flow_control.permit import AdmissionPermit

CACHE_HEADER = "x-cache"
"""Of a request, on or off; of its reply, hit, miss or shared."""

_OF_ONE_REQUEST = ("deadline_exceeded", "deadline_unattainable")
"""Codes of errors that say nothing about an equal request."""

CacheMode = Literal["auto", "on", "off"]


def cache_mode(headers: Headers) -> CacheMode:
    """The cache's part in a request with these headers; raises InvalidValueError."""
    match headers.get(CACHE_HEADER, "auto").strip().lower():
        case "auto":
            return "auto"
        case "on":
            return "on"
        case "off":
            return "off"
    raise InvalidValueError(f"The header '{CACHE_HEADER}' should be on or off.", param=CACHE_HEADER)


@dataclass(frozen=True, slots=True)
class _Question:
    """A request by its cache key. `make` makes its answer, and is called where the cache has none."""

    key: str
    make: Callable[[], AsyncGenerator[ChatEvent]]
    prompt: Sequence[int] = ()


class CachedAnswerer:
    """Answers from a cache, and makes and keeps the answers that are not in it.

    Only answers of an engine are kept, of whole generations, and for the permit's team alone. A kept answer costs the
    team a request and no tokens. `identity` names the model in the cache's keys. `refuse` raises where there was no
    slot for the request when it came; a request that needs no engine is not refused. The permit is lent to an answer
    that is made, which may outlive the request.
    """

    def __init__(
        self,
        inner: EngineAnswerer,
        cache: AnswerCache,
        identity: str,
        settings: ModelSettings,
        context: RequestContext,
        permit: AdmissionPermit,
        *,
        asked_for: bool,
        refuse: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._cache = cache
        self._identity = identity
        self._settings = settings
        self._context = context
        self._permit = permit
        self._asked_for = asked_for
        self._refuse = refuse

    def answer(self, request: ChatGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer."""
        if not self._uses_cache(request.sampling):
            return self._made(functools.partial(self._inner.answer, request, streaming=streaming))
        return self._answered(functools.partial(self._chat_question, request, streaming), streaming)

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer."""
        if not self._uses_cache(request.sampling):
            return self._made(functools.partial(self._inner.complete_raw, request, streaming=streaming))
        return self._answered(functools.partial(self._raw_question, request, streaming), streaming)

    async def _chat_question(self, request: ChatGeneration, streaming: bool) -> _Question:
        planned = await self._inner.plan(request)
        return _Question(
            chat_key(model_key(self._identity, self._settings, await self._inner.info()), planned),
            functools.partial(self._inner.answer, planned, streaming=streaming),
            planned.prompt_token_ids,
        )

    async def _raw_question(self, request: CompletionGeneration, streaming: bool) -> _Question:
        info = await self._inner.info()
        return _Question(
            completion_key(model_key(self._identity, self._settings, info), request, info),
            functools.partial(self._inner.complete_raw, request, streaming=streaming),
        )

    async def _made(self, make: Callable[[], AsyncGenerator[ChatEvent]]) -> AsyncGenerator[ChatEvent]:
        """The engine's answer, which is not kept."""
        self._refuse()
        async with aclosing(make()) as events:
            async for event in events:
                yield event

    def _uses_cache(self, sampling: Sampling) -> bool:
        return self._asked_for or self._cache.takes(sampling)

    async def _answered(self, ask: Callable[[], Awaitable[_Question]], streaming: bool) -> AsyncGenerator[ChatEvent]:
        """The answer: one that is being made, one that is kept, or a new one."""
        question = await ask()
        owner, key = self._permit.identity.team, question.key
        while True:
            reader = self._cache.join(owner, key, streaming=streaming)
            if reader is None:
                kept = await self._cache.find(owner, key)
                if kept is not None:
                    await self._permit.reserve_request()
                    self._tell("hit")
                    for event in replay(kept, question.prompt, self._inner.mint_call_id, streaming=streaming):
                        yield event
                        if streaming:
                            await asyncio.sleep(0)
                    return
                # It may have been begun while the store was asked.
                reader = self._cache.join(owner, key, streaming=streaming)
            outcome: CacheOutcome = "miss"
            if reader is None:
                reader = self._begin(owner, question, streaming)
            else:
                outcome = "hit" if reader.whole else "shared"
            begun = False
            try:
                if outcome != "miss":
                    await self._permit.reserve_request()
                self._tell(outcome)
                async with aclosing(reader.events()) as shared, aclosing(self._in_time(shared)) as events:
                    async for event in events:
                        begun = True
                        yield event if outcome == "miss" else self._as_own(event, question, outcome)
                return
            except ApiError as error:
                if begun or outcome == "miss" or not (reader.failed and _is_of_another(error)):
                    raise
            finally:
                await reader.leave()

    def _begin(self, owner: str, question: _Question, streaming: bool) -> Reader:
        self._refuse()
        self._permit.share()
        return self._cache.begin(
            owner, question.key, question.make(), streaming=streaming, on_over=self._permit.unshare
        )

    def _in_time(self, events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[ChatEvent]:
        return events if self._permit.deadline is None else self._permit.in_time(events)

    def _as_own(self, event: ChatEvent, question: _Question, outcome: Literal["hit", "shared"]) -> ChatEvent:
        """Another request's event, as this request's."""
        match event:
            case GenerationStarted():
                return GenerationStarted(question.prompt)
            case ToolCallDelta():
                return replace(event, id=self._inner.mint_call_id())
            case GenerationFinished():
                usage = event.usage
                return GenerationFinished(replace(usage, cached_tokens=usage.prompt_tokens, cache=outcome))
            case _:
                return event

    def _tell(self, outcome: CacheOutcome) -> None:
        self._context.cache_outcome = outcome
        if self._context.recorder is not None:
            self._context.recorder.cache = outcome


def _is_of_another(error: ApiError) -> bool:
    """Whether another request's error may not be this one's: its deadline was, and so are the names of its fields."""
    return error.code in _OF_ONE_REQUEST or isinstance(error, InvalidRequestError)
