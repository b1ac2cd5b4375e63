"""The arguments that vLLM is started with; what it does with them is tested end to end."""

from __future__ import annotations

import pytest

from serving.engine import vllm
from serving.engine.arguments import engine_argument_types
from serving.errors import ConflictError
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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_engines_are_made_able_to_sleep_where_that_is_wanted_and_can_be(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(vllm, "installed_device", lambda: device)
    assert "enable_sleep_mode" not in arguments()
    assert "enable_sleep_mode" not in arguments(idle={"action": "unload"})
    assert arguments(idle={"action": "sleep"}).get("enable_sleep_mode", False) is (device == "cuda")
    assert "enable_sleep_mode" in (engine_argument_types() or {})


@pytest.mark.parametrize(("device", "says"), [("cpu", "has none; use unload"), ("cuda", "enable_sleep_mode: true")])
async def test_an_engine_that_cannot_sleep_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, device: str, says: str
) -> None:
    monkeypatch.setattr(vllm, "installed_device", lambda: device)
    engine = vllm.VllmEngine("demo", ModelSettings(), lambda: "/demo")
    with pytest.raises(ConflictError, match=says):
        await engine.fall_asleep()
