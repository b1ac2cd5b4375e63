"""What vLLM's statistics come to, of an AsyncLLM that is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from serving.engine.base import Adapter
from serving.engine.load import EngineLoad, KvCache
from serving.engine.vllm.load import LoadMeter


def llm(*, unfinished: int, queued_tokens: int = 0, blocks: int | None = 1001) -> Any:
    # gpt-oss with a context of 4,000: one full group and a sliding one of at most 10 blocks
    cache = SimpleNamespace(num_gpu_blocks=blocks, block_size=16, kv_cache_max_concurrency=1001 / 260)
    config = SimpleNamespace(
        cache_config=cache,
        model_config=SimpleNamespace(max_model_len=4000),
        scheduler_config=SimpleNamespace(max_num_batched_tokens=8192),
    )
    return SimpleNamespace(
        vllm_config=config,
        get_num_unfinished_requests=lambda: unfinished,
        get_num_queued_tokens=lambda: queued_tokens,
    )


def stats(usage: float, running: int = 3) -> Any:
    return SimpleNamespace(
        num_running_reqs=running, num_waiting_reqs=1, num_skipped_waiting_reqs=1, kv_cache_usage=usage
    )


def test_the_load_is_that_of_the_last_step() -> None:
    meter = LoadMeter()
    meter.record(stats(0.5), None)
    meter.record(None, None)
    meter.record(stats(0.25), None)
    found = meter.load(llm(unfinished=5, queued_tokens=700))
    assert found == EngineLoad(found.engine, 3, 2, 700, 8192, KvCache(1000, 250, 16, 10), tokens_s=0.0)
    assert found.engine != LoadMeter().load(llm(unfinished=0)).engine


def test_nothing_is_in_use_once_the_last_request_was_aborted() -> None:
    meter = LoadMeter()
    meter.record(stats(0.5), None)
    found = meter.load(llm(unfinished=0))
    assert found.idle
    assert found.kv_cache == KvCache(1000, 0, 16, 10)


def test_caches_of_several_schedulers_are_not_one() -> None:
    meter = LoadMeter()
    meter.record(stats(0.5), None, engine_idx=0)
    meter.record(stats(0.5), None, engine_idx=1)
    found = meter.load(llm(unfinished=5))
    assert (found.running, found.kv_cache) == (6, None)
    assert meter.load(llm(unfinished=5, blocks=None)).kv_cache is None


def test_tokens_and_adapters_are_told() -> None:
    meter = LoadMeter()
    meter.record(stats(0.5), SimpleNamespace(num_generation_tokens=32))
    found = meter.load(llm(unfinished=1), [Adapter("pirate", "/pirate", "v2")])
    assert found.adapters == (("pirate", "v2"),)
    assert found.tokens_s is not None
    assert 0 < found.tokens_s <= 32
