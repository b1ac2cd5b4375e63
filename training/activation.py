"""gpt-oss's gated activation, forward and backward, in as few passes as a CPU can do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SWIGLU_ALPHA = 1.702
"""gpt_oss/torch/model.py, swiglu."""


def activate(both: Tensor, share: Tensor, limit: float) -> Tensor:
    """(up + 1) * gate * sigmoid(alpha * gate) of each expert, weighed: (tokens, experts * width).

    `both` has the gates of all experts and then their ups, (tokens, 2 * experts * width), of which no gate counts
    beyond `limit` and no up beyond it either way; `share` is what each expert weighs, (tokens, experts).
    """
    active: Tensor = _Activation.apply(both, share, limit)
    return active


class _Activation(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    @staticmethod
    def forward(ctx: Any, both: Tensor, share: Tensor, limit: float) -> Tensor:
        gate, up = both.chunk(2, dim=1)
        clamped, raised = gate.clamp(max=limit), up.clamp(-limit, limit).add_(1)
        slope = torch.sigmoid(clamped * SWIGLU_ALPHA)
        active = clamped * slope * raised
        ctx.save_for_backward(gate, up, clamped, raised, slope, active, share)
        ctx.limit = limit
        return _weighed(active, share)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, clamped, raised, slope, active, share = ctx.saved_tensors
        weight = (grad * active).view(*share.shape, -1).sum(dim=-1)
        below = _weighed(grad, share)
        both = torch.empty(len(gate), 2 * gate.shape[1], dtype=gate.dtype)
        for_gate, for_up = both.chunk(2, dim=1)
        torch.mul(below, clamped * slope, out=for_up)
        # d(g * sigmoid(a * g)) / dg = s * (1 + a * g * (1 - s))
        steepness = (1 - slope).mul_(clamped).mul_(SWIGLU_ALPHA).add_(1).mul_(slope)
        torch.mul(below * raised, steepness, out=for_gate)
        for_gate.mul_(gate <= ctx.limit)
        for_up.mul_(up.abs() <= ctx.limit)
        return both, weight, None


def _weighed(active: Tensor, share: Tensor) -> Tensor:
    return (active.view(*share.shape, -1) * share.unsqueeze(-1)).flatten(1)
