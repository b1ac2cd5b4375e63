"""What a comparison starts is gone when it ends. In a process of its own: it adopts and ends all its descendants."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from benchmarks.servers import flags

# A server that answers, and whose grandchild has lost its parent, as Ray's and vLLM's processes do.
SERVER = """
import http.server, subprocess, sys
marker = sys.argv[1]
subprocess.run(["sh", "-c", f"(exec -a orphan-{marker} sleep 600) & "], start_new_session=True, executable="/bin/bash")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
server.serve_forever()
"""
COMPARISON = """
import sys, time
from pathlib import Path
from benchmarks.compare import _as_ctrl_c
from benchmarks.servers import _started, free_port, nothing_left
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, _as_ctrl_c)
port = free_port()
command = [sys.executable, "-c", sys.argv[1], sys.argv[2], str(port)]
try:
    with nothing_left(), _started(command, {}, f"http://127.0.0.1:{port}", "/", Path(sys.argv[3])) as running:
        print("ready", flush=True)
        time.sleep(600 if sys.argv[4] == "wait" else 0)
except KeyboardInterrupt:
    sys.exit(130)
"""


def with_marker(marker: str) -> list[str]:
    """Processes that have it in their command lines, those of the test itself left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[-80:])
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize(
    ("number", "status"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 130)], ids=["end", "ctrl-c", "terminated"]
)
def test_no_process_is_left(tmp_path: Path, number: signal.Signals | None, status: int) -> None:
    marker = uuid.uuid4().hex
    arguments = [SERVER, marker, str(tmp_path / "log"), "wait" if number else "go"]
    command = [sys.executable, "-c", COMPARISON, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as comparison:
        assert comparison.stdout is not None
        assert comparison.stdout.readline() == "ready\n"
        if number is not None:
            deadline = time.monotonic() + 20
            while not any("orphan-" in line for line in with_marker(f"orphan-{marker}")):
                assert time.monotonic() < deadline, "the orphan never came"
                time.sleep(0.02)
            comparison.send_signal(number)
        assert comparison.wait(60) == status
    assert with_marker(marker) == []


def test_a_server_that_does_not_start_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    program = (
        "from benchmarks.servers import _started\nimport sys\nfrom pathlib import Path\n"
        "command = [sys.executable, '-c', 'print(\"no room\"); raise SystemExit(3)']\n"
        "with _started(command, {}, 'http://127.0.0.1:1', '/', Path(sys.argv[1])): pass"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")], capture_output=True, text=True, check=False
    )
    assert "BenchError" in run.stderr
    assert "ended with status 3; its last lines:\nno room" in run.stderr


def test_arguments_become_flags() -> None:
    arguments = {"model": "x", "max_num_seqs": 64, "enforce_eager": True, "enable_chunked_prefill": False}
    assert list(flags(arguments | {"disable_log_stats": False, "some_config": {"a": True}})) == [
        *("--model", "x", "--max-num-seqs", "64", "--enforce-eager", "--no-enable-chunked-prefill"),
        *("--some-config", '{"a": true}'),
    ]
