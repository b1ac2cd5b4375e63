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
        tokens = self._script[self._places(slots, ctx).clamp(0, len(self._script) - 1)]
        return self._put(logits, tokens[: logits.shape[0], None])

    def _places(self, slots: torch.Tensor, ctx: Any) -> torch.Tensor:
        places: torch.Tensor = ctx.pos.long() + 1 - self._prompts.gpu[slots].long()
        return places

    def _put(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return logits.scatter_(1, tokens, _CERTAIN)


class Resuming(Forced):
    """The same for tests: an answer that goes on in another engine goes on in the script, and grammars are obeyed.

    It reads each new prompt back from the device, which would be felt in a measurement.
    """

    NAME = "benchmarks.gpu.forced:Resuming"

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        super().__init__(vllm_config, req_states)
        import torch

        self._ids = req_states.all_token_ids
        self._begun = torch.zeros(req_states.max_num_reqs, device=req_states.device, dtype=torch.int64)
        self._ordered = script(*lengths())
        self._new: list[int] = []

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """See vLLM: what the prompt is, is on the device only later."""
        self._new.append(req_idx)
        return True

    def apply_staged_writes(self) -> None:
        """See vLLM: now it is."""
        for slot in self._new:
            length = int(self._prompts.np[slot])
            self._begun[slot] = written(self._ids.gpu[slot, :length].tolist(), self._ordered)
        self._new.clear()

    def _places(self, slots: torch.Tensor, ctx: Any) -> torch.Tensor:
        return super()._places(slots, ctx) + self._begun[slots]

    def _put(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        # What a grammar has ruled out stays so, and the weights choose among the rest.
        allowed = logits.gather(1, tokens).isfinite()
        return logits.scatter_(1, tokens, logits.gather(1, tokens).masked_fill(allowed, _CERTAIN))


def written(prompt: list[int], ordered: list[int]) -> int:
    """How much of the script a prompt ends with: more than nothing where it is an answer's continuation."""
    opened = [_START, _ASSISTANT]
    for count in range(min(len(ordered), len(prompt) - len(opened)), 0, -1):
        before = len(prompt) - count
        if prompt[before:] == ordered[:count] and prompt[before - 2 : before] == opened:
            return count
    return 0
