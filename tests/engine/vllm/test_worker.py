"""What our part of vLLM's workers answers; that vLLM takes it is tested end to end."""

from __future__ import annotations

import pytest
import torch

from serving.engine.vllm.worker import WORKER_EXTENSION, WorkerExtension


def worker(device: str | None) -> WorkerExtension:
    made = WorkerExtension()
    made.device = None if device is None else torch.device(device)
    return made


@pytest.mark.parametrize("device", [None, "cpu"])
def test_there_is_no_device_memory_without_a_gpu(device: str | None) -> None:
    assert worker(device).used_device_memory() is None


def test_what_the_driver_has_given_out_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {1: (30, 80)}[device.index])
    assert worker("cuda:1").used_device_memory() == 50


def test_vllm_finds_it_by_its_name() -> None:
    from vllm.utils.import_utils import resolve_obj_by_qualname

    assert resolve_obj_by_qualname(WORKER_EXTENSION) is WorkerExtension
