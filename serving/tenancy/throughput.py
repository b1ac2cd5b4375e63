"""Moving averages of observed throughput, to estimate how long something will take."""

from __future__ import annotations

import math
from collections.abc import Callable

_MEMORY_S = 20.0
_ENOUGH = 20


class Rate:
    """An exponentially weighted rate per second; an event 20 s ago counts a third.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._sum = 0.0
        self._events = 0

    def add(self, amount: float) -> None:
        """Add `amount` at this moment."""
        self._sum = self._decayed() + amount
        self._last = self._clock()
        self._events += 1

    @property
    def known(self) -> bool:
        """Whether enough was seen to rely on."""
        return self._events >= _ENOUGH

    @property
    def per_second(self) -> float:
        """The rate; 0 where nothing was seen."""
        # A young sum has not had the time to grow to its full height.
        weight = _MEMORY_S * -math.expm1(-max(1.0, self._clock() - self._began) / _MEMORY_S)
        return self._decayed() / weight

    def _decayed(self) -> float:
        return self._sum * math.exp((self._last - self._clock()) / _MEMORY_S)


class Mean:
    """A running mean over about the last hundred values."""

    def __init__(self, first: float) -> None:
        self.value = first
        self.count = 0

    def add(self, value: float) -> None:
        """Add one value."""
        self.count += 1
        self.value += (value - self.value) / min(self.count, 100)

    @property
    def known(self) -> bool:
        """Whether enough was seen to rely on."""
        return self.count >= _ENOUGH
