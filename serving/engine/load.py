"""Load of one engine: the work it has and the KV cache it has left."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KvCache:
    """KV cache of one engine: `used` of `blocks` are allocated, each for `block_tokens` tokens.

    `extra_blocks`: blocks that a sequence of the longest context takes beyond one for each `block_tokens` tokens.
    gpt-oss takes them for its sliding-window layers, whose blocks come from the same pool.
    """

    blocks: int
    used: int
    block_tokens: int
    extra_blocks: int = 0

    def blocks_for(self, tokens: float) -> int:
        """Most blocks that a sequence of `tokens` takes."""
        blocks = math.ceil(tokens / self.block_tokens)
        return blocks + min(blocks, self.extra_blocks)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Load of one engine at one moment.

    `engine`: random id of the engine's process. `running` and `waiting`: sequences that the scheduler has in its batch
    and in its queue. `waiting_tokens`: prompt tokens of all requests without a first token. `step_tokens`: most tokens
    of one scheduler step. None where an engine does not tell.
    """

    engine: str
    running: int
    waiting: int
    waiting_tokens: int
    step_tokens: int | None = None
    kv_cache: KvCache | None = None

    @property
    def idle(self) -> bool:
        """True without any request."""
        return not (self.running or self.waiting or self.waiting_tokens)
