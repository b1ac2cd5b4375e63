"""Patch: vLLM's output handler pushes a request's outputs, without a queue and a task switch between.

vLLM 0.32 hands each output to the request's RequestOutputCollector (vllm/v1/engine/output_processor.py), by calling
its put() from AsyncLLM's output handler. The patch replaces put() on the collector of one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from serving.engine.base import TokenDelta
from serving.engine.vllm.outputs import delta_of
from serving.engine.vllm.source import WatchedSource
from serving.errors import EngineDiedError

WATCHED = (
    WatchedSource(
        "v1/engine/output_processor.py",
        "RequestOutputCollector",
        "0.32.0",
        "b9904fc3ffa5b22f298cb9a54bebb9af8a6d5048adacdd143da57782ea6e4d76",
    ),
    WatchedSource(
        "v1/engine/output_processor.py",
        "OutputProcessor.process_outputs",
        "0.32.0",
        "acadf3f46a0f5b30d37d42a5028112f22e31d44d34ae283984f8c7b90862cfbd",
    ),
    WatchedSource(
        "v1/engine/async_llm.py",
        "AsyncLLM.add_request",
        "0.32.0",
        "c6706462fe94e537fce8a3843009f2aefe75bf3deea093bb6e30ea85012ad827",
    ),
)


class PushedOutputs:
    """Receiver of one request's outputs, in the place of its collector's queue."""

    def __init__(self, push: Callable[[TokenDelta], None], logprobs: int | None) -> None:
        self._push = push
        self._logprobs = logprobs
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def all_of(self, collector: Any) -> None:
        """Push every output; returns after the last, raises what ended the request otherwise."""
        collector.put = self._put
        if (early := collector.get_nowait()) is not None:
            self._put(early)
        await self._done

    def _put(self, output: Any) -> None:
        if self._done.done():
            return
        if isinstance(output, Exception):
            self._done.set_exception(output)
            return
        try:
            for completion in output.outputs:
                if completion.token_ids or completion.finish_reason:
                    self._push(delta_of(completion, output.num_cached_tokens or 0, self._logprobs))
        except EngineDiedError as error:
            self._done.set_exception(error)
        else:
            if output.finished:
                self._done.set_result(None)
