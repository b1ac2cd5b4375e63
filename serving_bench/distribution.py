"""Quantiles of many values: exact while they fit into memory, within 0.1 % after that."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

EXACT_VALUES = 2_000_000
"""Values kept one by one (16 MB); more are counted in logarithmic buckets."""

_LOWEST = 1e-6
_STEP = math.log1p(0.002)  # a bucket's middle is at most 0.1 % from its edges
_BUCKETS = 12_000  # up to 1e-6 * e^(12000 * 0.002), some 26,000 s


class Distribution:
    """Values in seconds (or any unit; buckets cover 1e-6 to 2.6e4). Zero and below count as the smallest."""

    def __init__(self, exact_values: int = EXACT_VALUES) -> None:
        self.count = 0
        self.sum = 0.0
        self.max = 0.0
        self._exact_values = exact_values
        self._values = array("d")
        self._buckets: NDArray[np.int64] | None = None

    def add(self, value: float) -> None:
        """Add one value."""
        self.extend((value,))

    def extend(self, values: Iterable[float]) -> None:
        """Add several values at once."""
        before = len(self._values)
        self._values.extend(values)
        new = np.frombuffer(self._values, dtype=np.float64)[before:]
        if len(new):
            self.count += len(new)
            self.sum += float(new.sum())
            self.max = max(self.max, float(new.max()))
        del new  # an array cannot grow or shrink while somebody looks into it
        if self._buckets is not None or len(self._values) > self._exact_values:
            self._fold()

    def quantile(self, fraction: float) -> float | None:
        """Value below which `fraction` (0 to 1) of all lie, interpolated as numpy does; None without values."""
        if not self.count:
            return None
        if self._buckets is None:
            return float(np.quantile(np.frombuffer(self._values, dtype=np.float64), fraction))
        rank = fraction * (self.count - 1)
        bucket = int(np.searchsorted(np.cumsum(self._buckets), rank, side="right"))
        return min(self.max, _LOWEST * math.exp((bucket + 0.5) * _STEP))

    def merge(self, other: Distribution) -> None:
        """Add all values of `other`, which may have fewer exact ones."""
        if other._buckets is not None:
            if self._buckets is None:
                self._fold()
            assert self._buckets is not None, "_fold makes them"
            self._buckets += other._buckets
            self.count += other.count
            self.sum += other.sum
            self.max = max(self.max, other.max)
        else:
            self.extend(other._values)

    @property
    def mean(self) -> float | None:
        """Mean of all values; None without values."""
        return self.sum / self.count if self.count else None

    def _fold(self) -> None:
        if self._buckets is None:
            self._buckets = np.zeros(_BUCKETS, dtype=np.int64)
        values = np.maximum(np.frombuffer(self._values, dtype=np.float64), _LOWEST)
        places = np.minimum((np.log(values / _LOWEST) / _STEP).astype(np.int64), _BUCKETS - 1)
        self._buckets += np.bincount(places, minlength=_BUCKETS)
        self._values = array("d")
