"""The arguments and variables that vLLM is started with; what it does with them is tested end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.engine.accelerator import Accelerator, multiplies_bfloat16
from serving.engine.vllm.arguments import engine_argument_types
from serving.engine.vllm.plan import engine_arguments, engine_environment, kernel_cache
from serving.settings.models import ModelSettings

LORA = {"enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras", "lora_target_modules"}
CPU = Accelerator("cpu", "x86_64")
OLD_CPU = Accelerator("cpu", "x86_64", bfloat16=False)
H100 = Accelerator("cuda", "NVIDIA H100", (9, 0), 80 << 30, "580.95.05")
B200 = Accelerator("cuda", "NVIDIA B200", (10, 0), 180 << 30, "580.95.05")
B200_WITH_COMPILER = Accelerator("cuda", "NVIDIA B200", (10, 0), 180 << 30, "580.95.05", compiler=True)


def arguments(accelerator: Accelerator = CPU, **model: object) -> dict[str, object]:
    chosen = engine_arguments("demo", "/demo", ModelSettings.model_validate(model), accelerator)
    return {name: each.value for name, each in chosen.items()}


def environment(accelerator: Accelerator, **model: object) -> dict[str, str]:
    chosen = engine_environment(ModelSettings.model_validate(model), accelerator, Path("/cache"))
    return {name: each.value for name, each in chosen.items()}


def test_without_adapters_there_is_no_room_for_them() -> None:
    assert not LORA & arguments().keys()


def test_the_room_for_adapters_is_the_settings() -> None:
    lora = {"max_loras": 3, "max_lora_rank": 64, "max_cpu_loras": 5, "target_modules": ["o_proj"]}
    made = arguments(lora=lora)
    assert {name: made[name] for name in LORA} == {
        "enable_lora": True,
        "max_loras": 3,
        "max_lora_rank": 64,
        "max_cpu_loras": 5,
        "lora_target_modules": ["o_proj"],
    }
    assert (engine_argument_types() or {}).keys() >= LORA


@pytest.mark.parametrize(("accelerator", "modules"), [(CPU, ["qkv_proj", "o_proj"]), (H100, None)])
def test_a_cpu_adapts_attention_alone(accelerator: Accelerator, modules: list[str] | None) -> None:
    made = arguments(accelerator, adapters={"pirate": {"source": "demo"}})
    assert made["enable_lora"] is True
    assert made.get("lora_target_modules") == modules


@pytest.mark.parametrize("accelerator", [CPU, H100])
def test_engines_are_made_able_to_sleep_where_that_is_wanted_and_can_be(accelerator: Accelerator) -> None:
    assert "enable_sleep_mode" not in arguments(accelerator)
    assert "enable_sleep_mode" not in arguments(accelerator, idle={"action": "unload"})
    sleeps = arguments(accelerator, idle={"action": "sleep"}).get("enable_sleep_mode", False)
    assert sleeps is (accelerator is H100)
    assert "enable_sleep_mode" in (engine_argument_types() or {})


def test_a_cpu_that_cannot_multiply_bfloat16_gets_float32_and_room_for_it_unless_told_otherwise() -> None:
    plain, wide = arguments(CPU), arguments(OLD_CPU)
    assert (plain["dtype"], wide["dtype"]) == ("auto", "float32")
    assert wide["kv_cache_memory_bytes"] == 2 * int(str(plain["kv_cache_memory_bytes"]))
    assert arguments(OLD_CPU, dtype="bfloat16")["dtype"] == "bfloat16"
    assert arguments(H100)["dtype"] == "auto"


@pytest.mark.parametrize(
    ("flags", "able"),
    [
        ("fpu sse2 avx avx2 f16c fma", False),
        ("avx2 avx512f avx512bw avx512_vnni", False),
        ("avx2 avx512f avx512_bf16", True),
        ("avx2 avx512f amx_bf16 amx_tile", True),
        ("fp asimd asimdhp bf16", True),
    ],
)
def test_instructions_that_multiply_bfloat16(flags: str, able: bool) -> None:
    assert multiplies_bfloat16(flags.split()) is able


def test_how_many_sequences_is_left_to_vllm_on_a_gpu_and_few_on_a_cpu() -> None:
    assert "max_num_seqs" not in arguments(H100)
    assert arguments(CPU)["max_num_seqs"] == 64
    assert {arguments(each, max_num_seqs=9)["max_num_seqs"] for each in (H100, CPU)} == {9}


def test_flashinfer_is_tuned_only_where_its_kernels_are_in_use_and_can_be_had() -> None:
    assert arguments(H100)["enable_flashinfer_autotune"] is False
    assert arguments(B200_WITH_COMPILER)["enable_flashinfer_autotune"] is True
    without = arguments(B200)
    assert without["enable_flashinfer_autotune"] is False
    assert (without["moe_backend"], without["attention_backend"]) == ("triton", "TRITON_ATTN")
    assert "moe_backend" not in arguments(B200_WITH_COMPILER)
    assert "enable_flashinfer_autotune" not in arguments(CPU)


def test_what_the_settings_say_of_kernels_wins() -> None:
    said = arguments(H100, engine_args={"kernel_config": {"enable_flashinfer_autotune": True}})
    assert "enable_flashinfer_autotune" not in said, "vLLM refuses it said twice"
    assert arguments(B200, engine_args={"moe_backend": "marlin"})["moe_backend"] == "marlin"


@pytest.mark.parametrize("accelerator", [CPU, H100, B200])
def test_vllm_has_every_argument(accelerator: Accelerator) -> None:
    assert arguments(accelerator, adapters={"a": {"source": "demo"}}).keys() <= (engine_argument_types() or {}).keys()


@pytest.mark.parametrize("accelerator", [CPU, H100, B200])
def test_every_argument_says_where_it_comes_from(accelerator: Accelerator) -> None:
    model = ModelSettings.model_validate({"dtype": "auto", "engine_args": {"seed": 1}})
    chosen = engine_arguments("demo", "/demo", model, accelerator)
    assert all(each.source for each in chosen.values())
    assert chosen["seed"].source == "settings: engine_args"
    assert chosen["dtype"].source == "settings: dtype"
    assert chosen["tensor_parallel_size"].source == "default"


def test_flashinfers_sampler_is_off_where_it_would_be_compiled_while_the_engine_starts() -> None:
    assert environment(H100)["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    ready = Accelerator("cuda", "NVIDIA H100", (9, 0), prebuilt=True)
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in environment(ready)
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in environment(CPU)


def test_vllms_cache_is_never_in_the_working_directory() -> None:
    # vLLM's own default is, where XDG_CACHE_HOME is empty
    assert {environment(each)["VLLM_CACHE_ROOT"] for each in (CPU, H100, B200)} == {"/cache/vllm"}


def test_what_is_compiled_is_kept_in_our_folder_by_versions_and_gpu() -> None:
    kept = environment(H100)
    assert kept["VLLM_CACHE_ROOT"] == "/cache/vllm"
    assert kept["TRITON_CACHE_DIR"] == "/cache/triton"
    assert kept["FLASHINFER_WORKSPACE_BASE"] == "/cache/flashinfer"
    hopper, blackwell = (kernel_cache(Path("/cache"), each) for each in (H100, B200))
    assert hopper.name.endswith("-sm90")
    assert "torch-" in hopper.name
    assert hopper != blackwell


class TestProfiles:
    NAMES = (
        *("performance_mode", "max_num_batched_tokens", "max_num_seqs", "max_cudagraph_capture_size"),
        *("kv_cache_dtype", "kv_cache_dtype_skip_layers"),
    )

    @pytest.mark.parametrize(
        ("accelerator", "profile", "wanted"),
        [
            (H100, "latency", {"performance_mode": "interactivity", "max_num_seqs": 64}),
            (H100, "balanced", {"max_num_batched_tokens": 8192}),
            (
                H100,
                "throughput",
                {
                    "performance_mode": "throughput",
                    "max_num_batched_tokens": 8192,
                    "max_cudagraph_capture_size": 2048,
                },
            ),
            (
                B200_WITH_COMPILER,
                "throughput",
                {
                    "performance_mode": "throughput",
                    "max_num_batched_tokens": 8192,
                    "max_cudagraph_capture_size": 2048,
                    "kv_cache_dtype": "fp8",
                    "kv_cache_dtype_skip_layers": ["sliding_window"],
                },
            ),
            (CPU, "throughput", {"max_num_seqs": 64}),
        ],
    )
    def test_each_is_a_few_arguments(self, accelerator: Accelerator, profile: str, wanted: dict[str, object]) -> None:
        made = arguments(accelerator, profile=profile)
        assert {name: made[name] for name in self.NAMES if name in made} == wanted
        assert wanted.keys() <= (engine_argument_types() or {}).keys()

    def test_settings_win_over_it(self) -> None:
        assert arguments(H100, profile="latency", max_num_seqs=9)["max_num_seqs"] == 9
        said = arguments(H100, engine_args={"max_num_batched_tokens": 4096})
        assert said["max_num_batched_tokens"] == 4096


def test_speculative_decoding_is_vllms_eagle3() -> None:
    made = arguments(H100, speculative={"draft": "nvidia/gpt-oss-120b-Eagle3-v2"})
    assert made["speculative_config"] == {
        "method": "eagle3",
        "model": "nvidia/gpt-oss-120b-Eagle3-v2",
        "num_speculative_tokens": 3,
        "draft_tensor_parallel_size": 1,
    }
    assert "speculative_config" in (engine_argument_types() or {})


def test_kv_blocks_may_go_to_the_machines_memory() -> None:
    assert arguments(H100, kv_offload_gib=64)["kv_offloading_size"] == 64
    assert "kv_offloading_size" in (engine_argument_types() or {})


@pytest.mark.parametrize(
    ("model", "field", "fix"),
    [
        ({"profile": "fast"}, "profile", "latency"),
        ({"speculative": {"tokens": 3}}, "draft", "required"),
        ({"speculative": {"draft": "x"}, "adapters": {"a": {"source": "demo"}}}, "speculative", "remove it"),
        ({"kv_offload_gib": 8, "engine_args": {"kv_transfer_config": {}}}, "kv_offload_gib", "remove one"),
        ({"engine_args": {"speculative_config": {}}}, "speculative_config", "set `speculative`"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(model: dict[str, object], field: str, fix: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelSettings.model_validate(model)
    assert field in str(refused.value)
    assert fix in str(refused.value)
