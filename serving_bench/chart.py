"""Line charts as inline SVG: no script, no fonts, no assets from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 260
_FEW_POINTS = 12
_LEAST = 1e-9
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 44
_COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#475569")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; a y of None is a gap. `dashes` as SVG's stroke-dasharray; curves of one `color` belong together."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    color: int = 0
    dashes: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Axes from 0, or logarithmic from the least to the greatest value."""

    title: str
    x_name: str
    lines: Sequence[Line]
    show: Callable[[float], str]
    log_x: bool = False
    log_y: bool = False

    def svg(self) -> str:
        """A `<figure>`, or "" when there is nothing to show."""
        points = [(x, y) for line in self.lines for x, y in zip(line.xs, line.ys, strict=True) if y is not None]
        if not points:
            return ""
        x_axis = _Axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, log=self.log_x)
        levels = sorted({x for x, _ in points})
        if self.log_x and len(levels) <= _FEW_POINTS:
            x_axis.ticks = levels
        y_axis = _Axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, log=self.log_y)
        parts = [*self._grid(x_axis, y_axis), *self._curves(x_axis, y_axis)]
        return (
            f"<figure><figcaption>{escape(self.title)}</figcaption>"
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title)}">{"".join(parts)}</svg>'
            f"<p>{self._legend()}</p></figure>"
        )

    def _grid(self, x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
        for value in y_axis.ticks:
            y = y_axis(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(self.show(value))}</text>'
        for value in x_axis.ticks:
            yield f'<text x="{x_axis(value):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        yield f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(self.x_name)}</text>'

    def _curves(self, x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
        for line in self.lines:
            color = _COLORS[line.color % len(_COLORS)]
            dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
            path: list[str] = []
            pen_is_down = False
            for x, y in zip(line.xs, line.ys, strict=True):
                if y is None:
                    pen_is_down = False
                    continue
                path.append(f"{'L' if pen_is_down else 'M'}{x_axis(x):.1f} {y_axis(y):.1f}")
                pen_is_down = True
            yield f'<path d="{"".join(path)}" fill="none" stroke="{color}" stroke-width="1.8"{dashes}/>'
            if len(line.xs) <= _FEW_POINTS:
                for x, y in zip(line.xs, line.ys, strict=True):
                    if y is not None:
                        words = escape(f"{line.name}, {x:g}: {self.show(y)}")
                        dot = f'cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3.2" fill="{color}"'
                        yield f"<circle {dot}><title>{words}</title></circle>"

    def _legend(self) -> str:
        return " ".join(
            f'<span><svg class="key" viewBox="0 0 24 6"><line x2="24" y1="3" y2="3" stroke-width="2" '
            f'stroke="{_COLORS[line.color % len(_COLORS)]}" stroke-dasharray="{line.dashes or "none"}"/></svg> '
            f"{escape(line.name)}</span>"
            for line in self.lines
        )


class _Axis:
    """Map from values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool) -> None:
        positive = [value for value in values if value > _LEAST]
        self._log = log and bool(positive)
        self._start, self._end = start, end
        if self._log:
            self.ticks = _decades(min(positive), max(positive))
        else:
            self.ticks = _round_steps(max([*values, 0.0]))
        self._low, self._high = self._scaled(self.ticks[0]), self._scaled(self.ticks[-1])

    def __call__(self, value: float) -> float:
        share = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._start + max(0.0, share) * (self._end - self._start)

    def _scaled(self, value: float) -> float:
        return math.log(max(value, _LEAST)) if self._log else value


def _round_steps(high: float) -> list[float]:
    """0 and four to six round numbers above, the last at or above `high`."""
    high = high if high > _LEAST else 1.0
    rough = high / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(math.ceil(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around both; powers alone where that is too many."""
    factors = (1, 2, 5) if high / low < 500 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    first = max((place for place, tick in enumerate(ticks) if tick <= low * 1.0001), default=0)
    last = min(place for place, tick in enumerate(ticks) if tick >= high * 0.9999)
    return ticks[first : max(last, first + 1) + 1]
