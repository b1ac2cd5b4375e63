"""Settings of a model's LoRA adapters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from serving.settings.base import Section
from serving.settings.problems import several

DEMO = "demo"
"""Source of the demo model's own adapter, which begins answers like a pirate."""


class AdapterSettings(Section):
    """LoRA adapter, which engines load when they start."""

    source: str = Field(
        min_length=1, description="A directory with an adapter in PEFT's format, on the engines' machines, or `demo`."
    )


class LoraSettings(Section):
    """Capacity for adapters. Names and defaults are vLLM's where it has them (vllm/config/lora.py)."""

    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = Field(
        16, description="Highest rank of an adapter; each place for one takes as much memory as this rank needs."
    )
    max_loras: int = Field(2, ge=1, le=1000, description="Adapters at work in one step, each with a place of its own.")
    max_cpu_loras: int = Field(
        16, ge=1, le=10_000, description="Adapters that an engine keeps in memory; of idle ones the oldest give way."
    )
    target_modules: tuple[str, ...] | None = Field(
        None, description="Modules that adapters may change, such as qkv_proj; unset: all that vLLM adapts."
    )
    directories: tuple[str, ...] = Field(
        (), description="Where adapters that are added while serving may lie; none: none may be added."
    )

    @field_validator("directories")
    @classmethod
    def _absolute(cls, directories: tuple[str, ...]) -> tuple[str, ...]:
        if any(not directory.startswith("/") for directory in directories):
            raise ValueError("should be absolute paths such as /models/adapters")
        return directories

    @model_validator(mode="after")
    def _room_for_a_step(self) -> Self:
        if self.max_cpu_loras < self.max_loras:
            raise several([(("max_cpu_loras",), f"should be at least max_loras, {self.max_loras}")])
        return self
