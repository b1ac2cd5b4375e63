"""docs/clients.md: its versions are those of the locks, and the tests run each client that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.clients.agents import Aider, ClaudeCode, Codex, OpenCode, OpenCodeOnResponses
from tests.clients.harness import PAGE, PROGRAM_FOLDER, ROOT
from tests.clients.registry import AGENTS, BENCHMARKS, PROGRAMS, with_table

NODE = ROOT / "tests" / "clients" / "node"


def test_the_table_is_that_of_the_locks() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page, "run: python -m tests.clients.registry"


def test_every_section_with_a_configuration_belongs_to_a_client_that_is_tried() -> None:
    sections = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(client.title for client in (*AGENTS, *PROGRAMS, *BENCHMARKS))


def test_every_agent_of_the_table_is_tried_on_its_apis() -> None:
    kinds = (Codex, ClaudeCode, OpenCode, OpenCodeOnResponses, Aider)
    in_table = {(client.title, api) for client in AGENTS for api in client.reasoning}
    assert in_table == {(kind.title, kind.api) for kind in kinds}


def test_every_program_is_run() -> None:
    named = {client.program for client in PROGRAMS} | {"compatibility.mjs"}
    shared = {"checks.py", "checks.mjs", "cases.json", "__pycache__"}
    assert {path.name for path in PROGRAM_FOLDER.iterdir()} - shared == named


def test_every_group_of_python_clients_has_a_lock_with_exact_pins_alone() -> None:
    folder = ROOT / "requirements" / "clients"
    for names in folder.glob("*.in"):
        pins = re.findall(r"^[^\s#].*$", names.with_suffix(".txt").read_text(encoding="utf-8"), re.MULTILINE)
        assert pins
        assert all(re.fullmatch(r"[\w.\-\[\],]+==\S+( ; .+)?", pin) for pin in pins), names


def test_locks_name_no_registry() -> None:
    lock = json.loads((NODE / "package-lock.json").read_text(encoding="utf-8"))
    assert all("resolved" not in package for package in lock["packages"].values())
    locks = list((ROOT / "requirements" / "clients").glob("*.txt"))
    assert not [path for path in locks if re.search(r"^(-|.*://)", _without_comments(path), re.MULTILINE)]


def test_node_clients_are_pinned_exactly() -> None:
    package = json.loads((NODE / "package.json").read_text(encoding="utf-8"))
    versions = {**package["dependencies"], **package["optionalDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())


def _without_comments(path: Path) -> str:
    return re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
