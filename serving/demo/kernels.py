"""Attention and experts for training on a CPU: the same mathematics as transformers' own, several times as fast."""

from __future__ import annotations

from typing import Any

ATTENTION = "demo_sinks"
EXPERTS = "demo_dense"


def register() -> None:
    """Make both known to transformers under their names."""
    from transformers import AttentionInterface
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    AttentionInterface.register(ATTENTION, attention_with_sinks)
    ALL_EXPERTS_FUNCTIONS.register(EXPERTS, dense_experts)


def masks(width: int, window: int) -> dict[str, Any]:
    """For sequences of `width` tokens: what each kind of layer may see, the sink's place in front included.

    Full attention is plainly causal and needs no mask; a sliding layer sees the sink and `window` tokens.
    """
    import torch

    place = torch.arange(width + 1)
    distance = place[:, None] - place[None, :]
    seen = (distance >= 0) & ((distance < window) | (place[None, :] == 0))
    sliding = torch.zeros(1, 1, width + 1, width + 1).masked_fill_(~seen, float("-inf"))
    return {"full_attention": None, "sliding_attention": sliding}


def attention_with_sinks(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, s_aux: Any, **_: Any
) -> tuple[Any, None]:
    """Attention with a learned sink in each head's softmax, by way of the fused kernel.

    The sink is a key in front of all others that only one extra dimension of the query meets; its value is zero.
    Shapes: query (batch, heads, tokens, head size), key and value with fewer heads; returns (batch, tokens, heads,
    head size).
    """
    import torch

    _, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    places = torch.zeros(tokens + 1, size + 8)
    places[:, size] = 1.0
    sink = torch.zeros(tokens + 1, size + 8)
    sink[0, size] = 1.0 / scaling
    q = torch.nn.functional.pad(query, (0, 8, 1, 0)) + places
    k = torch.nn.functional.pad(key.repeat_interleave(groups, 1), (0, 8, 1, 0)) + s_aux.view(1, heads, 1, 1) * sink
    v = torch.nn.functional.pad(value.repeat_interleave(groups, 1), (0, 8, 1, 0))
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=attention_mask, is_causal=attention_mask is None, scale=scaling
    )
    return out[:, :, 1:, :size].transpose(1, 2), None


def dense_experts(experts: Any, hidden: Any, chosen: Any, weights: Any) -> Any:
    """All experts on all tokens in two matrix products; those not chosen weigh nothing.

    Shapes: hidden (tokens, size), chosen and weights (tokens, experts per token).
    """
    import torch

    count, size, double = experts.gate_up_proj.shape
    share = torch.zeros(len(hidden), count, dtype=weights.dtype).scatter(1, chosen, weights)
    gate_up = hidden @ experts.gate_up_proj.transpose(0, 1).reshape(size, count * double)
    gate_up = (gate_up + experts.gate_up_proj_bias.view(-1)).view(len(hidden), count, double)
    inner = experts._apply_gate(gate_up) * share.unsqueeze(-1)
    return inner.flatten(1) @ experts.down_proj.reshape(-1, size) + share @ experts.down_proj_bias
