"""How far a request and a chunk go through the code: bounds, so that the way does not grow unnoticed."""

from __future__ import annotations

from benchmarks.calls import chunk, head, with_cache_and_fallback


async def test_a_request_takes_no_more_calls_until_its_engine_is_asked() -> None:
    assert (await head()).total <= 240


async def test_a_chunk_takes_no_more_calls() -> None:
    assert (await chunk()).total <= 31


async def test_a_chunk_takes_no_more_calls_with_cache_and_fallback() -> None:
    assert (await chunk(**with_cache_and_fallback())).total <= 40
