"""Corpus of completions that break the format, by kind: what models write, and what is meant by it.

Each line of a `*.jsonl` is one spelling of its kind: the functions offered, the completion as text, and what a client
is to have of it. The spellings are from public reports on gpt-oss and their neighbours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spelling:
    """One completion, and the answer that it comes to; `calls` are (name, arguments)."""

    kind: str
    tools: tuple[str, ...]
    completion: str
    content: str
    analysis: str
    commentary: str
    calls: tuple[tuple[str, str], ...]


def spellings() -> list[Spelling]:
    """Every line of the corpus."""
    return [
        Spelling(
            row["kind"],
            tuple(row["tools"]),
            row["completion"],
            row["expect"]["content"],
            row["expect"]["analysis"],
            row["expect"]["commentary"],
            tuple((name, arguments) for name, arguments in row["expect"]["calls"]),
        )
        for file in sorted(Path(__file__).parent.glob("*.jsonl"))
        for row in map(json.loads, file.read_text().splitlines())
    ]
