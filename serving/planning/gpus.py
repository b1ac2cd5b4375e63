"""GPUs by their data sheets, for bounds; none was measured by us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    `memory_gib`: what the driver reports as total, in GiB. `bandwidth_tbs`: of its memory, in 10^12 bytes a second.
    `tflops`: dense matrix products of bfloat16 with float32 sums, in 10^12 operations a second; gpt-oss's MXFP4 weights
    are multiplied with bfloat16 activations. `product`: the label nvidia.com/gpu.product of its nodes, where known.
    `intermediate_multiple` and `hidden_multiple`: to what vLLM's kernels for MXFP4 pad the sides of an expert's
    matrices there (vllm/model_executor/layers/fused_moe/oracle/mxfp4.py: Triton on Hopper, Marlin or FlashInfer
    elsewhere). `capability`: CUDA's compute capability; None for GPUs that are not NVIDIA's, and where it is not known.
    """

    name: str
    memory_gib: float
    bandwidth_tbs: float
    tflops: float
    product: str = ""
    intermediate_multiple: int = 128
    hidden_multiple: int = 256
    capability: tuple[int, int] | None = None


# Sources: the makers' data sheets; figures "with sparsity" halved. Memory: what nvidia-smi and amd-smi show.
GPUS: Mapping[str, Gpu] = {
    "h100": Gpu("NVIDIA H100 SXM 80 GB", 79.6, 3.35, 989, "NVIDIA-H100-80GB-HBM3", 64, 1, capability=(9, 0)),
    "h100-pcie": Gpu("NVIDIA H100 PCIe 80 GB", 79.6, 2.0, 756, "NVIDIA-H100-PCIe", 64, 1, capability=(9, 0)),
    "h100-nvl": Gpu("NVIDIA H100 NVL 94 GB", 93.6, 3.9, 835, "NVIDIA-H100-NVL", 64, 1, capability=(9, 0)),
    "h200": Gpu("NVIDIA H200 SXM 141 GB", 140.4, 4.8, 989, "NVIDIA-H200", 64, 1, capability=(9, 0)),
    "b200": Gpu("NVIDIA B200 180 GB", 179.0, 7.7, 2250, "NVIDIA-B200", capability=(10, 0)),
    "b300": Gpu("NVIDIA B300 288 GB", 268.0, 8.0, 2250, "NVIDIA-B300", capability=(10, 3)),
    "a100": Gpu("NVIDIA A100 SXM 80 GB", 80.0, 2.04, 312, "NVIDIA-A100-SXM4-80GB", capability=(8, 0)),
    "a100-40": Gpu("NVIDIA A100 SXM 40 GB", 40.0, 1.56, 312, "NVIDIA-A100-SXM4-40GB", capability=(8, 0)),
    "l40s": Gpu("NVIDIA L40S 48 GB", 45.0, 0.864, 362, "NVIDIA-L40S", capability=(8, 9)),
    "l4": Gpu("NVIDIA L4 24 GB", 22.5, 0.3, 121, "NVIDIA-L4", capability=(8, 9)),
    "a10": Gpu("NVIDIA A10 24 GB", 22.5, 0.6, 125, "NVIDIA-A10", capability=(8, 6)),
    "rtx-4090": Gpu("NVIDIA GeForce RTX 4090 24 GB", 24.0, 1.008, 165, "NVIDIA-GeForce-RTX-4090", capability=(8, 9)),
    "rtx-5090": Gpu("NVIDIA GeForce RTX 5090 32 GB", 31.8, 1.792, 209, "NVIDIA-GeForce-RTX-5090", capability=(12, 0)),
    "rtx-pro-6000": Gpu("NVIDIA RTX PRO 6000 Blackwell 96 GB", 95.6, 1.792, 503, capability=(12, 0)),
    "mi300x": Gpu("AMD Instinct MI300X 192 GB", 192.0, 5.3, 1307, "", 256, 256),
    "mi325x": Gpu("AMD Instinct MI325X 256 GB", 256.0, 6.0, 1307, "", 256, 256),
    "mi355x": Gpu("AMD Instinct MI355X 288 GB", 288.0, 8.0, 2500, "", 256, 256),
}
"""By the name that --gpu takes."""
