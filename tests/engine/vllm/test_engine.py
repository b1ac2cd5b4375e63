"""What a vLLM engine says without having been started; the rest is tested end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.engine.accelerator import Accelerator
from serving.engine.device import Device
from serving.engine.vllm import engine as vllm
from serving.errors import ConflictError
from serving.settings.models import ModelSettings


@pytest.mark.parametrize(("device", "says"), [("cpu", "has none; use unload"), ("cuda", "enable_sleep_mode: true")])
async def test_an_engine_that_cannot_sleep_says_what_to_do(tmp_path: Path, device: Device, says: str) -> None:
    accelerator = Accelerator(device, "any")
    engine = vllm.VllmEngine("demo", ModelSettings(), lambda: "/demo", cache_dir=tmp_path, accelerator=accelerator)
    with pytest.raises(ConflictError, match=says):
        await engine.sleep()
