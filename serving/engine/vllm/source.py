"""vLLM's source files as installed, read without importing vllm, which takes 15 seconds."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WatchedSource:
    """A definition in vLLM that a patch replaces or relies on.

    `file` is relative to the vllm package; `name` is dotted, `Class.method`. `sha256` is of the definition, comments
    and layout aside, in `version`, the vLLM that the patch was written for; a test compares it with the installed one.
    """

    file: str
    name: str
    version: str
    sha256: str


def source_of(file: str) -> bytes | None:
    """A file of the installed vLLM; None where vLLM is not installed, or has no such file."""
    spec = importlib.util.find_spec("vllm")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / file
        if path.is_file():
            return path.read_bytes()
    return None
