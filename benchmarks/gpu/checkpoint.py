"""Checkpoints of gpt-oss's true shapes without weights: what `load_format: dummy` needs, and no hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serving.demo.architecture import END_IDS, VOCABULARY_SIZE
from serving.demo.tokenizer import tokenizer_config_json, tokenizer_json

Size = Literal["20b", "120b"]

_WIDTH = 2880
_WINDOW = 128
_TRAINED_CONTEXT = 4096
_STRETCHED = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """What tells the two sizes apart."""

    layers: int
    experts: int


SHAPES: Mapping[Size, Shape] = {"20b": Shape(24, 32), "120b": Shape(36, 128)}


def config(size: Size) -> dict[str, Any]:
    """The config.json that OpenAI publishes for this size, as far as an engine reads it."""
    shape = SHAPES[size]
    turns = ("sliding_attention", "full_attention")
    # Experts alone are in MXFP4; these stay in bfloat16.
    in_bfloat16 = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": _WIDTH,
        "intermediate_size": _WIDTH,
        "num_hidden_layers": shape.layers,
        "layer_types": [turns[number % 2] for number in range(shape.layers)],
        "sliding_window": _WINDOW,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "attention_bias": True,
        "attention_dropout": 0.0,
        "num_local_experts": shape.experts,
        "num_experts_per_tok": 4,
        "experts_per_token": 4,
        "router_aux_loss_coef": 0.9,
        "output_router_logits": False,
        "hidden_act": "silu",
        "swiglu_limit": 7.0,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.02,
        "initial_context_length": _TRAINED_CONTEXT,
        "max_position_embeddings": _TRAINED_CONTEXT * _STRETCHED,
        "rope_theta": 150000,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": float(_STRETCHED),
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": _TRAINED_CONTEXT,
            "truncate": False,
        },
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": in_bfloat16},
        "tie_word_embeddings": False,
        "use_cache": True,
        "eos_token_id": END_IDS[0],
        "pad_token_id": END_IDS[1],
    }


def write_checkpoint(folder: Path, size: Size) -> Path:
    """Make the folder, 28 MB, nearly all of it the tokenizer; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    generation = {"bos_token_id": 199_998, "do_sample": True, "eos_token_id": list(END_IDS), "pad_token_id": END_IDS[1]}
    (folder / "config.json").write_text(json.dumps(config(size), indent=1))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    (folder / "tokenizer_config.json").write_bytes(tokenizer_config_json())
    return folder
