"""The arguments that vLLM is started with; what it does with them is tested end to end."""

from __future__ import annotations

import pytest

from serving.engine import vllm
from serving.engine.arguments import engine_argument_types
from serving.settings import ModelSettings

LORA = {"enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras", "lora_target_modules"}


def arguments(**model: object) -> dict[str, object]:
    return vllm.engine_arguments("demo", "/demo", ModelSettings.model_validate(model))


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


@pytest.mark.parametrize(("device", "modules"), [("cpu", ["qkv_proj", "o_proj"]), ("cuda", None)])
def test_a_cpu_adapts_attention_alone(monkeypatch: pytest.MonkeyPatch, device: str, modules: list[str] | None) -> None:
    monkeypatch.setattr(vllm, "installed_device", lambda: device)
    made = arguments(adapters={"pirate": {"source": "demo"}})
    assert made["enable_lora"] is True
    assert made.get("lora_target_modules") == modules
