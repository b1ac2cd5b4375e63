"""Numbers as people read them."""

from __future__ import annotations


def seconds(value: float | None) -> str:
    """Duration as text, in ms below a second."""
    if value is None:
        return "-"
    if value < 1:
        return f"{significant(value * 1000)} ms"
    return f"{significant(value)} s"


def significant(value: float | None) -> str:
    """Number as text, with three digits or more and never an exponent."""
    if value is None:
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"
