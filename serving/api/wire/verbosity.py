"""Verbosity of an answer, which gpt-oss has no setting for: a line among its instructions."""

from __future__ import annotations

from typing import Literal

Verbosity = Literal["low", "medium", "high"]

_LINES: dict[Verbosity, str] = {
    "low": "Keep the final answer short: say what was asked for and no more.",
    "high": "Make the final answer detailed: explain it in full, with reasons and examples where they help.",
}


def verbosity_line(verbosity: Verbosity | None) -> str | None:
    """Line that asks the model for it; None for medium, which is its own way."""
    return None if verbosity is None else _LINES.get(verbosity)
