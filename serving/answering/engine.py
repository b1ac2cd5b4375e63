"""The answers of an engine: its tokens, read as events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from serving.engine.base import Engine, EngineInfo
from serving.generation import chat, completions
from serving.generation.choice import OnRecovered
from serving.generation.completions import CompletionGeneration
from serving.generation.constraint_check import Check
from serving.generation.ids import MintId
from serving.generation.plan import Plan, plan
from serving.generation.schema_misses import OnSchemaMiss
from serving.generation.types import ChatEvent, ChatGeneration


class EngineAnswerer:
    """Answers with an engine's tokens. The request's constraints are checked, by `check`, before the answer begins."""

    def __init__(
        self,
        engine: Engine,
        *,
        mint_call_id: MintId,
        on_recovered: OnRecovered | None,
        on_schema_miss: OnSchemaMiss | None = None,
        check: Check | None = None,
    ) -> None:
        self.mint_call_id = mint_call_id
        self._engine = engine
        self._on_recovered = on_recovered
        self._on_schema_miss = on_schema_miss
        self._check = check

    async def info(self) -> EngineInfo:
        """The engine's description, as this request may have it."""
        return await self._engine.prepare()

    async def plan(self, request: ChatGeneration) -> Plan:
        """The plan that answer() makes of the request. Raises as generation.plan.plan() does."""
        return await plan(self._engine, request)

    def answer(self, request: ChatGeneration | Plan, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer. A request whose plan is made is given as its plan."""
        events = chat.answer(
            self._engine,
            request,
            streaming=streaming,
            mint_call_id=self.mint_call_id,
            on_recovered=self._on_recovered,
            on_schema_miss=self._on_schema_miss,
        )
        return events if self._check is None else _after(self._check, events)

    def complete_raw(self, request: CompletionGeneration, *, streaming: bool) -> AsyncGenerator[ChatEvent]:
        """See Answerer."""
        return completions.answer(self._engine, request, streaming=streaming)


async def _after(check: Check, events: AsyncGenerator[ChatEvent]) -> AsyncGenerator[ChatEvent]:
    async with aclosing(events):
        await check()
        async for event in events:
            yield event
