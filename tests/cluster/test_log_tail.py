from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.cluster.log_tail import LONGEST_LINE, Tail

NOW = datetime(2026, 11, 27, tzinfo=UTC)
ERR = "worker-01a2-02000000-4711.err"


class Said:
    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self._tail = Tail(folder, self.lines.append, lambda: NOW)

    def look(self, *, last: bool = False) -> list[dict[str, Any]]:
        self.lines.clear()
        self._tail.look(last=last)
        return [json.loads(line) for line in self.lines]


def test_lines_come_once_as_they_are_written_and_json_as_it_is(tmp_path: Path) -> None:
    said, file = Said(tmp_path), tmp_path / ERR
    line = '{"time": "t", "level": "info", "logger": "serving.requests", "team": "ä"}'
    file.write_text(line + "\nhalf")

    assert said.look() == [json.loads(line)]
    assert said.lines == [line], "byte for byte"
    assert said.look() == []

    with file.open("a") as more:
        more.write(" a line\n")
    assert said.look() == [
        {
            "time": "2026-11-27T00:00:00.000+00:00",
            "level": "info",
            "logger": "process",
            "file": ERR,
            "pid": 4711,
            "message": "half a line",
        }
    ]


def test_a_line_in_braces_that_is_no_json_is_a_message_like_any_other(tmp_path: Path) -> None:
    lines = ["{'model': 'demo', 'loaded': True}", '{"cut": "of', '{"open": 1}}']
    (tmp_path / ERR).write_text("\n".join(lines) + "\n")

    assert [each["message"] for each in Said(tmp_path).look()] == lines


def test_a_traceback_is_one_event_of_its_level(tmp_path: Path) -> None:
    trace = "Traceback (most recent call last):\n  File x\nRuntimeError: no GPU\n"
    text = f"(EngineCore pid=9) ERROR 11-27 gone\n{trace}INFO on\n"
    (tmp_path / ERR).write_text(text)
    first, second = Said(tmp_path).look()
    assert (first["level"], second["level"]) == ("error", "info")
    assert first["message"] == text.removesuffix("\nINFO on\n")


def test_rays_markers_and_its_own_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ERR).write_text(":job_id:01000000\n:actor_name:ServeReplica:x\n\n")
    (tmp_path / "raylet.err").write_text("noise\n")
    assert Said(tmp_path).look() == []


def test_a_file_put_in_place_of_another_is_read_from_its_beginning(tmp_path: Path) -> None:
    said, file = Said(tmp_path), tmp_path / ERR
    file.write_text("a long first file\n")
    said.look()
    file.unlink()
    file.write_text("b\n")
    assert [event["message"] for event in said.look()] == ["b"]
    file.unlink()
    assert said.look() == []


def test_a_line_without_end_is_cut_and_does_not_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / ERR).write_bytes(b"x" * (3 * LONGEST_LINE) + b"\nnext\n")
    long, following = Said(tmp_path).look()
    assert len(long["message"]) <= LONGEST_LINE + 3
    assert long["message"].endswith("...")
    assert following["message"] == "next"


def test_what_is_unfinished_is_said_at_the_end(tmp_path: Path) -> None:
    (tmp_path / ERR).write_text("Killed")
    said = Said(tmp_path)
    assert said.look() == []
    assert [event["message"] for event in said.look(last=True)] == ["Killed"]


@given(st.lists(st.binary(max_size=80), max_size=30), st.randoms())
def test_nothing_is_lost_however_it_is_written(tmp_path_factory: Any, parts: list[bytes], random: Any) -> None:
    folder = tmp_path_factory.mktemp("logs")
    said, told = Said(folder), ""
    with (folder / ERR).open("wb") as file:
        for part in parts:
            file.write(b"a" + part.replace(b"\n", b"").replace(b"\r", b"") + (b"\n" if random.random() < 0.5 else b""))
            file.flush()
            told += "".join(event["message"].replace("\n", "") for event in said.look())
    told += "".join(event["message"].replace("\n", "") for event in said.look(last=True))
    written = (folder / ERR).read_bytes().decode("utf-8", errors="replace").replace("\n", "")
    assert told == written


def test_as_a_command_it_follows_and_says_the_last_lines_when_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.cluster.log_tail", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (tmp_path / ERR).write_text("first\nlast words")
        assert json.loads(process.stdout.readline())["message"] == "first"
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readline())["message"] == "last words"
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.returncode == 0
