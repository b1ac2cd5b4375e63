"""Failover: a completion survives the loss of its engine.

Prompt and completion are token ids on both sides of an engine, so another engine continues a lost completion from the
tokens there are. The reader of the deltas notices a pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Literal, Protocol

from serving.engine.base import EngineInfo, EngineRequest, OwnedEngine, TokenDelta
from serving.engine.continuation import continued
from serving.errors import EngineDiedError, EngineNotReadyError
from serving.settings.failover import FailoverSettings

logger = logging.getLogger(__name__)

FailoverOutcome = Literal["resumed", "restarted", "given_up", "poison"]
OnFailover = Callable[[FailoverOutcome, float], None]
"""Called with the outcome of each loss and the seconds that it took."""

_MOST_DEATHS = 2
"""Engines that may die on a request before it has a single new token; then it is taken for the cause."""
_MOST_HELD = 1000
"""New requests that wait for an engine that is being replaced; more are refused."""
_STARTUP_GRACE_S = 10.0
_LOOK_EVERY_S = 0.1


class ReadinessMemory(Protocol):
    """Memory of whether a model has had a ready engine; it outlives this process."""

    async def recall(self) -> bool:
        """True when the model has had a ready engine before."""
        ...

    async def remember(self) -> None:
        """The model has one now."""
        ...


class FailoverEngine:
    """An engine that repeats and continues requests whose engine was lost; `engine` routes each to one of several.

    `settings` bound the attempts and their time. A request whose engine died before it had a new token may have caused
    that death. The engine takes such requests one at a time until their first token, so that the next death has one
    suspect; a second death ends that request alone.
    """

    def __init__(
        self,
        model: str,
        engine: OwnedEngine,
        settings: FailoverSettings,
        on_failover: OnFailover,
        memory: ReadinessMemory | None = None,
    ) -> None:
        self._model = model
        self._engine = engine
        self._settings = settings
        self._on_failover = on_failover
        self._memory = memory
        self._suspects = asyncio.Lock()
        self._was_ready = False
        self._grace_until = 0.0
        self._held = 0

    async def start(self) -> None:
        """See Engine."""
        await self._engine.start()
        self._was_ready = self._memory is not None and await self._memory.recall()
        self._grace_until = asyncio.get_running_loop().time() + _STARTUP_GRACE_S

    async def prepare(self) -> EngineInfo:
        """See Engine. Waits up to `hold_s` for the return of an engine that was ready and is gone.

        A process that has just begun, and may not have heard of its engine yet, waits for the startup grace period.
        """
        try:
            info = await self._engine.prepare()
        except EngineNotReadyError:
            now = asyncio.get_running_loop().time()
            wait = self._settings.hold_s if self._was_ready else self._grace_until - now
            if wait <= 0 or self._held >= _MOST_HELD:
                raise
            info = await self._hold(now + wait)
        await self._note_ready()
        return info

    async def check_health(self) -> None:
        """See Engine."""
        await self._engine.check_health()
        await self._note_ready()

    async def close(self) -> None:
        """See Engine."""
        await self._engine.close()

    async def _note_ready(self) -> None:
        if not self._was_ready:
            self._was_ready = True
            if self._memory is not None:
                await self._memory.remember()

    async def _hold(self, give_up: float) -> EngineInfo:
        self._held += 1
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                try:
                    return await self._engine.prepare()
                except EngineNotReadyError:
                    if asyncio.get_running_loop().time() > give_up:
                        raise
        finally:
            self._held -= 1

    async def generate(self, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
        """See Engine. EngineDiedError comes once attempts or time have run out, or for a request that kills engines."""
        attempt = _Attempt(self, request)
        while True:
            try:
                async with attempt.begun() as deltas:
                    # Not a generator of the attempt's own: each one around the engine's costs two steps a token.
                    while True:
                        delta = await (anext(deltas, None) if attempt.sound else attempt.next_in_time(deltas))
                        if delta is None:
                            return
                        if not attempt.progressed:
                            attempt.began()
                        attempt.made += delta.token_ids
                        yield delta
            except EngineDiedError as error:
                attempt.lost(error)
            except EngineNotReadyError as error:
                await attempt.refused(error)
            await attempt.wait_for_an_engine()


class _Attempt:
    """One request, attempt after attempt.

    `made` are the tokens so far, `progressed` says that this attempt has brought some, `sound` that no engine is lost
    whose work this attempt has to take up.
    """

    def __init__(self, owner: FailoverEngine, request: EngineRequest) -> None:
        self.made: list[int] = []
        self.progressed = False
        self.sound = True
        self._owner = owner
        self._request = request
        self._number = 0  # attempts made
        self._losses = 0  # engines that were lost at work on it
        self._deaths = 0  # of those, the ones that it may have ended
        self._lost_at: float | None = None
        self._suspect = False  # it has the owner's lock of suspects
        self._clock = asyncio.get_running_loop().time

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[AsyncGenerator[TokenDelta]]:
        """The engine's deltas of one attempt."""
        self.progressed = False
        request, self._number = self._next(), self._number + 1
        if self._deaths:
            await self._owner._suspects.acquire()
            self._suspect = True
        try:
            async with aclosing(self._owner._engine.generate(request)) as deltas:
                yield deltas
        finally:
            self._acquit()

    def began(self) -> None:
        """Note the first tokens of an attempt."""
        self.progressed = True
        if self._lost_at is not None:
            self._end("resumed" if self.made else "restarted")
        self._acquit()

    def _acquit(self) -> None:
        if self._suspect:
            self._suspect = False
            self._owner._suspects.release()

    def lost(self, error: EngineDiedError) -> None:
        """The engine is gone in the middle of the work. Raises `error` where the request must not go on."""
        self._losses += 1
        if self._lost_at is None:
            self._lost_at = self._clock()
        self.sound = False
        if not self.progressed:
            self._deaths += 1
        if self._deaths >= _MOST_DEATHS:
            self._end("poison")
            raise EngineDiedError(
                f"This request ended {self._deaths} engines of model '{self._owner._model}'; it is not tried again.",
                code="engine_killed_by_request",
                should_retry=False,
            ) from error
        self._check_bounds(error)

    async def refused(self, error: EngineNotReadyError) -> None:
        """No engine took the attempt. Raises `error` where none was lost and none is there."""
        if self._lost_at is not None:
            self._check_bounds(error)
        elif self._number > self._owner._settings.attempts:
            raise error
        else:
            await self._owner.prepare()
        # A router may not know yet what is gone.
        await asyncio.sleep(_LOOK_EVERY_S)

    async def wait_for_an_engine(self) -> None:
        """Return once one is there. Raises EngineDiedError when time has run out."""
        while True:
            try:
                await self._owner._engine.prepare()
            except EngineNotReadyError as error:
                self._check_bounds(error)
                await asyncio.sleep(_LOOK_EVERY_S)
            else:
                return

    async def next_in_time(self, deltas: AsyncGenerator[TokenDelta]) -> TokenDelta | None:
        """The next delta; a lost request does not wait for its first one longer than it may."""
        lost_at = self._clock() if self._lost_at is None else self._lost_at
        try:
            async with asyncio.timeout_at(lost_at + self._owner._settings.longest_s):
                return await anext(deltas, None)
        except TimeoutError as error:
            raise self._given_up() from error

    def _next(self) -> EngineRequest:
        request, made = self._request, self.made
        if not self._number:
            return request
        # Only tokens that are seen as they come can be gone on from.
        again = replace(continued(request, made), stream=True, priority=request.priority - 1)
        return replace(again, request_id=f"{request.request_id}-again{self._number}")

    def _end(self, outcome: FailoverOutcome) -> None:
        lost_s = 0.0 if self._lost_at is None else self._clock() - self._lost_at
        self._lost_at, self.sound = None, True
        logger.warning("request %s: engine lost, %s after %.2f s", self._request.request_id, outcome, lost_s)
        self._owner._on_failover(outcome, lost_s)

    def _check_bounds(self, error: Exception) -> None:
        settings = self._owner._settings
        expired = self._lost_at is not None and self._clock() - self._lost_at > settings.longest_s
        if expired or self._losses >= settings.attempts:
            raise self._given_up() from error

    def _given_up(self) -> EngineDiedError:
        self._end("given_up")
        return EngineDiedError(
            f"The engine of model '{self._owner._model}' was lost while it worked on this request, and "
            f"none of {self._number} attempts within {self._owner._settings.longest_s:g} s found one to go on with.",
        )
