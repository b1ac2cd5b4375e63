"""The bound that a running engine exposes."""

from __future__ import annotations

import pytest

from serving.engine.accelerator import Accelerator
from serving.planning.bound import bound_tokens_s
from serving.planning.gpus import GIB, GPUS
from serving.planning.models import known_models
from serving.planning.plan import Plan
from serving.settings.models import ModelSettings


def accelerator(name: str) -> Accelerator:
    return Accelerator("cuda", name, (9, 0), int(79.6 * GIB), "580.95.05")


def test_it_is_the_row_that_serving_plan_prints_for_as_many_streams() -> None:
    model = ModelSettings(source="openai/gpt-oss-120b", tensor_parallel_size=2)
    plan = Plan(known_models()["gpt-oss-120b"], GPUS["h100"], 2, 1, context=32_768, streams=64)

    found = bound_tokens_s(model, accelerator("NVIDIA H100 80GB HBM3"), streams=64, context=32_768)

    assert found == plan.decode_bound(64, 16_384)[0]


def test_it_counts_no_streams_that_the_kv_cache_does_not_hold() -> None:
    model = ModelSettings(source="openai/gpt-oss-120b")
    plan = Plan(known_models()["gpt-oss-120b"], GPUS["h100"], 1, 1, context=131_072, streams=256)
    fitting = plan.cache.decoding(plan.kv_bytes, 65_536)
    assert 0 < fitting < 256

    found = bound_tokens_s(model, accelerator("NVIDIA H100 80GB HBM3"), streams=256, context=131_072)

    assert found == plan.decode_bound(fitting, 65_536)[0]


@pytest.mark.parametrize(
    ("source", "card"), [("/checkpoints/ours", "NVIDIA H100 80GB HBM3"), ("openai/gpt-oss-20b", "NVIDIA Z9000")]
)
def test_nothing_is_said_of_a_model_or_a_gpu_without_a_data_sheet(source: str, card: str) -> None:
    assert bound_tokens_s(ModelSettings(source=source), accelerator(card), streams=64, context=32_768) is None
