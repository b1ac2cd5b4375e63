"""Chunks of an engine's deltas: a request with long deltas lets the event loop serve others between its chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from serving.engine.base import TokenDelta

# Tokens read without giving other requests a turn: 0.2 ms, with 20 log probabilities each about 15.
_CHUNK = 512


async def chunked(deltas: AsyncGenerator[TokenDelta]) -> AsyncGenerator[TokenDelta]:
    """Yield the deltas, long ones in chunks with a turn for others between them. Closing this closes `deltas`."""
    async with aclosing(deltas):
        async for delta in deltas:
            if len(delta.token_ids) <= _CHUNK:
                yield delta
                continue
            for begin in range(0, len(delta.token_ids), _CHUNK):
                yield _chunk(delta, begin, begin + _CHUNK)
                await asyncio.sleep(0)


def _chunk(delta: TokenDelta, begin: int, end: int) -> TokenDelta:
    """Tokens begin to end of the delta; only the last chunk carries the finish reason."""
    return TokenDelta(
        delta.token_ids[begin:end],
        delta.finish_reason if end >= len(delta.token_ids) else None,
        None if delta.logprobs is None else delta.logprobs[begin:end],
        delta.cached_tokens,
    )
