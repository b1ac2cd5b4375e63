"""What is wrong with an adapter's files is found before an engine sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine.adapters.folder import find
from serving.engine.adapters.weights import Base
from serving.engine.base import Adapter
from serving.errors import CheckpointError
from serving.settings.models import ModelSettings

Make = Callable[..., Path]
MATRIX = np.zeros((8, 8), np.float32)


def model(*directories: Path, **lora: Any) -> ModelSettings:
    return ModelSettings.model_validate({"lora": {"directories": [str(each) for each in directories], **lora}})


def refusal(path: Path | str, settings: ModelSettings) -> str:
    with pytest.raises(CheckpointError) as caught:
        find(Adapter("pirate", str(path)), settings)
    return str(caught.value)


def test_other_content_is_another_adapter(adapter_folder: Make, tmp_path: Path) -> None:
    one, same, other = adapter_folder("one"), adapter_folder("same"), adapter_folder("other", lora_alpha=32)
    found = [find(Adapter("pirate", str(path)), model(tmp_path)) for path in (one, same, other)]
    assert [each.rank for each in found] == [8, 8, 8]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type should be LORA"),
        ({"r": 0}, "whole numbers above 0"),
        ({"r": "8"}, "whole numbers above 0"),
        ({"r": True}, "whole numbers above 0"),
        ({"rank_pattern": {"q_proj": 64}}, "has rank 64, more than `lora.max_lora_rank`, 16"),
        ({"rank_pattern": {"q_proj": None}}, "whole numbers above 0"),
        ({"rank_pattern": [8]}, "whole numbers above 0"),
        ({"bias": "all"}, "bias should be none"),
        ({"use_dora": True}, "does not support use_dora"),
        ({"modules_to_save": ["lm_head"]}, "does not support modules_to_save"),
    ],
)
def test_what_vllm_cannot_do_is_named(adapter_folder: Make, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    assert says in refusal(adapter_folder(**change), model(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "9" * 100_000, '{"peft_type": "LORA"'])
def test_a_configuration_that_is_none_is_named(adapter_folder: Make, tmp_path: Path, content: str) -> None:
    folder = adapter_folder()
    (folder / "adapter_config.json").write_text(content)
    assert "adapter_config.json" in refusal(folder, model(tmp_path))


def test_missing_and_broken_files_are_named(adapter_folder: Make, tmp_path: Path) -> None:
    settings = model(tmp_path)
    assert "adapter_config.json is missing" in refusal(tmp_path / "nowhere", settings)
    weights = adapter_folder() / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "cannot be read" in refusal(weights.parent, settings)
    weights.unlink()
    assert "read from safetensors alone" in refusal(weights.parent, settings)


def test_weights_that_are_no_lora_are_refused(adapter_folder: Make, tmp_path: Path) -> None:
    whole = adapter_folder("whole", tensors={"lm_head.weight": np.zeros((2, 2), np.float32)})
    assert "it has lm_head.weight" in refusal(whole, model(tmp_path))
    assert "nothing else" in refusal(adapter_folder("empty", tensors={}), model(tmp_path))


def test_what_engines_would_leave_out_is_refused(adapter_folder: Make, tmp_path: Path) -> None:
    layer = "base_model.model.model.layers.0"
    paths = {"q_proj": f"{layer}.self_attn.q_proj", "experts": f"{layer}.mlp.experts.base_layer"}
    folders = {
        name: adapter_folder(name, tensors={f"{path}.lora_{part}.weight": MATRIX for part in "AB"})
        for name, path in paths.items()
    }
    for modules in (["qkv_proj"], ["q_proj"], ["k_proj"]):
        settings = model(tmp_path, target_modules=modules)
        find(Adapter("pirate", str(folders["q_proj"])), settings)
        assert f"changes experts, and engines adapt {modules[0]} alone" in refusal(folders["experts"], settings)
    find(Adapter("pirate", str(folders["experts"])), model(tmp_path, target_modules=["experts"]))
    with pytest.raises(CheckpointError, match="changes experts"):
        find(Adapter("pirate", str(folders["experts"])), model(tmp_path), Base(["o_proj"]))


@pytest.mark.parametrize(
    ("layer", "down", "up", "says"),
    [
        (2, (8, 16), (32, 8), "it changes layer 2, and there are 2"),
        (1, (8, 24), (32, 8), "has 24 inputs and 32 outputs, here 16 and 32"),
        (1, (8, 16), (33, 8), "has 16 inputs and 33 outputs, here 16 and 32"),
        (1, (8, 16), (32, 4), "which are no pair"),
        (1, (8, 16, 1), (32, 8), "which are no pair"),
        (1, (8, 16), None, "has one matrix of two for base_model.model.model.layers.1.self_attn.q_proj"),
        (1, (8, 16), (32, 8), None),
    ],
)
def test_an_adapter_for_another_model_is_refused(
    adapter_folder: Make,
    tmp_path: Path,
    layer: int,
    down: tuple[int, ...],
    up: tuple[int, ...] | None,
    says: str | None,
) -> None:
    path = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    tensors = {f"{path}.lora_A.weight": np.zeros(down, np.float32)}
    if up is not None:
        tensors[f"{path}.lora_B.weight"] = np.zeros(up, np.float32)
    adapter = Adapter("pirate", str(adapter_folder(tensors=tensors)))
    base = Base(layers=2, widths={"q_proj": (16, 32)})
    if says is None:
        find(adapter, model(tmp_path), base)
    else:
        with pytest.raises(CheckpointError, match=re.escape(says)):
            find(adapter, model(tmp_path), base)


def test_only_named_directories_are_looked_into(adapter_folder: Make, tmp_path: Path) -> None:
    inside, outside = adapter_folder("inside/pirate"), adapter_folder("outside")
    settings = model(tmp_path / "inside")
    link = tmp_path / "inside" / "link"
    link.symlink_to(outside)
    assert find(Adapter("pirate", str(inside)), settings).path == inside
    for path in (outside, link, tmp_path / "inside" / ".." / "outside"):
        assert "in none of the directories" in refusal(path, settings)
    assert "should be an absolute path" in refusal("inside/pirate", settings)
    assert "in none of the directories" in refusal(inside, model())


def test_what_the_settings_name_may_lie_anywhere(adapter_folder: Make) -> None:
    folder = adapter_folder()
    settings = ModelSettings.model_validate({"adapters": {"pirate": {"source": str(folder)}}})
    assert find(Adapter("pirate", str(folder)), settings).path == folder
    with pytest.raises(CheckpointError, match="in none of the directories"):
        find(Adapter("other", str(folder)), settings)


def test_the_demo_has_one_of_its_own() -> None:
    found = find(Adapter("pirate", "demo"), model())
    assert (found.rank, found.path.name) == (8, "pirate")
    assert "for the demo model alone" in refusal("demo", ModelSettings.model_validate({"source": "/x", "lora": {}}))


def test_a_model_without_room_says_so() -> None:
    assert "set `lora`" in refusal("demo", ModelSettings())
