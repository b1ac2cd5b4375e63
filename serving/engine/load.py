"""Load of one engine: the work it has and the KV cache it has left."""

from __future__ import annotations

import math
from collections.abc import Callable
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
    of one scheduler step. `adapters`: name and version of each adapter in its memory. `tokens_s`: tokens that it made a
    second of late. None where an engine does not tell.
    """

    engine: str
    running: int
    waiting: int
    waiting_tokens: int
    step_tokens: int | None = None
    kv_cache: KvCache | None = None
    adapters: tuple[tuple[str, str], ...] = ()
    tokens_s: float | None = None

    @property
    def idle(self) -> bool:
        """True without any request."""
        return not (self.running or self.waiting or self.waiting_tokens)


class TokenRate:
    """Tokens a second over the last one to two seconds; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._before = self._now = 0
        self._since = clock()

    def add(self, tokens: int) -> None:
        """Count tokens that were made now."""
        self._turn()
        self._now += tokens

    @property
    def tokens_s(self) -> float:
        """The rate now."""
        self._turn()
        return (self._before + self._now) / (1.0 + self._clock() - self._since)

    def _turn(self) -> None:
        passed = self._clock() - self._since
        if passed >= 1.0:
            self._before = self._now if passed < 2.0 else 0
            self._now = 0
            self._since += passed if passed >= 2.0 else 1.0
