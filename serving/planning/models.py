"""Shapes and weights of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.demo.architecture import hf_config

MXFP4_BITS = 4.25
"""Bits of a weight in MXFP4: four, and a scale of eight for each block of 32 (OCP Microscaling formats)."""

_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of a gpt-oss model; the names are those of its config.json.

    `expert_bits` is what an expert's matrices take a weight: MXFP4 in OpenAI's checkpoints. All else is bfloat16.
    """

    name: str
    source: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    sliding_layers: int
    sliding_window: int
    context: int
    vocabulary: int
    expert_bits: float

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees the whole context."""
        return self.layers - self.sliding_layers

    @property
    def expert_matrix_parameters(self) -> int:
        """Parameters in the matrices of one expert of one layer: gate, up and down."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def _expert_bias_parameters(self) -> int:
        return 2 * self.intermediate_size + self.hidden_size

    @property
    def attention_parameters(self) -> int:
        """Parameters of one layer outside its experts: attention with biases and sinks, router, norms."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden_size * (queries + keys) + queries + 2 * keys + self.hidden_size + self.heads
        return attention + self.hidden_size * self.experts + self.experts + 2 * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding, and as many of the output matrix."""
        return self.vocabulary * self.hidden_size

    @property
    def parameters(self) -> int:
        """Number of all parameters."""
        experts = self.experts * (self.expert_matrix_parameters + self._expert_bias_parameters)
        return self.layers * (experts + self.attention_parameters) + 2 * self.embedding_parameters

    @property
    def active_parameters(self) -> int:
        """Number of parameters that a token is multiplied with: attention, its experts, the output matrix."""
        experts = self.experts_per_token * (self.expert_matrix_parameters + self._expert_bias_parameters)
        return self.layers * (experts + self.attention_parameters) + self.embedding_parameters

    @property
    def expert_bytes(self) -> float:
        """Bytes of one expert of one layer."""
        return self.expert_matrix_parameters * self.expert_bits / 8 + self._expert_bias_parameters * _BF16_BYTES

    @property
    def shared_bytes(self) -> int:
        """Bytes that every token reads: attention of all layers and the output matrix."""
        return (self.layers * self.attention_parameters + self.embedding_parameters) * _BF16_BYTES

    @property
    def weight_bytes(self) -> float:
        """Bytes of the checkpoint."""
        return (
            self.layers * self.experts * self.expert_bytes + self.shared_bytes + self.embedding_parameters * _BF16_BYTES
        )


def shape_of(name: str, source: str, config: Mapping[str, Any], expert_bits: float) -> ModelShape:
    """Shape that a config.json of a gpt-oss checkpoint describes."""
    return ModelShape(
        name=name,
        source=source,
        layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        experts=config["num_local_experts"],
        experts_per_token=config["num_experts_per_tok"],
        sliding_layers=config["layer_types"].count("sliding_attention"),
        sliding_window=config["sliding_window"],
        context=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        expert_bits=expert_bits,
    )


def _gpt_oss(name: str, layers: int, experts: int) -> ModelShape:
    # config.json of openai/gpt-oss-20b and openai/gpt-oss-120b; they differ in these two numbers.
    return ModelShape(
        name=name,
        source=f"openai/{name}",
        layers=layers,
        hidden_size=2880,
        intermediate_size=2880,
        heads=64,
        kv_heads=8,
        head_dim=64,
        experts=experts,
        experts_per_token=4,
        sliding_layers=layers // 2,
        sliding_window=128,
        context=131_072,
        vocabulary=201_088,
        expert_bits=MXFP4_BITS,
    )


def known_models() -> dict[str, ModelShape]:
    """Known models by name."""
    shapes = (
        _gpt_oss("gpt-oss-20b", layers=24, experts=32),
        _gpt_oss("gpt-oss-120b", layers=36, experts=128),
        shape_of("demo", "demo", hf_config(), expert_bits=8 * _BF16_BYTES),
    )
    return {shape.name: shape for shape in shapes}
