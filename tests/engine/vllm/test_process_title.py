from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, os, sys

def child():
    import setproctitle
    setproctitle.setproctitle("VLLM::EngineCore")
    print(open("/proc/self/cmdline").read().split(chr(0))[0])

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(sys.argv[1:])
    process = multiprocessing.get_context("forkserver").Process(target=child)
    process.start()
    process.join()
"""


@pytest.mark.parametrize(
    ("preloaded", "named"), [(["moves_it"], False), (["serving.engine.vllm.process_title", "moves_it"], True)]
)
def test_a_process_of_the_fork_server_can_be_named_though_imports_change_the_environment(
    preloaded: list[str], named: bool, tmp_path: Path
) -> None:
    # Given a module that gives the first environment variable another value
    (tmp_path / "moves_it.py").write_text("import os\nos.environ['AAA'] = 'longer' * 50\n")
    (tmp_path / "main.py").write_text(SCRIPT)
    root = Path(__file__).parents[3]
    environment = {"AAA": "1", "PYTHONPATH": f"{tmp_path}:{root}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(tmp_path / "main.py"), *preloaded]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip() == "VLLM::EngineCore") is named
