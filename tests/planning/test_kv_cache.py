"""The KV cache's arithmetic against vLLM's own functions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.demo.checkpoint import ensure_checkpoint
from serving.planning.kv_cache import KvCache
from serving.planning.models import known_models

MEMORY = 3 * 1024**3 + 12_345
CASES = [
    # model, tensor parallel, element bytes, block size, context, tokens of a step
    ("demo", 1, 2, 128, 8192, 2048),
    ("demo", 1, 2, 16, 4000, 512),
    ("demo", 2, 2, 16, 8192, 2048),
    ("gpt-oss-20b", 1, 2, 16, 131_072, 2048),
    ("gpt-oss-20b", 1, 1, 16, 32_768, 8192),
    ("gpt-oss-120b", 2, 2, 16, 65_536, 8192),
    ("gpt-oss-120b", 8, 2, 64, 131_072, 8192),
    ("gpt-oss-120b", 1, 2, 16, 100, 8192),
]

# In a process of its own: vLLM changes logging and warnings of the one that imports it.
PROGRAM = """
import json, sys
import torch
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity, get_kv_cache_config_from_groups, get_kv_cache_groups
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec

arguments = json.loads(sys.stdin.read())
config = AsyncEngineArgs(model=arguments["checkpoint"], enforce_eager=True).create_engine_config()
# The engine core chooses it by what attention kernels support; it changes where bytes lie, not how many there are.
config.cache_config.kv_cache_layout = "LBNHC"
answers = []
for case in arguments["cases"]:
    config.model_config.max_model_len = case["context"]
    config.scheduler_config.max_num_batched_tokens = case["step"]
    config.cache_config.block_size = case["block_size"]
    common = dict(block_size=case["block_size"], num_kv_heads=case["kv_heads"], head_size=case["head_dim"],
                  dtype=torch.bfloat16 if case["bytes"] == 2 else torch.uint8)
    specs = {
        f"layer.{i}": SlidingWindowSpec(sliding_window=case["window"], **common) if i % 2 == 0
        else FullAttentionSpec(**common)
        for i in range(case["layers"])
    }
    groups = get_kv_cache_groups(config, specs)
    cache = get_kv_cache_config_from_groups(config, groups, case["memory"])
    tokens, concurrency = get_kv_cache_capacity(config, cache)
    answers.append({"blocks": cache.num_blocks, "concurrency": concurrency, "in_flight": config.max_in_flight_tokens})
print("ANSWERS " + json.dumps(answers))
"""


@pytest.mark.timeout(300)
def test_vllm_counts_the_same(tmp_path: Path) -> None:
    pytest.importorskip("vllm.version", reason="needs vLLM (make install)")
    models = known_models()
    cases: list[dict[str, Any]] = []
    for name, tensor_parallel, size, block_size, context, step in CASES:
        model = models[name]
        cases.append(
            {
                "layers": model.layers,
                "kv_heads": model.kv_heads // tensor_parallel,
                "head_dim": model.head_dim,
                "window": model.sliding_window,
                "bytes": size,
                "block_size": block_size,
                "context": context,
                "step": step,
                "memory": MEMORY,
            }
        )
    request = json.dumps({"checkpoint": str(ensure_checkpoint(tmp_path)), "cases": cases})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=request, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    for case, answer in zip(CASES, json.loads(line.removeprefix("ANSWERS ")), strict=True):
        name, tensor_parallel, size, block_size, context, _ = case
        cache = KvCache(
            models[name],
            tensor_parallel,
            in_flight_tokens=answer["in_flight"],
            element_bytes=size,
            block_size=block_size,
        )
        assert cache.blocks(MEMORY) == answer["blocks"], case
        assert cache.sequences(MEMORY, context) == pytest.approx(answer["concurrency"], rel=1e-12), case


def cache(*, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> KvCache:
    return KvCache(
        known_models()["gpt-oss-20b"], tensor_parallel, in_flight_tokens=4096, pipeline_parallel=pipeline_parallel
    )


def test_a_long_sequence_grows_by_its_full_layers_alone() -> None:
    kept = cache()
    grown = kept.blocks_decoding(20_016) - kept.blocks_decoding(10_000)
    assert grown * kept.block_bytes == pytest.approx(10_016 * kept.token_bytes)
    # 12 full layers, key and value, 8 heads of 64, bfloat16
    assert kept.token_bytes == 12 * 2 * 8 * 64 * 2


def test_gpus_beyond_the_kv_heads_keep_the_same_ones() -> None:
    assert cache(tensor_parallel=8).kv_heads == cache(tensor_parallel=16).kv_heads == 1


def test_the_longest_sequence_fits_and_one_block_more_does_not() -> None:
    kept = cache()
    for memory in (0, 1, 10**8, 10**9, 5 * 10**9):
        longest = kept.longest(memory)
        assert longest == 0 or kept.blocks_at_most(longest) <= kept.blocks(memory)
        assert kept.blocks_at_most(longest + kept.block_size) > kept.blocks(memory)


def test_sliding_layers_read_their_window_alone() -> None:
    kept = cache()
    assert kept.read_bytes(100) == 24 * 100 * kept.layer_token_bytes
    assert kept.read_bytes(10_000) == (12 * 10_000 + 12 * 128) * kept.layer_token_bytes


def test_stages_of_a_pipeline_share_the_layers() -> None:
    assert cache(pipeline_parallel=2).block_bytes == cache().block_bytes / 2
