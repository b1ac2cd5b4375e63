from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# A parent that makes a child as vLLM does, prints its id, and waits to be killed.
PARENT = """
import multiprocessing, sys, time
from serving.engine.vllm.parent import watch_parent
def child():
    watch_parent()
    time.sleep(600)
if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=child)
    process.start()
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_ends_with_its_killed_parent(method: str, tmp_path: Path) -> None:
    file = tmp_path / "parent.py"
    file.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(file), method], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
