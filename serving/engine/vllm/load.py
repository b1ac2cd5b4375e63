"""Load of a vLLM engine, from its scheduler's statistics."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from serving.engine.base import Adapter
from serving.engine.load import EngineLoad, KvCache, TokenRate

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


class LoadMeter:
    """Stat logger of all schedulers of one AsyncLLM: keeps the latest statistics of each, and nothing else.

    It has the methods of vllm.v1.metrics.loggers.StatLoggerBase that an AsyncLLM calls; vLLM is not imported yet here.
    """

    def __init__(self) -> None:
        self._engine = uuid.uuid4().hex
        self._stats: dict[int, Any] = {}
        self._rate = TokenRate(time.monotonic)

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Called after each step of scheduler `engine_idx`."""
        if scheduler_stats is not None:
            self._stats[engine_idx] = scheduler_stats
        if iteration_stats is not None:
            self._rate.add(iteration_stats.num_generation_tokens)

    def log(self) -> None:
        """Called when statistics are to be printed."""

    def log_engine_initialized(self) -> None:
        """Called once."""

    def load(self, llm: AsyncLLM, adapters: Iterable[Adapter] = ()) -> EngineLoad:
        """The load now, with the adapters that are loaded.

        vLLM has no statistics of a request that was aborted without another step after it.
        """
        stats = list(self._stats.values()) if llm.get_num_unfinished_requests() else []
        scheduler = llm.vllm_config.scheduler_config
        return EngineLoad(
            self._engine,
            running=sum(each.num_running_reqs for each in stats),
            waiting=sum(each.num_waiting_reqs + each.num_skipped_waiting_reqs for each in stats),
            waiting_tokens=llm.get_num_queued_tokens(),
            step_tokens=scheduler.max_num_batched_tokens,
            kv_cache=_kv_cache(llm.vllm_config, [each.kv_cache_usage for each in stats]),
            adapters=tuple((each.name, each.version) for each in adapters),
            tokens_s=self._rate.tokens_s,
        )


def _kv_cache(vllm_config: Any, usages: list[float]) -> KvCache | None:
    cache = vllm_config.cache_config
    # Several schedulers (data parallelism) have a cache each; a request has to fit into one of them.
    if not cache.num_gpu_blocks or not cache.kv_cache_max_concurrency or len(usages) > 1:
        return None
    longest = round(cache.num_gpu_blocks / cache.kv_cache_max_concurrency)
    extra = longest - math.ceil(vllm_config.model_config.max_model_len / cache.block_size)
    blocks = cache.num_gpu_blocks - 1  # vllm/v1/core/block_pool.py: the null block is nobody's
    return KvCache(blocks, round(blocks * sum(usages)), cache.block_size, max(0, extra))
