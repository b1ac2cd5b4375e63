"""LoRA adapters on a GPU: made up as the weights are, so that all there is to see is that they load, answer and go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import NotFoundError
from safetensors.numpy import save_file

from benchmarks.gpu.checkpoint import SHAPES
from tests.gpu.conftest import MODEL, client_of, forced_texts, served, write_settings

RANK = 8
WIDTHS = {"q_proj": (2880, 4096), "k_proj": (2880, 512), "v_proj": (2880, 512), "o_proj": (4096, 2880)}
ASKED: Any = {"messages": [{"role": "user", "content": "Hello!"}]}


def write_adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(SHAPES["20b"].layers):
        for module, (inputs, outputs) in WIDTHS.items():
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{name}.lora_A.weight"] = random.normal(0, 0.01, (RANK, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.01, (outputs, RANK)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": list(WIDTHS)}))
    return folder


def test_adapters_of_the_settings_and_added_ones_answer_and_go(tmp_path: Path, checkpoint: Path) -> None:
    # Given a model with an adapter, and room for another
    shelf = tmp_path / "adapters"
    first, second = write_adapter(shelf / "first"), write_adapter(shelf / "second")
    # On a GPU vLLM adapts experts too, for which it takes other kernels; these adapters have nothing for them.
    lora = {"target_modules": ["qkv_proj", "o_proj"], "directories": [str(shelf)]}
    settings = write_settings(tmp_path, checkpoint, lora=lora, adapters={"first": {"source": str(first)}})
    with served(tmp_path, settings) as stack, client_of(stack) as client, httpx.Client(base_url=stack.root) as admin:
        # When one is added
        body = {"name": "second", "model": MODEL, "source": str(second)}
        added = admin.post("/admin/adapters", json=body, timeout=120)
        assert added.status_code == 201, added.text
        # Then each answers to its name, beside the model
        for name in (MODEL, "first", "second"):
            reply = client.chat.completions.create(model=name, **ASKED)
            assert reply.choices[0].message.content == forced_texts()[1]
        # Until it is removed
        assert admin.delete("/admin/adapters/second", timeout=120).status_code == 200
        with pytest.raises(NotFoundError):
            client.chat.completions.create(model="second", **ASKED)
