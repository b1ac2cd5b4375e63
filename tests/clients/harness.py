"""What a client's test needs: the configuration from the page, a home of its own, an end for its process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving.engine.scripted import Script, ScriptLine
from serving.harmony.vocabulary import decode
from tests.http_server import RecordingEngine

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / ".clients"
NODE_BIN = CLIENTS / "node" / "node_modules" / ".bin"
PROGRAM_FOLDER = Path(__file__).parent / "programs"
PAGE = ROOT / "docs" / "clients.md"
ADDRESS = "http://localhost:8000"
"""Address in the page's configurations; a test puts its server's in place of it."""
TIMEOUT_S = 120

ANALYSIS = "A tool has this."
PREAMBLE = "Let me look."
SUNNY = "It is sunny in Zürich."
HELLO = "Hello there!"
COUNTED = "one two three four five six"


def answer(text: str, analysis: str = "Easy.") -> str:
    """Harmony text of an answer."""
    return (
        f"<|channel|>analysis<|message|>{analysis}<|end|><|start|>assistant<|channel|>final<|message|>{text}<|return|>"
    )


def call(name: str, arguments: Mapping[str, Any], analysis: str = ANALYSIS, preamble: str | None = PREAMBLE) -> str:
    """Harmony text of a call, after analysis and a preamble."""
    said = "" if preamble is None else f"<|start|>assistant<|channel|>commentary<|message|>{preamble}<|end|>"
    return (
        f"<|channel|>analysis<|message|>{analysis}<|end|>{said}<|start|>assistant<|channel|>commentary "
        f"to=functions.{name} <|constrain|>json<|message|>{json.dumps(dict(arguments), ensure_ascii=False)}<|call|>"
    )


@dataclass(frozen=True)
class Scripted:
    """Server that the clients ask, with the prompts that reached its engine."""

    url: str
    engine: RecordingEngine

    @contextmanager
    def playing(self, *lines: ScriptLine) -> Iterator[None]:
        """Play these lines before all others."""
        before = self.engine.script
        self.engine.script = Script((*lines, *before.lines))
        try:
            yield
        finally:
            self.engine.script = before

    def prompts(self, tag: str) -> list[str]:
        """Prompts of the conversation with `tag` in it, in order; later segments of an answer are no prompts."""
        begun = [request for request in list(self.engine.requests) if not request.completion_token_ids]
        return [prompt for request in begun if tag in (prompt := decode(request.prompt_token_ids))]


def configuration(title: str, language: str, url: str, number: int = 0) -> str:
    """A client's code block from its section of the page, with the server's address in it."""
    page = PAGE.read_text(encoding="utf-8")
    section = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/clients.md has no section {title}"
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert len(blocks) > number, f"docs/clients.md, {title}: no block {number} of {language}"
    return str(blocks[number]).replace(ADDRESS, url)


def environment(home: Path, **further: str) -> dict[str, str]:
    """Variables of a client's process: nothing of the machine's but the path, and a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    own = {
        "PATH": f"{NODE_BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
    }
    return own | further


@dataclass(frozen=True)
class Ended:
    """A process that has ended, with everything it said."""

    status: int
    out: str
    err: str


def run(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path, timeout_s: float = TIMEOUT_S) -> Ended:
    """Run a client to its end. Its process group is killed whatever happens."""
    if not Path(command[0]).exists():
        pytest.fail(f"{command[0]} is not installed: make test-clients", pytrace=False)
    process = subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        out, err = process.communicate()
        pytest.fail(f"{Path(command[0]).name} did not end within {timeout_s} s:\n{out[-4000:]}\n{err[-4000:]}")
    finally:
        _kill(process)
    return Ended(process.returncode, out, err)


def _kill(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def run_node_program(title: str, program: str, scripted: Scripted, folder: Path) -> dict[str, Any]:
    """Results of a Node client's program, by check."""
    for path in [*PROGRAM_FOLDER.glob("*.mjs"), PROGRAM_FOLDER / "cases.json"]:
        shutil.copyfile(path, folder / path.name)
    # Packages are looked for above a program.
    (folder / "node_modules").symlink_to(NODE_BIN.parent)
    (folder / "configuration.mjs").write_text(configuration(title, "js", scripted.url), encoding="utf-8")
    return _results(title, [NODE_BIN / "node", folder / program], folder)


def run_python_program(title: str, program: str, group: str, scripted: Scripted, folder: Path) -> dict[str, Any]:
    """Results of a Python client's program, by check."""
    (folder / "configuration.py").write_text(configuration(title, "python", scripted.url), encoding="utf-8")
    return _results(title, [CLIENTS / group / "bin" / "python", PROGRAM_FOLDER / program], folder)


def _results(title: str, command: Sequence[Path], folder: Path) -> dict[str, Any]:
    results = folder / "checks.json"
    ended = run(
        command, environment(folder / "home", CHECKS=str(results), PYTHONPATH=str(folder), CLIENT=title), folder
    )
    assert results.exists(), f"{title} ended with status {ended.status}:\n{ended.err[-4000:]}"
    return dict(json.loads(results.read_text(encoding="utf-8")))


LINES = (
    # Semantic Kernel puts the plugin's name before the function's, Instructor calls a model that is not whole PartialX.
    ScriptLine(tail_contains="by Weather-get_weather", completion=call("Weather-get_weather", {"city": "Zürich"})),
    ScriptLine(tail_contains="Stream Ann", completion=call("PartialPerson", {"name": "Ann", "age": 7})),
    ScriptLine(tail_contains="weather in", completion=call("get_weather", {"city": "Zürich"}), tokens_per_step=2),
    ScriptLine(tail_contains="21 degrees", completion=answer(SUNNY), tokens_per_step=2),
    ScriptLine(tail_contains="Count to six", completion=answer(COUNTED), step_ms=2),
    ScriptLine(tail_contains="Say hello", completion=answer(HELLO), tokens_per_step=2),
    ScriptLine(tail_contains="Who is Ann", turn=1, completion=call("Person", {"name": "Ann", "age": 7})),
    ScriptLine(tail_contains="Describe Ann", completion=answer('{"name": "Ann", "age": 7}')),
)
"""What the model says to the questions of tests/clients/programs; all else is refused."""
