"""Attention with a learned sink in each head's softmax, forward and backward, in as few passes as a CPU can do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def masks(width: int, window: int) -> dict[str, Tensor]:
    """For sequences of `width` tokens: 0 where each kind of layer may look and -inf elsewhere, (width, width + 1).

    The first column is the sink's; a sliding layer sees `window` tokens, itself included.
    """
    place = torch.arange(width)
    distance = place[:, None] - place[None, :]
    seen = {"full_attention": distance >= 0, "sliding_attention": (distance >= 0) & (distance < window)}
    return {
        kind: torch.nn.functional.pad(torch.zeros(width, width).masked_fill_(~mask, float("-inf")), (1, 0))
        for kind, mask in seen.items()
    }


def attend(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, seen: Tensor, fast: torch.dtype) -> Tensor:
    """Mixed values, (batch, heads, tokens, head size).

    `query` has that shape, `key` and `value` fewer heads; `sinks` is one logit a head; `seen` comes from `masks`;
    `fast` is the type of the matrix products that need no more.
    """
    mixed: Tensor = _Attention.apply(query, key, value, sinks, seen, fast)
    return mixed


class _Attention(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """The sink is a key of zeros before all others, whose logit the mask carries, with a value of zeros."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, seen: Tensor, fast: torch.dtype
    ) -> Tensor:
        batch, heads, tokens, size = query.shape
        groups = key.shape[1]
        # Queries that share keys lie one below the other, so that keys need no copies.
        tall = (batch * groups, heads // groups * tokens, size)
        q = (query * size**-0.5).to(fast).reshape(tall)
        k = torch.nn.functional.pad(key.to(fast), (0, 0, 1, 0)).view(-1, tokens + 1, size)
        v = torch.nn.functional.pad(value.to(fast), (0, 0, 1, 0)).view(-1, tokens + 1, size)
        bias = seen.to(fast).expand(heads, tokens, tokens + 1).clone()
        bias[:, :, 0] = sinks[:, None]
        logits = torch.bmm(q, k.mT).view(batch, heads, tokens, tokens + 1).add_(bias)
        shares = logits.softmax(dim=-1).view(*tall[:2], tokens + 1)
        mixed = torch.bmm(shares, v)
        ctx.save_for_backward(q, k, v, shares, mixed)
        ctx.shape = query.shape
        return mixed.view(query.shape).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares, mixed = ctx.saved_tensors
        batch, heads, tokens, size = ctx.shape
        below = grad.to(v.dtype).reshape(q.shape)
        value = torch.bmm(shares.mT, below)
        level = (below.float() * mixed).sum(dim=-1, keepdim=True).to(v.dtype)
        logits = torch.bmm(below, v.mT).sub_(level).mul_(shares)
        query = torch.bmm(logits, k).float().mul_(size**-0.5)
        key = torch.bmm(logits.mT, q)
        sinks = logits[:, :, 0].view(batch, heads, tokens).sum(dim=(0, 2), dtype=torch.float32)
        return (
            query.view(ctx.shape),
            key[:, 1:].reshape(batch, -1, tokens, size).float(),
            value[:, 1:].reshape(batch, -1, tokens, size).float(),
            sinks,
            None,
            None,
        )
