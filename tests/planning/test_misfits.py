from __future__ import annotations

import pytest

from serving.planning.gpus import GIB, GPUS
from serving.planning.misfits import misfits
from serving.settings.tree import Settings


@pytest.mark.parametrize(
    ("gpu", "model", "fits"),
    [
        ("h100", {"source": "openai/gpt-oss-20b"}, True),
        ("l4", {"source": "openai/gpt-oss-20b"}, True),
        ("h100", {"source": "openai/gpt-oss-120b"}, True),
        ("a100-40", {"source": "openai/gpt-oss-120b"}, False),
        ("a100-40", {"source": "openai/gpt-oss-120b", "tensor_parallel_size": 2}, True),
        ("h100", {"source": "openai/gpt-oss-20b", "engine_args": {"gpu_memory_utilization": 0.1}}, False),
        ("l4", {"source": "/checkpoints/of-our-own"}, True),
    ],
)
def test_a_model_whose_weights_do_not_fit_is_told_with_its_field(
    gpu: str, model: dict[str, object], fits: bool
) -> None:
    settings = Settings.model_validate({"models": {"m": model}})
    found = misfits(settings, GPUS[gpu].name, int(GPUS[gpu].memory_gib * GIB))
    assert [path for path, _ in found] == ([] if fits else [("models", "m", "tensor_parallel_size")])
    assert fits or "set --tensor-parallel-size" in found[0][1]
