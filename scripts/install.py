"""Install the project and its exact pins into .venv. Does nothing where that is done already.

usage: install.py [--extra cpu|cuda] [--dev]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from tools import BUILD, PYTHON, REQUIREMENTS, ROOT, VENV, InstallError, Uv, make_venv, say

STAMP = VENV / "installed.json"


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--extra", choices=["cpu", "cuda"], help="which vLLM; unset: the one installed, else cpu")
    parser.add_argument("--dev", action="store_true", help="what tests and checks need, too")
    arguments = parser.parse_args()
    installed = _read_stamp()
    extra = arguments.extra or installed.get("extra") or "cpu"
    # What development needs is never taken away again by an installation that does not ask for it.
    dev = arguments.dev or bool(installed.get("dev"))
    files = [BUILD, REQUIREMENTS / f"{extra}.txt", *([REQUIREMENTS / "dev.txt"] if dev else [])]
    wanted = {"extra": extra, "dev": dev, "digest": _digest(files)}
    if installed == wanted and PYTHON.exists():
        return 0
    try:
        make_venv()
        STAMP.unlink(missing_ok=True)
        _install(Uv(), files)
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same again to go on", file=sys.stderr)
        return 130
    STAMP.write_text(json.dumps(wanted), encoding="utf-8")
    say("installed")
    return 0


def _install(uv: Uv, files: list[Path]) -> None:
    torch = _pin("torch", files)
    # torch comes first and alone: it is the one package that the public index may not have.
    if "+cpu" in torch and not uv.can("install", "--dry-run", "--no-deps", torch):
        uv.add_torch_cpu_index(torch)
    count = sum(1 for file in files for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    # sync, not install: what other pins left behind goes away.
    uv.pip(f"installing {count} packages", "sync", *files)
    uv.pip("installing gpt-oss-serving", "install", "--no-deps", "--no-build-isolation", "--editable", ROOT)


def _pin(name: str, files: list[Path]) -> str:
    lines = (line.split("#")[0].strip() for file in files for line in file.read_text(encoding="utf-8").splitlines())
    return next(line for line in lines if line.startswith(f"{name}=="))


def _digest(files: list[Path]) -> str:
    """Changes with the pins, with what the project's metadata say, and with the place of the checkout."""
    digest = hashlib.sha256(str(ROOT).encode())
    for file in [*files, ROOT / "pyproject.toml"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read_stamp() -> dict[str, object]:
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
