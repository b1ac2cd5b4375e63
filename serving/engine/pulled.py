"""A PushingEngine's deltas as a generator, for its users in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from serving.engine.base import EngineRequest, TokenDelta

Run = Callable[[EngineRequest, Callable[[TokenDelta], None]], Coroutine[Any, Any, None]]
"""PushingEngine.run of an engine."""


async def pulled(run: Run, request: EngineRequest) -> AsyncGenerator[TokenDelta]:
    """The deltas that `run` pushes for `request`. Closing the generator cancels the run; raises what it raises."""
    # Unbounded, as a queue of vLLM's is: it holds no more than the request's max_tokens.
    deltas: asyncio.Queue[TokenDelta | None] = asyncio.Queue()
    running = asyncio.create_task(run(request, deltas.put_nowait))
    running.add_done_callback(lambda _: deltas.put_nowait(None))
    try:
        while (delta := await deltas.get()) is not None:
            yield delta
        running.result()
    finally:
        running.cancel()
        await asyncio.wait({running})
