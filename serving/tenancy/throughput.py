"""Observed throughput: rates and means that forget, from which waits are estimated."""

from __future__ import annotations

import math
from collections.abc import Callable

_MEMORY_S = 20.0
_ENOUGH = 20


class Rate:
    """Rate a second as an exponential average, in which an event 20 s old counts a third.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._sum = 0.0
        self._events = 0

    def add(self, amount: float) -> None:
        """Record `amount` now."""
        self._sum = self._decayed() + amount
        self._last = self._clock()
        self._events += 1

    @property
    def known(self) -> bool:
        """Whether enough events were recorded for an estimate."""
        return self._events >= _ENOUGH

    @property
    def per_second(self) -> float:
        """Amount a second; 0 where nothing was recorded."""
        # A young sum has not had the time to grow to its full height.
        weight = _MEMORY_S * -math.expm1(-max(1.0, self._clock() - self._began) / _MEMORY_S)
        return self._decayed() / weight

    def _decayed(self) -> float:
        return self._sum * math.exp((self._last - self._clock()) / _MEMORY_S)


class Mean:
    """Mean of about the last hundred values."""

    def __init__(self, first: float) -> None:
        self.value = first
        self.count = 0

    def add(self, value: float) -> None:
        """Record one more value."""
        self.count += 1
        self.value += (value - self.value) / min(self.count, 100)

    @property
    def known(self) -> bool:
        """Whether enough events were recorded for an estimate."""
        return self.count >= _ENOUGH
