"""The image's recipe. No builder of images is needed.

Covered: the linter's rules; which files reach the builder; that both images end without root, compiler or network
steps; the very commands of the recipe that make the wheel and install it, run in a clean virtual environment; the
command line, the settings and the demo checkpoint in there, without network, with only /tmp and HOME to write to.
Not covered: the base image, Debian's packages, and installing the pins, for which the environment of these tests
stands in; `make image-check` does all of that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from image_check import parse

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
FINAL = ("cpu", "cuda")


@dataclass
class Stage:
    """FROM `base`, and its instructions in order, each on one line."""

    base: str
    instructions: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [text for instruction, text in self.instructions if instruction == name]


@cache
def stages() -> dict[str, Stage]:
    """The recipe's stages by name."""
    return {
        name: Stage(stage.base, [(step.instruction, " ".join(step.text.split())) for step in stage.steps])
        for name, stage in parse(DOCKERFILE.read_text()).stages.items()
    }


def chain(name: str) -> list[Stage]:
    """A stage and those it stands on."""
    stage = stages()[name]
    return [*(chain(stage.base) if stage.base in stages() else []), stage]


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_stage_stands_on_the_one_base_that_can_be_pinned() -> None:
    outside = {stage.base for stage in stages().values() if stage.base not in stages()}
    assert outside == {"${PYTHON_IMAGE}"}
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert default
    assert re.search(r":3\.11\.\d+-", default[1]), "an exact version"


@pytest.mark.parametrize("name", FINAL)
class TestFinalStage:
    def test_it_runs_as_nobody_in_particular_and_says_how_it_is(self, name: str) -> None:
        final = stages()[name]
        assert final.all("USER") == ["1000:1000"]
        assert "/health" in final.all("HEALTHCHECK")[0]
        (command,) = final.all("CMD")
        assert json.loads(command)[:2] == ["/opt/serving/bin/serving", "up"]

    def test_it_has_no_compiler_and_fetches_nothing_but_debians_packages(self, name: str) -> None:
        runs = " ".join(run for stage in chain(name) for run in stage.all("RUN"))
        assert not re.search(r"\b(gcc|g\+\+|clang|cmake|build-essential|curl|wget|git)\b", runs)
        assert re.findall(r"install --yes --no-install-recommends (.*?) &&", runs) == ["libnuma1"]
        assert "--no-index" in stages()[name].all("RUN")[0]

    def test_it_has_no_weights(self, name: str) -> None:
        copied = [text for stage in chain(name) for text in stage.all("COPY")]
        assert all(text.startswith("--from=") for text in copied)
        assert not re.search(r"gpt-oss-(20b|120b)|huggingface|snapshot", DOCKERFILE.read_text())

    def test_its_packages_are_the_locked_ones(self, name: str) -> None:
        (install,) = stages()[f"packages-{name}"].all("RUN")
        assert "--no-deps --compile-bytecode" in install
        assert f"--requirement requirements/{name}.txt" in install

    def test_its_packages_go_into_the_environment_that_it_takes_over(self, name: str) -> None:
        # uv prefers the environment it runs in to VIRTUAL_ENV: only --python says where to install.
        (install,) = stages()[f"packages-{name}"].all("RUN")
        targets = re.findall(r"uv pip install .*?--python (\S+)/bin/python ", install)
        assert targets == re.findall(r"python -m venv (\S+)", install)
        assert f"--from=packages-{name} {targets[0]} {targets[0]}" in stages()[name].all("COPY")
        (command,) = stages()[name].all("CMD")
        assert json.loads(command)[0].startswith(f"{targets[0]}/bin/")


def test_only_what_the_recipe_copies_reaches_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "requirements/*.txt",
        "serving/**",
        "serving_bench/**",
        "deploy/image/*.py",
    }
    copied = {
        source
        for stage in stages().values()
        for text in stage.all("COPY")
        if not text.startswith("--from=")
        for source in text.split()[:-1]
    }
    assert {source for source in copied if not any(Path(source).match(rule) for rule in let_in)} == {
        "requirements",
        "serving",
        "serving_bench",
    }


