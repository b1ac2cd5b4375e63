"""Arrival times of an open loop: a Poisson process, steady or with a rate that rises or falls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from serving.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Ramp:
    """Requests a second, from `first` to `last` over `seconds`, then `last` for good."""

    first: float
    last: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.first:g}:{self.last:g}:{self.seconds:g}"


def steady(rate: float) -> Ramp:
    """Ramp of `rate` requests a second all the time."""
    return Ramp(rate, rate, 0.0)


def arrivals(ramp: Ramp, seed: int) -> Iterator[float]:
    """Seconds after the start at which requests arrive, without end unless the rate becomes 0; the same for a seed.

    A Poisson process of rate 1, its time stretched by the inverse of the rate's integral.
    """
    random = Random(f"arrivals/{seed}")
    expected = 0.0
    while True:
        expected += random.expovariate(1.0)
        at = _time_of(ramp, expected)
        if at is None:
            return
        yield at


def _time_of(ramp: Ramp, expected: float) -> float | None:
    """Time of `expected` requests on average: first*t + (last - first)/(2*seconds) * t^2 solved for t."""
    in_ramp = (ramp.first + ramp.last) / 2 * ramp.seconds
    if expected >= in_ramp:
        return None if ramp.last == 0 else ramp.seconds + (expected - in_ramp) / ramp.last
    slope = (ramp.last - ramp.first) / ramp.seconds
    # The usual root in the form that stays right where the slope is near 0.
    return 2 * expected / (ramp.first + math.sqrt(max(0.0, ramp.first**2 + 2 * slope * expected)))


def parse_ramp(text: str) -> Ramp:
    """Read `FROM:TO:SECONDS`; raises SettingsError."""
    try:
        first, last, seconds = map(float, text.split(":"))
    except ValueError:
        first = last = seconds = math.nan
    if not (0 <= first < math.inf and 0 <= last < math.inf and first + last > 0 and 0 < seconds < math.inf):
        message = f"should be FROM:TO:SECONDS, such as 1:20:60 for 1/s to 20/s over a minute; got {text!r}"
        raise SettingsError([("--ramp", message)])
    return Ramp(first, last, seconds)
