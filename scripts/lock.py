"""Write the exact pins in requirements/ from pyproject.toml. Pins stay as they are where they still fit.

usage: lock.py [--upgrade | --upgrade-package NAME ...]   (any further arguments go to `uv pip compile`)
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools import InstallError, Uv, make_venv

# Relative: the pins' comments name these files, and should read the same wherever the checkout lies.
CPU, CUDA, DEV, BUILD, OVERRIDES, CPU_OVERRIDES = (
    Path("requirements", f"{name}.txt") for name in ("cpu", "cuda", "dev", "build", "overrides", "overrides-cpu")
)
PYTHON_VERSION = "3.11"
_COMMON = (
    "--python-version",
    PYTHON_VERSION,
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--custom-compile-command",
)


def main() -> int:
    """Returns the exit status."""
    try:
        make_venv()
        _lock(sys.argv[1:])
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _lock(further: list[str]) -> None:
    project = Path("pyproject.toml")
    uv = Uv()
    optional = ["--extra", "client", "--extra", "redis", "--extra", "s3", "--extra", "tracing"]
    cpu: list[str | Path] = [project, "--extra", "cpu", *optional, *_overrides(OVERRIDES, CPU_OVERRIDES)]
    if not uv.can("compile", *_COMMON, "make lock", *cpu):
        uv.add_torch_cpu_index("torch for CPUs")
    _compile(uv, CPU, *cpu, *further)
    _compile(uv, DEV, "--group", "dev", "--constraint", CPU, *_overrides(OVERRIDES, CPU_OVERRIDES), *further)
    _compile(uv, BUILD, "--group", "build", "--constraint", CPU, *further)
    # A GPU's torch comes from the public index: a CPU build among the configured sources must not win.
    cuda: list[str | Path] = [
        project,
        "--extra",
        "cuda",
        *optional,
        *_overrides(OVERRIDES),
        "--python-platform",
    ]
    _compile(Uv(find_links=False), CUDA, *cuda, "x86_64-manylinux_2_28", *further)


def _overrides(*files: Path) -> list[str | Path]:
    return [argument for file in files for argument in ("--override", file)]


def _compile(uv: Uv, output: Path, *arguments: str | Path) -> None:
    uv.pip(f"locking {output.name}", "compile", *_COMMON, "make lock", "--output-file", output, *arguments)


if __name__ == "__main__":
    sys.exit(main())
