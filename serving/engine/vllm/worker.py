"""Extension of vLLM's worker class by calls of our own (`worker_extension_cls`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WORKER_EXTENSION = f"{__name__}.WorkerExtension"


class WorkerExtension:
    """Mixed into vLLM's worker classes (vllm/v1/worker/worker_base.py, init_worker), in the workers' processes."""

    if TYPE_CHECKING:
        device: torch.device | None

    def used_device_memory(self) -> int | None:
        """Bytes in use on the worker's GPU, by any process; None without a GPU.

        torch's own count leaves out what sleep mode's allocator holds and what the driver takes.
        """
        import torch

        if self.device is None or self.device.type != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self.device)
        return int(total - free)
