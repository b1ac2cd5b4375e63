from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serving.planning.gpus import GPUS
from serving.planning.models import known_models
from serving.planning.plan import Plan


def plan(model: str = "gpt-oss-120b", gpu: str = "h100", **changes: Any) -> Plan:
    base = Plan(known_models()[model], GPUS[gpu], tensor_parallel=1, pipeline_parallel=1, context=32_768, streams=64)
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("model", "gpu", "fits"),
    [
        # What OpenAI says of its models: one GPU of 80 GB, and 16 GB.
        ("gpt-oss-120b", "h100", True),
        ("gpt-oss-20b", "l4", True),
        ("gpt-oss-20b", "rtx-4090", True),
        ("gpt-oss-120b", "l40s", False),
        ("gpt-oss-120b", "rtx-5090", False),
        ("gpt-oss-120b", "mi300x", True),
    ],
)
def test_what_fits_on_one_gpu(model: str, gpu: str, fits: bool) -> None:
    assert (plan(model, gpu).problems() == []) == fits


def test_a_problem_says_what_to_change_and_that_helps() -> None:
    (problem,) = plan(gpu="l40s").problems()
    assert "set --tensor-parallel-size 2" in problem
    assert plan(gpu="l40s", tensor_parallel=2).problems() == []


def test_a_sequence_too_long_is_told_how_long_one_may_be() -> None:
    wanted = plan(gpu="a100", context=131_072, utilization=0.88)
    (problem,) = wanted.problems()
    assert "of KV cache a GPU" in problem
    shorter = int(problem.split("lower --context to ")[1].split(", or")[0].replace(",", ""))
    assert 256 < shorter < 131_072
    assert replace(wanted, context=shorter).problems() == []
    assert replace(wanted, context=shorter + 16).problems() != []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensor_parallel": 3}, "64 attention heads cannot be shared by 3 GPUs: use 1, 2, 4, 8"),
        ({"pipeline_parallel": 40}, "36 layers cannot be shared by 40 groups"),
        ({"context": 200_000}, "made for 131,072 tokens at most"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, Any], message: str) -> None:
    assert message in plan(**changes).problems()[0]


def test_bounds_fall_with_length_and_rise_with_streams_and_gpus() -> None:
    rates = [plan().decode_bound(streams, 4096)[0] for streams in (1, 8, 64, 512)]
    assert rates == sorted(rates)
    assert plan().decode_bound(64, 1000)[0] > plan().decode_bound(64, 30_000)[0]
    assert plan(tensor_parallel=2).decode_bound(64, 4096)[0] > plan().decode_bound(64, 4096)[0]
    assert plan(gpu="h200").decode_bound(1, 4096)[0] > plan().decode_bound(1, 4096)[0]


def test_one_stream_is_bound_by_the_weights_it_reads() -> None:
    model = known_models()["gpt-oss-120b"]
    rate, limit = plan().decode_bound(1, 1)
    read = model.shared_bytes + model.layers * model.experts_per_token * model.expert_bytes
    assert limit == "memory bandwidth"
    assert rate == pytest.approx(3.35e12 / read, rel=0.01)


def test_enough_streams_are_bound_by_compute() -> None:
    assert plan("demo", "l4").decode_bound(10_000, 1)[1] == "compute"


def test_padding_of_kernels_counts_and_hopper_pads_least() -> None:
    same = replace(GPUS["h100"], intermediate_multiple=128, hidden_multiple=256)
    assert plan().weights_gib == pytest.approx(60.8, abs=0.05)
    assert replace(plan(), gpu=same).weights_gib == pytest.approx(60.8 * (3072 / 2880) * (2944 / 2880), rel=0.01)
    # A part of 720 is padded to 768 on Hopper too
    assert plan(tensor_parallel=4).weights_gib > plan().weights_gib / 4


def test_a_measured_reserve_replaces_the_assumed_one() -> None:
    assert plan(reserve_gib=3.0).reserve == 3.0
    assert plan(reserve_gib=3.0).kv_gib == pytest.approx(79.6 * 0.92 - plan().weights_gib - 3.0)
