"""What installing and locking share: the virtual environment, uv in it, and words for what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pip_settings

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
BUILD = REQUIREMENTS / "build.txt"

TORCH_CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")
"""Where PyTorch publishes CPU builds, which the public index does not carry. A mirror can take its place."""

_REACH_TIMEOUT_S = 10.0

_started = time.monotonic()


class InstallError(Exception):
    """The message says what failed and what to do."""


def say(text: str) -> None:
    """One line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f} s] {text}", file=sys.stderr, flush=True)


def run(what: str, command: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
    """Run a command that prints for itself; raises InstallError if it fails."""
    say(what)
    if subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0:
        raise InstallError(f"{what} failed; the reason is above")


def make_venv() -> None:
    """A virtual environment with the pinned uv and build backend in it; one that is whole already stays."""
    if VENV.exists() and not _works("-m", "pip", "--version"):
        say(f"removing {VENV.name}, which is broken")
        shutil.rmtree(VENV)
    if not VENV.exists():
        say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
        done = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            raise InstallError(
                f"{sys.executable} cannot make a virtual environment; on Debian and Ubuntu install python3-venv, or "
                f"name another Python with PYTHON=...\n{done.stdout}{done.stderr}"
            )
    pins = BUILD.read_text(encoding="utf-8")
    if not _works("-c", f"from importlib.metadata import version; assert f'uv=={{version(\"uv\")}}' in {pins!r}"):
        run("installing uv", [PYTHON, "-m", "pip", "install", "-qq", "--no-deps", "--requirement", BUILD])


def _works(*arguments: str) -> bool:
    try:
        return subprocess.run([PYTHON, *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Uv:
    """uv in our environment, with the package sources that pip is configured with."""

    def __init__(self, *, find_links: bool = True) -> None:
        listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
        settings = pip_settings.parse(listing.stdout)
        environ = dict(os.environ)
        if not find_links:
            settings.pop("find-links", None)
            environ.pop("UV_FIND_LINKS", None)
        self._sources = pip_settings.uv_arguments(settings, environ)
        # Ours is named, so that another environment that happens to be active is left alone.
        self._env = pip_settings.uv_environment(settings, environ) | {"VIRTUAL_ENV": str(VENV)}

    def add_torch_cpu_index(self, torch: str) -> None:
        """Look on PyTorch's CPU index too; raises InstallError soon, not after a long wait, if it cannot be reached."""
        try:
            with urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=_REACH_TIMEOUT_S):
                pass
        except OSError as error:
            raise InstallError(
                f"{torch} is in none of pip's configured sources, and PyTorch's CPU index cannot be reached: {error}\n"
                f"Put its wheel into a directory and run again with PIP_FIND_LINKS=DIRECTORY, or name a mirror of "
                f"{TORCH_CPU_INDEX} with TORCH_CPU_INDEX=URL."
            ) from error
        self._sources = [*self._sources, "--index", TORCH_CPU_INDEX, "--index-strategy", "unsafe-best-match"]

    def pip(self, what: str, *arguments: str | Path) -> None:
        """`uv pip ARGUMENTS`; raises InstallError if it fails."""
        # What uv shows is a moving picture: only where somebody sees it move.
        quiet = [] if sys.stderr.isatty() else ["--quiet"]
        run(what, [PYTHON, "-m", "uv", "pip", *arguments, *quiet, *self._sources], self._env)

    def can(self, *arguments: str | Path) -> bool:
        """Whether `uv pip ARGUMENTS` works; nothing is printed."""
        command = [PYTHON, "-m", "uv", "pip", *arguments, *self._sources]
        return subprocess.run(command, cwd=ROOT, env=self._env, capture_output=True, check=False).returncode == 0
