"""Shapes against what OpenAI published (gpt-oss model card, table 1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.demo.architecture import VOCABULARY_SIZE
from serving.planning.gpus import GIB
from serving.planning.models import known_models


@pytest.mark.parametrize(
    ("name", "total", "active", "checkpoint_gib"),
    [("gpt-oss-20b", 20.91, 3.61, 12.8), ("gpt-oss-120b", 116.83, 5.13, 60.8)],
)
def test_the_published_sizes(name: str, total: float, active: float, checkpoint_gib: float) -> None:
    shape = known_models()[name]
    assert round(shape.parameters / 1e9, 2) == total
    assert round(shape.active_parameters / 1e9, 2) == active
    assert round(shape.weight_bytes / GIB, 1) == checkpoint_gib


def test_half_of_the_layers_slide() -> None:
    for shape in known_models().values():
        assert shape.full_layers == shape.sliding_layers == shape.layers / 2
        assert shape.vocabulary == VOCABULARY_SIZE


def test_the_demo_weighs_what_its_checkpoint_does(tmp_path: Path) -> None:
    from serving.demo.checkpoint import ensure_checkpoint

    checkpoint = ensure_checkpoint(tmp_path)
    shape = known_models()["demo"]
    file = checkpoint / "model.safetensors"
    with file.open("rb") as content:
        header = json.loads(content.read(int.from_bytes(content.read(8), "little")))
    sizes = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
    stored = sum(end - start for start, end in sizes)
    # The one thing left out of the shape is the last norm.
    assert stored - shape.weight_bytes == shape.hidden_size * 2
