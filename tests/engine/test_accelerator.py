from __future__ import annotations

import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from serving.engine import accelerator
from serving.engine.accelerator import Accelerator, device_problem, probe
from serving.engine.device import installed_device

H100 = Accelerator("cuda", "NVIDIA H100", (9, 0), 80 << 30, "580.95.05")


def test_this_machine_is_looked_at_by_the_build_that_is_installed() -> None:
    assert probe().device == installed_device()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"driver": "610.1"}, None),
        ({"driver": "575.57.08"}, "575.57.08 is too old for CUDA 13.*580"),
        ({"capability": (7, 5)}, "sm75.*sm80"),
        ({"capability": None, "driver": None}, r"no NVIDIA GPU answers.*nvidia-smi.*\[cpu\]"),
    ],
)
def test_a_gpu_that_no_engine_can_start_on_is_told_with_the_fix(change: dict[str, Any], said: str | None) -> None:
    problem = device_problem(replace(H100, **change))
    assert (problem is None) if said is None else re.search(said, problem or "")


def test_a_cpu_needs_no_driver() -> None:
    assert device_problem(Accelerator("cpu", "x86_64")) is None


def test_without_the_drivers_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "installed_device", lambda: "cuda")
    found = probe()
    assert (found.device, found.capability, found.driver) == ("cuda", None, None)


class TestCompiler:
    def test_it_is_looked_for_where_flashinfer_looks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.parent.mkdir()
        nvcc.write_text("#!/bin/sh\n")
        nvcc.chmod(0o755)
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("CUDA_PATH", raising=False)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        assert accelerator._has("nvcc", "CUDA_HOME", "/nowhere")
        monkeypatch.setenv("CUDA_HOME", "/nowhere")
        assert not accelerator._has("nvcc", "CUDA_HOME", str(tmp_path))
        monkeypatch.delenv("CUDA_HOME")
        assert accelerator._has("nvcc", "CUDA_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("versions", "ready"),
    [
        ({"flashinfer-python": "0.7.0"}, False),
        ({"flashinfer-python": "0.7.0", "flashinfer-cubin": "0.6.13", "flashinfer-jit-cache": "0.7.0+cu130"}, False),
        ({"flashinfer-python": "0.7.0", "flashinfer-cubin": "0.7.0", "flashinfer-jit-cache": "0.7.0+cu130"}, True),
    ],
)
def test_kernels_are_prebuilt_where_both_packages_have_flashinfers_version(
    versions: dict[str, str], ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    assert accelerator._prebuilt_kernels() is ready
