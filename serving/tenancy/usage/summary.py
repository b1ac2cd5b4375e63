"""Usage summed up the way somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from serving.tenancy.usage.base import COUNTS, KEY, Counts, UsageRow

Grouping = Literal["day", "team", "model", "effort"]
GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)


def groupings_in(text: str) -> list[Grouping] | None:
    """Names with commas between them; None where one is not known, or comes twice."""
    names = [name.strip() for name in text.split(",")]
    known = [each for name in names for each in GROUPINGS if each == name]
    return known if len(known) == len(names) == len(set(known)) else None


def summarize(rows: Iterable[UsageRow], by: Sequence[Grouping], team: str | None = None) -> list[dict[str, Any]]:
    """A dict for each combination of what is grouped by, those first, then the counts; in order.

    With `team`, that team's alone.
    """
    places = [KEY.index(name) for name in by]
    sums: dict[tuple[str, ...], Counts] = {}
    for key, counts in rows:
        if team is None or key[1] == team:
            sums.setdefault(tuple(key[place] for place in places), Counts()).add(counts)
    return [dict(zip((*by, *COUNTS), (*key, *counts.values()), strict=True)) for key, counts in sorted(sums.items())]
