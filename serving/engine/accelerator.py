"""The accelerator of this machine's engines and the kernels available on it, found without importing torch or vLLM."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from serving.engine.device import Device, installed_device

# Instructions that multiply bfloat16, as /proc/cpuinfo names them on x86 and on Arm. Without any of them every product
# is made of conversions: the demo made 84 tokens/s in bfloat16 and 441 in float32 on a CPU with AVX2 alone.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


OLDEST_DRIVER = 580
"""The first of NVIDIA's drivers that has CUDA 13 (its release notes, table of minimum driver versions)."""

OLDEST_CAPABILITY = (8, 0)
"""Marlin's kernels for MXFP4 begin there (vllm/model_executor/layers/fused_moe/experts/marlin_moe.py)."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device of this machine; all of a kind, as vLLM needs them.

    `capability`, `memory_bytes` and `driver` are None on a CPU, and where no driver answers. `driver` is NVIDIA's
    version, such as "580.95.05". `compiler`: nvcc and a C++ compiler are here. `prebuilt`: FlashInfer's kernels are
    installed. `bfloat16`: the device multiplies it without converting.
    """

    device: Device
    name: str
    capability: tuple[int, int] | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    compiler: bool = False
    prebuilt: bool = False
    bfloat16: bool = True

    @property
    def architecture(self) -> str | None:
        """NVIDIA's name of the GPU's architecture, such as sm90."""
        return None if self.capability is None else "sm{}{}".format(*self.capability)


def probe() -> Accelerator:
    """The device that the installed vLLM would use; takes some milliseconds."""
    if installed_device() == "cpu":
        return Accelerator("cpu", platform.machine(), bfloat16=multiplies_bfloat16(_cpu_flags()))
    return _gpu()


def device_problem(accelerator: Accelerator) -> str | None:
    """Reason why no engine can start on it, with the fix; None where one can."""
    if accelerator.device == "cpu":
        return None
    if accelerator.capability is None or accelerator.driver is None:
        return (
            f"no NVIDIA GPU answers on this machine: look at nvidia-smi; the driver must be {OLDEST_DRIVER} or newer. "
            "Without a GPU install gpt-oss-serving[cpu] (make install EXTRA=cpu)"
        )
    major = accelerator.driver.partition(".")[0]
    if major.isdecimal() and int(major) < OLDEST_DRIVER:
        return (
            f"NVIDIA's driver {accelerator.driver} is too old for CUDA 13, with which vLLM and torch are built: "
            f"install {OLDEST_DRIVER} or newer"
        )
    if accelerator.capability < OLDEST_CAPABILITY:
        return (
            f"{accelerator.name} is {accelerator.architecture}; gpt-oss's kernels need sm80 (A100) or newer: take "
            "another GPU"
        )
    return None


def multiplies_bfloat16(flags: Iterable[str]) -> bool:
    """True if a CPU with these flags multiplies bfloat16 in hardware."""
    return not _BFLOAT16_FLAGS.isdisjoint(flags)


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    return frozenset(
        flag for name, _, flags in lines if name.strip() in ("flags", "Features") for flag in flags.split()
    )


def _gpu() -> Accelerator:
    """The first GPU, asked of NVIDIA's management library, which comes with the driver."""
    compiler = _has("nvcc", "CUDA_HOME", "/usr/local/cuda") and shutil.which("c++") is not None
    unknown = Accelerator("cuda", "no GPU", compiler=compiler, prebuilt=_prebuilt_kernels())
    try:
        import pynvml
    except ImportError:
        return unknown
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return unknown
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return Accelerator(
            "cuda",
            pynvml.nvmlDeviceGetName(handle),
            (major, minor),
            pynvml.nvmlDeviceGetMemoryInfo(handle).total,
            pynvml.nvmlSystemGetDriverVersion(),
            compiler,
            unknown.prebuilt,
            bfloat16=major >= 8,
        )
    except pynvml.NVMLError:
        return unknown
    finally:
        pynvml.nvmlShutdown()


def _has(program: str, variable: str, folder: str) -> bool:
    """Whether FlashInfer would find it (flashinfer/jit/cpp_ext.py, get_cuda_path)."""
    root = os.environ.get(variable) or os.environ.get("CUDA_PATH")
    if root is not None:
        return os.access(Path(root, "bin", program), os.X_OK)
    return shutil.which(program) is not None or os.access(Path(folder, "bin", program), os.X_OK)


def _prebuilt_kernels() -> bool:
    """Whether both packages of compiled kernels are here in FlashInfer's own version, which it insists on."""
    try:
        wanted = metadata.version("flashinfer-python")
        found = {metadata.version(name).partition("+")[0] for name in ("flashinfer-cubin", "flashinfer-jit-cache")}
    except metadata.PackageNotFoundError:
        return False
    return found == {wanted}
