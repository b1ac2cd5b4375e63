"""Adapters' folders, written as PEFT writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIG = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
NAME = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes one; keywords change its configuration, `tensors` are in its weights."""

    def make(name: str = "pirate", tensors: dict[str, Any] | None = None, **config: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
        if tensors is None:
            tensors = {f"{NAME}.lora_{part}.weight": np.zeros((8, 8), np.float32) for part in "AB"}
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    return make
