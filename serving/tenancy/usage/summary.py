"""Sums of usage by day, team, model or effort."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from serving.tenancy.usage.base import COUNTS, KEY, Counts, UsageRow

Grouping = Literal["day", "team", "model", "effort"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)


def groupings_in(text: str) -> list[Grouping] | None:
    """Groupings in a list of names with commas; None where one is unknown or comes twice."""
    names = [name.strip() for name in text.split(",")]
    known = [each for name in names for each in GROUPINGS if each == name]
    return known if len(known) == len(names) == len(set(known)) else None


def summarize(rows: Iterable[UsageRow], by: Sequence[Grouping], team: str | None = None) -> list[dict[str, Any]]:
    """Sum `rows` by `by`: a dict for each combination of values, the values first, then the counts; in order.

    With `team`, of that team alone.
    """
    indexes = [KEY.index(name) for name in by]
    sums: dict[tuple[str, ...], Counts] = {}
    for key, counts in rows:
        if team is None or key[1] == team:
            sums.setdefault(tuple(key[index] for index in indexes), Counts()).add(counts)
    return [dict(zip((*by, *COUNTS), (*key, *counts.values()), strict=True)) for key, counts in sorted(sums.items())]