def run(command: str, cwd: Path, places: dict[str, str]) -> None:
    """A RUN of the recipe, with its absolute places moved."""
    command = re.sub(r"^(--mount=\S+\s+)+", "", command)
    for place, here in places.items():
        command = command.replace(place, here)
    done = subprocess.run(["bash", "-ec", command], cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/serving as the recipe makes it, less the pins; the build tools are those of this environment."""
    scratch = tmp_path_factory.mktemp("image")
    source = scratch / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("serving", "serving_bench"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    build = scratch / "build"
    (build / "bin").mkdir(parents=True)
    (build / "bin" / "python").symlink_to(sys.executable)
    places = {
        "/opt/build/bin/python": sys.executable,
        "/opt/serving": str(scratch / "serving"),
        "/dist": str(scratch / "dist"),
    }
    (wheel,) = stages()["wheel"].all("RUN")
    run(wheel, source, places)
    subprocess.run([sys.executable, "-m", "venv", scratch / "serving"], check=True, timeout=120)
    (install,) = stages()["cpu"].all("RUN")
    run(install, scratch, places)
    # In place of the pins: this environment's packages, read after our own.
    site = next((scratch / "serving").glob("lib/python*/site-packages"))
    (site / "zz-pins.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return scratch / "serving"


def without_network(command: list[str], tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run in a network of its own, which has no way out; HOME and a temporary directory are fresh."""
    probe = subprocess.run(["unshare", "--user", "--map-root-user", "--net", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("needs unshare (util-linux) and the right to make a network namespace")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"} | environ
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_installed_command_works_without_network(image: Path, tmp_path: Path) -> None:
    serving = str(image / "bin" / "serving")
    assert (image / "bin" / "serving-haproxy").is_file()
    helped = without_network([serving, "--help"], tmp_path)
    assert helped.returncode == 0, helped.stderr
    checked = without_network([serving, "check"], tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "model demo" in checked.stdout
    # The package is the installed one, not the checkout
    where = without_network([str(image / "bin" / "python"), "-c", "import serving; print(serving.__file__)"], tmp_path)
    assert where.stdout.startswith(str(image)), where.stdout


def test_the_vocabulary_and_the_demo_are_inside(image: Path, tmp_path: Path) -> None:
    program = (
        "from serving.demo.checkpoint import ensure_checkpoint\n"
        "from serving.harmony.vocabulary import encode, decode\n"
        "assert decode(encode('Grüezi')) == 'Grüezi'\n"
        "print(ensure_checkpoint())\n"
    )
    done = without_network([str(image / "bin" / "python"), "-c", program], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))


class TestCompilerStandIn:
    """deploy/image/cc.py."""

    CC = ROOT / "deploy" / "image" / "cc.py"

    @pytest.fixture
    def cc(self, tmp_path: Path) -> Path:
        here = tmp_path / "libexec" / "cc.py"
        here.parent.mkdir()
        shutil.copy(self.CC, here)
        return here

    def call(self, cc: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, cc, *arguments], capture_output=True, text=True, timeout=60, check=False)

    def test_what_was_compiled_beforehand_is_handed_out(self, cc: Path, tmp_path: Path) -> None:
        if shutil.which("gcc") is None:
            pytest.skip("needs gcc (apt install gcc)")
        backend = tmp_path / "nvidia"
        (backend / "include").mkdir(parents=True)
        (backend / "include" / "cuda.h").write_text("int cuInit(unsigned int flags);\n")
        (backend / "driver.c").write_text('#include "cuda.h"\nint start(void) { return cuInit(0); }\n')
        program = (
            "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import cc; "
            "print(cc.prebuild(pathlib.Path(sys.argv[2])))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, cc.parent, backend], capture_output=True, text=True, timeout=60, check=True
        )
        made = Path(done.stdout.strip())
        # Triton writes the same text under another name, into a directory of its own
        source = tmp_path / "cuda_utils.c"
        shutil.copy(backend / "driver.c", source)
        out = tmp_path / "cuda_utils.so"
        handed = self.call(cc, str(source), "-O3", "-shared", "-fPIC", "-o", str(out), "-l:libcuda.so.1")
        assert handed.returncode == 0, handed.stderr
        assert out.read_bytes() == made.read_bytes()
        assert b"libcuda.so.1" in out.read_bytes()

    def test_anything_else_is_told_that_there_is_no_compiler(self, cc: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.c"
        other.write_text("int main(void) { return 0; }\n")
        done = self.call(cc, str(other), "-o", str(tmp_path / "other"))
        assert done.returncode == 1
        assert "this image has no C compiler" in done.stderr
        assert "other.c" in done.stderr
        assert self.call(cc, "--version").returncode == 1
