"""When a backend that fails is left alone, and when it is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]
"""Of an electric circuit: closed lets requests through, open none, half_open one to see."""


class CircuitBreaker:
    """Opens after `failures` in a row; after `open_s` seconds one request may try, and its end decides.

    `clock` is monotonic. Who is let through says how it ended, or gives its turn back with `unused`.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float]) -> None:
        self._most = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._trying = False

    @property
    def state(self) -> State:
        """What it would do with a request now."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self.opens_in_s <= 0 else "open"

    @property
    def opens_in_s(self) -> float:
        """Seconds until a request may try; 0 where one may now."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._open_s - self._clock())

    @property
    def lets_through(self) -> bool:
        """Whether a request may go now."""
        return self.state == "closed" or (self.state == "half_open" and not self._trying)

    def enter(self) -> None:
        """A request goes."""
        if self._opened_at is not None:
            self._trying = True

    def unused(self) -> None:
        """It ended in a way that says nothing of the backend."""
        self._trying = False

    def succeeded(self) -> None:
        """It was answered."""
        self._failures, self._opened_at, self._trying = 0, None, False

    def failed(self) -> None:
        """It was not."""
        self._failures += 1
        self._trying = False
        if self._opened_at is not None or self._failures >= self._most:
            self._opened_at = self._clock()
