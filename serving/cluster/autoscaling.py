"""Number of engines that a model's work needs: by KV cache, batch and waiting, with an objective for the first token.

Requests alone say little: one may take a thousand times another's tokens. Engines say how full their KV cache and their
batch are, ingress replicas what waits in front of them and for how long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serving.engine.load import EngineLoad

FULL = 0.8
"""Part of an engine's KV cache and batch that is aimed at; the rest is for what arrives while another engine starts."""
HALF_EMPTY = 0.55
"""Fewer engines are enough once they would be filled to this part only; between the two the number stays."""
_MOST_GROWTH = 2.0
"""Factor by which waits alone raise the number at a time: how long requests wait does not say how many engines miss."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Requests that wait at ingress replicas: the KV cache and slots they will take, and their longest wait."""

    tokens: float = 0.0
    sequences: int = 0
    longest_wait_s: float = 0.0

    def __add__(self, other: Queued) -> Queued:
        return Queued(
            self.tokens + other.tokens,
            self.sequences + other.sequences,
            max(self.longest_wait_s, other.longest_wait_s),
        )


def engine_stats(load: EngineLoad | None, sequences: int | None) -> dict[str, float]:
    """Load of one engine as Serve takes it from a replica; empty for an engine that does not tell.

    `sequences` is the size of its batch.
    """
    if load is None or load.kv_cache is None or not sequences:
        return {}
    cache = load.kv_cache
    return {
        "kv_used": cache.used / cache.blocks,
        "kv_tokens": float(cache.blocks * cache.block_tokens),
        "batch_used": load.running / sequences,
        "batch": float(sequences),
        "waiting_tokens": float(load.waiting_tokens),
        "waiting": float(load.waiting),
    }


@dataclass(frozen=True, slots=True)
class Work:
    """Work of a model, in engines: how many its KV cache would fill, and its sequences; see `work_of`."""

    kv_cache: float
    batch: float
    longest_wait_s: float

    @property
    def engines(self) -> float:
        """Engines that it would fill to the last."""
        return max(self.kv_cache, self.batch)


def work_of(stats: Mapping[str, Mapping[object, float]], queued: Queued) -> Work | None:
    """Work of a model by its engines' stats, by name and replica, with what is `queued`; None without any stats."""
    sizes, batches = stats.get("kv_tokens", {}), stats.get("batch", {})
    if not sizes or not batches:
        return None
    size, batch = sum(sizes.values()) / len(sizes), sum(batches.values()) / len(batches)

    def total(name: str) -> float:
        return sum(stats.get(name, {}).values())

    return Work(
        kv_cache=total("kv_used") + (total("waiting_tokens") + queued.tokens) / size,
        batch=total("batch_used") + (total("waiting") + queued.sequences) / batch,
        longest_wait_s=queued.longest_wait_s,
    )


def engines_for(work: Work, running: int, first_token_s: float) -> int:
    """Engines that `work` needs while `running` have it, if a first token is to take `first_token_s` at most."""
    more = math.ceil(work.engines / FULL)
    fewer = math.ceil(work.engines / HALF_EMPTY)
    if work.longest_wait_s > first_token_s:
        more = max(more, math.ceil(running * min(_MOST_GROWTH, work.longest_wait_s / first_token_s)))
    if more > running:
        return more
    # What waits half of the objective would wait longer with fewer.
    return fewer if fewer < running and work.longest_wait_s <= first_token_s / 2 else running
