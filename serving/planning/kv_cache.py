"""Memory of attention, counted as vLLM's hybrid KV cache manager allots it.

vLLM 0.32 puts the full and the sliding layers into groups of as many layers each and gives all groups blocks from one
pool; a block holds `block_size` tokens of every layer of one group (vllm/v1/core/kv_cache_utils.py,
_get_kv_cache_groups_uniform_page_size). A sequence keeps the blocks of all its tokens in the full group, and in the
sliding group those of the window and of what is being computed (vllm/v1/kv_cache_interface.py, SlidingWindowSpec).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.planning.models import ModelShape

BLOCK_SIZE = 16
"""Tokens of a block unless set: vLLM's default on GPUs."""


@dataclass(frozen=True, slots=True)
class KvCache:
    """KV cache of one engine of `model` over `tensor_parallel` GPUs (of one pipeline stage).

    `element_bytes`: 2 for bfloat16, 1 for fp8. `in_flight_tokens`: tokens that may be under computation at once
    (VllmConfig.max_in_flight_tokens: max_num_batched_tokens, twice with asynchronous scheduling).
    """

    model: ModelShape
    tensor_parallel: int
    in_flight_tokens: int
    pipeline_parallel: int = 1
    element_bytes: int = 2
    block_size: int = BLOCK_SIZE

    @property
    def kv_heads(self) -> int:
        """Heads on one GPU; with more GPUs than heads, GPUs keep the same ones."""
        return max(1, self.model.kv_heads // self.tensor_parallel)

    @property
    def layer_token_bytes(self) -> int:
        """Bytes of one token of one layer on one GPU: key and value."""
        return 2 * self.kv_heads * self.model.head_dim * self.element_bytes

    @property
    def group_layers(self) -> int:
        """Layers of a group on one GPU: gpt-oss has as many sliding as full ones, an uneven rest is padded."""
        return math.ceil(max(self.model.full_layers, self.model.sliding_layers) / self.pipeline_parallel)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block on one GPU."""
        return self.group_layers * self.block_size * self.layer_token_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes of one more token of a long sequence on one GPU: the full layers alone grow."""
        return self.group_layers * self.layer_token_bytes

    def full_blocks(self, tokens: int) -> int:
        """Blocks of a sequence of `tokens` in the full group."""
        return math.ceil(tokens / self.block_size)

    def sliding_blocks(self, tokens: int, in_flight: int) -> int:
        """Blocks in the sliding group, at most: one more, because a window may begin inside of a block."""
        return math.ceil(min(self.model.sliding_window - 1 + in_flight, tokens) / self.block_size) + 1

    def blocks_at_most(self, tokens: int) -> int:
        """Blocks that vLLM reckons with for a sequence of `tokens`: in the middle of its prefill."""
        return self.full_blocks(tokens) + self.sliding_blocks(tokens, self.in_flight_tokens)

    def blocks_decoding(self, tokens: int) -> int:
        """Blocks of a sequence that has `tokens` and gains one at a time."""
        return self.full_blocks(tokens) + self.sliding_blocks(tokens, 1)

    def blocks(self, memory_bytes: float) -> int:
        """Blocks in the pool."""
        return max(0, int(memory_bytes // self.block_bytes))

    def sequences(self, memory_bytes: float, tokens: int) -> float:
        """vLLM's "maximum concurrency" for sequences of `tokens`: all of them in prefill at once."""
        return self.blocks(memory_bytes) / self.blocks_at_most(tokens)

    def decoding(self, memory_bytes: float, tokens: int) -> int:
        """Sequences of `tokens` that fit while they are answered."""
        return self.blocks(memory_bytes) // self.blocks_decoding(tokens)

    def longest(self, memory_bytes: float) -> int:
        """Tokens of the longest single sequence that fits, a multiple of the block; 0 where none does."""
        blocks = self.blocks(memory_bytes)
        low, high = 0, blocks
        while low < high:
            middle = (low + high + 1) // 2
            if self.blocks_at_most(middle * self.block_size) <= blocks:
                low = middle
            else:
                high = middle - 1
        return low * self.block_size

    def read_bytes(self, tokens: int) -> int:
        """Bytes that attention reads for one more token of a sequence of `tokens`, on one GPU, all layers."""
        seen = self.model.full_layers * tokens + self.model.sliding_layers * min(tokens, self.model.sliding_window)
        return math.ceil(seen / self.pipeline_parallel) * self.layer_token_bytes
