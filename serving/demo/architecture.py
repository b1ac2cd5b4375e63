"""The demo model's shape: gpt-oss in every way, only small."""

from __future__ import annotations

from typing import Any

VOCABULARY_SIZE = 201_088
"""Rows of the embedding of every gpt-oss model; the demo has as many, nearly all of them zero."""

END_IDS = (200_002, 199_999, 200_012)
"""<|return|>, <|endoftext|>, <|call|>, as in gpt-oss's generation config."""

HIDDEN = 128


def hf_config(vocabulary_size: int = VOCABULARY_SIZE) -> dict[str, Any]:
    """The checkpoint's config.json: transformers' GptOssConfig, which vLLM reads too.

    Head size, head counts and the experts' width stay multiples of what vLLM's CPU kernels and two-way tensor
    parallelism ask for. The context of 8192 comes from YaRN, which vLLM insists on for this architecture.
    """
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "eos_token_id": END_IDS[0],
        "experts_per_token": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "max_position_embeddings": 8192,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "pad_token_id": END_IDS[1],
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 2.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": 4096,
            "truncate": False,
        },
        "router_aux_loss_coef": 0.0,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        # As in gpt-oss. Without a version transformers suspects the tokenizer of another family's mistake.
        "transformers_version": "4.55.0.dev0",
        "use_cache": True,
        "vocab_size": vocabulary_size,
    }
