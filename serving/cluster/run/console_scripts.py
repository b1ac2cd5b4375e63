"""Folders of an installation's commands: beside the interpreter, or elsewhere (--user, --target, --prefix)."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import serving
from serving.errors import ClusterError


def console_script(name: str) -> Path:
    """The executable file of a command; raises ClusterError that names every folder looked in."""
    looked = list(dict.fromkeys(_folders()))
    for folder in looked:
        path = folder / name
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise ClusterError(
        f"the command {name} of this installation was not found in {', '.join(map(str, looked))}; install again, or "
        "put the folder that has it on PATH"
    )


def _folders() -> Iterator[Path]:
    yield Path(sys.executable).parent
    packages = Path(serving.__file__).resolve().parents[1]
    yield packages / "bin"  # pip install --target
    # --prefix: bin is beside lib/pythonX.Y/site-packages
    yield from (parent / "bin" for parent in packages.parents[2:3])
    for scheme in sysconfig.get_scheme_names():
        if scheme in ("posix_user", "posix_prefix", "venv"):
            yield Path(sysconfig.get_path("scripts", scheme))
    yield from (Path(folder) for folder in os.get_exec_path() if os.path.isabs(folder))
