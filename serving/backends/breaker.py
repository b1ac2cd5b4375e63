"""Circuit breaker of one backend: closes it to requests after failures in a row, and lets one request try it later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]
"""State of a circuit: `closed` allows requests, `open` allows none, `half_open` allows one attempt."""


class CircuitBreaker:
    """Circuit breaker: opens after `failures` in a row, and is half open after `open_s` seconds.

    The outcome of the half-open circuit's one attempt closes or opens it again. Each caller of `begin_attempt` ends
    the attempt with `record_success`, `record_failure` or `cancel_attempt`. `clock` is monotonic.
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
        """State of the circuit now."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self.retry_in_s <= 0 else "open"

    @property
    def retry_in_s(self) -> float:
        """Seconds until the circuit is half open; 0 where it is already, or is closed."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._open_s - self._clock())

    @property
    def allows(self) -> bool:
        """Whether a request may be sent now."""
        return self.state == "closed" or (self.state == "half_open" and not self._trying)

    def begin_attempt(self) -> None:
        """Note that a request is sent."""
        if self._opened_at is not None:
            self._trying = True

    def cancel_attempt(self) -> None:
        """End an attempt whose outcome says nothing of the backend."""
        self._trying = False

    def record_success(self) -> None:
        """Close the circuit."""
        self._failures, self._opened_at, self._trying = 0, None, False

    def record_failure(self) -> None:
        """Count a failure; opens the circuit at the limit, and at once where it was half open."""
        self._failures += 1
        self._trying = False
        if self._opened_at is not None or self._failures >= self._most:
            self._opened_at = self._clock()
