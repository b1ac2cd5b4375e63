"""Harmony answers from weights that know nothing: a logits processor that puts one script's tokens on top.

The forward pass and the sampling cost what they always cost. For vLLM's Model Runner V2, which is what runs gpt-oss on
GPUs. The front end imports this module too, so nothing here may import torch at the top.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor

if TYPE_CHECKING:
    import torch

NAME = "benchmarks.gpu.forced:Forced"
"""For vLLM's argument `logits_processors`."""

VARIABLE = "BENCH_FORCED_REPLY"
"""Environment: tokens of reasoning and of the final answer, such as `128,128`."""

_CHANNEL, _MESSAGE, _END, _START, _RETURN = 200_005, 200_008, 200_007, 200_006, 200_002
_ANALYSIS, _ASSISTANT, _FINAL = 35_644, 173_781, 17_196
_WORDS = (976, 4853, 19_705, 68_347, 65_613, 1072, 290, 29_082, 6446, 13)
"""The quick brown fox jumps over the lazy dog."""

_CERTAIN = 1e4


def script(reasoning: int, final: int) -> list[int]:
    """Token ids of a whole answer whose channels have so many words."""
    return [
        *(_CHANNEL, _ANALYSIS, _MESSAGE, *_words(reasoning), _END),
        *(_START, _ASSISTANT, _CHANNEL, _FINAL, _MESSAGE, *_words(final), _RETURN),
    ]


def lengths() -> tuple[int, int]:
    """What the environment asks for."""
    reasoning, _, final = os.environ.get(VARIABLE, "128,128").partition(",")
    return int(reasoning), int(final)


def _words(count: int) -> list[int]:
    return list(itertools.islice(itertools.cycle(_WORDS), count))


class Forced(LogitsProcessor):  # type: ignore[misc]  # vLLM is not checked
    """Every request emits the script from its first token on, wherever it was preempted."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        import torch

        self._prompts = req_states.prompt_len
        self._script = torch.tensor(script(*lengths()), device=req_states.device, dtype=torch.int64)

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """See vLLM: one row for each token to be sampled."""
        # Rows that only pad the batch name no slot.
        slots = ctx.expanded_idx_mapping.long().clamp(min=0)
        place = ctx.pos.long() + 1 - self._prompts.gpu[slots].long()
        tokens = self._script[place.clamp(0, len(self._script) - 1)]
        return logits.scatter_(1, tokens[: logits.shape[0], None], _CERTAIN)
