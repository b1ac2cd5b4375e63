"""gpt-oss's forward pass for training on a CPU: the mathematics of transformers' GptOss, several times as fast.

Matrix products, and what lies between two of them, are done in bfloat16 where the processor has instructions for it;
sums, norms and the loss stay in float32. What the last layer computes after its attention is computed for the wanted
tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from training.activation import activate
from training.attention import attend, masks


@dataclass(frozen=True, slots=True)
class Network:
    """`weights` have transformers' names and shapes; `config` is config.json's content.

    `cosine` and `sine` are the rotary embedding, (places, head size / 2); `fast` is the type of matrix products.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    cosine: Tensor
    sine: Tensor
    fast: torch.dtype

    @classmethod
    def untrained(cls, config: dict[str, Any], outputs: int, fast: torch.dtype | None = None) -> Network:
        """Random weights from torch's global generator. Input row 0 is zero; the output has `outputs` rows.

        Both vocabulary matrices start as the same rows, which makes copying the easiest thing to learn.
        """
        weights = {name: _initial(name, shape) for name, shape in shapes(config, outputs).items()}
        embedding = weights["model.embed_tokens.weight"].normal_(std=0.2)
        embedding[0] = 0.0
        weights["lm_head.weight"].copy_(embedding[1 : outputs + 1])
        for weight in weights.values():
            weight.requires_grad_()
        return cls(config, weights, *_rotary(config), fast=fast or fastest_type())

    def hidden(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """The last hidden states, (count, hidden size), of the tokens that `wanted` marks.

        `ids` are rows of the input matrix and `wanted` booleans, both (batch, width), padded at the end.
        """
        config = self.config
        batch, width = ids.shape
        x = functional.embedding(ids, self.weights["model.embed_tokens.weight"]).flatten(0, 1)
        seen = masks(width, config["sliding_window"])
        last = len(config["layer_types"]) - 1
        for place, kind in enumerate(config["layer_types"]):
            mixed = self._attention(place, self._normed(f"layers.{place}.input_layernorm", x), batch, seen[kind])
            if place == last:
                keep = _padded(wanted.flatten().nonzero().squeeze(1), 128)
                x, mixed = x[keep], mixed[keep]
            x = x + self._linear(f"layers.{place}.self_attn.o_proj", mixed)
            x = x + self._experts(place, self._normed(f"layers.{place}.post_attention_layernorm", x))
        return self._normed("norm", x[: int(wanted.sum())])

    def _normed(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"model.{name}.weight"]
        return functional.rms_norm(x, weight.shape, weight, self.config["rms_norm_eps"])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.weights[f"model.{name}.weight"], self.weights[f"model.{name}.bias"]
        return functional.linear(x.to(self.fast), weight.to(self.fast), bias.to(self.fast)).float()

    def _attention(self, place: int, x: Tensor, batch: int, seen: Tensor) -> Tensor:
        """Queries' mixed values, (batch * width, heads * head size)."""
        name, size = f"layers.{place}.self_attn", self.config["head_dim"]
        x = x.to(self.fast)
        query, key, value = (
            self._linear(f"{name}.{part}_proj", x).view(batch, len(x) // batch, -1, size).transpose(1, 2)
            for part in ("q", "k", "v")
        )
        sinks = self.weights[f"model.{name}.sinks"]
        mixed = attend(self._turned(query), self._turned(key), value, sinks, seen, self.fast)
        return mixed.transpose(1, 2).reshape(len(x), -1)

    def _turned(self, x: Tensor) -> Tensor:
        """The rotary embedding of (batch, heads, width, head size)."""
        cosine, sine = self.cosine[: x.shape[2]], self.sine[: x.shape[2]]
        one, two = x.chunk(2, dim=-1)
        return torch.cat((one * cosine - two * sine, two * cosine + one * sine), dim=-1)

    def _experts(self, place: int, x: Tensor) -> Tensor:
        """All experts on all tokens in two matrix products; those not chosen weigh nothing."""
        name, limit = f"model.layers.{place}.mlp", self.config["swiglu_limit"]
        logits = functional.linear(x, self.weights[f"{name}.router.weight"], self.weights[f"{name}.router.bias"])
        best, chosen = logits.topk(self.config["num_experts_per_tok"], dim=-1)
        share = torch.zeros_like(logits).scatter(1, chosen, best.softmax(dim=-1))
        matrix, bias = self.weights[f"{name}.experts.gate_up_proj"], self.weights[f"{name}.experts.gate_up_proj_bias"]
        # Stored (experts, hidden, 2 * width), gate and up taking turns; here (hidden, 2 * experts * width), apart.
        experts, size, double = matrix.shape
        apart = matrix.view(experts, size, double // 2, 2).permute(1, 3, 0, 2).reshape(size, -1).to(self.fast)
        apart_bias = bias.view(experts, -1, 2).permute(2, 0, 1).reshape(-1).to(self.fast)
        inner = activate(torch.addmm(apart_bias, x.to(self.fast), apart), share.to(self.fast), limit)
        down = self.weights[f"{name}.experts.down_proj"].reshape(-1, size).to(self.fast)
        return (inner @ down).float() + share @ self.weights[f"{name}.experts.down_proj_bias"]


def fastest_type() -> torch.dtype:
    """bfloat16 where the processor multiplies it directly; elsewhere it would be slower than float32."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def shapes(config: dict[str, Any], outputs: int) -> dict[str, tuple[int, ...]]:
    """Every weight's shape by its name in a checkpoint."""
    hidden, inner, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    result: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (outputs, hidden),
    }
    for place in range(config["num_hidden_layers"]):
        layer = f"model.layers.{place}"
        for part, width in (("q", queries), ("k", keys), ("v", keys)):
            result[f"{layer}.self_attn.{part}_proj.weight"] = (width, hidden)
            result[f"{layer}.self_attn.{part}_proj.bias"] = (width,)
        result |= {
            f"{layer}.self_attn.o_proj.weight": (hidden, queries),
            f"{layer}.self_attn.o_proj.bias": (hidden,),
            f"{layer}.self_attn.sinks": (config["num_attention_heads"],),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.mlp.router.weight": (experts, hidden),
            f"{layer}.mlp.router.bias": (experts,),
            f"{layer}.mlp.experts.gate_up_proj": (experts, hidden, 2 * inner),
            f"{layer}.mlp.experts.gate_up_proj_bias": (experts, 2 * inner),
            f"{layer}.mlp.experts.down_proj": (experts, inner, hidden),
            f"{layer}.mlp.experts.down_proj_bias": (experts, hidden),
        }
    return result


def _padded(places: Tensor, step: int) -> Tensor:
    """Filled up to a multiple of `step`: fewer shapes, for each of which oneDNN makes machine code."""
    return functional.pad(places, (0, -len(places) % step))


def _initial(name: str, shape: tuple[int, ...]) -> Tensor:
    """As transformers begins: norms at one, biases at zero, everything else small."""
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    return torch.empty(shape).normal_(std=0.02)


def _rotary(config: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every place, by transformers' own YaRN."""
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssRotaryEmbedding

    # transformers warns of special ids beyond a compact vocabulary.
    embedding = GptOssRotaryEmbedding(GptOssConfig(**{**config, "pad_token_id": None, "eos_token_id": None}))
    places = torch.arange(config["max_position_embeddings"]).unsqueeze(0)
    cosine, sine = embedding(torch.zeros(1), places)
    return cosine[0], sine[0]
