"""JSON's numbers within bounds, as expressions of their digits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache

from serving.schemas.grammar import EMPTY, NEVER, Chars, Expression, Text, chain, either, optional, repeat

_MOST_DIGITS = 30
"""Of a number without bounds: enough for what means something, and an end for a model that goes on."""
_MOST_FRACTION = 15
_EXACT_DIGITS = 15
"""Decimal digits that a double tells apart."""
_MOST_MULTIPLES = 500
_MOST_RESIDUES = 100
_DIGIT = Chars(((0x30, 0x39),))
_FROM_ONE = Chars(((0x31, 0x39),))


@dataclass(frozen=True, slots=True)
class NumberLimits:
    """Bounds and steps of a number. The bounds are inclusive unless `above` and `below` say otherwise."""

    whole: bool = False
    low: int | float | None = None
    above: bool = False
    high: int | float | None = None
    below: bool = False
    multiple_of: int = 1

    def merged(self, other: NumberLimits) -> NumberLimits:
        """Both limits."""
        merged = replace(
            self, whole=self.whole or other.whole, multiple_of=math.lcm(self.multiple_of, other.multiple_of)
        )
        if other.low is not None and (self.low is None or (other.low, other.above) > (self.low, self.above)):
            merged = replace(merged, low=other.low, above=other.above)
        if other.high is not None and (self.high is None or (-other.high, other.below) > (-self.high, self.below)):
            merged = replace(merged, high=other.high, below=other.below)
        return merged

    @property
    def is_empty(self) -> bool:
        """Whether no number can be so; whole numbers apart."""
        if self.low is None or self.high is None:
            return False
        if self.whole:
            low, high = _scaled(self, 0)
            return low is not None and high is not None and low > high
        return self.low > self.high or (self.low == self.high and (self.above or self.below))


class MultipleError(ValueError):
    """A `multipleOf` that digits cannot show."""


def number(limits: NumberLimits) -> Expression:
    """The texts of the numbers that `limits` allow. Raises MultipleError."""
    if limits.multiple_of != 1:
        return _multiples(limits)
    if limits.low is None and limits.high is None:
        whole = chain(optional(Text("-")), either((Text("0"), _digits(1))))
        if limits.whole:
            return whole
        exponent = chain(
            Chars(((0x45, 0x45), (0x65, 0x65))), optional(Chars(((0x2B, 0x2B), (0x2D, 0x2D)))), repeat(_DIGIT, 1, 2)
        )
        return chain(whole, optional(chain(Text("."), repeat(_DIGIT, 1, _MOST_FRACTION))), optional(exponent))
    fraction = 0 if limits.whole else _fraction(limits)
    low, high = _scaled(limits, fraction)
    return _between(low, high, fraction)


def _fraction(limits: NumberLimits) -> int:
    """Digits behind the point, so few that no text becomes a bound when it is read as a double."""
    bounds = [abs(bound) for bound in (limits.low, limits.high) if bound is not None]
    return max(0, min(_MOST_FRACTION, _EXACT_DIGITS - len(str(int(max(bounds))))))


def _scaled(limits: NumberLimits, fraction: int) -> tuple[int | None, int | None]:
    """The bounds as whole numbers of the last digit, both inclusive."""
    low = high = None
    if limits.low is not None:
        low = math.ceil(_decimal(limits.low).scaleb(fraction))
        while not (_read(low, fraction) > limits.low if limits.above else _read(low, fraction) >= limits.low):
            low += 1
    if limits.high is not None:
        high = math.floor(_decimal(limits.high).scaleb(fraction))
        while not (_read(high, fraction) < limits.high if limits.below else _read(high, fraction) <= limits.high):
            high -= 1
    return low, high


def _decimal(bound: int | float) -> Decimal:
    return Decimal(bound) if isinstance(bound, int) else Decimal(repr(bound))


def _read(scaled: int, fraction: int) -> int | float:
    """Reading of a text by its reader."""
    return scaled if fraction == 0 else float(Decimal(scaled).scaleb(-fraction))


def _between(low: int | None, high: int | None, fraction: int) -> Expression:
    parts: list[Expression] = []
    if high is None or high >= 0:
        parts.append(_positive(max(low or 0, 0) if low is not None else 0, high, fraction))
    if low is None or low < 0:
        above = 1 if high is None or high >= 0 else -high
        parts.append(chain(Text("-"), _positive(max(above, 1), None if low is None else -low, fraction)))
    return either(part for part in parts if part != NEVER)


def _positive(low: int, high: int | None, fraction: int) -> Expression:
    """Numbers without a sign, from `low` to `high` in units of the last digit of `fraction`."""
    parts: list[Expression] = []
    unit = 10**fraction
    most = len(str(low // unit)) if high is None else len(str(high // unit))
    for length in range(len(str(low // unit)), most + 1):
        first = 0 if length == 1 else unit * 10 ** (length - 1)
        last = unit * 10**length - 1
        begin, end = max(low, first), last if high is None else min(high, last)
        if begin <= end:
            parts.append(_of_length(f"{begin:0{length + fraction}d}", f"{end:0{length + fraction}d}", length, fraction))
    if high is None and most < _MOST_DIGITS:
        parts.append(chain(_digits(most + 1), _any_fraction(fraction)))
    return either(parts) if parts else NEVER


def _digits(least: int) -> Expression:
    """At least so many digits, the first not 0."""
    return chain(_FROM_ONE, repeat(_DIGIT, least - 1, _MOST_DIGITS - 1))


def _any_fraction(digits: int) -> Expression:
    return optional(chain(Text("."), repeat(_DIGIT, 1, digits))) if digits else EMPTY


def _of_length(low: str, high: str, whole: int, fraction: int) -> Expression:
    """Numbers of `whole` digits before the point, between two texts of digits without a point."""

    @cache
    def rest(at: int, above: bool, below: bool) -> Expression:
        """From digit `at` on; `above` and `below` tell that the digits so far are inside of the bounds already."""
        if at == len(low):
            return EMPTY
        above, below = above or not int(low[at:]), below or set(high[at:]) == {"9"}
        if above and below:
            if at > whole:
                return repeat(_DIGIT, 0, len(low) - at)
            return chain(repeat(_DIGIT, whole - at, whole - at), _any_fraction(fraction))
        ways: list[Expression] = []
        first, last = 0 if above else int(low[at]), 9 if below else int(high[at])
        if first < last:
            inner = (first if above else first + 1), (last if below else last - 1)
            if inner[0] <= inner[1]:
                ways.append(chain(Chars(((0x30 + inner[0], 0x30 + inner[1]),)), rest(at + 1, True, True)))
            if not above:
                ways.append(chain(Text(str(first)), rest(at + 1, False, True)))
            if not below:
                ways.append(chain(Text(str(last)), rest(at + 1, True, False)))
        elif first == last:
            ways.append(chain(Text(str(first)), rest(at + 1, above, below)))
        going_on = either(ways)
        if at == whole:
            going_on = chain(Text("."), going_on)
        may_end = at >= whole and (above or not int(low[at:] or "0"))
        return optional(going_on) if may_end else going_on

    return rest(0, False, False)


def _multiples(limits: NumberLimits) -> Expression:
    step = limits.multiple_of
    low, high = _scaled(limits, 0)
    if low is not None and high is not None and (high - low) // step <= _MOST_MULTIPLES:
        first = -(-low // step) * step
        return either(Text(str(value)) for value in range(first, high + 1, step))
    if step > _MOST_RESIDUES:
        raise MultipleError(f"of numbers above {_MOST_RESIDUES} only ranges with {_MOST_MULTIPLES} multiples are held")
    if (low is not None and low not in (0, 1, step)) or high is not None:
        raise MultipleError(f"beside bounds only 'minimum': 0 and ranges with {_MOST_MULTIPLES} multiples are held")
    raise MultipleError("unbounded")


def residues(limits: NumberLimits) -> tuple[int, bool, bool] | None:
    """(step, whether 0 is allowed, whether negative ones are) of multiples without an upper bound; None: not such."""
    step = limits.multiple_of
    low, high = _scaled(limits, 0)
    if step == 1 or step > _MOST_RESIDUES or high is not None or (low is not None and low not in (0, 1, step)):
        return None
    return step, low in (None, 0), low is None
