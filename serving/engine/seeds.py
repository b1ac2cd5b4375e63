"""Seeds derived from a request's own."""

from __future__ import annotations


def wrapped_seed(seed: int) -> int:
    """`seed` in the range of a signed 64-bit integer, which is what a generator takes."""
    return (seed + 2**63) % 2**64 - 2**63
