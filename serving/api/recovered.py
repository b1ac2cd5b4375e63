"""Recoveries in replies: the header of whole replies, and the field of usage that streams have too."""

from __future__ import annotations

from collections.abc import Mapping


def with_recovered(headers: Mapping[str, str], recovered: Mapping[str, int]) -> Mapping[str, str]:
    """Return `headers` with the kinds of recovery as `x-recovered`, and as they are where there was none.

    A stream's headers leave before its first token; its usage tells the kinds.
    """
    return {**headers, "x-recovered": ", ".join(sorted(recovered))} if recovered else headers
