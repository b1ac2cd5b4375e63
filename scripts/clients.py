"""Install or lock the clients that `make test-clients` tries: each group in an environment of its own under .clients/.

usage: clients.py install                   (does nothing where that is done already)
       clients.py lock [--upgrade]          (further arguments go to `uv pip compile`)

A group of Python clients is a file of names, requirements/clients/NAME.in, with its exact pins in NAME.txt. The Node
clients are tests/clients/node/package.json with its lock; `npm` installs them and a Node of their own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import REQUIREMENTS, ROOT, InstallError, Uv, make_venv, run, say

CLIENTS = ROOT / ".clients"
NODE_SOURCE = ROOT / "tests" / "clients" / "node"
NODE = CLIENTS / "node"
_PYTHON_VERSION = "3.11"
_STAMP = "installed"


def python_groups() -> list[Path]:
    """Files of names, one a group."""
    return sorted((REQUIREMENTS / "clients").glob("*.in"))


def main() -> int:
    """Returns the exit status."""
    command, *further = sys.argv[1:] or ["help"]
    try:
        if command == "install" and not further:
            _install()
        elif command == "lock":
            _lock(further)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same again to go on", file=sys.stderr)
        return 130
    return 0


def _install() -> None:
    groups = [group.with_suffix(".txt") for group in python_groups()]
    missing = [lock for lock in groups if not _is_installed(CLIENTS / lock.stem, [lock])]
    node_missing = not _is_installed(NODE, _node_files())
    if missing:
        make_venv()
        uv = Uv()
        for lock in missing:
            _install_python(uv, lock)
    if node_missing:
        _install_node()
    if missing or node_missing:
        say(f"clients installed in {CLIENTS.name}")


def _install_python(uv: Uv, lock: Path) -> None:
    folder = CLIENTS / lock.stem
    python = folder / "bin" / "python"
    (folder / _STAMP).unlink(missing_ok=True)
    if not python.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(f"creating {CLIENTS.name}/{lock.stem}", [sys.executable, "-m", "venv", "--without-pip", folder])
    pins = [line for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line]
    torch = next((pin for pin in pins if pin.startswith("torch==") and "+cpu" in pin), None)
    if torch is not None and not uv.can("install", "--dry-run", "--no-deps", "--python", python, torch):
        uv.add_torch_cpu_index(torch)
    uv.pip(f"installing {lock.stem}: {len(pins)} packages", "sync", "--python", python, lock)
    _mark_installed(folder, [lock])


def _install_node() -> None:
    if shutil.which("npm") is None:
        raise InstallError("npm is missing, which installs the Node clients; on Debian and Ubuntu: apt-get install npm")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / _STAMP).unlink(missing_ok=True)
    for file in _node_files():
        shutil.copyfile(file, NODE / file.name)
    _npm("installing the Node clients", "ci")
    _mark_installed(NODE, _node_files())


def _lock(further: Sequence[str]) -> None:
    make_venv()
    # A pin such as torch's CPU build is the server's own: what is installed already need not come twice.
    constraint = ("--constraint", REQUIREMENTS / "clients" / "constraints.txt")
    uv = Uv()
    for group in (path.relative_to(ROOT) for path in python_groups()):
        output = group.with_suffix(".txt")
        arguments: list[str | Path] = [group, "--output-file", output, "--python-version", _PYTHON_VERSION]
        arguments += ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock-clients"]
        uv.pip(f"locking {output.name}", "compile", *arguments, *constraint, *further)
    NODE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", ".npmrc"):
        shutil.copyfile(NODE_SOURCE / name, NODE / name)
    shutil.rmtree(NODE / "node_modules", ignore_errors=True)
    (NODE / _STAMP).unlink(missing_ok=True)
    _npm("locking the Node clients", "install", "--package-lock-only")
    shutil.copyfile(NODE / "package-lock.json", NODE_SOURCE / "package-lock.json")


def _npm(what: str, *arguments: str) -> None:
    # npm's cache stays where it is; its own HOME settings, such as a registry, hold as everywhere.
    say(what)
    if subprocess.run(["npm", *arguments], cwd=NODE, env=dict(os.environ), check=False).returncode != 0:
        raise InstallError(f"{what} failed; the reason is above")


def _node_files() -> list[Path]:
    return [NODE_SOURCE / name for name in ("package.json", "package-lock.json", ".npmrc")]


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(str(ROOT).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_installed(folder: Path, files: Sequence[Path]) -> bool:
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == _digest(files)


def _mark_installed(folder: Path, files: Sequence[Path]) -> None:
    (folder / _STAMP).write_text(_digest(files), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
