"""Stands in for vLLM's Rust binary: hands on its arguments with the parsers that it accepts for gpt-oss.

It takes "auto" for them alone, and vLLM's flags, which know the parsers by name, do not pass that word on.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

FLAG = "--args-json"
_PARSERS = ("tool_call_parser", "reasoning_parser")


def rewritten(arguments: Sequence[str]) -> list[str]:
    """The same with both parsers of the JSON after the flag set to "auto"."""
    changed = list(arguments)
    for place in range(1, len(changed)):
        if changed[place - 1] == FLAG:
            changed[place] = json.dumps({**json.loads(changed[place]), **dict.fromkeys(_PARSERS, "auto")})
    return changed


def write_wrapper(folder: Path, binary: Path) -> Path:
    """A program for VLLM_RUST_FRONTEND_PATH."""
    if not os.access(binary, os.X_OK):
        # Unpacked by something that forgets modes.
        binary = Path(shutil.copy(binary, folder / binary.name))
        binary.chmod(0o755)
    wrapper = folder / "rust-front-end"
    words = shlex.join([sys.executable, "-I", str(Path(__file__).resolve()), str(binary)])
    wrapper.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


if __name__ == "__main__":
    os.execv(sys.argv[1], [sys.argv[1], *rewritten(sys.argv[2:])])
