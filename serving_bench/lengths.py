"""Lengths of prompts and replies, in tokens: `128`, `uniform:64:512`, `lognormal:256:0.7`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

from serving.errors import SettingsError

LONGEST = 1_000_000
"""Tokens; more than any model takes."""

FORMS = "128, uniform:64:512 (least and most) or lognormal:256:0.7 (median and sigma)"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Distribution of whole numbers, 1 at least."""

    kind: Literal["fixed", "uniform", "lognormal"]
    first: float
    second: float = 0.0

    def draw(self, random: Random) -> int:
        """Draw one length."""
        if self.kind == "fixed":
            return int(self.first)
        if self.kind == "uniform":
            return random.randint(int(self.first), int(self.second))
        return max(1, min(LONGEST, round(random.lognormvariate(math.log(self.first), self.second))))

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"{self.first:g}"
        return f"{self.kind}:{self.first:g}:{self.second:g}"


def parse_lengths(text: str, field: str) -> Lengths:
    """Read a flag's distribution; raises SettingsError for `field`."""
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    match kind, values:
        case "fixed", [length] if _is_length(length):
            return Lengths("fixed", length)
        case "uniform", [least, most] if _is_length(least) and _is_length(most) and least <= most:
            return Lengths("uniform", least, most)
        case "lognormal", [median, sigma] if 1 <= median <= LONGEST and 0 <= sigma <= 5:
            return Lengths("lognormal", median, sigma)
    raise SettingsError([(field, f"should be {FORMS}, in tokens from 1 to {LONGEST:,}; got {text!r}")])


def _is_length(number: float) -> bool:
    return number.is_integer() and 1 <= number <= LONGEST
